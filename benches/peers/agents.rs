//! Agents beside units that systemd runs alone, in a machine with a real systemd, D-Bus and broker.
//!
//! The reference for a relaunch is a unit with the same command and the same settings for restarts;
//! that for a thousand starts is this program, called in the machine as `units`, which asks systemd
//! for transient units like those of agents with sixteen jobs outstanding, and does nothing else.

use crate::harness::{Machine, config};
use crate::table::{Figure, Goal, Row};
use crate::{Settings, process};
use futures_util::StreamExt;
use std::fmt::Write;
use std::fs;
use std::num::NonZero;
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

/// Where the machine finds this program.
const PROGRAM: &str = "/usr/local/bin/peers";

pub fn rows(settings: &Settings) -> Vec<Row> {
    let machine = Machine::boot();
    let mut rows = relaunched(settings, &machine);
    rows.extend(many(settings, &machine));
    rows
}

/// Milliseconds from SIGKILL to the new process's first words.
fn relaunched(settings: &Settings, machine: &Machine) -> Vec<Row> {
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
    machine.stop_monitor();
    machine.ok(&["systemctl", "stop", "iotmonitor.slice", "u[0-9]*.service"]);
    vec![Row {
        work: "relaunch after SIGKILL".to_owned(),
        references: vec![("a unit of systemd's alone", Figure::new(alone, "ms"))],
        monitor: Figure::new(monitor, "ms"),
        goal: Some(Goal::Ratio(1.1)),
    }]
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
fn many(settings: &Settings, machine: &Machine) -> Vec<Row> {
    let count = if settings.quick { 100 } else { 1_000 };
    let (mut started, mut adopted, mut alone, mut idle) = (vec![], vec![], vec![], vec![]);
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
        started.push(until_all_run(machine, count, "start"));
        let pid = machine.monitor_pid();
        let before = machine.sh(&format!("cat /proc/{pid}/schedstat"));
        std::thread::sleep(Duration::from_secs(5));
        let after = machine.sh(&format!("cat /proc/{pid}/schedstat"));
        idle.push(process::seconds_between(&before, &after) * 12.0);
        machine.stop_monitor();
        adopted.push(until_all_run(machine, count, "start"));
        machine.stop_monitor();
        machine.ok(&["systemctl", "stop", "iotmonitor.slice"]);
    }
    let row = |work: String, references, values, goal| Row {
        work,
        references,
        monitor: Figure::new(values, "s"),
        goal,
    };
    let reference = vec![("systemd alone, as many jobs at once", Figure::new(alone, "s"))];
    vec![
        row(format!("{count} agents started"), reference, started, Some(Goal::Ratio(1.2))),
        row(format!("{count} agents adopted"), Vec::new(), adopted, Some(Goal::AtMost(0.2))),
        row(format!("idle processor time a minute, {count} agents"), Vec::new(), idle, None),
    ]
}

/// Seconds from the call of systemctl until the status line says that all agents run.
fn until_all_run(machine: &Machine, count: usize, verb: &str) -> f64 {
    let began = Instant::now();
    machine.ok(&["systemctl", verb, "iotmonitor"]);
    let running = format!("{count} running");
    while !machine.property("iotmonitor.service", "StatusText").contains(&running) {
        assert!(began.elapsed() < PATIENCE, "not all of {count} agents run after {PATIENCE:?}");
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

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'static>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'static>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
}

/// The program `units`: starts so many, and says how many seconds that took.
pub fn start_units(count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there are resources for it");
    let seconds = runtime.block_on(start_all(count)).expect("systemd does it");
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
