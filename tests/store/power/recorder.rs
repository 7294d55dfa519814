//! Records what a program writes call by call, and shows what a power cut at each moment may leave
//! of it.
//!
//! The recorded program is a test of this binary, which works below `RECORDER_ROOT` and notes in the
//! file [`MARKS`] how much was reported to it as done. The recording needs a C compiler, as LMDB's build
//! does.

use super::disk::{Call, Disk, Files, Loss, files_below, read_log, write_files};
use crate::dice::Dice;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file in which the recorded program notes how many of its commands were reported as done.
pub const MARKS: &str = "marks";

/// A recorded run: the disk before it, and what it did.
pub struct Recording {
    pub before: Disk,
    pub calls: Vec<Call>,
}

/// What became of the images.
#[derive(Debug, Default)]
pub struct Tally {
    pub images: usize,
    /// Images in which something reported was missing, by the moment of the cut.
    pub lost: BTreeSet<usize>,
}

impl Recording {
    pub fn inode_of(&self, name: &str) -> u64 {
        let mut disk = self.before.clone();
        self.calls.iter().for_each(|call| disk.carry_out(call));
        disk.inode_of(name)
    }

    /// Cuts the power at every moment, with all lost that may be lost, with all kept, and `parts`
    /// times with something between. The judge gets what is left, and how much had been reported, and
    /// says whether that holds.
    pub fn cut_at_every_moment(
        &self,
        seed: u64,
        parts: usize,
        mut holds: impl FnMut(Files, usize, &mut Dice) -> bool,
    ) -> Tally {
        let (mut dice, mut tally) = (Dice(seed | 1), Tally::default());
        let mut disk = self.before.clone();
        let mut reported = 0;
        for moment in 0..=self.calls.len() {
            let call = self.calls.get(moment);
            // Before a note of the test's own there is less to be asked for than behind it.
            let mark = call.and_then(|call| mark(&disk, call));
            let mut losses = vec![Loss::All, Loss::None];
            losses.extend((0..parts).map(|_| Loss::Percent([5, 50, 95][dice.below(3)])));
            for loss in losses.into_iter().filter(|_| mark.is_none()) {
                let mut files = disk.after_power_cut(loss, &mut dice);
                files.remove(MARKS);
                println!("cut at {moment}, loss {loss:?}");
                tally.images += 1;
                if !holds(files, reported, &mut dice) {
                    tally.lost.insert(moment);
                }
            }
            reported = reported.max(mark.unwrap_or(0));
            call.into_iter().for_each(|call| disk.carry_out(call));
        }
        tally
    }

    /// What the disk holds after a cut in the second half.
    pub fn cut_somewhere(&self, seed: u64) -> Files {
        let mut dice = Dice(seed | 1);
        let half = self.calls.len() / 2;
        let moment = half + dice.below(half);
        let mut disk = self.before.clone();
        self.calls[..moment].iter().for_each(|call| disk.carry_out(call));
        let mut files = disk.after_power_cut(Loss::Percent(50), &mut dice);
        files.remove(MARKS);
        files
    }
}

/// How many commands this call reports as done, if it is such a note.
fn mark(disk: &Disk, call: &Call) -> Option<usize> {
    match call {
        Call::Write { inode, bytes, .. } if disk.is_at(MARKS, *inode) => {
            Some(String::from_utf8_lossy(bytes).trim().parse().unwrap())
        }
        _ => None,
    }
}

/// In memory: what a real disk would keep is what is simulated here, and thousands of files are
/// opened.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Where recordings are made: a directory for the program, and the recorder.
pub struct Recorder {
    scratch: tempfile::TempDir,
    library: PathBuf,
}

impl Recorder {
    pub fn build() -> Self {
        let scratch = scratch();
        let library = scratch.path().join("recorder.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/power/recorder.c");
        let compiler = std::env::var_os("CC").unwrap_or("cc".into());
        let built = Command::new(compiler)
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status()
            .unwrap();
        assert!(built.success(), "the recorder is built by a C compiler");
        Self { scratch, library }
    }

    /// Runs a test of this binary over these files, with this work to do.
    pub fn record(&self, files: &Files, program: &str, work: &str) -> Recording {
        let root = self.scratch.path().join("root");
        let log = self.scratch.path().join("log");
        let _ = fs::remove_dir_all(&root);
        let _ = fs::remove_file(&log);
        fs::create_dir(&root).unwrap();
        write_files(files, &root);
        let before = Disk::of(&root);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", program, "--nocapture"])
            .env("LD_PRELOAD", &self.library)
            .env("RECORDER_ROOT", &root)
            .env("RECORDER_LOG", &log)
            .env("POWER_WORK", work)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let calls = read_log(&log);
        let mut end = before.clone();
        calls.iter().for_each(|call| end.carry_out(call));
        expect_same_files(end.seen(), files_below(&root));
        Recording { before, calls }
    }
}

/// The log has everything that was written, except through LMDB's map of its lock file, whose
/// content means nothing after a restart of the machine.
fn expect_same_files(mut recorded: Files, mut found: Files) {
    for files in [&mut recorded, &mut found] {
        files.retain(|name, _| !name.ends_with("lock.mdb"));
    }
    assert!(recorded.keys().eq(found.keys()), "{:?} {:?}", recorded.keys(), found.keys());
    for (name, bytes) in &recorded {
        assert!(bytes == &found[name], "the recording of {name} is not what was written");
    }
}

/// LMDB's lock file is mapped, so a cut may leave anything of it.
pub fn spoil_lock_file(directory: &Path, dice: &mut Dice) {
    let lock = directory.join("lock.mdb");
    match dice.below(4) {
        0 => drop(fs::remove_file(lock)),
        1 => {
            let length = dice.below(20_000);
            fs::write(lock, vec![0xA5; length]).unwrap();
        }
        _ => {}
    }
}

/// Pseudo-random, and the same in each run unless `SEED` says otherwise.
pub fn seed() -> u64 {
    std::env::var("SEED").map_or(0x5DEE_CE66, |seed| seed.parse().unwrap())
}

/// Runs a test of this binary as a process of its own, which a file that is trusted too much would
/// end, and gives the last line that it prints about power cuts.
pub fn child(program: &str) -> String {
    let rounds = std::env::var("ROUNDS").unwrap_or_else(|_| "1".to_owned());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", program, "--nocapture"])
        .env("POWER_ROUNDS", rounds)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    let lines: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    let end = lines[lines.len().saturating_sub(8)..].join("\n");
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}: {end}\n{errors}", child.status);
    let last = lines.iter().rfind(|line| line.contains("power cuts: "));
    last.unwrap_or_else(|| panic!("{end}")).to_string()
}
