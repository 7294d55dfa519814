//! `iotmonitor cluster init`: what the first three hosts of a cluster need, as files to carry there.
//!
//! Certificates are made by openssl(1), which signs further ones in years to come too. The etcd of each
//! host has one certificate, for other members and for clients; its gateway is a client of itself.

use crate::cli::command::fail;
use crate::cli::output::print;
use iotmonitor_core::model::cluster::{NodeName, NodeNameError};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Days for which certificates hold. Nothing reminds of their end but a cluster that stands still.
const DAYS: &str = "7300";

/// The script that puts the files of a host in their places.
const INSTALL: &str = include_str!("install.sh");

/// What to make, and where.
#[derive(Debug, clap::Args)]
pub struct InitOptions {
    /// Names by which the three hosts reach each other, or their IPv4 addresses. They become the names
    /// of the nodes.
    #[arg(required = true, num_args = 3, value_name = "HOST")]
    hosts: Vec<String>,
    /// Name of the cluster.
    #[arg(long, value_name = "NAME", default_value = "house")]
    name: String,
    /// Write into this directory, which must not exist yet.
    #[arg(long, value_name = "DIRECTORY", default_value = "iotmonitor-cluster")]
    directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{0}")]
    Name(#[from] NodeNameError),
    #[error("the host `{0}` is named twice: etcd needs three hosts, so that one may fail")]
    Doubled(NodeName),
    #[error("{}: {source}; name a directory that does not exist yet with `--directory`", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot run openssl: {0}; `apt install openssl` provides it")]
    NoOpenssl(io::Error),
    #[error("openssl cannot make a certificate: {0}")]
    Openssl(String),
}

/// Writes the files, and prints what to do with them; returns the exit code.
pub fn init(options: &InitOptions) -> u8 {
    let written = FirstHosts::of(options).and_then(|hosts| hosts.write().map(|()| hosts));
    match written {
        Ok(hosts) => match print(hosts.directions()) {
            Ok(_) => 0,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

struct FirstHosts<'a> {
    name: NodeName,
    hosts: Vec<NodeName>,
    directory: &'a Path,
}

impl<'a> FirstHosts<'a> {
    fn of(options: &'a InitOptions) -> Result<Self, InitError> {
        let names = options.hosts.iter().map(|host| NodeName::new(host));
        let hosts = names.collect::<Result<Vec<_>, _>>()?;
        for (place, host) in hosts.iter().enumerate() {
            if hosts.iter().take(place).any(|other| other == host) {
                return Err(InitError::Doubled(host.clone()));
            }
        }
        // It has the form of one level of a key, as the name of a node has.
        let name = NodeName::new(&options.name)?;
        Ok(Self { name, hosts, directory: &options.directory })
    }

    fn write(&self) -> Result<(), InitError> {
        // Nobody else sees into it, also while keys are being written.
        let made = DirBuilder::new().mode(0o700).create(self.directory);
        made.map_err(|source| InitError::Directory { path: self.directory.to_owned(), source })?;
        self.make_authority()?;
        for host in &self.hosts {
            let place = self.directory.join(host.as_str());
            let made = DirBuilder::new().mode(0o700).create(&place);
            made.map_err(|source| InitError::Write { path: place.clone(), source })?;
            let authority = self.directory.join("ca.pem");
            let copied = fs::copy(&authority, place.join("ca.pem"));
            copied.map_err(|source| InitError::Write { path: place.join("ca.pem"), source })?;
            let (kind, host_name) = match host.as_str().parse::<Ipv4Addr>() {
                Ok(_) => ("IP", host.as_str()),
                Err(_) => ("DNS", host.as_str()),
            };
            let names = format!("{kind}:{host_name},DNS:localhost,IP:127.0.0.1");
            let member =
                format!("extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={names}\n");
            self.make_certificate(&place, "etcd", &format!("etcd {host}"), &member)?;
            let client = "extendedKeyUsage=clientAuth\n";
            self.make_certificate(&place, "node", &format!("iotmonitor {host}"), client)?;
            write(&place.join("etcd.env"), &self.etcd_environment(host), 0o644)?;
            write(&place.join("cluster.toml"), &self.section(host), 0o644)?;
            write(&place.join("install"), INSTALL, 0o755)?;
        }
        write(&self.directory.join("README"), &self.directions(), 0o644)
    }

    fn make_authority(&self) -> Result<(), InitError> {
        let (key, certificate) = (self.directory.join("ca.key"), self.directory.join("ca.pem"));
        let subject = format!("/CN=iotmonitor cluster {}", self.name);
        openssl(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
                .args(["ec_paramgen_curve:prime256v1", "-nodes", "-sha256", "-days", DAYS])
                .args(["-subj", &subject, "-addext", "keyUsage=critical,keyCertSign,cRLSign"])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        )?;
        keep_secret(&key)
    }

    /// Makes `NAME.pem` and `NAME.key` in the place of a host.
    fn make_certificate(
        &self,
        place: &Path,
        name: &str,
        subject: &str,
        extensions: &str,
    ) -> Result<(), InitError> {
        let file = |ending: &str| place.join(format!("{name}.{ending}"));
        let (key, request, extra) = (file("key"), file("csr"), file("ext"));
        openssl(
            Command::new("openssl")
                .args(["req", "-new", "-newkey", "ec", "-pkeyopt"])
                .args(["ec_paramgen_curve:prime256v1", "-nodes", "-sha256"])
                .args(["-subj", &format!("/CN={subject}")])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&request),
        )?;
        keep_secret(&key)?;
        write(&extra, extensions, 0o644)?;
        let serial = format!("0x{:016x}", fastrand::u64(1..=u64::MAX >> 1));
        openssl(
            Command::new("openssl")
                .args(["x509", "-req", "-sha256", "-days", DAYS, "-set_serial", &serial, "-CA"])
                .arg(self.directory.join("ca.pem"))
                .arg("-CAkey")
                .arg(self.directory.join("ca.key"))
                .arg("-in")
                .arg(&request)
                .arg("-extfile")
                .arg(&extra)
                .arg("-out")
                .arg(file("pem")),
        )?;
        for path in [request, extra] {
            fs::remove_file(&path).map_err(|source| InitError::Write { path, source })?;
        }
        Ok(())
    }

    /// `/etc/default/etcd`, which Debian's etcd.service reads.
    fn etcd_environment(&self, host: &NodeName) -> String {
        let members: Vec<String> =
            self.hosts.iter().map(|host| format!("{host}=https://{host}:2380")).collect();
        // etcd listens at addresses and not at names.
        let own = host.as_str().parse::<Ipv4Addr>().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let (name, members) = (&self.name, members.join(","));
        format!(
            "# Written by `iotmonitor cluster init`.\n\
             ETCD_NAME=\"{host}\"\n\
             # A directory of its own: the package has made another etcd in the default one.\n\
             ETCD_DATA_DIR=\"/var/lib/etcd/iotmonitor-{name}\"\n\
             ETCD_LISTEN_PEER_URLS=\"https://{own}:2380\"\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS=\"https://{host}:2380\"\n\
             ETCD_LISTEN_CLIENT_URLS=\"https://{own}:2379\"\n\
             ETCD_ADVERTISE_CLIENT_URLS=\"https://{host}:2379\"\n\
             ETCD_INITIAL_CLUSTER=\"{members}\"\n\
             ETCD_INITIAL_CLUSTER_STATE=\"new\"\n\
             ETCD_INITIAL_CLUSTER_TOKEN=\"iotmonitor-{name}\"\n\
             ETCD_CERT_FILE=\"/etc/etcd/iotmonitor/etcd.pem\"\n\
             ETCD_KEY_FILE=\"/etc/etcd/iotmonitor/etcd.key\"\n\
             ETCD_TRUSTED_CA_FILE=\"/etc/etcd/iotmonitor/ca.pem\"\n\
             ETCD_CLIENT_CERT_AUTH=\"true\"\n\
             ETCD_PEER_CERT_FILE=\"/etc/etcd/iotmonitor/etcd.pem\"\n\
             ETCD_PEER_KEY_FILE=\"/etc/etcd/iotmonitor/etcd.key\"\n\
             ETCD_PEER_TRUSTED_CA_FILE=\"/etc/etcd/iotmonitor/ca.pem\"\n\
             ETCD_PEER_CLIENT_CERT_AUTH=\"true\"\n\
             # A machine that comes back does not have the others elect a leader anew.\n\
             ETCD_PRE_VOTE=\"true\"\n\
             # What spares an SD card. Both lose nothing that was committed.\n\
             ETCD_BACKEND_BATCH_INTERVAL=\"10s\"\n\
             ETCD_AUTO_COMPACTION_MODE=\"periodic\"\n\
             ETCD_AUTO_COMPACTION_RETENTION=\"10m\"\n"
        )
    }

    /// `/etc/iotmonitor/config.d/cluster.toml`.
    fn section(&self, host: &NodeName) -> String {
        let endpoints: Vec<String> =
            self.hosts.iter().map(|host| format!("\"https://{host}:2379\"")).collect();
        let (name, endpoints) = (&self.name, endpoints.join(", "));
        format!(
            "# Written by `iotmonitor cluster init`.\n\
             [cluster]\n\
             name = \"{name}\"\n\
             endpoints = [{endpoints}]\n\
             caFile = \"cluster/ca.pem\"\n\
             certFile = \"cluster/node.pem\"\n\
             keyFile = \"cluster/node.key\"\n\
             node = \"{host}\"\n"
        )
    }

    fn directions(&self) -> String {
        let directory = self.directory.display();
        let mut text = format!(
            "{directory} contains a directory for each host, with keys that nobody else may read.\n\
             Install etcd and iotmonitor on each host (`apt install etcd-server`). Then run:\n\n"
        );
        for host in &self.hosts {
            text.push_str(&format!(
                "  scp -r {directory}/{host} {host}:iotmonitor-cluster\n  \
                 ssh -t {host} sudo sh iotmonitor-cluster/install\n"
            ));
        }
        text.push_str(
            "\netcd waits on the first host until the second one has it. When it runs on all three, \
             run on\neach:\n\n  sudo iotmonitor check && sudo systemctl restart iotmonitor\n  \
             iotmonitor cluster\n\n",
        );
        text.push_str(&format!(
            "Remove iotmonitor-cluster from the hosts afterwards, and keep {directory}/ca.key in a \
             safe place:\nwhoever has it can add a node, which decides what runs on all of them.\n"
        ));
        text
    }
}

fn openssl(command: &mut Command) -> Result<(), InitError> {
    let output = command.stdin(Stdio::null()).output().map_err(InitError::NoOpenssl)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gives no reason");
    Err(InitError::Openssl(last.trim().to_owned()))
}

fn keep_secret(path: &Path) -> Result<(), InitError> {
    let kept = fs::set_permissions(path, Permissions::from_mode(0o600));
    kept.map_err(|source| InitError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, contents: &str, mode: u32) -> Result<(), InitError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(contents.as_bytes()));
    written.map_err(|source| InitError::Write { path: path.to_owned(), source })
}
