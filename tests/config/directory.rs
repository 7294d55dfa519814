//! The files of `config.d` beside the configuration file: which ones are read, that they count as
//! one configuration, and that each finding names its own file.

use super::{MQTT, system};
use iotmonitor::cli::check::check;
use iotmonitor::config::{ConfigErrors, Environment, Findings, Instance, Loaded, load};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const DEVICE: &str = "watchTopics = \"home/#\"\n";

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    /// A good main file, and an empty directory beside it.
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(files.path("config.d")).unwrap();
        files.write("config.toml", MQTT);
        files
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.path("config.toml"), &system())
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The findings as `FILE:LINE message`, with the names of files as in the directory.
    fn places(&self, findings: &Findings) -> Vec<String> {
        findings
            .iter()
            .map(|found| {
                let path = found.path.strip_prefix(self.directory.path()).unwrap();
                format!("{}:{} {}", path.display(), found.line, found.message)
            })
            .collect()
    }

    fn errors(&self) -> Vec<String> {
        match self.load() {
            Ok(loaded) => panic!("taken as good: {loaded:?}"),
            Err(ConfigErrors::Invalid { errors, .. }) => self.places(&errors),
            Err(other) => panic!("{other}"),
        }
    }

    fn unreadable(&self) -> String {
        match self.load() {
            Err(error @ ConfigErrors::Unreadable { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn devices(&self) -> Vec<String> {
        let loaded = self.loaded();
        loaded.config.monitor.devices.iter().map(|device| device.name.to_string()).collect()
    }
}

fn device(name: &str) -> String {
    format!("[device_{name}]\n{DEVICE}")
}

#[test]
fn the_files_are_read_in_the_order_of_their_names() {
    let files = Files::new();
    files.write("config.toml", format!("{MQTT}{}", device("main")));
    for (file, name) in [("b.toml", "b"), ("B.toml", "capital"), ("10.toml", "ten")] {
        files.write(Path::new("config.d").join(file), device(name));
    }
    files.write(Path::new("config.d").join(OsStr::from_bytes(b"\xff.toml")), device("last"));
    for passed_over in [".hidden.toml", "x.toml~", "x.toml.bak", "notes", "x.TOML", ".toml"] {
        files.write(Path::new("config.d").join(passed_over), "not TOML at all");
    }
    assert_eq!(files.devices(), ["main", "ten", "capital", "b", "last"]);
    fs::remove_dir_all(files.path("config.d")).unwrap();
    assert_eq!(files.devices(), ["main"]);
}

#[test]
fn the_directory_is_named_after_the_file() {
    let files = Files::new();
    files.write("config.d/a.toml", device("attic"));
    files.write("garden.toml", MQTT);
    fs::create_dir(files.path("garden.d")).unwrap();
    files.write("garden.d/a.toml", device("pond"));
    let devices = |file| {
        let loaded = load(&files.path(file), &system()).unwrap();
        loaded.config.monitor.devices[0].name.to_string()
    };
    assert_eq!((devices("config.toml"), devices("garden.toml")), ("attic".into(), "pond".into()));
}

#[test]
fn any_section_may_be_in_any_file() {
    let files = Files::new();
    files.write("config.toml", "[device_lamp]\nwatchTopics = \"lamp\"\ndependsOn = \"gateway\"\n");
    files.write("config.d/broker.toml", format!("\u{feff}{}", MQTT.replace('\n', "\r\n")));
    files.write("config.d/gateway.toml", device("gateway"));
    let loaded = files.loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.config.monitor.devices[0].depends_on[0].as_str(), "gateway");
}

#[test]
fn each_finding_names_its_file_and_line() {
    let files = Files::new();
    let wrong = "\n[device_b]\nwatchTimeout = 5\nwatchTopics = \"b\"\n";
    files.write("config.toml", format!("{MQTT}[device_a]\nwatchTopics = 5\n[leveldb]\n"));
    files.write("config.d/1.toml", wrong);
    files.write("config.d/2.toml", "stray = 1\n[device_c]\n");
    assert_eq!(
        files.errors(),
        [
            "config.toml:4 watchTopics must be a string or a list of strings, found number `5`",
            "config.d/1.toml:3 unknown key `watchTimeout`, did you mean `watchTimeOut`?",
            "config.d/2.toml:2 [device_c] has no topics",
        ]
    );
    let Err(ConfigErrors::Invalid { warnings, errors }) = files.load() else { panic!() };
    assert_eq!(
        files.places(&warnings),
        [
            "config.toml:5 the section [leveldb] is unknown and is ignored",
            "config.d/2.toml:1 the key `stray` is outside any section and is ignored",
        ]
    );
    let shown = errors.to_string();
    let place = format!("--> {}:3:1\n", files.path("config.d/1.toml").display());
    assert!(shown.contains(&place) && shown.contains("3 | watchTimeout = 5\n"), "{shown}");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(check(&files.path("config.toml"), &system(), &mut out, &mut err), 78);
    assert!(String::from_utf8(err).unwrap().contains(&place));
}

#[test]
fn a_section_in_two_files_is_an_error_that_names_both() {
    let files = Files::new();
    files.write("config.toml", format!("{MQTT}{}", device("a")));
    files.write("config.d/1.toml", format!("\n\n{}", device("a")));
    files.write(
        "config.d/2.toml",
        format!("# again\nmqtt = {{ password = \"hunter2\" }}\n{}", device("b")),
    );
    files.write("config.d/3.toml", device("b"));
    let Err(ConfigErrors::Invalid { errors, .. }) = files.load() else { panic!() };
    assert_eq!(
        files.places(&errors),
        [
            "config.d/1.toml:3 the section [device_a] is in two files",
            "config.d/2.toml:2 the section [mqtt] is in two files",
            "config.d/3.toml:1 the section [device_b] is in two files",
        ]
    );
    for (error, (file, line)) in
        errors.iter().zip([("config.toml", 3), ("config.toml", 1), ("config.d/2.toml", 3)])
    {
        let first = format!("{}:{line}", files.path(file).display());
        assert!(error.hint.contains(&first), "{error}");
    }
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
}

#[test]
fn an_agent_and_a_device_of_one_name_in_two_files_are_an_error_that_names_both() {
    let files = Files::new();
    files.write("config.toml", format!("{MQTT}{}", device("a")));
    files.write("config.d/1.toml", "[agent_a]\nexec = \"x\"\n");
    let Err(ConfigErrors::Invalid { errors, .. }) = files.load() else { panic!() };
    assert_eq!(
        files.places(&errors),
        ["config.d/1.toml:1 device_a and agent_a would share the name `a`"]
    );
    let first = format!("{}:3", files.path("config.toml").display());
    assert!(errors[0].hint.contains(&first), "{errors}");
}

#[test]
fn errors_of_syntax_and_encoding_come_from_all_files() {
    let files = Files::new();
    files.write("config.toml", "[mqtt\n");
    files.write("config.d/1.toml", "[device_a]\nwatchTopics = home\n");
    files.write("config.d/2.toml", b"\n# K\xfcche\n");
    files.write("config.d/3.toml", format!("{}password = hunter2\n", device("c")));
    let errors = files.errors();
    let places: Vec<_> = errors.iter().map(|error| error.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        ["config.toml:1", "config.d/1.toml:2", "config.d/2.toml:2", "config.d/3.toml:3"]
    );
    assert!(errors[2].contains("0xFC"), "{errors:?}");
    assert!(!format!("{}", files.load().unwrap_err()).contains("hunter2"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let files = Files::new();
    fs::create_dir(files.path("config.d/a.toml")).unwrap();
    let said = files.unreadable();
    assert!(said.contains("config.d/a.toml") && said.contains("not a regular file"), "{said}");
    fs::remove_dir(files.path("config.d/a.toml")).unwrap();
    // A pipe that nobody writes to must not hold the reader up.
    nix::unistd::mkfifo(&files.path("config.d/b.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(files.unreadable().contains("config.d/b.toml"));
    fs::remove_file(files.path("config.d/b.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", files.path("config.d/c.toml")).unwrap();
    assert!(files.unreadable().contains("config.d/c.toml"));
    fs::remove_file(files.path("config.d/c.toml")).unwrap();
    fs::remove_dir(files.path("config.d")).unwrap();
    files.write("config.d", "");
    let said = files.unreadable();
    assert!(said.contains("config.d:") && said.contains("directory"), "{said}");
}

#[test]
fn the_limits_hold_for_all_files_together() {
    let files = Files::new();
    let half = format!("#{}\n", "x".repeat(8 * 1024 * 1024));
    files.write("config.d/1.toml", &half);
    files.loaded();
    files.write("config.d/2.toml", &half);
    let said = files.unreadable();
    assert!(said.contains("config.d/2.toml") && said.contains("16 MiB"), "{said}");
    for (number, name) in ["config.d/1.toml", "config.d/2.toml"].into_iter().enumerate() {
        let stray = |at| format!("[x{number}_{at}]\n");
        files.write(name, (0..40).map(stray).collect::<String>());
    }
    let warnings = files.loaded().warnings;
    assert_eq!((warnings.len(), warnings.total()), (50, 80));
    assert!(warnings[39].path.ends_with("1.toml") && warnings[40].path.ends_with("2.toml"));
    for number in 0..1_100 {
        files.write(format!("config.d/{number}.toml"), "");
    }
    let said = files.unreadable();
    assert!(said.contains("config.d:") && said.contains("1000 files"), "{said}");
}

#[test]
fn a_secret_that_others_can_read_is_looked_for_in_its_own_file() {
    let files = Files::new();
    files.write("config.toml", "");
    files.write("config.d/broker.toml", format!("{MQTT}password = \"hunter2\"\n"));
    files.write("config.d/page.toml", "[http]\ntoken = \"correct-horse-battery\"\n");
    let mode = |file: &str, mode| {
        fs::set_permissions(files.path(file), fs::Permissions::from_mode(mode)).unwrap();
    };
    for file in ["config.d/broker.toml", "config.d/page.toml"] {
        mode(file, 0o600);
    }
    mode("config.toml", 0o644);
    assert!(files.loaded().warnings.is_empty(), "{}", files.loaded().warnings);
    mode("config.d/broker.toml", 0o640);
    let warnings = files.loaded().warnings;
    assert_eq!(
        files.places(&warnings),
        ["config.d/broker.toml:3 others can read the password in this file (mode 0640)"]
    );
    let path = files.path("config.d/broker.toml");
    assert_eq!(warnings[0].hint, format!("chmod 0600 {}", path.display()));
    assert!(!warnings.to_string().contains("hunter2"));
}

#[test]
fn paths_are_resolved_from_the_main_file() {
    let files = Files::new();
    files.write("config.toml", "");
    files.write("secret", "hunter2\n");
    fs::set_permissions(files.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    files.write("config.d/broker.toml", format!("{MQTT}passwordFile = \"secret\"\n"));
    assert_eq!(files.loaded().config.mqtt.password.unwrap().reveal(), "hunter2");
}

#[test]
fn the_names_of_another_monitor_are_looked_for_in_its_directory_too() {
    let files = Files::new();
    files.write("garden.toml", "");
    fs::create_dir(files.path("garden.d")).unwrap();
    files.write("garden.d/broker.toml", format!("{MQTT}clientid = \"iotmonitor\"\n"));
    let directory = files.directory.path();
    let warnings = |name: &str| {
        let file = directory.join(name);
        let environment = Environment {
            instance: Instance::of_file(&file, directory),
            config_directory: Some(directory.to_owned()),
            ..Environment::default()
        };
        load(&file, &environment).unwrap().warnings
    };
    let found = warnings("config.toml");
    assert!(found.to_string().contains("garden.toml has the clientid `iotmonitor`"), "{found}");
    let found = warnings("garden.toml");
    assert_eq!(found.len(), 1);
    assert!(found[0].path.ends_with("garden.d/broker.toml"), "{found}");
    assert!(found.to_string().contains("config.toml has the clientid"), "{found}");
}

#[test]
fn a_file_of_the_directory_alone_is_no_configuration() {
    let files = Files::new();
    files.write("config.d/attic.toml", device("attic"));
    let error = load(&files.path("config.d/attic.toml"), &system()).unwrap_err().to_string();
    let main = files.path("config.toml");
    assert!(error.contains("[mqtt] is missing"), "{error}");
    assert!(error.contains(&format!("check {}", main.display())), "{error}");
}

#[test]
fn as_root_a_file_that_is_closed_to_the_service_is_a_warning() {
    let files = Files::new();
    files.write("config.d/pi.toml", device("attic"));
    let path = files.path("config.d/pi.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
    let service = Environment { for_service: true, ..Environment::default() };
    let warnings = load(&files.path("config.toml"), &service).unwrap().warnings;
    let place = files.places(&warnings);
    let [warning] = &place[..] else { panic!("{place:?}") };
    assert!(
        warning.starts_with("config.d/pi.toml:1 the service cannot read this file"),
        "{warning}"
    );
    assert!(files.loaded().warnings.is_empty());
    // A draft in a place that is closed to the service as a whole is no reason to warn.
    let main = files.path("config.toml");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&main, Some(65_534), Some(65_534)).unwrap();
    assert!(load(&main, &service).unwrap().warnings.is_empty());
}
