//! The broker's password, wherever it comes from, is seen nowhere.

use super::harness::{Entry, Machine, Subscriber, config, eventually};
use nix::sys::signal::Signal;

const SECRET: &str = "a-secret-of-9641";
const WRONG: &str = "no-secret-of-7753";
const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp/#\"\n\
    [agent_sleeper]\nexec = 'echo given ${CREDENTIALS_DIRECTORY:-nothing}; exec sleep infinity'\n\
    [agent_guest]\npassCredentials = true\nexec = '''\n\
    for name in server user password; do sha256sum < $CREDENTIALS_DIRECTORY/mqtt-$name; done\n\
    exec sleep infinity'''\n";
const GUEST: &str = "iotmonitor-agent-guest.service";
const DROP_IN: &str = "/etc/systemd/system/iotmonitor.service.d/secret.conf";

/// Everything that people and programs can look at, one name of a place a line where it is found.
/// The pattern stands in a file, so that this script does not find itself.
const SEARCH: &str = "cd /root
    mosquitto_pub -r -t home/test/searched -m yes
    journalctl --sync; journalctl --all --output=export > journal
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ > processes 2> /dev/null || true
    systemctl show iotmonitor 'iotmonitor-agent-*' > properties
    systemctl status iotmonitor > status
    iotmonitor status --json > devices
    iotmonitor check > checked 2>&1
    busctl call org.iotmonitor.Monitor1 /org/iotmonitor/Monitor1 \
        org.freedesktop.DBus.Properties GetAll s org.iotmonitor.Monitor1 > bus
    busctl introspect org.iotmonitor.Monitor1 /org/iotmonitor/Monitor1 >> bus
    timeout 3 mosquitto_sub -t '#' -F '%t %p' > broker || true
    for place in journal processes properties status devices checked bus broker; do
        test -s $place || echo empty $place
        if grep --text -q -F -f patterns $place; then echo found in $place; fi
    done";

/// A machine whose broker wants the password on port 1884, and lets everybody in on port 1883.
fn with_locked_broker() -> Machine {
    let machine = Machine::boot();
    machine.write_file("/root/patterns", &format!("{SECRET}\n{WRONG}\n"));
    machine.write_file("/etc/mosquitto/passwd", &format!("iot:{SECRET}\n"));
    machine.write_file(
        "/etc/mosquitto/conf.d/locked.conf",
        "per_listener_settings true\nlistener 1883\nallow_anonymous true\n\
         listener 1884\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n",
    );
    machine.sh("mosquitto_passwd -U /etc/mosquitto/passwd; chmod 644 /etc/mosquitto/passwd
         systemctl restart mosquitto");
    machine
}

fn locked(key: &str) -> String {
    config("auto", SECTIONS).replace("1883\"\n", &format!("1884\"\nuser = \"iot\"\n{key}\n"))
}

fn start(machine: &Machine, key: &str, drop_in: &str) -> Subscriber {
    machine.write_config(&locked(key));
    machine.write_file(DROP_IN, drop_in);
    machine.ok(&["systemctl", "daemon-reload"]);
    let bus = machine.subscribe(&["home/#"]);
    machine.restart_monitor();
    bus
}

#[test]
fn no_source_of_the_password_gives_it_away() {
    let machine = with_locked_broker();
    machine.write_file("/etc/iotmonitor/password", &format!("{SECRET}\n"));
    machine.sh("cd /etc/iotmonitor; chmod 600 password
         systemd-creds encrypt --with-key=host --name=mqtt-password password sealed");
    for (key, drop_in) in [
        (format!("password = \"{SECRET}\""), ""),
        ("passwordFile = \"password\"".to_owned(), ""),
        (String::new(), "[Service]\nLoadCredential=mqtt-password:/etc/iotmonitor/password\n"),
        (
            String::new(),
            "[Service]\nLoadCredentialEncrypted=mqtt-password:/etc/iotmonitor/sealed\n",
        ),
    ] {
        let bus = start(&machine, &key, drop_in);
        bus.wait_exact(0, "home/monitoring/up", "2");
        eventually("the agent", || machine.is_active(GUEST).then_some(()));
        assert_eq!(machine.sh(SEARCH), "", "{key}{drop_in}");
    }
}

#[test]
fn an_agent_reads_the_brokers_credentials_where_its_section_says_so() {
    let machine = with_locked_broker();
    start(&machine, &format!("password = \"{SECRET}\""), "");
    let said = |unit: &str| {
        let said = |entry: &Entry| {
            entry.field("_SYSTEMD_UNIT") == unit && entry.field("_TRANSPORT") == "stdout"
        };
        let entries = machine.journal().now(&machine, said);
        entries.iter().map(|entry| entry.message().to_owned()).collect::<Vec<_>>()
    };
    let sums = ["tcp://localhost:1884", "iot", SECRET]
        .map(|text| machine.sh(&format!("printf %s '{text}' | sha256sum")));
    eventually("what the agent was given", || (said(GUEST) == sums).then_some(()));
    assert_eq!(said("iotmonitor-agent-sleeper.service"), ["given nothing"]);

    // systemd itself starts it again, also while no other process can pass it anything.
    machine.stop_monitor();
    let pid = machine.main_pid(GUEST);
    machine.signal(Signal::SIGKILL, pid);
    let pid = machine.await_new_main_pid(GUEST, pid);
    eventually("what it was given again", || (said(GUEST).len() == 6).then_some(()));
    assert_eq!(said(GUEST)[3..], sums);

    let closed = "cat /run/iotmonitor/mqtt-password /run/credentials/*/mqtt-password";
    assert!(!machine.run(&["runuser", "-u", "nobody", "--", "sh", "-c", closed]).status.success());
    assert_eq!(machine.sh("stat -c %a /run/iotmonitor /run/iotmonitor/mqtt-password"), "700\n600");

    // The password is not part of the unit: a new one is for the next start.
    machine.write_config(&locked("password = \"another\""));
    machine.start_monitor();
    machine.journal().wait_for_alert("broker-refused", "");
    assert_eq!(machine.main_pid(GUEST), pid);
    assert_eq!(machine.read_file("/run/iotmonitor/mqtt-password"), b"another");
}

#[test]
fn a_refused_password_is_not_quoted() {
    let machine = with_locked_broker();
    start(&machine, &format!("password = \"{WRONG}\""), "");
    machine.journal().wait_for_alert("broker-refused", "");
    assert_eq!(machine.sh(SEARCH), "");
}
