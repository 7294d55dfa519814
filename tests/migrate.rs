//! What the original iotmonitor left: a LevelDB that Google's library wrote with its settings, one
//! that the test writes, and damaged ones.

use iotmonitor::original::database::{self, DatabaseError, States};
use iotmonitor::original::leveldb::{self, Contents, Damage, DatabaseFiles, What};
use rusty_leveldb::{DB, MemEnv, Options};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use tempfile::TempDir;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/iotdb.leveldb")
}

/// A working directory of the original's, with a copy of the fixture.
fn left_behind() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("iotdb.leveldb");
    fs::create_dir(&database).unwrap();
    for entry in fs::read_dir(fixture()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), database.join(entry.file_name())).unwrap();
    }
    directory
}

fn pairs(read: &States) -> Vec<(&str, &[u8])> {
    read.states.iter().map(|(topic, payload)| (topic.as_str(), payload.as_slice())).collect()
}

#[test]
fn the_last_value_of_each_topic_is_read_and_the_files_stay_as_they_are() {
    let directory = left_behind();
    let files = || {
        let database = directory.path().join("iotdb.leveldb");
        let mut files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(database)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    let read = database::read(directory.path()).unwrap();
    let last = format!(r#"{{"state":"ON","round":39,"pad":"{}"}}"#, "x".repeat(30));
    let expected: Vec<(&str, &[u8])> = vec![
        ("home/binary", b"\0\xff\"\n"),
        ("home/empty", b""),
        ("home/esp00/actuators/lamp", b"off"),
        ("home/esp01/actuators/lamp", last.as_bytes()),
        ("home/esp02/actuators/lamp", last.as_bytes()),
        ("home/esp03/actuators/lamp", last.as_bytes()),
        ("home/küche/licht", b"an"),
    ];
    assert_eq!(pairs(&read), expected);
    assert_eq!(read.passed_over, 2, "a filter, and bytes that are not UTF-8");
    assert!(files() == before);
    // The database itself may be named as well.
    let itself = database::read(&directory.path().join("iotdb.leveldb")).unwrap();
    assert_eq!(pairs(&itself), expected);
}

/// Writes a database of thousands of states, so that it has tables in several levels.
fn large(directory: &Path) {
    let env = MemEnv::new();
    let options = Options { write_buffer_size: 1_000, ..Options::default() };
    let options = Options { env: Rc::new(Box::new(env)), ..options };
    let env = Rc::clone(&options.env);
    let mut database = DB::open("db", options).unwrap();
    for round in 0..3 {
        for number in 0..3_000 {
            let (topic, payload) =
                (format!("home/{number:05}/set"), format!("{round} of {number}"));
            database.put(topic.as_bytes(), payload.as_bytes()).unwrap();
        }
    }
    database.close().unwrap();
    for name in env.children(Path::new("db")).unwrap() {
        let name = name.file_name().unwrap().to_owned();
        let mut bytes = Vec::new();
        let mut file = env.open_sequential_file(&Path::new("db").join(&name)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        fs::write(directory.join(name), bytes).unwrap();
    }
}

#[test]
fn a_large_database_is_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    large(directory.path());
    let read = database::read(directory.path()).unwrap();
    assert_eq!(read.states.len(), 3_000);
    let whole = read.states.iter().enumerate().all(|(number, (topic, payload))| {
        topic.as_str() == format!("home/{number:05}/set")
            && *payload == format!("2 of {number}").into_bytes()
    });
    assert!(whole);
}

/// The files of a database that is then damaged in memory.
fn files(directory: &Path) -> DatabaseFiles {
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, Some(fs::read(path).unwrap()))
    };
    fs::read_dir(directory).unwrap().map(|entry| file(entry.unwrap().path())).collect()
}

/// A missing or changed key or value is reported, whichever byte has changed.
#[test]
fn every_changed_byte_is_reported() {
    let whole = files(&fixture());
    let sound = leveldb::read(&whole);
    assert_eq!(sound.damage, []);
    let mut reported = 0;
    for (name, bytes) in &whole {
        for at in 0..bytes.as_ref().unwrap().len() {
            let mut damaged = whole.clone();
            damaged.get_mut(name).unwrap().as_mut().unwrap()[at] ^= 0x41;
            let read = leveldb::read(&damaged);
            let is_reported = !read.damage.is_empty();
            assert!(is_reported || read.entries == sound.entries, "{name}, byte {at}");
            reported += usize::from(is_reported);
        }
    }
    assert!(reported > 1_000, "{reported}");
}

/// A file that ends early, too, but for a log that ends between two entries: it is impossible to know that
/// there was one more.
#[test]
fn every_truncated_file_is_reported() {
    let whole = files(&fixture());
    let sound = leveldb::read(&whole);
    for (name, bytes) in &whole {
        let bytes = bytes.as_ref().unwrap();
        let mut silent = 0;
        for length in 0..bytes.len() {
            let mut damaged = whole.clone();
            damaged.insert(name.clone(), Some(bytes[..length].to_vec()));
            let read = leveldb::read(&damaged);
            silent += usize::from(read.damage.is_empty() && read.entries != sound.entries);
        }
        // Entries of the log, and edits of the manifest.
        let is_log = name.ends_with(".log") || name.starts_with("MANIFEST");
        assert!(silent <= if is_log { 20 } else { 0 }, "{name}: {silent}");
    }
    for name in whole.keys().filter(|name| leveldb::is_data(name)) {
        let mut without = whole.clone();
        without.remove(name);
        let read = leveldb::read(&without);
        // A log that is not there was merged into a table.
        assert!(!read.damage.is_empty() || name.ends_with(".log"), "{name}");
    }
}

/// The one of the large database with the most entries.
fn largest_table(files: &DatabaseFiles) -> String {
    let tables = files.iter().filter(|(name, _)| name.ends_with(".ldb"));
    let size = |(_, bytes): &(&String, &Option<Vec<u8>>)| bytes.as_ref().unwrap().len();
    tables.max_by_key(size).unwrap().0.clone()
}

#[test]
fn a_damaged_block_loses_itself_alone_and_a_damaged_index_its_table() {
    let directory = tempfile::tempdir().unwrap();
    large(directory.path());
    let whole = files(directory.path());
    let name = largest_table(&whole);
    let length = whole[&name].as_ref().unwrap().len();
    let sound = leveldb::read(&whole).entries;
    let read_with = |at: usize| {
        let mut damaged = whole.clone();
        damaged.get_mut(&name).unwrap().as_mut().unwrap()[at] ^= 0x41;
        leveldb::read(&damaged)
    };
    let differing = |read: &Contents| {
        sound.iter().filter(|(key, value)| read.entries.get(*key) != Some(value)).count()
    };
    let read = read_with(length / 2);
    assert!(matches!(&read.damage[..], [Damage { what: What::Block(_), .. }]), "{:?}", read.damage);
    assert!((1..300).contains(&differing(&read)), "{}", differing(&read));
    // In its last bytes a table says where its index is, and before them it is.
    for at in [length - 1, length - 45, length - 60] {
        let read = read_with(at);
        assert_eq!(read.damage, [Damage { file: name.clone(), what: What::Index }]);
        assert!(differing(&read) > 0 && !read.entries.is_empty());
    }
    // A file that the disk cannot read is reported by its reader.
    let mut unreadable = whole.clone();
    unreadable.insert(name.clone(), None);
    let read = leveldb::read(&unreadable);
    assert_eq!(read.damage, []);
    assert!(differing(&read) > 0 && !read.entries.is_empty());
}

/// Where it is unknown what is in force, every file is read.
#[test]
fn without_a_manifest_the_tables_speak_for_themselves() {
    let directory = tempfile::tempdir().unwrap();
    large(directory.path());
    let whole = files(directory.path());
    let mut damaged = whole.clone();
    let manifest = whole.keys().find(|name| name.starts_with("MANIFEST-")).unwrap();
    damaged.get_mut(manifest).unwrap().as_mut().unwrap()[20] ^= 0x41;
    let read = leveldb::read(&damaged);
    assert_eq!(read.damage, [Damage { file: manifest.clone(), what: What::Manifest }]);
    assert!(read.entries == leveldb::read(&whole).entries);
}

#[test]
fn a_damaged_database_is_taken_over_only_when_that_is_asked_for() {
    let directory = left_behind();
    let path = directory.path().to_str().unwrap();
    let table = directory.path().join("iotdb.leveldb/000005.ldb");
    let mut bytes = fs::read(&table).unwrap();
    bytes[10] ^= 0x41;
    fs::write(&table, bytes).unwrap();
    let run = |more: &[&str]| {
        let export = format!("{path}/states");
        let arguments = [&["migrate", path, "--export", &export], more].concat();
        let done = Command::new(env!("CARGO_BIN_EXE_iotmonitor")).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("000005.ldb is damaged in its block at byte 0"), "{said}");
    assert!(said.contains("nothing was taken over") && said.contains("--skip-damaged"), "{said}");
    assert!(!directory.path().join("states").exists());
    let (code, said) = run(&["--skip-damaged"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("000005.ldb is damaged in its block at byte 0"), "{said}");
    let states = fs::read_to_string(directory.path().join("states")).unwrap();
    let count = states.lines().count();
    assert!(said.contains(&format!("wrote {count} state")) && count > 0, "{said}");
}

#[test]
fn what_is_wrong_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let error = database::read(directory.path()).unwrap_err();
    assert!(matches!(error, DatabaseError::Missing(_)), "{error}");
    let directory = left_behind();
    let lock = directory.path().join("iotdb.leveldb/LOCK");
    fs::write(&lock, "").unwrap();
    // Another process holds the lock in LevelDB's way until its input ends.
    let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); \
        print('held',flush=True); sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", script, lock.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut held).unwrap();
    let error = database::read(directory.path()).unwrap_err();
    assert!(
        error.to_string().ends_with(&format!("(PID {}): stop it first", holder.id())),
        "{error}"
    );
    drop(holder.stdin.take());
    holder.wait().unwrap();
    database::read(directory.path()).unwrap();
}

#[test]
fn its_states_and_its_configuration_become_files() {
    let directory = left_behind();
    let path = |name: &str| directory.path().join(name);
    let original =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/original.toml");
    // As an editor of Windows leaves it.
    fs::write(path("config.toml"), format!("\u{feff}{}", fs::read_to_string(original).unwrap()))
        .unwrap();
    let run = |arguments: &[&str]| {
        let arguments = arguments
            .iter()
            .map(|argument| argument.replace("DIR", directory.path().to_str().unwrap()));
        Command::new(env!("CARGO_BIN_EXE_iotmonitor")).args(arguments).output().unwrap()
    };
    let arguments = ["migrate", "DIR", "--config", "DIR/new.toml", "--export", "DIR/states"];
    let done = run(&arguments);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("wrote 7 states to ") && said.contains("left out 2 keys: not a topic"),
        "{said}"
    );
    assert!(said.contains("`home/agents` matched all topics that begin with it"), "{said}");
    let config = fs::read_to_string(path("new.toml")).unwrap();
    assert!(!config.contains('\u{feff}'), "{config}");
    assert!(config.contains("\nwatchTopics=\"home/agents/#\"\n# watchTimeOut=\n"), "{config}");
    let checked = run(&["check", "DIR/new.toml"]);
    assert!(checked.status.success(), "{checked:?}");
    let states = fs::read_to_string(path("states")).unwrap();
    assert!(
        states.contains(
            r#"{"topic":"home/esp00/actuators/lamp","payload":"off","qos":1,"retain":false,"#
        ),
        "{states}"
    );
    assert_eq!(states.lines().count(), 7);
    // Nothing that is there is overwritten.
    let again = run(&arguments);
    assert!(!again.status.success());
    assert!(String::from_utf8(again.stderr).unwrap().contains("name a file that is not there yet"));
}
