//! The Debian package, from its installation to its purge, on each release that it is for.

use super::harness::{GARDEN, Machine, config, eventually};
use super::store::{DATA, of_the_next_format};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const OLD: &str = "0.0.1-1";
const NEW: &str = "0.0.2-1";
const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 2\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const CONFIG: &str = "/etc/iotmonitor/config.toml";

/// Packages of the tested program in both versions.
fn packages() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        for version in [OLD, NEW] {
            let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/deb.sh"))
                .args(["--profile", "dev", "--fast", "--deb-version", version, "--output"])
                .arg(directory.join(format!("{version}.deb")))
                .output()
                .expect("a script can be run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        directory
    })
}

fn install(machine: &Machine, version: &str) {
    let file = packages().join(format!("{version}.deb"));
    let package = std::fs::read(&file).expect("it was packed");
    let inside = format!("/root/{version}.deb");
    machine.write_file(&inside, &package);
    // No answer waits on standard input: a question about a changed file would fail.
    machine.ok(&["apt-get", "install", "--yes", "--allow-downgrades", &inside]);
    assert_eq!(machine.sh("dpkg-query -W -f '${Version}' iotmonitor"), version);
}

fn life(suite: &str) {
    let machine = Machine::boot_without_monitor(suite);
    a_fresh_install_starts_nothing(&machine);
    let (pid, state) = it_starts_as_it_is_and_alerts(&machine);
    an_upgrade_keeps_what_is_there(&machine, pid, &state);
    what_was_stopped_stays_stopped(&machine);
    an_older_version_refuses_a_newer_store(&machine);
    a_removal_stops_the_agents_and_keeps_the_data(&machine);
    a_purge_leaves_nothing(&machine);
}

fn a_fresh_install_starts_nothing(machine: &Machine) {
    install(machine, OLD);
    assert!(!machine.is_active("iotmonitor.service"));
    assert_eq!(machine.property("iotmonitor", "UnitFileState"), "disabled");
    assert_eq!(machine.sh(&format!("stat -c '%U:%G %a' {CONFIG}")), "root:root 600");
    machine.ok(&["getent", "passwd", "iotmonitor"]);
    for file in [
        "man/man1/iotmonitor.1.gz",
        "man/man1/iotmonitor-check.1.gz",
        "man/man5/iotmonitor.toml.5.gz",
        "bash-completion/completions/iotmonitor",
        "zsh/vendor-completions/_iotmonitor",
        "fish/vendor_completions.d/iotmonitor.fish",
        "iotmonitor/prometheus-rules.yml",
        "iotmonitor/grafana-dashboard.json",
        "doc/iotmonitor/copyright",
        "doc/iotmonitor/licences-of-others.txt.gz",
    ] {
        machine.ok(&["test", "-s", &format!("/usr/share/{file}")]);
    }
}

/// With the configuration of the package, and then with another one.
fn it_starts_as_it_is_and_alerts(machine: &Machine) -> (u32, String) {
    let bus = machine.subscribe(&["home/#"]);
    machine.start_monitor();
    bus.wait_exact(0, "home/monitoring/availability", "online");
    machine.write_config(&config("auto", SECTIONS));
    assert!(machine.reload_monitor().status.success());
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    machine.journal().wait_for_alert("expired", "lamp");
    eventually("the alert in the unit's journal with its explanation", || {
        let said = machine.sh("journalctl -x --no-pager -u iotmonitor");
        (said.contains("`lamp` is silent") && said.contains("░░")).then_some(())
    });
    let state = machine.await_recording(&bus, "home/lamp/set/color", "home/lamp");
    (machine.main_pid(UNIT), state)
}

fn an_upgrade_keeps_what_is_there(machine: &Machine, agent: u32, state: &str) {
    let monitor = machine.monitor_pid();
    machine.write_garden("");
    machine.ok(&["systemctl", "enable", "--now", GARDEN]);
    let garden = machine.main_pid(GARDEN);
    machine.sh(&format!("chmod 640 {CONFIG}"));
    let bus = machine.subscribe(&["home/lamp/#", "home/monitoring/#"]);
    let from = bus.end();
    install(machine, NEW);
    machine.await_new_main_pid("iotmonitor.service", monitor);
    machine.await_new_main_pid(GARDEN, garden);
    assert_eq!(machine.main_pid(UNIT), agent, "the agent was touched");
    assert_eq!(machine.read_file(CONFIG), config("auto", SECTIONS).as_bytes());
    assert_eq!(machine.sh(&format!("stat -c %a {CONFIG}")), "640", "the mode is the owner's");
    bus.wait_exact(from, "home/lamp/set/color", state);
}

fn what_was_stopped_stays_stopped(machine: &Machine) {
    machine.ok(&["systemctl", "enable", "iotmonitor"]);
    machine.stop_monitor();
    install(machine, OLD);
    assert!(!machine.is_active("iotmonitor.service"));
}

/// That was a downgrade; had the newer version changed the store's format, the older one would
/// have to leave it alone.
fn an_older_version_refuses_a_newer_store(machine: &Machine) {
    let known = machine.read_file(DATA);
    let newer = of_the_next_format(known.clone());
    machine.write_file(DATA, &newer);
    assert!(!machine.run(&["systemctl", "start", "iotmonitor"]).status.success());
    machine.journal().wait_for("what to do about the store", |entry| {
        entry.message().contains("install the newer version again")
    });
    assert!(machine.read_file(DATA) == newer);
    machine.write_file(DATA, &known);
    machine.start_monitor();
}

fn a_removal_stops_the_agents_and_keeps_the_data(machine: &Machine) {
    assert!(machine.is_active(UNIT));
    machine.ok(&["dpkg", "--remove", "iotmonitor"]);
    for unit in [GARDEN, "iotmonitor.service", UNIT, "iotmonitor.slice"] {
        assert!(!machine.is_active(unit), "{unit} still runs");
    }
    machine.ok(&["test", "!", "-e", "/run/iotmonitor"]);
    machine.ok(&["test", "-e", CONFIG]);
    machine.ok(&["test", "-e", "/var/lib/iotmonitor/data.mdb"]);
}

fn a_purge_leaves_nothing(machine: &Machine) {
    // What administrators do to a service.
    machine.sh("cd /etc/systemd/system; mkdir iotmonitor.service.d; \
         printf '[Service]\\nNice=1\\n' > iotmonitor.service.d/nice.conf; \
         echo secret > /etc/iotmonitor/password");
    machine.ok(&["dpkg", "--purge", "iotmonitor"]);
    let left = machine
        .sh("find / -xdev -name '*iotmonitor*' -not -path '/proc/*' -not -path '/root/*' \
         -not -path '/var/lib/dpkg/*' -not -path '/run/systemd/*' -not -path '/tmp/*'");
    assert_eq!(left, "", "a purge has left files");
    let units = machine.sh("systemctl list-units --all --plain --no-legend 'iotmonitor*'");
    assert_eq!(units, "", "a purge has left units");
}

#[test]
fn lintian_has_nothing_to_say() {
    let output = Command::new("lintian")
        // The tested program carries its symbols, that of a release does not.
        .args(["--allow-root", "--suppress-tags", "unstripped-binary-or-object"])
        .arg(packages().join(format!("{NEW}.deb")))
        .output()
        .expect("lintian is installed; `make deps` does it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn on_debian_12() {
    life("bookworm");
}

#[test]
fn on_debian_13() {
    life("trixie");
}
