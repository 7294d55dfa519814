//! Talking to the machine's broker with mosquitto's own clients.

use super::PATIENCE;
use super::log::Log;
use super::machine::Machine;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A message as a subscriber saw it.
#[derive(Clone)]
pub struct Message {
    /// When mosquitto_sub had it, however late this process reads what it prints.
    pub at: Instant,
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

impl Message {
    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The payload as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{self:?} is no JSON: {error}"))
    }

    pub fn is(&self, topic: &str, payload: &str) -> bool {
        self.topic == topic && self.payload == payload.as_bytes()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let retained = if self.retain { " retained" } else { "" };
        write!(f, "{} (QoS {}{retained}) {:?}", self.topic, self.qos, self.text())
    }
}

/// A subscribed client that collects what it gets.
pub struct Subscriber {
    client: Child,
    log: Arc<Log<Message>>,
}

/// Lines of messages start with it; all others are the client's own talk.
const MESSAGE_MARK: &str = "MESSAGE ";

impl Subscriber {
    /// A client with further arguments of mosquitto_sub, where this function has it run.
    pub fn start(
        command: impl FnOnce(&[&str]) -> Command,
        arguments: &[&str],
        filters: &[&str],
    ) -> Self {
        let mut argv = vec!["stdbuf", "-oL", "mosquitto_sub", "-d", "-q", "1"];
        argv.extend(["-F", "MESSAGE %U %r %q x%x %t"]);
        argv.extend(arguments);
        argv.extend(filters.iter().flat_map(|filter| ["-t", filter]));
        let mut client = command(&argv)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter can be run");
        let log = Arc::new(Log::new());
        let subscribed = Arc::new(Log::new());
        let mut output = BufReader::new(client.stdout.take().expect("it is piped"));
        let (sink, acknowledged) = (Arc::clone(&log), Arc::clone(&subscribed));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line);
                if let Some(message) = text.strip_prefix(MESSAGE_MARK).and_then(parse) {
                    sink.push(message);
                } else if text.starts_with("Subscribed") {
                    acknowledged.push(());
                }
                line.clear();
            }
        });
        let subscriber = Self { client, log };
        assert!(
            subscribed.wait_for(0, |()| true, PATIENCE).is_some(),
            "mosquitto_sub could not subscribe to {filters:?}"
        );
        subscriber
    }

    /// All that came in up to now.
    pub fn all(&self) -> Vec<Message> {
        self.log.all()
    }

    /// The present end, to wait from.
    pub fn end(&self) -> usize {
        self.log.len()
    }

    /// What came in from there on.
    pub fn since(&self, from: usize) -> Vec<Message> {
        self.log.since(from)
    }

    /// How many messages on this topic came in from there on.
    pub fn count(&self, from: usize, topic: &str) -> usize {
        self.since(from).iter().filter(|message| message.topic == topic).count()
    }

    /// Waits for the first message from there on that fits.
    pub fn wait_from(&self, from: usize, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        self.within(from, PATIENCE, fits).unwrap_or_else(|| {
            panic!("waited in vain for {what}; there came {:#?}", self.since(from))
        })
    }

    /// Waits for the first message on a topic from there on.
    pub fn wait_topic(&self, from: usize, topic: &str) -> Message {
        self.wait_from(from, topic, |message| message.topic == topic)
    }

    /// Waits for the first message with this topic and payload from there on.
    pub fn wait_exact(&self, from: usize, topic: &str, payload: &str) -> Message {
        self.wait_from(from, &format!("{topic} {payload}"), |message| message.is(topic, payload))
    }

    /// The first message from there on that fits and comes within this time.
    pub fn within(
        &self,
        from: usize,
        patience: Duration,
        fits: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        self.log.wait_for(from, fits, patience)
    }

    /// Waits until `up` has counted this much further: what has not come by then does not come.
    pub fn let_seconds_pass(&self, seconds: usize) {
        let is_up = |message: &Message| message.topic == "home/monitoring/up";
        let mut from = self.end();
        for _ in 0..seconds {
            let next = self.wait_from(from, "the monitor's `up`", is_up);
            let passed = self.log.all().iter().position(|message| message.at == next.at);
            from = passed.unwrap_or(from) + 1;
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// `TIME RETAIN QOS xPAYLOAD TOPIC`: the time in seconds since the Unix epoch with nanoseconds, the
/// payload in hexadecimal.
fn parse(line: &str) -> Option<Message> {
    let mut parts = line.trim_end_matches('\n').splitn(5, ' ');
    let at = instant(parts.next()?)?;
    let (retain, qos, payload) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = payload.strip_prefix('x')?;
    Some(Message {
        at,
        topic: parts.next()?.to_owned(),
        payload: (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok())
            .collect::<Option<_>>()?,
        qos: qos.parse().ok()?,
        retain: retain == "1",
    })
}

fn instant(time: &str) -> Option<Instant> {
    let (seconds, nanoseconds) = time.split_once('.')?;
    let since_epoch = Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?);
    let age = SystemTime::now().duration_since(UNIX_EPOCH + since_epoch).unwrap_or_default();
    Instant::now().checked_sub(age)
}

impl Machine {
    /// A client that is subscribed to these filters at QoS 1.
    pub fn subscribe(&self, filters: &[&str]) -> Subscriber {
        self.subscribe_with(&[], filters)
    }

    /// The same with further arguments of mosquitto_sub.
    pub fn subscribe_with(&self, arguments: &[&str], filters: &[&str]) -> Subscriber {
        // nsenter waits for its child in the machine, which would outlive it.
        let bound = ["setpriv", "--pdeathsig", "KILL"];
        let command = |argv: &[&str]| self.command(&[&bound, argv].concat());
        Subscriber::start(command, arguments, filters)
    }

    /// Publishes at QoS 1, and returns when the broker has it.
    pub fn publish(&self, topic: &str, payload: &str) {
        self.publish_with(&[], topic, payload.as_bytes());
    }

    /// Publishes retained at QoS 1.
    pub fn publish_retained(&self, topic: &str, payload: &str) {
        self.publish_with(&["-r"], topic, payload.as_bytes());
    }

    /// Publishes any bytes at QoS 1 with further arguments of mosquitto_pub.
    pub fn publish_with(&self, arguments: &[&str], topic: &str, payload: &[u8]) {
        // mosquitto_pub takes nothing on its standard input for an error.
        let source = if payload.is_empty() { "-n" } else { "-s" };
        let argv = [&["mosquitto_pub", "-q", "1", "-t", topic, source], arguments].concat();
        self.feed(&argv, payload);
    }
}
