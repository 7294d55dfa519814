//! What `iotmonitor cluster init` writes, run by three members of etcd on addresses of this machine.

use crate::members::ask;
use iotmonitor::etcd::EtcdStore;
use iotmonitor::etcd::settings::{EtcdAddress, EtcdSettings};
use iotmonitor::tls::TlsFiles;
use iotmonitor_core::model::cluster::store::{StoreAnswer, StoreRequest};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No other test listens at these.
const HOSTS: [&str; 3] = ["127.77.0.1", "127.77.0.2", "127.77.0.3"];

const LIMIT: Duration = Duration::from_secs(90);

struct Ended(Vec<Child>);

impl Drop for Ended {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn iotmonitor(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_iotmonitor")).args(arguments).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(words).unwrap())
}

/// Starts the member of a host with what `install` would put in `/etc`.
fn start(place: &Path, data: &Path) -> Child {
    let environment = fs::read_to_string(place.join("etcd.env")).unwrap();
    let mut command = Command::new("etcd");
    command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
    for line in environment.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once('=').unwrap();
        let value =
            value.trim_matches('"').replace("/etc/etcd/iotmonitor", place.to_str().unwrap());
        command.env(key, value.replace("/var/lib/etcd", data.to_str().unwrap()));
    }
    let log = File::create(place.join("log")).unwrap();
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn settings(place: &Path, client: bool) -> EtcdSettings {
    let file = |name: &str| place.join(name);
    let endpoints = HOSTS.map(|host| EtcdAddress::new(&format!("https://{host}:2379")).unwrap());
    let client_certificate = client.then(|| (file("node.pem"), file("node.key")));
    EtcdSettings {
        cluster: "house".to_owned(),
        endpoints: endpoints.to_vec(),
        tls: TlsFiles { ca_file: Some(file("ca.pem")), client_certificate },
        login: None,
    }
}

fn assert_private(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert_eq!(mode, 0o700, "{name}");
            assert_private(&entry.path());
        } else if name.ends_with(".key") {
            assert_eq!(mode, 0o600, "{name}");
        } else {
            let contents = fs::read_to_string(entry.path()).unwrap();
            assert!(!contents.contains("PRIVATE KEY"), "{name}");
        }
    }
}

#[tokio::test]
async fn three_hosts_run_what_is_written_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("cluster");
    let place = written.to_str().unwrap();
    let (is_done, said) =
        iotmonitor(&["cluster", "init", HOSTS[0], HOSTS[1], HOSTS[2], "--directory", place]);
    assert!(is_done, "{said}");
    assert!(said.contains("sudo sh iotmonitor-cluster/install"), "{said}");
    assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o700);
    assert_private(&written);
    // What is there is not overwritten.
    let (is_done, said) =
        iotmonitor(&["cluster", "init", HOSTS[0], HOSTS[1], HOSTS[2], "--directory", place]);
    assert!(!is_done && said.contains("File exists"), "{said}");

    for host in HOSTS {
        let beside = directory.path().join(format!("etc-{host}"));
        fs::create_dir_all(beside.join("config.d")).unwrap();
        fs::create_dir(beside.join("cluster")).unwrap();
        fs::write(beside.join("config.toml"), "[mqtt]\nserverAddress = \"tcp://127.0.0.1:1883\"\n")
            .unwrap();
        let from = written.join(host);
        fs::copy(from.join("cluster.toml"), beside.join("config.d/cluster.toml")).unwrap();
        for file in ["ca.pem", "node.pem", "node.key"] {
            fs::copy(from.join(file), beside.join("cluster").join(file)).unwrap();
        }
        let (is_right, said) = iotmonitor(&["check", beside.join("config.toml").to_str().unwrap()]);
        assert!(is_right, "{said}");
    }

    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    let members = HOSTS.map(|host| start(&written.join(host), &data.join(host)));
    let mut members = Ended(members.into());
    let store = EtcdStore::new(&settings(&written.join(HOSTS[1]), true));
    let began = Instant::now();
    let answer = async |store: &EtcdStore| {
        let began = Instant::now();
        loop {
            match ask(store, &StoreRequest::Read).await {
                Ok(StoreAnswer::Read(contents)) => return contents,
                other => assert!(began.elapsed() < LIMIT, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    answer(&store).await;
    println!("three members answer after {:?}", began.elapsed());
    let stranger = EtcdStore::new(&settings(&written.join(HOSTS[0]), false));
    let refused = ask(&stranger, &StoreRequest::Read).await.unwrap_err().to_string();
    assert!(refused.contains("etcd wants a client certificate"), "{refused}");
    // One of three may fail.
    members.0[0].kill().unwrap();
    answer(&store).await;
}

#[test]
fn a_host_that_cannot_be_one_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("cluster");
    let place = written.to_str().unwrap();
    for (third, words) in [("pi1", "is named twice"), ("pi 3", "may not contain ' '")] {
        let (is_done, said) =
            iotmonitor(&["cluster", "init", "pi1", "pi2", third, "--directory", place]);
        assert!(!is_done && said.contains(words), "{said}");
        assert!(!written.exists());
    }
}
