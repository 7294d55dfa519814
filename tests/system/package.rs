//! The Debian package, from its installation to its purge, on each release that it is for.

use super::harness::{GARDEN, Machine, config, eventually, recorder};
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
/// Of the instance.
const ORPHAN: &str = "iotmonitor-garden-agent-orphan.service";
/// Of the dead man's switch.
const ALIVE: &str = "iotmonitor-alive.timer";
const CONFIG: &str = "/etc/iotmonitor/config.toml";

/// Below /usr/share.
const MANUAL: [&str; 6] = [
    "man/man1/iotmonitor.1",
    "man/man1/iotmonitor-check.1",
    "man/man5/iotmonitor.toml.5",
    "bash-completion/completions/iotmonitor",
    "zsh/vendor-completions/_iotmonitor",
    "fish/vendor_completions.d/iotmonitor.fish",
];

/// The same of the recorder.
const MANUAL_OF_THE_RECORDER: [&str; 4] = [
    "man/man1/iotmonitor-recorder.1",
    "bash-completion/completions/iotmonitor-recorder",
    "zsh/vendor-completions/_iotmonitor-recorder",
    "fish/vendor_completions.d/iotmonitor-recorder.fish",
];

const RECORDER: &str = "iotmonitor-recorder.service";

/// What dpkg says of a package that is purged.
const NOT_KNOWN: &str = "dpkg-query: no packages found matching iotmonitor";

/// Packages of the tested program in both versions, and one of the recorder.
pub fn packages() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        recorder();
        let monitors = [OLD, NEW].map(|version| ("iotmonitor", version, format!("{version}.deb")));
        let recorder = ("iotmonitor-recorder", NEW, format!("recorder-{NEW}.deb"));
        for (package, version, file) in monitors.into_iter().chain([recorder]) {
            let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/deb.sh"))
                .args(["--package", package, "--profile", "dev", "--fast"])
                .args(["--deb-version", version, "--output"])
                .arg(directory.join(file))
                .output()
                .expect("a script can be run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        directory
    })
}

/// Returns what was printed meanwhile.
fn install(machine: &Machine, version: &str) -> String {
    let file = packages().join(format!("{version}.deb"));
    let package = std::fs::read(&file).expect("it was packed");
    let inside = format!("/root/{version}.deb");
    machine.write_file(&inside, &package);
    // No answer waits on standard input: a question about a changed file would fail.
    let install = format!("apt-get install --yes --allow-downgrades {inside} 2>&1");
    let said = machine.sh(&install);
    assert_eq!(machine.sh("dpkg-query -W -f '${Version}' iotmonitor"), version);
    said
}

fn life(suite: &str) {
    let machine = Machine::boot_without_monitor(suite);
    a_fresh_install_starts_nothing(&machine);
    let (pid, state) = it_starts_as_it_is_and_alerts(&machine);
    an_upgrade_keeps_what_is_there(&machine, pid, &state);
    a_file_that_the_new_version_cannot_use_stops_no_monitor(&machine, &state);
    what_was_stopped_stays_stopped(&machine);
    an_older_version_refuses_a_newer_store(&machine);
    a_removal_stops_the_agents_and_keeps_the_data(&machine);
    a_purge_leaves_nothing(&machine);
    a_purge_needs_no_directory_to_be_there(&machine);
}

fn a_fresh_install_starts_nothing(machine: &Machine) {
    install(machine, OLD);
    assert!(!machine.is_active("iotmonitor.service"));
    assert_eq!(machine.property("iotmonitor", "UnitFileState"), "disabled");
    assert_eq!(machine.sh(&format!("stat -c '%U:%G %a' {CONFIG}")), "root:root 600");
    machine.ok(&["getent", "passwd", "iotmonitor"]);
    for file in MANUAL {
        let file = if file.starts_with("man/") { format!("{file}.gz") } else { file.to_owned() };
        machine.ok(&["test", "-s", &format!("/usr/share/{file}")]);
    }
    for file in [
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

/// Its errors are reported, and the monitor goes on watching; another one, whose file only gives cause
/// for a warning, is restarted all the same.
fn a_file_that_the_new_version_cannot_use_stops_no_monitor(machine: &Machine, state: &str) {
    let (monitor, garden) = (machine.monitor_pid(), machine.main_pid(GARDEN));
    machine.write_config(&config("auto", &SECTIONS.replace("watchTimeOut", "watchTimeout")));
    machine.write_garden("[unheard_of]\nx = 1\n");
    let bus = machine.subscribe(&["home/lamp/#"]);
    let said = install(machine, OLD);
    assert!(said.contains("did you mean `watchTimeOut`?"), "{said}");
    assert!(said.contains("iotmonitor.service goes on in the version that it runs"), "{said}");
    assert!(!said.contains("iotmonitor@garden.service goes on"), "{said}");
    assert_eq!(machine.monitor_pid(), monitor);
    machine.await_new_main_pid(GARDEN, garden);
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_exact(from, "home/lamp/set/color", state);

    // A secret that systemd passes in does not prevent the upgrade.
    let secret = "passwordFile = \"/etc/iotmonitor/nowhere\"\nuser = \"house\"\n";
    machine
        .write_config(&config("auto", SECTIONS).replace("[mqtt]\n", &format!("[mqtt]\n{secret}")));
    machine.write_file("/etc/iotmonitor/password", "hunter2\n");
    machine.write_file(
        "/etc/systemd/system/iotmonitor.service.d/password.conf",
        "[Service]\nLoadCredential=mqtt-password:/etc/iotmonitor/password\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "restart", "iotmonitor"]);
    let monitor = machine.monitor_pid();
    install(machine, NEW);
    machine.await_new_main_pid("iotmonitor.service", monitor);
    machine.write_config(&config("auto", SECTIONS));
    machine.ok(&["systemctl", "restart", "iotmonitor"]);
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

/// Also those of an instance that is no more; and what failed before is forgotten.
fn a_removal_stops_the_agents_and_keeps_the_data(machine: &Machine) {
    assert!(machine.is_active(UNIT));
    machine.write_garden("[agent_orphan]\nexec = \"exec sleep infinity\"\n");
    machine.ok(&["systemctl", "reload", GARDEN]);
    eventually("the agent of the instance", || machine.is_active(ORPHAN).then_some(()));
    machine.ok(&["systemctl", "stop", GARDEN]);
    machine.sh("rm /etc/iotmonitor/garden.toml");
    let start = machine.run(&["systemctl", "start", GARDEN]);
    assert!(!start.status.success() && machine.is_active(ORPHAN));
    assert_eq!(machine.property(GARDEN, "ActiveState"), "failed");
    machine.ok(&["systemctl", "enable", "--now", ALIVE]);

    let said = machine.sh("dpkg --remove iotmonitor 2>&1");
    for agent in [UNIT, ORPHAN] {
        assert!(said.contains(&format!("stopping the agent {agent}")), "{said}");
    }
    for unit in [GARDEN, "iotmonitor.service", UNIT, ORPHAN, "iotmonitor.slice", ALIVE] {
        assert!(!machine.is_active(unit), "{unit} still runs");
    }
    assert_eq!(failed(machine), "");
    machine.ok(&["test", "!", "-e", "/run/iotmonitor"]);
    machine.ok(&["test", "-e", CONFIG]);
    machine.ok(&["test", "-e", "/var/lib/iotmonitor/data.mdb"]);
}

fn a_purge_leaves_nothing(machine: &Machine) {
    // What administrators do to a service.
    machine.sh("cd /etc/systemd/system; mkdir -p iotmonitor.service.d; \
         printf '[Service]\\nNice=1\\n' > iotmonitor.service.d/nice.conf; \
         cp -r iotmonitor.service.d iotmonitor-notify@.service.d; \
         mkdir iotmonitor-alive.timer.d; printf '[Timer]\\n' > iotmonitor-alive.timer.d/none.conf; \
         echo secret > /etc/iotmonitor/password");
    machine.ok(&["dpkg", "--purge", "iotmonitor"]);
    let left = machine
        .sh("find / -xdev -name '*iotmonitor*' -not -path '/proc/*' -not -path '/root/*' \
         -not -path '/var/lib/dpkg/*' -not -path '/run/systemd/*' -not -path '/tmp/*'");
    assert_eq!(left, "", "a purge has left files");
    let units = machine.sh("systemctl list-units --all --plain --no-legend 'iotmonitor*'");
    assert_eq!(units, "", "a purge has left units");
}

fn a_purge_needs_no_directory_to_be_there(machine: &Machine) {
    install(machine, NEW);
    machine.sh("rm -rf /etc/systemd /etc/iotmonitor /var/lib/iotmonitor");
    machine.ok(&["dpkg", "--purge", "iotmonitor"]);
    assert_eq!(machine.sh("dpkg-query -W -f '${Status}' iotmonitor 2>&1 || true"), NOT_KNOWN);
}

fn failed(machine: &Machine) -> String {
    machine.sh("systemctl list-units --all --state=failed --plain --no-legend 'iotmonitor*'")
}

/// `make install`, `make install-recorder` and `make uninstall`, with enabled instances and an agent that is not watched.
#[test]
fn by_make_it_is_installed_with_its_manual_and_removed_without_a_trace() {
    let machine = Machine::boot_without_monitor("bookworm");
    let sources = sources();
    machine.feed(&["tar", "--extract", "--directory=/root"], &sources);
    machine.ok(&["systemctl", "stop", "mosquitto"]);
    let before = files(&machine);
    machine.sh("cd /root/sources; packaging/install.sh '' /usr");
    for file in MANUAL {
        machine.ok(&["test", "-s", &format!("/usr/share/{file}")]);
    }
    // Below another prefix a shell looks elsewhere.
    machine.sh("cd /root/sources; packaging/install.sh /root/elsewhere /usr/local");
    for file in MANUAL {
        let file = file.replace("vendor-completions/", "site-functions/");
        machine.ok(&["test", "-s", &format!("/root/elsewhere/usr/local/share/{file}")]);
    }
    machine.sh(
        "cd /root/sources; packaging/install.sh /root/elsewhere /usr/local iotmonitor-recorder",
    );
    machine.ok(&["test", "-x", "/root/elsewhere/usr/local/bin/iotmonitor-recorder"]);
    machine.sh("cd /root/sources; packaging/uninstall.sh /root/elsewhere /usr/local");
    assert_eq!(
        machine.sh("cd /root/elsewhere; find . -type f | sort"),
        "./etc/iotmonitor/alive.conf\n./etc/iotmonitor/config.toml\n./etc/iotmonitor/notify.conf",
        "only the configuration stays"
    );

    machine.sh("cd /root/sources; packaging/install.sh '' /usr iotmonitor-recorder");
    for file in MANUAL_OF_THE_RECORDER {
        machine.ok(&["test", "-s", &format!("/usr/share/{file}")]);
    }
    machine.write_config(&config("auto", SECTIONS));
    machine.ok(&["systemctl", "enable", "--now", RECORDER]);
    machine.write_garden("[agent_orphan]\nexec = \"exec sleep infinity\"\n");
    machine.ok(&["systemctl", "enable", "--now", "iotmonitor.service", GARDEN]);
    eventually("the agents", || {
        [UNIT, ORPHAN].iter().all(|unit| machine.is_active(unit)).then_some(())
    });
    machine.ok(&["systemctl", "stop", GARDEN]);
    machine.sh("rm /etc/iotmonitor/garden.toml");
    assert!(!machine.run(&["systemctl", "start", GARDEN]).status.success());
    let said = machine.sh("cd /root/sources; packaging/uninstall.sh '' /usr 2>&1");
    for agent in [UNIT, ORPHAN] {
        assert!(said.contains(&format!("stopping the agent {agent}")), "{said}");
        assert!(!machine.is_active(agent), "{agent} still runs");
    }
    assert!(!machine.is_active(RECORDER), "it still runs");
    assert_eq!(failed(&machine), "");
    machine.sh(
        "rm -r /etc/iotmonitor /var/lib/iotmonitor /var/lib/iotmonitor@garden /var/lib/iotmonitor-recorder",
    );
    assert_eq!(files(&machine), before, "something is left");
}

/// What `make install` needs, with the tested programs in place of the release build.
fn sources() -> Vec<u8> {
    // The manual is made with the packages.
    packages();
    let program = Path::new(env!("CARGO_BIN_EXE_iotmonitor"));
    let program = program.strip_prefix("/").expect("cargo names it from the root on");
    let recorder = recorder().strip_prefix("/").expect("it is beside the tested program");
    let output = Command::new("tar")
        .args(["--create", "--directory", env!("CARGO_MANIFEST_DIR")])
        .arg(format!("--transform=s|^{}|target/release/iotmonitor|", program.display()))
        .arg("--transform=s|^|sources/|")
        .args(["packaging", "systemd", "recorder/systemd", "config.toml", "target/manual"])
        .arg("--directory=/")
        .args([program, recorder])
        .output()
        .expect("tar can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Files and links whose name speaks of iotmonitor, wherever a system keeps them.
fn files(machine: &Machine) -> String {
    machine
        .sh("find /etc /usr /var /run/iotmonitor* -xdev -name '*iotmonitor*' 2> /dev/null | sort")
}

#[test]
fn lintian_has_nothing_to_say() {
    let output = Command::new("lintian")
        // The tested program carries its symbols, that of a release does not.
        .args(["--allow-root", "--suppress-tags", "unstripped-binary-or-object"])
        .arg(packages().join(format!("{NEW}.deb")))
        .arg(packages().join(format!("recorder-{NEW}.deb")))
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
