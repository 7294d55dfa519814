//! How each kind of broker is configured and started.

use super::broker::{Kind, PASSWORD, debian, free_port};
use super::installed::installed;
use std::fs;
use std::path::Path;
use std::process::Command;

const ERLANG_BROKERS: &str = "rabbitmq-server,ejabberd,mosquitto";

pub static MOSQUITTO_12: Kind = Kind {
    name: "mosquitto of Debian 12",
    user: "iotmonitor",
    protocol: "MQTT 5",
    keeps_sessions: true,
    keeps_retained: true,
    command: |directory, port| mosquitto("bookworm", ERLANG_BROKERS, directory, port),
};

pub static MOSQUITTO_13: Kind = Kind {
    name: "mosquitto of Debian 13",
    command: |directory, port| mosquitto("trixie", "mosquitto", directory, port),
    ..MOSQUITTO_12
};

fn mosquitto(suite: &str, packages: &str, directory: &Path, port: u16) -> Command {
    let config = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file /srv/users\n\
         persistence true\npersistence_location /srv/\nmax_queued_messages 0\n"
    );
    fs::write(directory.join("mosquitto.conf"), config).unwrap();
    let start = format!(
        "mosquitto_passwd -b -c /srv/users {} {PASSWORD} && exec mosquitto -v -c /srv/mosquitto.conf",
        MOSQUITTO_12.user
    );
    debian(suite, packages, directory, &["sh", "-c", &start])
}

pub static RABBITMQ: Kind = Kind {
    name: "RabbitMQ",
    user: "iotmonitor",
    protocol: "MQTT 3.1.1",
    keeps_sessions: true,
    keeps_retained: true,
    command: rabbitmq,
};

fn rabbitmq(directory: &Path, port: u16) -> Command {
    let config = format!(
        "listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\n\
         mqtt.allow_anonymous = false\n\
         mqtt.retained_message_store = rabbit_mqtt_retained_msg_store_dets\n\
         default_user = {}\ndefault_pass = {PASSWORD}\nlog.console = true\nlog.file = false\n",
        RABBITMQ.user
    );
    fs::write(directory.join("rabbitmq.conf"), config).unwrap();
    fs::write(directory.join("enabled_plugins"), "[rabbitmq_mqtt].").unwrap();
    let set = format!(
        "export RABBITMQ_MNESIA_BASE=/srv/data RABBITMQ_LOG_BASE=/srv/logs \
         RABBITMQ_CONFIG_FILE=/srv/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=/srv/enabled_plugins \
         RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_DIST_PORT={} \
         ERL_EPMD_PORT={} ERL_EPMD_ADDRESS=127.0.0.1; \
         exec /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
        free_port(),
        free_port()
    );
    debian("bookworm", ERLANG_BROKERS, directory, &["sh", "-c", &set])
}

pub static EJABBERD: Kind = Kind {
    name: "ejabberd",
    user: "iotmonitor@localhost",
    protocol: "MQTT 5",
    keeps_sessions: false,
    keeps_retained: true,
    command: ejabberd,
};

fn ejabberd(directory: &Path, port: u16) -> Command {
    let config = format!(
        "hosts: [localhost]\nloglevel: info\nauth_method: [internal]\n\
         listen: [{{port: {port}, ip: \"127.0.0.1\", module: mod_mqtt}}]\n\
         modules: {{mod_mqtt: {{}}}}\n"
    );
    fs::write(directory.join("ejabberd.yml"), config).unwrap();
    let start = format!(
        "export EJABBERD_CONFIG_PATH=/srv/ejabberd.yml EJABBERD_LOG_PATH=/srv/ejabberd.log \
         ERL_LIBS=$(echo /usr/lib/*-linux-gnu); \
         exec erl -noinput -mnesia dir '\"/srv/data\"' -s ejabberd \
         -eval 'ejabberd_auth:try_register(<<\"iotmonitor\">>, <<\"localhost\">>, <<\"{PASSWORD}\">>).'"
    );
    debian("bookworm", ERLANG_BROKERS, directory, &["sh", "-c", &start])
}

pub static AEDES: Kind = Kind {
    name: "Aedes",
    user: "iotmonitor",
    protocol: "MQTT 3.1.1",
    keeps_sessions: false,
    keeps_retained: false,
    command: |_, port| {
        let script = format!(
            "import {{ Aedes }} from 'aedes';\nimport {{ createServer }} from 'node:net';\n\
             const broker = await Aedes.createBroker();\n\
             broker.authenticate = (client, user, password, done) => \
             done(null, user === '{}' && String(password) === '{PASSWORD}');\n\
             createServer(broker.handle).listen({port}, '127.0.0.1');\n\
             process.on('SIGTERM', () => process.exit(0));\n",
            AEDES.user
        );
        let home = cached("aedes", "npm install --no-fund --no-audit aedes@1.2.0");
        fs::write(home.join(format!("broker-{port}.mjs")), script).unwrap();
        let mut command = Command::new("node");
        command.arg(format!("broker-{port}.mjs")).current_dir(home);
        command
    },
};

pub static AMQTT: Kind = Kind {
    name: "aMQTT",
    user: "iotmonitor",
    protocol: "MQTT 3.1.1",
    keeps_sessions: false,
    keeps_retained: false,
    command: |directory, port| {
        let home = cached("amqtt", "python3 -m venv . && bin/pip install --quiet amqtt==0.12.1");
        let hash = format!(
            "from argon2 import PasswordHasher; print(PasswordHasher().hash('{PASSWORD}'))"
        );
        let hash = Command::new(home.join("bin/python")).args(["-c", &hash]).output().unwrap();
        let hash = String::from_utf8(hash.stdout).unwrap();
        fs::write(directory.join("users"), format!("{}:{hash}", AMQTT.user)).unwrap();
        let config = format!(
            "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n\
             plugins:\n  amqtt.plugins.authentication.FileAuthPlugin:\n    password_file: {}\n",
            directory.join("users").display()
        );
        fs::write(directory.join("amqtt.yaml"), config).unwrap();
        let mut command = Command::new(home.join("bin/amqtt"));
        command.arg("-c").arg(directory.join("amqtt.yaml"));
        command
    },
};

/// A directory below target/ in which this command was run once.
fn cached(name: &str, install: &str) -> std::path::PathBuf {
    installed("brokers", name, install).unwrap_or_else(|unreachable| panic!("{unreachable}"))
}
