//! The members of an etcd of the test's own, which end with it.

use iotmonitor::etcd::settings::{EtcdAddress, EtcdSettings};
use iotmonitor::etcd::{EndpointError, EtcdError, EtcdStore};
use iotmonitor::tls::TlsFiles;
use iotmonitor_core::model::cluster::store::{
    Compare, Put, Revision, StoreAnswer, StoreContents, StoreRequest, Transaction, Versioned,
};
use iotmonitor_core::model::cluster::{NodeName, NodeRecord, SessionId};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long etcd may take to elect its first leader, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Members {
    directory: TempDir,
    scheme: &'static str,
    ports: Vec<u16>,
    commands: Vec<Command>,
    children: Vec<Child>,
}

impl Members {
    /// Starts so many members without TLS, and waits until they answer.
    pub async fn start(count: usize) -> Self {
        let members = Self::with(count, "http", &[]);
        members.answer(&members.settings()).await;
        members
    }

    /// Starts members with these further arguments.
    pub fn with(count: usize, scheme: &'static str, arguments: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Kept until all are known, so that no two are equal.
        let held: Vec<_> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let all: Vec<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
        drop(held);
        let (ports, peers) = all.split_at(count);
        let peer = |place: usize| format!("http://127.0.0.1:{}", peers[place]);
        let initial: Vec<_> = (0..count).map(|place| format!("m{place}={}", peer(place))).collect();
        let commands = (0..count).map(|place| {
            let client = format!("{scheme}://127.0.0.1:{}", ports[place]);
            let mut command = Command::new("etcd");
            command
                .args(["--name", &format!("m{place}")])
                .args(["--data-dir".into(), directory.path().join(format!("m{place}"))])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer(place)])
                .args(["--initial-advertise-peer-urls", &peer(place)])
                .args(["--initial-cluster", &initial.join(",")])
                .args(arguments)
                .env("ETCD_UNSUPPORTED_ARCH", "arm64")
                .stdout(Stdio::null());
            let log = File::create(directory.path().join(format!("m{place}.log"))).unwrap();
            command.stderr(log);
            command
        });
        let mut commands: Vec<Command> = commands.collect();
        let children = commands.iter_mut().map(spawn).collect();
        Self { directory, scheme, ports: ports.to_vec(), commands, children }
    }

    /// Ends a member as a power cut does, and starts it again.
    pub fn restart(&mut self, place: usize) {
        self.children[place].kill().unwrap();
        self.children[place].wait().unwrap();
        self.children[place] = spawn(&mut self.commands[place]);
    }

    /// Saves what the members hold.
    pub fn snapshot(&self) -> PathBuf {
        let path = self.directory.path().join("snapshot");
        let endpoint = format!("http://127.0.0.1:{}", self.ports[0]);
        etcdctl(&["--endpoints", &endpoint, "snapshot", "save"], &[path.as_os_str()]);
        path
    }

    /// Ends all members as a power cut does.
    pub fn stop(&mut self) {
        for child in &mut self.children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the members, which have ended, with nothing but what the snapshot holds.
    pub fn restore(&mut self, snapshot: &Path) {
        for (place, command) in self.commands.iter_mut().enumerate() {
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let value = |name: &str| {
                let at = arguments.iter().position(|word| word == name).unwrap();
                arguments[at + 1].clone()
            };
            std::fs::remove_dir_all(value("--data-dir")).unwrap();
            let mut words = vec![snapshot.as_os_str().to_owned()];
            let names =
                ["--name", "--data-dir", "--initial-cluster", "--initial-advertise-peer-urls"];
            words.extend(names.into_iter().flat_map(|name| [name.into(), value(name)]));
            let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
            etcdctl(&["snapshot", "restore"], &words);
            self.children[place] = spawn(command);
        }
    }

    pub fn address(&self, place: usize) -> EtcdAddress {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        let port = self.ports[place];
        EtcdAddress::new(&format!("{}://{host}:{port}", self.scheme)).unwrap()
    }

    pub fn settings(&self) -> EtcdSettings {
        EtcdSettings {
            cluster: "house".to_owned(),
            endpoints: (0..self.ports.len()).map(|place| self.address(place)).collect(),
            tls: TlsFiles { ca_file: None, client_certificate: None },
            login: None,
        }
    }

    pub fn store(&self) -> EtcdStore {
        EtcdStore::new(&self.settings())
    }

    /// Waits until each member answers by itself.
    pub async fn answer(&self, settings: &EtcdSettings) {
        for place in 0..self.ports.len() {
            let endpoints = vec![self.address(place)];
            let store = EtcdStore::new(&EtcdSettings { endpoints, ..settings.clone() });
            let began = Instant::now();
            while let Err(error) = store.request(&StoreRequest::Read).await {
                assert!(
                    began.elapsed() < START_TIMEOUT,
                    "{error}: {}",
                    std::fs::read_to_string(self.directory.path().join("m0.log")).unwrap()
                );
            }
        }
    }

    pub fn signal(&self, place: usize, signal: Signal) {
        let pid = Pid::from_raw(self.children[place].id().try_into().unwrap());
        signal::kill(pid, signal).unwrap();
    }

    /// The place of the leader. There has to be one.
    pub fn leader(&self) -> usize {
        let is_leader = |place: &usize| {
            let status = self.post(*place, "/v3/maintenance/status", &json!({}));
            status["leader"] == status["header"]["member_id"]
        };
        (0..self.ports.len()).find(is_leader).expect("a leader")
    }

    /// Asks a member without TLS for something that the monitor never asks for.
    pub fn post(&self, place: usize, path: &str, body: &Value) -> Value {
        self.post_with(place, path, body, None)
    }

    /// The same with a token.
    pub fn post_with(&self, place: usize, path: &str, body: &Value, token: Option<&str>) -> Value {
        let body = body.to_string();
        let token = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[place])).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.0\r\n{token}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{path} {answer}");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ended_already = child.kill();
            child.wait().unwrap();
        }
    }
}

/// Runs etcdctl(1) of the same version as the members.
fn etcdctl(command: &[&str], arguments: &[&OsStr]) {
    let mut etcdctl = Command::new("etcdctl");
    etcdctl.env("ETCDCTL_API", "3").args(command).args(arguments);
    let output = etcdctl.output().expect("etcd-client is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().expect("etcd is installed")
}

pub fn node() -> NodeName {
    NodeName::new("pi1").unwrap()
}

pub fn record(n: u64) -> NodeRecord {
    NodeRecord {
        session: SessionId { boot: u128::MAX, number: u64::MAX },
        n,
        evict_after: Duration::from_secs(8),
        machine: "m".to_owned(),
        evicted: false,
        broker: true,
        drains: false,
        config: None,
    }
}

/// Asks again for as long as there is silence alone, since a busy machine may need longer than a
/// request does.
pub async fn ask(store: &EtcdStore, request: &StoreRequest) -> Result<StoreAnswer, EtcdError> {
    let began = Instant::now();
    loop {
        let answer = store.request(request).await;
        let is_silence = |error: &EndpointError| matches!(error, EndpointError::Silent { .. });
        match &answer {
            Err(EtcdError::NoAnswer(errors))
                if errors.iter().all(is_silence) && began.elapsed() < START_TIMEOUT => {}
            _ => return answer,
        }
    }
}

pub async fn read(store: &EtcdStore) -> StoreContents {
    match ask(store, &StoreRequest::Read).await.unwrap() {
        StoreAnswer::Read(contents) => contents,
        other => panic!("{other:?}"),
    }
}

/// A commit of the node's record, if it still is what was found.
pub fn renewal(found: Option<Versioned<NodeRecord>>, record: NodeRecord) -> StoreRequest {
    let compares = vec![Compare::Node(node(), found)];
    StoreRequest::Commit(Transaction { compares, puts: vec![Put::Node(node(), record)] })
}

pub fn revision(answer: StoreAnswer) -> Revision {
    match answer {
        StoreAnswer::Committed(revision) => revision,
        other => panic!("{other:?}"),
    }
}
