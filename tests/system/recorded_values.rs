//! What the page reads of recorded messages, with all restrictions of both services.

use super::harness::{Machine, config, eventually, recorder};
use std::io::{Read as _, Write as _};
use std::time::Duration;

const TOKEN: &str = "token-of-the-system-test-5528";
const USER: &str = "iotmonitor-recorder";
const PATH: &str = "/api/v1/devices/lamp/values";

fn ask(machine: &Machine, path: &str) -> String {
    let mut stream = machine.connect_to_page(8079);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("20 s is no 0");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the page takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the page answers");
    answer
}

/// As its package does, without starting it.
fn install_recorder(machine: &Machine) {
    let program = std::fs::read(recorder()).expect("it was built");
    machine.write_file("/usr/bin/iotmonitor-recorder", &program);
    machine.ok(&["chmod", "755", "/usr/bin/iotmonitor-recorder"]);
    machine.sh(&format!("echo 'u {USER} -' | systemd-sysusers -"));
}

/// A service of the recorder's own user, whose group alone may read what it stores.
fn start_recorder(machine: &Machine) {
    machine.sh(&format!(
        "systemd-run --unit={USER} --service-type=notify -p User={USER} -p StateDirectory={USER} \
         -p StateDirectoryMode=0750 -p UMask=0027 \
         -p LoadCredential=config.toml:/etc/iotmonitor/config.toml /usr/bin/iotmonitor-recorder run"
    ));
}

#[test]
fn the_page_reads_what_the_recorder_stores() {
    let machine = Machine::boot();
    let sections = format!(
        "[http]\nport = 8079\ntoken = \"{TOKEN}\"\n[recorder]\ntopics = \"home/#\"\nflush = \"1s\"\n\
         [device_lamp]\nwatchTimeOut = \"1d\"\nwatchTopics = \"home/lamp/#\"\n"
    );
    let _bus = machine.launch(&config("auto", &sections));
    let answer = ask(&machine, PATH);
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("not installed"), "{answer}");

    // The service may execute only what was there at its start.
    install_recorder(&machine);
    let answer = ask(&machine, PATH);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("`systemctl restart iotmonitor`"), "{answer}");

    // The files are closed to the service, which is root without rights over the files of others.
    start_recorder(&machine);
    machine.restart_monitor();
    let answer = ask(&machine, PATH);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("Permission denied"), "{answer}");

    machine.write_file(
        "/etc/systemd/system/iotmonitor.service.d/recorder.conf",
        &format!("[Service]\nSupplementaryGroups={USER}\n"),
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.restart_monitor();
    for power in ["20", "-4.5", "on"] {
        machine.ok(&["mosquitto_pub", "-q", "1", "-t", "home/lamp/power", "-m", power]);
    }
    machine.ok(&["mosquitto_pub", "-q", "1", "-t", "garden/lamp/power", "-m", "7"]);
    let series = format!("{PATH}?topic=home/lamp/power&points=1");
    let answer = eventually("both numbers to be recorded", || {
        let answer = ask(&machine, &series);
        answer.contains(",-4.5,7.75,20.0]").then_some(answer)
    });
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let topics = ask(&machine, PATH);
    assert!(topics.ends_with("[\"home/lamp/power\"]\n"), "{topics}");
    let others = machine.sh("find /var/lib/iotmonitor-recorder -perm /007 ! -type l");
    assert_eq!(others, "", "nobody else may read it");
}
