//! Agents beside units that systemd runs alone, in a machine with a real systemd, D-Bus and broker.
//!
//! The reference for a relaunch is a unit with the same command and the same settings for restarts;
//! that for a thousand starts is this program, called in the machine as `units`, which asks systemd
//! for transient units like those of agents with sixteen jobs outstanding, and does nothing else;
//! and that for their adoption is the same program, called as `answers`, which asks for all units and
//! for the properties of each. supervisord stands beside both, outside of the machine.

use crate::harness::{Machine, config, eventually};
use crate::supervised::{self, Supervised};
use crate::table::{Figure, Goal, Row};
use crate::{Settings, process};
use futures_util::StreamExt;
use std::fmt::Write;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedObjectPath, Variant, proxy};

/// Agents that are killed, and units beside them. Each is killed twice, since the third death so
/// soon after the first is the start limit's business.
const KILLED: usize = 10;
/// What each of them runs: it writes down when it is there.
const CLOCK: &str = "date +%s%N >> /run/started-$0; exec sleep infinity";

/// Jobs of systemd that are outstanding at once, as with the monitor.
const OUTSTANDING: usize = 16;

/// How long very many agents may take to run.
const PATIENCE: Duration = Duration::from_secs(120);

const SUPERVISORD: &str = "supervisord";

/// Where the machine finds this program.
const PROGRAM: &str = "/usr/local/bin/peers";

pub fn rows(settings: &Settings) -> Vec<Row> {
    let machine = Machine::boot();
    let supervisor = supervised::find();
    let mut rows = relaunched(settings, &machine, supervisor.as_deref());
    rows.extend(many(settings, &machine, supervisor.as_deref()));
    rows
}

/// Milliseconds from SIGKILL to the new process's first words.
fn relaunched(settings: &Settings, machine: &Machine, supervisor: Option<&Path>) -> Vec<Row> {
    let mut sections = String::new();
    for number in 0..KILLED {
        // Writing to a string cannot fail.
        let _ = write!(
            sections,
            "[agent_a{number}]\nuser = \"root\"\nexec = [\"/bin/sh\", \"-c\", \"{CLOCK}\", \"a{number}\"]\n"
        );
    }
    let bus = machine.launch(&config("5", &sections));
    for number in 0..KILLED {
        bus.wait_topic(0, &format!("home/monitoring/startedprocess/a{number}"));
        machine.ok(&[
            "systemd-run",
            "--quiet",
            &format!("--unit=u{number}"),
            "--property=Restart=always",
            "--property=RestartSec=0",
            "--property=Type=exec",
            "--property=User=root",
            "/bin/sh",
            "-c",
            CLOCK,
            &format!("u{number}"),
        ]);
    }
    let (mut monitor, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..if settings.quick { 1 } else { 2 } {
        for number in 0..KILLED {
            let unit = format!("iotmonitor-agent-a{number}");
            monitor.push(kill(machine, &unit, &format!("a{number}")));
            alone.push(kill(machine, &format!("u{number}"), &format!("u{number}")));
        }
    }
    let left = processes_after_a_kill(machine);
    machine.stop_monitor();
    machine.ok(&["systemctl", "stop", "iotmonitor.slice", "u[0-9]*.service"]);
    let mut references = vec![("a unit of systemd's alone", Figure::new(alone, "ms"))];
    let mut references_left = Vec::new();
    if let Some(home) = supervisor {
        let mut supervised = Supervised::start(home, KILLED);
        references.push((SUPERVISORD, Figure::new(supervised.relaunches(), "ms")));
        let left = small(supervised.processes_after_its_death());
        references_left.push((SUPERVISORD, Figure::new(vec![left], "processes")));
    }
    vec![
        Row {
            work: "relaunch after SIGKILL".to_owned(),
            references,
            monitor: Figure::new(monitor, "ms"),
            goal: Some(Goal::Ratio(1.1)),
        },
        Row {
            work: format!(
                "processes of {KILLED} programs, after their monitor was killed and started"
            ),
            references: references_left,
            monitor: Figure::new(vec![left], "processes"),
            goal: Some(Goal::AtMost(small(KILLED))),
        },
    ]
}

/// Processes of the agents, after the monitor was killed and is back.
fn processes_after_a_kill(machine: &Machine) -> f64 {
    machine.crash_monitor();
    let running = format!("{KILLED} running");
    eventually("the monitor to know its agents", || {
        machine.property("iotmonitor.service", "StatusText").contains(&running).then_some(())
    });
    let count = "cat /sys/fs/cgroup/iotmonitor.slice/*/cgroup.procs | wc -l";
    machine.sh(count).parse().expect("a number")
}

fn small(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// Milliseconds that a unit takes to be back.
fn kill(machine: &Machine, unit: &str, name: &str) -> f64 {
    let script = format!(
        "file=/run/started-{name}; before=$(wc -l < $file)
         pid=$(systemctl show --value --property MainPID {unit})
         killed=$(date +%s%N); kill -KILL $pid
         until [ $(wc -l < $file) -gt $before ]; do sleep 0.01; done
         echo $(($(tail -n 1 $file) - killed))"
    );
    let nanoseconds: f64 = machine.sh(&script).parse().expect("a number");
    nanoseconds / 1e6
}

/// Very many agents: how long until all run, and until a monitor that starts knows them.
fn many(settings: &Settings, machine: &Machine, supervisor: Option<&Path>) -> Vec<Row> {
    let count = if settings.quick { 100 } else { 1_000 };
    let (mut started, mut adopted, mut alone, mut idle) = (vec![], vec![], vec![], vec![]);
    let mut answers = vec![];
    let (mut resident, mut manager) = (vec![], vec![]);
    let this = std::env::current_exe().and_then(fs::read).expect("Linux knows it");
    machine.write_file(PROGRAM, &this);
    machine.ok(&["chmod", "755", PROGRAM]);
    let mut sections = String::new();
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = write!(sections, "[agent_a{number}]\nexec = [\"/bin/sleep\", \"infinity\"]\n");
    }
    machine.write_config(&config("5", &sections));
    for _ in 0..if settings.quick { 1 } else { 2 } {
        let seconds = machine.ok(&[PROGRAM, "units", &count.to_string()]);
        alone.push(seconds.parse().expect("seconds"));
        machine.ok(&["systemctl", "stop", "alone-*.service"]);
        started.push(until_all_started(machine, count));
        let pid = machine.monitor_pid();
        let before = machine.sh(&format!("cat /proc/{pid}/schedstat"));
        std::thread::sleep(Duration::from_secs(5));
        let after = machine.sh(&format!("cat /proc/{pid}/schedstat"));
        idle.push(process::seconds_between(&before, &after) * 12.0);
        // What the start took is returned by then.
        resident.push(resident_in(machine, &pid.to_string()));
        manager.push(resident_in(machine, "1"));
        machine.stop_monitor();
        let seconds = machine.ok(&[PROGRAM, "answers", &count.to_string()]);
        answers.push(seconds.parse().expect("seconds"));
        adopted.push(until_all_are_known(machine, count));
        machine.stop_monitor();
        machine.ok(&["systemctl", "stop", "iotmonitor.slice"]);
    }
    let rounds = 0..if settings.quick { 1 } else { 2 };
    let beside: Vec<_> = supervisor
        .iter()
        .flat_map(|home| rounds.clone().map(|_| supervised::many(home, count)))
        .collect();
    let reference = |value: fn(&supervised::Many) -> f64, unit| {
        let values: Vec<f64> = beside.iter().map(value).collect();
        (!values.is_empty()).then(|| (SUPERVISORD, Figure::new(values, unit)))
    };
    let row = |work: String, references, monitor, goal| Row { work, references, monitor, goal };
    let mut starts = vec![("systemd alone, as many jobs at once", Figure::new(alone, "s"))];
    starts.extend(reference(|many| many.started, "s"));
    let mut memory = vec![("systemd itself", Figure::new(manager, "MB"))];
    memory.extend(reference(|many| many.resident, "MB"));
    let rest = reference(|many| many.idle, "s").into_iter().collect();
    let seconds = |values| Figure::new(values, "s");
    vec![
        row(format!("{count} agents started"), starts, seconds(started), Some(Goal::Ratio(1.3))),
        row(
            format!("{count} agents adopted"),
            vec![("systemd's answers alone", seconds(answers))],
            seconds(adopted),
            Some(Goal::AtMostAbove(0.2)),
        ),
        row(format!("idle processor time a minute, {count} agents"), rest, seconds(idle), None),
        row(format!("resident memory, {count} agents"), memory, Figure::new(resident, "MB"), None),
    ]
}

/// Resident memory of a process of the machine, in megabytes.
fn resident_in(machine: &Machine, pid: &str) -> f64 {
    let kilobytes = machine.sh(&format!("grep -o '[0-9]* kB' <(grep VmRSS /proc/{pid}/status)"));
    let kilobytes: f64 = kilobytes.trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024.0 / 1e6
}

/// Seconds from the call of systemctl until each agent was reported as started. A machine of two
/// processors would be busy with questions, so it is asked nothing meanwhile.
fn until_all_started(machine: &Machine, count: usize) -> f64 {
    let reports = machine.subscribe(&["home/monitoring/startedprocess/+"]);
    let began = Instant::now();
    machine.ok(&["systemctl", "start", "iotmonitor"]);
    while reports.end() < count {
        assert!(began.elapsed() < PATIENCE, "not all of {count} agents run after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed().as_secs_f64()
}

/// Seconds from the call of systemctl until the status line says that all agents run.
fn until_all_are_known(machine: &Machine, count: usize) -> f64 {
    let began = Instant::now();
    machine.ok(&["systemctl", "start", "iotmonitor"]);
    let running = format!("{count} running");
    while !machine.property("iotmonitor.service", "StatusText").contains(&running) {
        assert!(began.elapsed() < PATIENCE, "not all of {count} agents run after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed().as_secs_f64()
}

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<ListedUnit>>;

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'static>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'static>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
}

/// One row of a list: name, description, load state, active state, sub state, followed unit, path,
/// job id, job type, job path.
type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// The program `answers`: asks for the properties of so many agents' units, and says how many seconds
/// the answers took.
pub fn ask_for_units(count: usize) {
    let seconds = runtime().block_on(ask_for_all(count)).expect("systemd does it");
    println!("{seconds:.3}");
}

async fn ask_for_all(count: usize) -> zbus::Result<f64> {
    let calls = zbus::Connection::system().await?;
    let began = Instant::now();
    let manager = ManagerProxy::new(&calls).await?;
    let listed = manager.list_units_by_patterns(&[], &["iotmonitor-agent-*.service"]).await?;
    assert_eq!(listed.len(), count, "each agent has a unit");
    let (systemd, properties) = ("org.freedesktop.systemd1", "org.freedesktop.DBus.Properties");
    let ask = async |unit: ListedUnit| {
        calls.call_method(Some(systemd), unit.6, Some(properties), "GetAll", &("")).await
    };
    let mut answers = futures_util::stream::iter(listed).map(ask).buffered(OUTSTANDING);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("there are resources for it")
}

/// The program `units`: starts so many, and says how many seconds that took.
pub fn start_units(count: usize) {
    let seconds = runtime().block_on(start_all(count)).expect("systemd does it");
    println!("{seconds:.3}");
}

async fn start_all(count: usize) -> zbus::Result<f64> {
    let calls = zbus::Connection::system().await?;
    let signals = zbus::Connection::system().await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface("org.freedesktop.systemd1.Manager")
        .member("JobRemoved")
        .build()?;
    let mut removed =
        MessageStream::for_match_rule(rule, &signals, NonZero::new(4 * OUTSTANDING)).await?;
    ManagerProxy::new(&signals).await?.subscribe().await?;
    let manager = ManagerProxy::new(&calls).await?;
    let began = Instant::now();
    let (mut asked, mut done) = (0, 0);
    while done < count {
        while asked < count && asked - done < OUTSTANDING {
            let command = vec![("/bin/sleep", vec!["/bin/sleep", "infinity"], false)];
            let fields =
                ["A=agent", "B=instance", "C=definition"].map(|field| field.as_bytes().to_vec());
            let properties = [
                ("Type", Variant::from("exec")),
                ("ExecStart", Variant::from(command)),
                ("Slice", Variant::from("iotmonitor.slice")),
                ("Restart", Variant::from("always")),
                ("RestartUSec", Variant::from(0_u64)),
                ("User", Variant::from("iotmonitor")),
                ("Environment", Variant::from(vec!["A=agent", "B=broker"])),
                ("LogExtraFields", Variant::from(fields.to_vec())),
            ];
            let name = format!("alone-{asked}.service");
            manager.start_transient_unit(&name, "fail", &properties, &[]).await?;
            asked += 1;
        }
        let Some(signal) = removed.next().await else { break };
        // Number and path of the job, its unit, its result.
        let (_, _, unit, _): (u32, OwnedObjectPath, String, String) =
            signal?.body().deserialize()?;
        done += usize::from(unit.starts_with("alone-"));
    }
    Ok(began.elapsed().as_secs_f64())
}
