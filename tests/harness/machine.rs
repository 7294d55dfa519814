//! One booted container.

use super::eventually;
use super::journal::Journal;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

const TOOLS: [&str; 8] =
    ["mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "setsid", "setpriv", "flock", "losetup"];

/// Longest time one command inside may take, in seconds.
const COMMAND_TIMEOUT: &str = "90";

/// Which program is the machine's system bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// dbus-daemon, which Debian installs unasked.
    Daemon,
    /// dbus-broker, which Fedora and others have instead.
    Broker,
}

impl Bus {
    fn unit(self) -> &'static str {
        match self {
            Self::Daemon => "dbus.service",
            Self::Broker => "dbus-broker.service",
        }
    }
}

/// A machine that is up. Dropping it kills everything in it at once.
pub struct Machine {
    name: String,
    nspawn: Child,
    /// The machine's PID 1 as seen from outside.
    init: u32,
    journal: Option<Journal>,
}

/// Which program is installed.
#[derive(Debug, Clone, Copy)]
pub enum Build {
    /// That of the tests.
    Tested,
    /// The program as it is released.
    Release,
}

impl Machine {
    /// Boots a fresh machine with iotmonitor installed and not started, mosquitto running.
    pub fn boot() -> Self {
        Self::boot_on(Bus::Daemon)
    }

    /// The same with this bus.
    pub fn boot_on(bus: Bus) -> Self {
        Self::boot_with(Path::new(env!("CARGO_BIN_EXE_iotmonitor")), bus)
    }

    /// The same with the program as it is released.
    pub fn boot_release() -> Self {
        Self::boot_with(release(), Bus::Daemon)
    }

    /// The same on this Debian release, which is the host's or a later one.
    pub fn boot_suite(suite: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_iotmonitor"));
        Self::install(Self::boot_from(&image(Some(suite)), Some(program), Bus::Daemon))
    }

    /// Boots machines at the same time, each with these options of systemd-nspawn(1).
    pub fn boot_together(suite: &str, build: Build, options: &[Vec<String>]) -> Vec<Self> {
        let image = image(Some(suite));
        let program = match build {
            Build::Tested => Path::new(env!("CARGO_BIN_EXE_iotmonitor")),
            Build::Release => release(),
        };
        let machines: Vec<Self> = options
            .iter()
            .map(|options| Self::begin(&image, Some(program), Bus::Daemon, options))
            .collect();
        machines.into_iter().map(|machine| Self::install(machine.await_boot(Bus::Daemon))).collect()
    }

    fn boot_with(program: &Path, bus: Bus) -> Self {
        Self::install(Self::boot_from(&image(None), Some(program), bus))
    }

    /// What the package does beside laying out its files.
    fn install(machine: Self) -> Self {
        machine.ok(&["systemd-sysusers"]);
        machine.ok(&["journalctl", "--update-catalog"]);
        machine
    }

    /// Boots a fresh machine of this Debian release that has never heard of iotmonitor.
    pub fn boot_without_monitor(suite: &str) -> Self {
        Self::boot_from(&image(Some(suite)), None, Bus::Daemon)
    }

    fn boot_from(image: &Path, program: Option<&Path>, bus: Bus) -> Self {
        Self::begin(image, program, bus, &[]).await_boot(bus)
    }

    fn begin(image: &Path, program: Option<&Path>, bus: Bus, options: &[String]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("iotmonitor-test-{}-{number}", std::process::id());
        let nspawn = spawn(&name, image, program, bus, options);
        Self { name, nspawn, init: 0, journal: None }
    }

    fn await_boot(mut self, bus: Bus) -> Self {
        self.init = eventually("systemd-nspawn to start systemd", || {
            if let Ok(Some(status)) = self.nspawn.try_wait() {
                panic!("the machine did not boot ({status}):\n{}", self.console());
            }
            child_that_is_init(self.nspawn.id())
        });
        self.await_running();
        assert_eq!(self.property("dbus.service", "Id"), bus.unit(), "another bus was booted");
        self.journal = Some(Journal::follow(&self));
        self
    }

    /// A command that will run in the machine, with a plain environment.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--all", "--"])
            .args(argv)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command in the machine to its end.
    pub fn run(&self, argv: &[&str]) -> Output {
        let limited: Vec<&str> = ["timeout", COMMAND_TIMEOUT].iter().chain(argv).copied().collect();
        self.command(&limited).output().expect("nsenter can be run")
    }

    /// Runs a command that must succeed and returns what it printed.
    pub fn ok(&self, argv: &[&str]) -> String {
        let output = self.run(argv);
        assert!(
            output.status.success(),
            "{argv:?} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a shell script that must succeed and returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["bash", "-euc", script])
    }

    /// Runs a command that must succeed with this on its standard input.
    pub fn feed(&self, argv: &[&str], input: &[u8]) {
        let mut child = self
            .command(argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("nsenter can be run");
        child.stdin.take().expect("it is piped").write_all(input).expect("the command reads");
        let status = child.wait().expect("it is our child");
        assert!(status.success(), "{argv:?} failed: {status}");
    }

    /// Writes a file into the machine, readable by root alone.
    pub fn write_file(&self, path: &str, content: &(impl AsRef<[u8]> + ?Sized)) {
        let script = format!("mkdir -p \"$(dirname {path})\"; umask 077; cat > {path}");
        self.feed(&["sh", "-ec", &script], content.as_ref());
    }

    /// The bytes of a file in the machine.
    pub fn read_file(&self, path: &str) -> Vec<u8> {
        let output = self.run(&["cat", path]);
        assert!(output.status.success(), "{path} cannot be read");
        output.stdout
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// The main process of a unit, 0 when it has none.
    pub fn main_pid(&self, unit: &str) -> u32 {
        self.property(unit, "MainPID").parse().expect("MainPID is a number")
    }

    /// Waits until a unit has a main process other than this one.
    pub fn await_new_main_pid(&self, unit: &str, old: u32) -> u32 {
        eventually(&format!("a new main process of {unit} after {old}"), || {
            let pid = self.main_pid(unit);
            (pid != 0 && pid != old && self.property(unit, "ActiveState") == "active")
                .then_some(pid)
        })
    }

    pub fn is_active(&self, unit: &str) -> bool {
        self.property(unit, "ActiveState") == "active"
    }

    /// Sends a signal to a process, given by its number inside.
    pub fn signal(&self, signal: Signal, pid: u32) {
        assert_ne!(pid, 0, "there is no process to send {signal} to");
        self.ok(&["kill", "-s", &signal.as_str()["SIG".len()..], &pid.to_string()]);
    }

    /// Connects to a port of the machine's loopback.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.inside_network(|| TcpStream::connect(("127.0.0.1", port)))
    }

    /// Connects to the status page as soon as it listens, which may be after the start is over.
    pub fn connect_to_page(&self, port: u16) -> TcpStream {
        eventually("the status page", || self.connect(port).ok())
    }

    /// Listens on a port of the machine's loopback.
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        self.inside_network(|| TcpListener::bind(("127.0.0.1", port)))
    }

    /// A socket stays in the network where it was made, and only one thread goes there.
    fn inside_network<T: Send>(
        &self,
        make: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter_network(self.init)?;
                make()
            });
            thread.join().expect("it does not panic")
        })
    }

    /// Its PID 1 as seen from outside.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Where a file of the machine is for a process outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Its name, which its cgroup bears too.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("it is there from the end of the boot on")
    }

    fn await_running(&self) {
        eventually("the machine to be up", || {
            let output = self.run(&["systemctl", "is-system-running", "--wait"]);
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            matches!(state.as_str(), "running" | "degraded").then_some(())
        });
    }

    /// What was printed while it booted.
    fn console(&self) -> String {
        let bytes = std::fs::read(console_path(&self.name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            match &self.journal {
                Some(journal) => eprintln!("journal of {}:\n{}", self.name, journal.text()),
                None => eprintln!("console of {}:\n{}", self.name, self.console()),
            }
        }
        // The kernel kills the machine's PID 1, and with it the rest, when its parent dies.
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        remove(&[&self.name]);
    }
}

fn spawn(name: &str, image: &Path, program: Option<&Path>, bus: Bus, options: &[String]) -> Child {
    std::fs::create_dir_all(RUN_DIRECTORY).expect("root can write to /run");
    let console = std::fs::File::create(console_path(name)).expect("root can write to /run");
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    // setsid and setpriv replace themselves, so that the child is systemd-nspawn in the end, and
    // it dies with the test's thread even when the machine is not dropped.
    let mut command = Command::new("setsid");
    command
        .args(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount"])
        .arg(script("boot.sh"))
        .arg(name)
        .arg(image)
        .arg(match bus {
            Bus::Daemon => "dbus-daemon",
            Bus::Broker => "dbus-broker",
        });
    if let Some(program) = program {
        command.arg(program).arg(files).args(options);
    }
    command
        .stdin(Stdio::null())
        .stdout(console.try_clone().expect("a file can be shared"))
        .stderr(console)
        .spawn()
        .expect("setsid can be run")
}

/// Takes the calling thread to the network of a process.
pub fn enter_network(pid: u32) -> io::Result<()> {
    let network = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    Ok(setns(network, CloneFlags::CLONE_NEWNET)?)
}

const RUN_DIRECTORY: &str = "/run/iotmonitor-test";

fn console_path(name: &str) -> PathBuf {
    Path::new(RUN_DIRECTORY).join(format!("{name}.console"))
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine").join(name)
}

/// The release build of these sources, made when it is not up to date.
fn release() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        release_build();
        // PROFILE/iotmonitor, below the target directory.
        let tested = Path::new(env!("CARGO_BIN_EXE_iotmonitor"));
        let target = tested.ancestors().nth(2).expect("the program is two levels below");
        target.join("release/iotmonitor")
    })
}

/// The recorder's program beside the tested one. It is built once, since a build takes the file away for a
/// moment.
pub fn recorder() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debug-build.sh");
        let mut build = Command::new(script);
        build.args(["--quiet", "--bin", "iotmonitor-recorder"]);
        run_build(build);
        Path::new(env!("CARGO_BIN_EXE_iotmonitor")).with_file_name("iotmonitor-recorder")
    })
}

/// Makes the release build with the flags of the packages.
fn release_build() {
    let mut build = Command::new("make");
    build.args(["--silent", "build"]);
    run_build(build);
}

fn run_build(mut build: Command) {
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    // The variables that cargo sets for a test would make build scripts run again.
    let of_cargo = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    for (name, _) in std::env::vars_os() {
        if of_cargo.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            build.env_remove(name);
        }
    }
    let built = build.status();
    assert!(built.is_ok_and(|status| status.success()), "the build failed, see above");
}

/// The image's root file system, of the host's release or of another one; it is built when it is
/// not there.
fn image(suite: Option<&str>) -> PathBuf {
    static HOST: OnceLock<Result<(), String>> = OnceLock::new();
    static IMAGES: Mutex<BTreeMap<Option<String>, PathBuf>> = Mutex::new(BTreeMap::new());
    let host = HOST.get_or_init(|| {
        check_host()?;
        remove(&["--stale"]);
        Ok(())
    });
    if let Err(error) = host {
        panic!("{error}");
    }
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let image = images.entry(suite.map(str::to_owned)).or_insert_with(|| {
        let cache = std::env::var_os("IOTMONITOR_TEST_CACHE").map_or_else(
            || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("system-image"),
            PathBuf::from,
        );
        let output = Command::new(script("build-image.sh"))
            .arg(cache)
            .args(suite)
            .output()
            .expect("a script can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    });
    image.clone()
}

fn check_host() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("the system tests boot containers: run them as root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing: Vec<_> = TOOLS.into_iter().filter(|tool| !is_there(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("the system tests need {}: install them with `make deps`", missing.join(", ")))
}

/// Kills and removes what is left of these machines.
fn remove(arguments: &[&str]) {
    let status = Command::new(script("remove.sh")).args(arguments).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("something is left of the test machines {arguments:?} in /sys/fs/cgroup");
    }
}

/// The child that is PID 1 in a PID namespace of its own, as /proc/PID/status shows (proc(5)).
fn child_that_is_init(parent: u32) -> Option<u32> {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| is_init(*pid))
}

fn is_init(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    field("Name:") == "systemd" && field("NSpid:").ends_with("\t1")
}
