//! A disk that forgets: what a power cut may leave of what a program wrote.
//!
//! The rules are POSIX's and no file system's: a write is certain after a sync of its file, a name
//! after a sync of its directory, and what is not certain may be there in any part: each sector of
//! each write by itself, in any order, with or without the file's new length.

use crate::dice::Dice;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SECTOR: usize = 512;
/// What may stand where a file has grown and its data never came: nothing, or that of another file.
const FILLINGS: [u8; 2] = [0, 0xA5];

/// One call of the recorded program, in order.
#[derive(Debug, Clone)]
pub enum Call {
    Create {
        name: String,
        inode: u64,
    },
    Write {
        inode: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    /// The last write to this file was a durable one and has returned.
    Written {
        inode: u64,
    },
    Truncate {
        inode: u64,
        length: usize,
    },
    Sync {
        inode: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
}

/// Reads what `recorder.c` wrote.
pub fn read_log(path: &Path) -> Vec<Call> {
    let log = fs::read(path).unwrap();
    let mut rest = log.as_slice();
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_at(24);
        let number = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().unwrap());
        let first = usize::from(u16::from_le_bytes(head[2..4].try_into().unwrap()));
        let second = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
        let (name, after) = after.split_at(first);
        let (bytes, after) = after.split_at(second);
        let (inode, at) = (number(8), usize::try_from(number(16)).unwrap());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        calls.push(match head[0] {
            b'c' => Call::Create { name: text(name), inode },
            b'w' => Call::Write { inode, at, bytes: bytes.to_vec() },
            b't' => Call::Truncate { inode, length: at },
            b's' => Call::Sync { inode },
            b'r' => Call::Rename { from: text(name), to: text(bytes) },
            b'u' => Call::Unlink { name: text(name) },
            other => panic!("a record of kind {other}"),
        });
        if head[1] != 0 {
            calls.push(Call::Written { inode });
        }
        rest = after;
    }
    calls
}

/// How much of what is not certain is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    All,
    None,
    /// Each sector and each name with this chance in a hundred.
    Percent(usize),
}

/// Names with the bytes of their files.
pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone)]
enum NameChange {
    Link { name: String, inode: u64 },
    Move { from: String, to: String, inode: u64 },
    Unlink { name: String },
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { length: usize },
}

/// What is certain, and what is on its way.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    names: BTreeMap<String, u64>,
    /// Names as the running program sees them.
    seen_names: BTreeMap<String, u64>,
    contents: BTreeMap<u64, Vec<u8>>,
    name_changes: Vec<NameChange>,
    changes: BTreeMap<u64, Vec<Change>>,
}

impl Disk {
    /// A disk on which everything below the directory is certain.
    pub fn of(directory: &Path) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in files_below(directory) {
            let inode = fs::metadata(directory.join(&name)).unwrap().ino();
            disk.contents.insert(inode, bytes);
            disk.names.insert(name, inode);
        }
        disk.seen_names = disk.names.clone();
        disk
    }

    pub fn carry_out(&mut self, call: &Call) {
        match call {
            Call::Create { name, inode } => {
                self.contents.insert(*inode, Vec::new());
                self.changes.remove(inode);
                self.change_name(NameChange::Link { name: name.clone(), inode: *inode });
            }
            Call::Write { inode, at, bytes } => {
                let change = Change::Write { at: *at, bytes: bytes.clone() };
                self.changes.entry(*inode).or_default().push(change);
            }
            Call::Truncate { inode, length } => {
                let change = Change::Truncate { length: *length };
                self.changes.entry(*inode).or_default().push(change);
            }
            Call::Written { inode } => self.last_write_is_certain(*inode),
            Call::Sync { inode } => match self.contents.get_mut(inode) {
                Some(content) => {
                    for change in self.changes.remove(inode).unwrap_or_default() {
                        apply(content, &change, 0);
                    }
                }
                // A directory.
                None => {
                    for change in std::mem::take(&mut self.name_changes) {
                        apply_name(&mut self.names, &change);
                    }
                }
            },
            Call::Rename { from, to } => {
                let inode = self.seen_names[from];
                let (from, to) = (from.clone(), to.clone());
                self.change_name(NameChange::Move { from, to, inode });
            }
            Call::Unlink { name } => self.change_name(NameChange::Unlink { name: name.clone() }),
        }
    }

    /// The file of that name, as the running program sees it.
    pub fn inode_of(&self, name: &str) -> u64 {
        self.seen_names[name]
    }

    /// Whether this is the file of that name.
    pub fn is_at(&self, name: &str, inode: u64) -> bool {
        self.seen_names.get(name) == Some(&inode)
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.seen_names, &change);
        self.name_changes.push(change);
    }

    /// A durable write brings along what it overlaps, and nothing else.
    fn last_write_is_certain(&mut self, inode: u64) {
        let changes = self.changes.get_mut(&inode).unwrap();
        let Some(Change::Write { at, bytes }) = changes.last().cloned() else {
            panic!("no write is on its way")
        };
        let range = at..at + bytes.len();
        let content = self.contents.get_mut(&inode).unwrap();
        changes.retain(|change| {
            let concerns = match change {
                Change::Write { at, bytes } => *at < range.end && range.start < at + bytes.len(),
                Change::Truncate { .. } => false,
            };
            if concerns {
                apply(content, change, 0);
            }
            !concerns
        });
    }

    /// What is found after a power cut now.
    pub fn after_power_cut(&self, loss: Loss, dice: &mut Dice) -> Files {
        let mut names = self.names.clone();
        for change in self.name_changes.iter().filter(|_| survives(loss, dice)) {
            apply_name(&mut names, change);
        }
        names.into_iter().map(|(name, inode)| (name, self.content(inode, loss, dice))).collect()
    }

    /// What the running program sees.
    pub fn seen(&self) -> Files {
        let mut dice = Dice(1);
        let content = |inode: u64, dice: &mut Dice| self.content(inode, Loss::None, dice);
        self.seen_names
            .iter()
            .map(|(name, inode)| (name.clone(), content(*inode, &mut dice)))
            .collect()
    }

    fn content(&self, inode: u64, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.contents[&inode].clone();
        let mut whole = content.len();
        let filling = FILLINGS[usize::from(matches!(loss, Loss::Percent(_))) * dice.below(2)];
        for change in self.changes.get(&inode).into_iter().flatten() {
            match change {
                Change::Truncate { length } if survives(loss, dice) => {
                    content.resize(*length, filling);
                    whole = *length;
                }
                Change::Truncate { .. } => {}
                Change::Write { at, bytes } => {
                    whole = whole.max(at + bytes.len());
                    for (place, sector) in sectors(*at, bytes) {
                        if survives(loss, dice) {
                            let change = Change::Write { at: place, bytes: sector.to_vec() };
                            apply(&mut content, &change, filling);
                        }
                    }
                }
            }
        }
        // The length may be there without the data.
        if matches!(loss, Loss::Percent(_)) && dice.below(2) == 0 {
            content.resize(whole, filling);
        }
        content
    }
}

fn survives(loss: Loss, dice: &mut Dice) -> bool {
    match loss {
        Loss::All => false,
        Loss::None => true,
        Loss::Percent(lost) => dice.below(100) >= lost,
    }
}

/// The parts of a write that reach the disk each by itself.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let place = at + done;
        let length = (SECTOR - place % SECTOR).min(bytes.len() - done);
        let sector = &bytes[done..done + length];
        done += length;
        (length > 0).then_some((place, sector))
    })
}

fn apply(content: &mut Vec<u8>, change: &Change, filling: u8) {
    match change {
        Change::Truncate { length } => content.resize(*length, 0),
        Change::Write { at, bytes } => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, filling);
            }
            content[*at..end].copy_from_slice(bytes);
        }
    }
}

fn apply_name(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Link { name, inode } => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Move { from, to, inode } => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        NameChange::Unlink { name } => {
            names.remove(name);
        }
    }
}

/// All files below a directory, by their paths there.
pub fn files_below(directory: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Writes the files below a directory.
pub fn write_files(files: &Files, directory: &Path) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
