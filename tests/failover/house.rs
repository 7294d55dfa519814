//! Three machines with a member of etcd, a monitor and a guard each, which share six agents and the
//! watching of simulated devices.

use super::broker_log::{BrokerLog, Published};
use super::devices::{self, Devices};
use super::harness::{Build, Machine, eventually_within, script};
use super::network::{BROKER, LOG, Network, run};
use super::observer::Observer;
use super::ticker::{DIRECTORY, PROGRAM};
use super::ticks::{Tick, Ticks, boot_clock};
use iotmonitor::etcd::settings::{EtcdAddress, EtcdSettings};
use iotmonitor::tls::TlsFiles;
use iotmonitor_core::model::cluster::store::StoreContents;
use iotmonitor_core::model::cluster::{Item, SHARDS};
use serde_json::Value;
use siphasher::sip::SipHasher24;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;
use tempfile::TempDir;

pub const MONITOR: &str = "iotmonitor.service";
pub const GUARD: &str = "iotmonitor-guard.service";
pub const ETCD: &str = "etcd.service";

/// In the machines, whatever moves the monitor's wall clock.
pub const WALL_CLOCK: &str = "/run/wall-clock";
const WALL_CLOCK_LIBRARY: &str = "/usr/lib/wall_clock.so";

/// Does not end when it is asked to.
pub const STUBBORN: &str = "stubborn";

/// The agents and what each runs.
const AGENTS: [(&str, &str); 6] = [
    ("a", "exec /usr/bin/ticker a"),
    ("b", "exec /usr/bin/ticker b"),
    ("c", "exec /usr/bin/ticker c"),
    ("d", "exec /usr/bin/ticker d"),
    ("family", "setsid /usr/bin/ticker family & exec /usr/bin/ticker family"),
    (STUBBORN, "trap '' TERM; setsid /usr/bin/ticker stubborn & exec /usr/bin/ticker stubborn"),
];

/// An agent runs if it has ticked within this time, on a machine that is busy.
const TICKS_AT_LEAST_EVERY: Duration = Duration::from_millis(500);

/// How long everything may take to be as it was before a fault: a boot, an election, and two
/// sessions that have to settle.
const RECOVERY: Duration = Duration::from_secs(90);

pub struct House {
    suite: &'static str,
    build: Build,
    /// Numbered from 1 on. A machine that is off is not there.
    machines: BTreeMap<u64, Machine>,
    observer: Observer,
    agents: Vec<Ticks>,
    pub(super) devices: Devices,
    broker_log: BrokerLog,
    /// What was published since the beginning of the round.
    published: Vec<Published>,
    /// After the machines, which are ended first.
    network: Network,
    directory: TempDir,
    /// What holds up the disks of members of etcd.
    pub(super) slow_disks: BTreeMap<u64, Child>,
}

impl House {
    /// Boots three machines.
    pub fn start(suite: &'static str, build: Build) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("iotmonitor-test-")
            .tempdir_in("/dev/shm")
            .expect("root can write to /dev/shm");
        let at = directory.path();
        make_ticks(&at.join("ticks"));
        run(Command::new(script("certificates.sh")).arg(at));
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(at.join("wall_clock.so"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failover/wall_clock.c")));
        let network = Network::new(at);
        let observer = Observer::new(network.pid(), etcd(at));
        let agents = AGENTS.map(|(name, _)| Ticks::new(name, at.join("ticks").join(name)));
        let mut house = Self {
            suite,
            build,
            machines: BTreeMap::new(),
            observer,
            agents: agents.into(),
            devices: Devices::start(&network),
            broker_log: BrokerLog::new(at.join(LOG)),
            published: Vec::new(),
            network,
            directory,
            slow_disks: BTreeMap::new(),
        };
        house.switch_on(&[1, 2, 3]);
        house
    }

    /// Boots these machines, with what they have on disk.
    pub fn switch_on(&mut self, numbers: &[u64]) {
        let options: Vec<_> = numbers.iter().map(|&number| self.options(number)).collect();
        let machines = Machine::boot_together(self.suite, self.build, &options);
        for (&number, machine) in numbers.iter().zip(machines) {
            self.network.plug(&machine, number);
            // Debian has systemd start it again, at once and after each kill.
            machine.write_file(
                "/etc/systemd/system/etcd.service.d/test.conf",
                "[Service]\nRestart=no\n",
            );
            machine.write_file(
                "/etc/systemd/system/iotmonitor.service.d/test.conf",
                &format!("[Service]\nEnvironment=LD_PRELOAD={WALL_CLOCK_LIBRARY}\n"),
            );
            machine.ok(&["systemctl", "daemon-reload"]);
            let (init, certificates) = (machine.init().to_string(), self.directory.path());
            run(Command::new(script("member.sh"))
                .args([&init, &number.to_string()])
                .arg(certificates));
            machine.write_file(WALL_CLOCK, "0\n");
            machine.write_config(&config(number));
            machine.ok(&["systemctl", "start", "--no-block", MONITOR]);
            self.machines.insert(number, machine);
        }
    }

    /// Takes the power from a machine.
    pub fn switch_off(&mut self, number: u64) {
        self.machines.remove(&number).expect("it was on");
    }

    fn options(&self, number: u64) -> Vec<String> {
        let at = self.directory.path().display();
        for kept in ["etcd", "store"] {
            std::fs::create_dir_all(self.directory.path().join(format!("{kept}{number}")))
                .expect("the directory can be written");
        }
        let program = std::env::current_exe().expect("it is known");
        vec![
            format!("--uuid=7e57ab1e-0000-4000-8000-00000000000{number}"),
            format!("--bind={at}/ticks:{DIRECTORY}"),
            format!("--bind={at}/etcd{number}:/var/lib/etcd"),
            format!("--bind={at}/store{number}:/var/lib/iotmonitor"),
            format!("--bind-ro={at}/wall_clock.so:{WALL_CLOCK_LIBRARY}"),
            format!("--bind-ro={}:{PROGRAM}", program.display()),
        ]
    }

    /// Whether packets pass to a machine, and from it.
    pub fn passes(&self, number: u64) -> (bool, bool) {
        self.network.passes(self.machine(number), number)
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn machine(&self, number: u64) -> &Machine {
        &self.machines[&number]
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }

    pub fn agents(&mut self) -> &mut [Ticks] {
        &mut self.agents
    }

    /// What the nodes share, if etcd answers.
    pub fn contents(&self) -> Option<StoreContents> {
        self.observer.contents()
    }

    /// What was published since [`House::forget_published`].
    pub fn published(&mut self) -> &[Published] {
        self.published.extend(self.broker_log.read());
        &self.published
    }

    pub fn forget_published(&mut self) {
        self.published();
        self.published.clear();
    }

    /// The states that a node has recorded.
    pub fn recorded(&self, number: u64) -> BTreeMap<String, String> {
        let lines = self.machine(number).ok(&["iotmonitor", "states", "export", "-"]);
        let state = |line: &str| {
            let json: Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| Some(json[key].as_str()?.to_owned());
            Some((text("topic")?, text("payload")?))
        };
        lines.lines().filter_map(state).collect()
    }

    /// The last tick of each agent.
    pub fn last_ticks(&mut self) -> BTreeMap<&'static str, Tick> {
        let last = |ticks: &mut Ticks| Some((ticks.agent, ticks.last()?));
        self.agents.iter_mut().filter_map(last).collect()
    }

    /// Prints what the machines have to say.
    pub fn print_journals(&self) {
        for (number, machine) in &self.machines {
            println!("journal of pi{number}:\n{}", machine.journal().text());
        }
    }

    /// Waits until all machines take part, every agent runs on one of them, and every device is with
    /// the machine that has it when nothing is broken.
    pub fn await_whole(&mut self) {
        let mut last = String::new();
        let began = boot_clock();
        while let Some(missing) = self.missing() {
            last = missing;
            assert!(boot_clock() - began < RECOVERY, "{last} after {RECOVERY:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        if !last.is_empty() {
            say(&format!("whole after {:.1} s: {last}", (boot_clock() - began).as_secs_f64()));
        }
    }

    /// What keeps the house from being whole, if anything.
    fn missing(&mut self) -> Option<String> {
        let Some(contents) = self.contents() else { return Some("etcd does not answer".into()) };
        for number in 1..=3 {
            let name = format!("pi{number}");
            let node = contents.nodes.iter().find(|(node, _)| node.as_str() == name);
            if node.is_none_or(|(_, record)| record.value.evicted) {
                return Some(format!("{name} takes no part"));
            }
        }
        let Some(plan) = contents.plan else { return Some("there is no plan".into()) };
        for ticks in &mut self.agents {
            let name = ticks.agent;
            let owner = plan.value.owners.iter().find_map(|(item, owner)| {
                matches!(item, Item::Agent(agent) if agent.as_str() == name).then_some(owner)
            });
            let Some(owner) = owner else { return Some(format!("{name} has no owner")) };
            let record = contents.nodes.get(&owner.node);
            if record.is_none_or(|record| record.value.session != owner.session) {
                return Some(format!("{name} has an owner whose session has ended"));
            }
            let Some(last) = ticks.last() else { return Some(format!("{name} has never run")) };
            if boot_clock().saturating_sub(last.at) > TICKS_AT_LEAST_EVERY {
                return Some(format!("{name} does not run"));
            }
            if owner.node.as_str() != format!("pi{}", last.node) {
                return Some(format!("{name} runs where it should not"));
            }
        }
        for number in 0..SHARDS {
            let shard = Item::Shard(number);
            let owner = plan.value.owners.get(&shard).map(|owner| owner.node.as_str());
            if owner != Some(&node_at_rest(&shard)) {
                return Some(format!("{owner:?} has shard {shard}"));
            }
        }
        self.devices.missing(node_at_rest)
    }

    /// Waits until each of these nodes has committed two renewals more, or has another session.
    pub fn await_renewals(&self, numbers: &[u64]) {
        let record = |contents: &StoreContents, number: u64| {
            let name = format!("pi{number}");
            let mut nodes = contents.nodes.iter();
            nodes.find(|(node, _)| node.as_str() == name).map(|(_, record)| record.value.clone())
        };
        let first = eventually_within(RECOVERY, "etcd to answer", || self.contents());
        eventually_within(RECOVERY, "two renewals", || {
            let now = self.contents()?;
            let renewed = |number: &u64| {
                let (before, now) = (record(&first, *number), record(&now, *number));
                before.zip(now).is_some_and(|(before, now)| {
                    now.session != before.session || now.n >= before.n + 2
                })
            };
            numbers.iter().all(renewed).then_some(())
        });
    }
}

/// The node that has a shard when all take part: the one with the largest hash.
pub fn node_at_rest(shard: &Item) -> String {
    let nodes = [1, 2, 3].map(|number| format!("pi{number}"));
    let hash = |node: &String| SipHasher24::new().hash(format!("{shard}\0{node}").as_bytes());
    nodes.into_iter().max_by_key(hash).expect("there are three")
}

/// Prints how a test goes on, as what is slow or hangs has to be found.
pub fn say(words: &str) {
    println!("  {:.2} {words}", boot_clock().as_secs_f64());
}

/// Files to which agents append, whoever runs them.
fn make_ticks(directory: &Path) {
    std::fs::create_dir(directory).expect("the directory can be written");
    for (name, _) in AGENTS {
        let file = File::create(directory.join(name)).expect("the directory can be written");
        file.set_permissions(Permissions::from_mode(0o666)).expect("it is root's");
    }
}

/// How the members of etcd are reached from beside the broker.
fn etcd(certificates: &Path) -> EtcdSettings {
    let file = |name| certificates.join(name);
    EtcdSettings {
        cluster: "house".to_owned(),
        endpoints: endpoints()
            .iter()
            .map(|url| EtcdAddress::new(url).expect("it is one"))
            .collect(),
        tls: TlsFiles {
            ca_file: Some(file("ca.pem")),
            client_certificate: Some((file("client.pem"), file("client.key"))),
        },
        login: None,
    }
}

fn endpoints() -> [String; 3] {
    [1, 2, 3].map(|number| format!("https://10.77.0.{number}:2379"))
}

fn config(number: u64) -> String {
    let endpoints = endpoints();
    let mut text = format!(
        "[mqtt]\nserverAddress = \"tcp://{BROKER}:1883\"\n\n\
         [cluster]\nname = \"house\"\nnode = \"pi{number}\"\nendpoints = {endpoints:?}\n\
         caFile = \"/etc/cluster/ca.pem\"\ncertFile = \"/etc/cluster/client.pem\"\n\
         keyFile = \"/etc/cluster/client.key\"\n"
    );
    for (name, exec) in AGENTS {
        let _ = write!(text, "\n[agent_{name}]\nexec = \"{exec}\"\n");
    }
    text + &devices::sections()
}
