//! TLS and websockets, with the files that systemd passes to the service.

use crate::broker::{Broker, free_port};
use crate::house::{House, numbers, publish};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A certificate for `localhost`, signed by itself.
fn certificate(directory: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
        .args(["-keyout", "broker.key", "-out", "broker.crt", "-subj", "/CN=broker"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn tls_and_websockets_with_the_files_of_a_service() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let certificate = fs::read(directory.path().join("broker.crt")).unwrap();
    fs::write(directory.path().join("passwords"), "me:hunter2\n").unwrap();
    let hashed = Command::new("mosquitto_passwd")
        .arg("-U")
        .arg(directory.path().join("passwords"))
        .status()
        .unwrap();
    assert!(hashed.success());
    let (plain, tls, websocket) = (free_port(), free_port(), free_port());
    let files = "certfile DIR/broker.crt\nkeyfile DIR/broker.key\n";
    let broker = Broker::with_config(
        directory,
        plain,
        &format!(
            "per_listener_settings true\nlistener {plain} 127.0.0.1\nallow_anonymous true\n\
             listener {tls}\npassword_file DIR/passwords\n{files}\
             listener {websocket}\nprotocol websockets\npassword_file DIR/passwords\n{files}"
        ),
    );
    for (number, server) in
        [format!("ssl://localhost:{tls}"), format!("wss://localhost:{websocket}")]
            .iter()
            .enumerate()
    {
        let topic = format!("home/{number}");
        let mut house = House::new("[mqtt]\nthis is not read, because systemd passes the file\n");
        let credentials = house.directory().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let text = format!(
            "[mqtt]\nserverAddress = \"{server}\"\nuser = \"me\"\npasswordFile = \"secret\"\n\
             caFile = \"broker.crt\"\nclientid = \"{number}\"\n"
        );
        fs::write(credentials.join("config.toml"), text).unwrap();
        fs::write(credentials.join("config.d_x.toml"), "[recorder]\ntopics = \"home/#\"\n")
            .unwrap();
        fs::write(credentials.join("secret"), "hunter2").unwrap();
        fs::write(credentials.join("broker.crt"), &certificate).unwrap();
        house.environment = vec![("CREDENTIALS_DIRECTORY", credentials.clone())];
        house.start();
        house.until_subscribed(&["home/#"]);
        publish(&broker, &topic, &numbers(0..100), &[]);
        house.until_recorded(&topic, &numbers(0..100));

        // A reload ends the process in good order, and systemd starts it with what it reads then.
        house.signal(nix::sys::signal::Signal::SIGHUP);
        assert!(house.ended().success(), "{:#?}", house.said());
        let line = fs::read_to_string(credentials.join("config.d_x.toml")).unwrap();
        fs::write(credentials.join("config.d_x.toml"), line.replace("home/#", "none")).unwrap();
        house.start();
        house.until_subscribed(&["none"]);
        assert!(house.said().iter().all(|line| !line.contains("hunter2")), "a password is shown");
    }
}
