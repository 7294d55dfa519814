//! The network between the machines, with a broker on it, and faults of its cables.

use super::harness::{Machine, enter_network, eventually, script};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The broker's address.
pub const BROKER: &str = "10.77.0.9";

/// The broker's log, in its directory.
pub const LOG: &str = "mosquitto.log";

/// A packet that has not arrived by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Which packets of a machine are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    Both,
    /// Those that it would receive.
    In,
    /// Those that it sends.
    Out,
}

/// The network and its broker, which end with it.
pub struct Network {
    holder: Child,
    broker: Child,
}

impl Network {
    /// The broker's files are in this directory.
    pub fn new(directory: &Path) -> Self {
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net"])
            .arg(script("network.sh"))
            .arg("hold")
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv can be run");
        let pid = holder.id();
        eventually("the network", || {
            let link = inside(pid).args(["ip", "link", "show", "bridge", "up"]).output();
            link.is_ok_and(|output| !output.stdout.is_empty()).then_some(())
        });
        let settings = directory.join("mosquitto.conf");
        let log = directory.join(LOG);
        let text = format!(
            "listener 1883\nallow_anonymous true\nmax_queued_messages 0\nuser root\n\
             log_dest file {}\nlog_type debug\nlog_timestamp false\n",
            log.display()
        );
        std::fs::write(&settings, text).expect("the directory can be written");
        let broker = start_broker(pid, &settings);
        let network = Self { holder, broker };
        eventually("the broker", || {
            let argv = ["mosquitto_pub", "-h", BROKER, "-t", "test", "-n"];
            network.command(&argv).status().is_ok_and(|status| status.success()).then_some(())
        });
        network
    }

    /// The process whose network it is.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command on the network, beside the broker.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = inside(self.pid());
        command.args(argv).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Whether packets pass to a machine, and from it.
    pub fn passes(&self, machine: &Machine, number: u64) -> (bool, bool) {
        let there = socket(machine.init(), &format!("10.77.0.{number}"));
        let here = socket(self.pid(), BROKER);
        let passes = |from: &UdpSocket, to: &UdpSocket| {
            let address = to.local_addr().expect("it is bound");
            from.send_to(b"packet", address).expect("a network that loses it does not say so");
            to.recv(&mut [0; 16]).is_ok()
        };
        (passes(&here, &there), passes(&there, &here))
    }

    pub fn plug(&self, machine: &Machine, number: u64) {
        let [network, init, number] =
            [u64::from(self.pid()), u64::from(machine.init()), number].map(|id| id.to_string());
        run(Command::new(script("network.sh")).args(["plug", &network, &init, &number]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in [&mut self.broker, &mut self.holder] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Loses packets at the machine's end of the cable.
pub fn cut(machine: &Machine, cut: Cut) {
    let hooks: &[&str] = match cut {
        Cut::Both => &["ingress", "egress"],
        Cut::In => &["ingress"],
        Cut::Out => &["egress"],
    };
    run(Command::new(script("network.sh")).args(["cut", &machine.init().to_string()]).args(hooks));
}

pub fn mend(machine: &Machine) {
    run(Command::new(script("network.sh")).args(["mend", &machine.init().to_string()]));
}

/// A socket in the network of this process, at its own address there.
fn socket(pid: u32, address: &str) -> UdpSocket {
    let make = || {
        enter_network(pid)?;
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(LOST_AFTER))?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = std::thread::scope(|scope| scope.spawn(make).join());
    socket.expect("it does not panic").expect("root may go there")
}

fn inside(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.env("PATH", search_path()).args(["--target", &pid.to_string(), "--net", "--"]);
    command
}

fn start_broker(network: u32, settings: &PathBuf) -> Child {
    // Both replace themselves, so that the child is mosquitto in the end.
    Command::new("setpriv")
        .env("PATH", search_path())
        .args(["--pdeathsig", "KILL", "nsenter", "--target", &network.to_string(), "--net", "--"])
        .args(["mosquitto", "-c"])
        .arg(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv can be run")
}

/// Debian has mosquitto and ip where only root looks for them.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it can be run");
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
