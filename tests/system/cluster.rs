//! A node of a cluster: agents that run by a right, beside a guard, and what is left of them when a
//! part fails. There is one etcd, in the same machine; three machines are another test's matter.

use super::harness::{GARDEN, Machine, config, eventually};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use iotmonitor::guard::last_renewal;
use iotmonitor_core::model::cluster::timing::{LEASE, STOP_BUDGET};
use iotmonitor_core::model::cluster::view::ClusterView;
use iotmonitor_core::model::cluster::{NodeRecord, SessionId};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const GUARD: &str = "iotmonitor-guard.service";
const RULES: &str = "iotmonitor-agent-rules.service";
const KEPT: &str = "iotmonitor-agent-kept.service";
const PINNED: &str = "iotmonitor-agent-pinned.service";

const SECTIONS: &str = "\
    [cluster]\nname = \"house\"\nendpoints = \"http://127.0.0.1:2379\"\nnode = \"pi1\"\n\
    [agent_rules]\nexec = [\"/bin/sleep\", \"infinity\"]\n\
    [agent_kept]\nexec = [\"/bin/sleep\", \"infinity\"]\nwhenCut = \"keep\"\n\
    [agent_pinned]\nexec = [\"/bin/sleep\", \"infinity\"]\nnodes = [\"pi1\"]\n";

/// What a busy machine may be late.
const MARGIN: Duration = Duration::from_secs(2);

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// A machine with a member of etcd and a node, whose agents run.
struct Node {
    machine: Machine,
}

impl Node {
    /// With the monitor and its agents.
    fn start() -> Self {
        let node = Self::boot();
        node.start_monitor();
        node.await_pids();
        node
    }

    /// Without a monitor yet.
    fn boot() -> Self {
        let machine = Machine::boot();
        machine.ok(&["systemctl", "start", "etcd"]);
        Self { machine }
    }

    fn start_monitor(&self) {
        self.machine.write_config(&config("auto", SECTIONS));
        self.machine.start_monitor();
    }

    /// The main processes of the three agents, once all run.
    fn await_pids(&self) -> [u32; 3] {
        [RULES, KEPT, PINNED].map(|unit| self.machine.await_new_main_pid(unit, 0))
    }

    /// By what right the agent runs.
    fn epoch(&self, unit: &str) -> Option<u64> {
        let file = format!("/proc/{}/environ", self.machine.main_pid(unit));
        let variables = String::from_utf8(self.machine.read_file(&file)).unwrap();
        let epoch = variables.split('\0').find_map(|it| it.strip_prefix("IOTMONITOR_EPOCH="))?;
        Some(epoch.parse().unwrap())
    }

    fn deadline(&self) -> Option<Duration> {
        let directory: PathBuf = self.machine.path("/run/iotmonitor-guard");
        last_renewal(&directory).map(|guarded| guarded.deadline)
    }

    /// Waits for a renewal by which everything runs longer than it would have by those until now.
    fn await_later_renewal(&self) {
        let before = now();
        eventually("a later renewal", || {
            self.deadline().filter(|deadline| *deadline > before + LEASE)
        });
    }

    fn alerts(&self, event: &str) -> usize {
        self.machine.journal().alerts(&self.machine, event, "")
    }
}

#[test]
fn agents_run_beside_a_guard_and_outlive_the_monitor() {
    let node = Node::start();
    let machine = &node.machine;
    let pids = node.await_pids();
    assert!(machine.is_active(GUARD));
    let places = [RULES, KEPT, PINNED].map(|unit| machine.property(unit, "Slice"));
    assert_eq!(places, ["iotmonitor-shared.slice", "iotmonitor.slice", "iotmonitor.slice"]);
    let epochs = [RULES, KEPT, PINNED].map(|unit| node.epoch(unit));
    assert!(epochs[0].is_some() && epochs[1].is_some() && epochs[2].is_none(), "{epochs:?}");

    let guard = machine.main_pid(GUARD);
    machine.crash_monitor();
    node.await_later_renewal();
    machine.restart_monitor();
    node.await_later_renewal();
    assert_eq!((node.await_pids(), machine.main_pid(GUARD)), (pids, guard), "nothing was touched");
    assert_eq!([RULES, KEPT, PINNED].map(|unit| node.epoch(unit)), epochs);
    let moved = ["moved", "agent-stopped", "agent-relaunched", "guard-lost"];
    assert_eq!(moved.map(|event| node.alerts(event)), [0; 4]);

    guard_is_killed(&node);
    etcd_is_stopped(&node);
    a_second_node_is_refused(machine);
}

/// A node that did not know what it had would be silent for the eight seconds in which it settles.
#[test]
fn a_node_speaks_again_as_soon_as_its_monitor_is_back() {
    const UP: &str = "home/monitoring/up";
    let node = Node::start();
    let machine = &node.machine;
    let bus = machine.subscribe(&[UP]);
    for how in ["killed", "restarted"] {
        bus.let_seconds_pass(2);
        let from = bus.end();
        match how {
            "killed" => machine.crash_monitor(),
            _ => machine.restart_monitor(),
        }
        let first = bus.wait_exact(from, UP, "1");
        let before = bus.all().into_iter().rfind(|message| message.at < first.at).unwrap();
        let gap = first.at - before.at;
        println!("{how}: `up` had a gap of {gap:?}");
        assert!(gap < LEASE, "{how}: {gap:?}");
    }
    assert!(machine.sh("cat /run/iotmonitor/parts").contains("#house"));
    machine.ok(&["iotmonitor", "cluster", "drain"]);
    eventually("nothing to be left", || {
        (!machine.sh("cat /run/iotmonitor/parts").contains('#')).then_some(())
    });
}

fn a_second_node_is_refused(machine: &Machine) {
    let cluster = SECTIONS.split("[agent_rules]").next().unwrap();
    machine.write_garden(cluster);
    assert!(!machine.run(&["systemctl", "start", GARDEN]).status.success());
    let told = machine.journal().wait_for("the refusal", |entry| {
        entry.is_alert("start-failed", "") && entry.field("_SYSTEMD_UNIT") == GARDEN
    });
    assert!(told.message().contains("is a node of a cluster already"), "{}", told.message());
    let checked = machine.run(&["iotmonitor", "check", "/etc/iotmonitor/garden.toml"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.contains("a machine can only be one"), "{said}");
}

/// A member of etcd that does not end with the machine in whose network it is.
struct Etcd {
    child: Child,
    network: File,
    _data: TempDir,
}

impl Etcd {
    fn start(machine: &Machine) -> Self {
        let network = File::open(format!("/proc/{}/ns/net", machine.init())).unwrap();
        let data = tempfile::tempdir().unwrap();
        let child = Command::new("nsenter")
            .args(["--target", &machine.init().to_string(), "--net", "etcd", "--data-dir"])
            .arg(data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { child, network, _data: data };
        eventually("etcd to answer", || etcd.owners());
        etcd
    }

    /// What the plan gives to nodes; `None` while there is no answer.
    fn owners(&self) -> Option<String> {
        let key = BASE64_STANDARD.encode("/iotmonitor/house/plan");
        let body = json!({ "key": key }).to_string();
        let answer = std::thread::scope(|scope| {
            let asked = scope.spawn(|| -> std::io::Result<String> {
                setns(&self.network, CloneFlags::CLONE_NEWNET)?;
                let mut stream = TcpStream::connect(("127.0.0.1", 2379))?;
                let length = body.len();
                let head = format!("POST /v3/kv/range HTTP/1.0\r\nContent-Length: {length}");
                write!(stream, "{head}\r\n\r\n{body}")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            });
            asked.join().unwrap().ok()
        })?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let found: Value = serde_json::from_str(body).ok()?;
        let plan = found["kvs"][0]["value"].as_str().unwrap_or_default();
        let plan = BASE64_STANDARD.decode(plan).unwrap();
        let plan: Value = serde_json::from_slice(&plan).unwrap_or_default();
        Some(plan["owners"].to_string())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Nobody else ends the session here, so the plan shows what the node itself has given away.
#[test]
fn a_machine_that_is_shut_down_gives_its_agents_away() {
    let machine = Machine::boot();
    let etcd = Etcd::start(&machine);
    machine.write_config(&config("auto", SECTIONS));
    machine.start_monitor();
    machine.await_new_main_pid(RULES, 0);
    machine.restart_monitor();
    assert!(etcd.owners().unwrap().contains("\"rules\""), "a restart moves nothing");
    machine.ok(&["systemctl", "--no-block", "poweroff"]);
    eventually("the agent to be given away", || {
        etcd.owners().filter(|owners| !owners.contains("\"rules\""))
    });
}

#[test]
fn people_see_the_cluster_and_their_orders_are_kept_in_it() {
    let node = Node::start();
    let machine = &node.machine;
    let shown = machine.ok(&["iotmonitor", "cluster"]);
    assert!(shown.starts_with("etcd has answered for "), "{shown}");
    for words in ["pi1 (this node)", "alive", "kept, rules", "all shards 0-31"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    let view = ClusterView::from_json(&machine.ok(&["iotmonitor", "cluster", "--json"])).unwrap();
    assert_eq!(view.items[&"rules".parse().unwrap()].epoch.map(|e| e.0), node.epoch(RULES));
    let table = machine.ok(&["iotmonitor", "status"]);
    assert!(table.lines().next().unwrap().contains("NODE"), "{table}");

    // Orders are in etcd, and hold for a monitor that knows nothing of them itself.
    machine.ok(&["iotmonitor", "disable", "rules"]);
    assert!(!machine.is_active(RULES));
    machine.ok(&["iotmonitor", "silence", "kept", "--for", "2h"]);
    machine.stop_monitor();
    machine.ok(&["rm", "-r", "/var/lib/iotmonitor"]);
    machine.start_monitor();
    eventually("the orders to be read", || {
        let status = machine.ok(&["iotmonitor", "status", "rules"]);
        let silenced = machine.ok(&["iotmonitor", "status", "kept"]);
        (status.contains("disabled") && silenced.contains("notifications resume in 1 h 59 min"))
            .then_some(())
    });
    machine.ok(&["iotmonitor", "enable", "rules"]);
    assert_ne!(machine.await_new_main_pid(RULES, 0), 0);

    let refused = machine.run(&["iotmonitor", "cluster", "move", "rules", "pi9"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("there is no node `pi9` in the cluster"), "{words}");
    machine.ok(&["iotmonitor", "cluster", "drain"]);
    assert!(!machine.is_active(RULES) && machine.is_active(PINNED));
    machine.restart_monitor();
    eventually("a drained node", || {
        let shown = machine.run(&["iotmonitor", "cluster"]);
        String::from_utf8_lossy(&shown.stdout).contains("drained").then_some(())
    });
    assert!(!machine.is_active(RULES), "a restart ends no drain");
    machine.ok(&["iotmonitor", "cluster", "drain", "pi1", "--end"]);
    assert_ne!(machine.await_new_main_pid(RULES, 0), 0);

    machine.ok(&["systemctl", "stop", "etcd"]);
    let refused = machine.run(&["iotmonitor", "disable", "pinned"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("etcd does not answer"), "{words}");
    assert!(machine.is_active(PINNED));
}

#[test]
fn without_its_guard_a_node_runs_what_is_pinned_to_it_and_says_so_once() {
    let node = Node::boot();
    let machine = &node.machine;
    machine.ok(&["systemctl", "mask", "--runtime", GUARD]);
    node.start_monitor();
    let alert = machine.journal().wait_for_alert("guard-lost", "");
    assert!(alert.message().contains("cannot be started"), "{}", alert.message());
    assert_ne!(machine.await_new_main_pid(PINNED, 0), 0);
    assert!(!machine.is_active(RULES));
    machine.ok(&["systemctl", "unmask", "--runtime", GUARD]);
    node.await_pids();
    assert_eq!(node.alerts("guard-lost"), 1, "it was tried again in the meantime");
}

/// The other machine is played by a script that renews its record.
#[test]
fn of_two_machines_with_one_name_the_later_one_takes_no_part_until_the_other_has_left() {
    let node = Node::boot();
    let machine = &node.machine;
    let record = NodeRecord {
        session: SessionId { boot: 1, number: 2 },
        n: 0,
        evict_after: Duration::from_secs(8),
        machine: "other".to_owned(),
        evicted: false,
        broker: true,
        drains: false,
        config: None,
    };
    let renew = "for n in {1..1000}; do \
        etcdctl put /iotmonitor/house/node/pi1 \"${RECORD/\\\"n\\\":0/\\\"n\\\":$n}\" && echo; sleep 1; done";
    let mut other = Command::new("nsenter")
        .args(["--target", &machine.init().to_string(), "--net", "bash", "-c", renew])
        .env("ETCDCTL_API", "3")
        .env("RECORD", serde_json::to_string(&record).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let put = other.stdout.as_mut().unwrap().read(&mut [0]).unwrap();
    assert_eq!(put, 1, "it is there first");
    node.start_monitor();
    let alert = machine.journal().wait_for_alert("node-name-taken", "");
    assert!(alert.message().contains("as node `pi1`"), "{}", alert.message());
    assert_ne!(machine.await_new_main_pid(PINNED, 0), 0);
    assert!(!machine.is_active(RULES));
    other.kill().unwrap();
    other.wait().unwrap();
    node.await_pids();
    assert_eq!(node.alerts("node-name-taken"), 1);
}

fn guard_is_killed(node: &Node) {
    let machine = &node.machine;
    let [rules, _, pinned] = node.await_pids();
    let epoch = node.epoch(RULES);
    let guard = machine.main_pid(GUARD);
    machine.signal(Signal::SIGKILL, guard);
    machine.await_new_main_pid(RULES, rules);
    assert_ne!(machine.await_new_main_pid(GUARD, guard), 0);
    assert!(node.epoch(RULES) > epoch, "another session has it");
    assert_eq!(node.await_pids()[2], pinned, "it needs no guard");
    machine.journal().wait_for_alert("guard-lost", "");
    assert_eq!(node.alerts("guard-lost"), 1);
    for event in ["agent-relaunched", "agent-failed", "expired"] {
        assert_eq!(node.alerts(event), 0, "{event}: nobody has stopped it by hand");
    }
}

fn etcd_is_stopped(node: &Node) {
    let machine = &node.machine;
    let [rules, kept, pinned] = node.await_pids();
    let epoch = node.epoch(RULES);
    let stopped = now();
    machine.ok(&["systemctl", "stop", "etcd"]);
    eventually("the agent to end", || (machine.main_pid(RULES) != rules).then_some(()));
    let lasted = now() - stopped;
    assert!(lasted < LEASE + STOP_BUDGET + MARGIN, "it went on for {lasted:?}");
    machine.journal().wait_for_alert("cluster-cut", "");
    assert_eq!(machine.main_pid(RULES), 0);
    assert_eq!([KEPT, PINNED].map(|unit| machine.main_pid(unit)), [kept, pinned]);

    machine.ok(&["systemctl", "start", "etcd"]);
    machine.await_new_main_pid(RULES, rules);
    assert!(node.epoch(RULES) > epoch, "another session has it");
    machine.journal().wait_for_alert("cluster-back", "");
    assert_eq!([node.alerts("cluster-cut"), node.alerts("cluster-back")], [1, 1]);
    assert_eq!(node.alerts("guard-lost"), 1, "the guard has done its work");
    assert_eq!(machine.main_pid(PINNED), pinned);
}
