//! supervisord, which is what people use for programs that must run where there is no systemd.
//!
//! It runs beside the machines of the other rows, on the same processors.

use crate::installed::installed;
use crate::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const INSTALL: &str = "python3 -m venv . && bin/pip install --quiet supervisor==4.3.0";
const PATIENCE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(2);
/// It counts a program as running after this time; an earlier end is a failed start.
const START_SECONDS: Duration = Duration::from_secs(1);
/// For how long it is left alone.
const REST: Duration = Duration::from_secs(5);

/// A supervisord with its programs; all are killed on drop.
pub struct Supervised {
    home: PathBuf,
    directory: TempDir,
    child: Child,
    count: usize,
    /// Its programs, in the order in which they were started.
    started: Vec<i32>,
}

/// What it costs to have very many programs.
pub struct Many {
    /// Seconds until all run.
    pub started: f64,
    pub resident: f64,
    /// Seconds of processor time in a minute of rest.
    pub idle: f64,
}

/// Where it is installed; says why it is not, where its registry cannot be reached.
pub fn find() -> Option<PathBuf> {
    installed("peers", "supervisor", INSTALL).map_err(|sentence| eprintln!("{sentence}")).ok()
}

/// So many programs that only wait.
pub fn many(home: &Path, count: usize) -> Many {
    let began = Instant::now();
    let supervised = Supervised::start(home, count);
    let pid = supervised.child.id();
    let resident = process::resident(pid);
    let started = began.elapsed().as_secs_f64();
    thread::sleep(START_SECONDS);
    let before = process::cpu(pid);
    thread::sleep(REST);
    let idle = (process::cpu(pid) - before).as_secs_f64() * 60.0 / REST.as_secs_f64();
    Many { started, resident, idle }
}

impl Supervised {
    /// Starts it with so many programs, and waits until all of them run.
    pub fn start(home: &Path, count: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let path = directory.path().display();
        // It opens four files for each program.
        let mut text = format!(
            "[supervisord]\nnodaemon=true\nuser=root\nminfds=8192\nlogfile=/dev/null\nlogfile_maxbytes=0\n\
             pidfile={path}/pid\n"
        );
        for number in 0..count {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "[program:a{number}]\nautorestart=true\nstdout_logfile=NONE\nstderr_logfile=NONE\n\
                 command=/bin/sh -c \"echo $(date +%%s%%N) $$ >> {path}/a{number}; exec sleep infinity\"\n"
            );
        }
        fs::write(directory.path().join("supervisord.conf"), text).expect("it can be written to");
        let child = run(home, &directory);
        let mut supervised =
            Self { home: home.to_path_buf(), directory, child, count, started: Vec::new() };
        supervised.until_started(1);
        supervised
    }

    /// Milliseconds from SIGKILL to the new process's first words, of each program.
    pub fn relaunches(&mut self) -> Vec<f64> {
        thread::sleep(START_SECONDS * 2);
        let before = self.lines(0).len();
        let mut took = Vec::new();
        for number in 0..self.count {
            let (_, pid) = *self.lines(number).last().expect("it has started");
            let killed = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            until("it is started again", || self.lines(number).len() > before);
            let (at, pid) = *self.lines(number).last().expect("it has started");
            self.started.push(pid);
            took.push((at.saturating_sub(killed)).as_secs_f64() * 1e3);
        }
        took
    }

    /// Processes of the programs, after it was killed and started again.
    pub fn processes_after_its_death(&mut self) -> usize {
        let before = self.lines(0).len();
        // Fails only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = run(&self.home, &self.directory);
        self.until_started(before + 1);
        self.started.iter().filter(|pid| kill(Pid::from_raw(**pid), None).is_ok()).count()
    }

    /// Waits until each program has been started so often.
    fn until_started(&mut self, times: usize) {
        until("all programs run", || {
            (0..self.count).all(|number| self.lines(number).len() >= times)
        });
        for number in 0..self.count {
            self.started.extend(self.lines(number).last().map(|(_, pid)| *pid));
        }
    }

    /// When a program was started, and as which process.
    fn lines(&self, number: usize) -> Vec<(Duration, i32)> {
        let file = self.directory.path().join(format!("a{number}"));
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = |line: &str| {
            let (nanoseconds, pid) = line.split_once(' ')?;
            Some((Duration::from_nanos(nanoseconds.parse().ok()?), pid.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Killed first, it relaunches none of them.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.started {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
}

fn run(home: &Path, directory: &TempDir) -> Child {
    Command::new(home.join("bin/supervisord"))
        .arg("-c")
        .arg(directory.path().join("supervisord.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it is installed")
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(GLANCE);
    }
}
