//! What the original iotmonitor left: a LevelDB that Google's library wrote with its settings, one
//! that the test writes, and damaged ones.

use iotmonitor::original::database::{self, DatabaseError, States};
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
    assert_eq!(read.passed_over, 2, "a filter, and bytes that are no text");
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

#[test]
fn damage_is_an_error_or_nothing_and_never_a_wrong_payload() {
    let whole = database::read(&fixture()).unwrap();
    let names: Vec<_> =
        fs::read_dir(fixture()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let (mut tried, mut refused) = (0, 0);
    for name in names {
        let bytes = fs::read(fixture().join(&name)).unwrap();
        let step = (bytes.len() / 150).max(1);
        for at in (0..bytes.len()).step_by(step) {
            for cut in [false, true] {
                let mut damaged = bytes.clone();
                if cut {
                    damaged.truncate(at);
                } else {
                    damaged[at] ^= 0x41;
                }
                let directory = left_behind();
                fs::write(directory.path().join("iotdb.leveldb").join(&name), damaged).unwrap();
                tried += 1;
                match database::read(directory.path()) {
                    Err(error) => {
                        assert!(error.to_string().contains("iotdb.leveldb"), "{error}");
                        refused += 1;
                    }
                    // What follows the damage in a log is lost; an older value comes back then.
                    Ok(read) => assert!(pairs(&read).iter().all(|(topic, _)| {
                        whole.states.iter().any(|(known, _)| known.as_str() == *topic)
                            || topic.ends_with("esp04/actuators/lamp")
                    })),
                }
            }
        }
    }
    assert!(tried > 300 && refused > tried / 2, "{refused} of {tried}");
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
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/original.toml"),
        path("config.toml"),
    )
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
    assert!(said.contains("wrote 7 states to ") && said.contains("2 keys are no topics"), "{said}");
    assert!(said.contains("`home/agents` stood for all topics that begin so"), "{said}");
    let config = fs::read_to_string(path("new.toml")).unwrap();
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
