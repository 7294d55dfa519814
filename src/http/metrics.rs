//! The metrics in the Prometheus text format, version 0.0.4.
//!
//! The figures are computed at each scrape from the daemon's state. A metric has at most
//! the device's name and one other label, which has a few known values. The
//! `_created` series of OpenMetrics are not written; every Prometheus accepts this format.

use super::figures::Figures;
use super::page::Page;
use super::refusal::HttpRefusal;
use axum::body::{Body, Bytes};
use futures_util::stream;
use hyper::StatusCode;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::unit::ActiveState;
use iotmonitor_core::model::view::{DeviceView, Liveness, Summary};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric as _,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

/// The figures of a scrape.
#[derive(Debug)]
struct Scrape {
    summary: Summary,
    alerts: Vec<(AlertKind, u64)>,
    devices: Vec<DeviceSeries>,
    past: Figures,
    started: Duration,
}

/// The figures of one device in a scrape; a fleet has many.
#[derive(Debug)]
struct DeviceSeries {
    name: Box<str>,
    state: Liveness,
    reason: Option<Arc<str>>,
    fleet: Option<Arc<str>>,
    silenced: bool,
    last_contact: Option<f64>,
    watch_timeout: Option<f64>,
    hellos: u64,
    node: Option<Arc<str>>,
    agent: Option<AgentFigures>,
}

#[derive(Debug)]
struct AgentFigures {
    running: bool,
    restarts: u64,
}

/// The words that many devices have in common.
#[derive(Debug, Default)]
struct Words(BTreeSet<Arc<str>>);

impl Words {
    fn shared(&mut self, word: String) -> Arc<str> {
        if let Some(known) = self.0.get(word.as_str()) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.0.insert(Arc::clone(&word));
        word
    }
}

impl DeviceSeries {
    fn of(view: DeviceView, words: &mut Words) -> Self {
        Self {
            name: view.name.into(),
            state: view.state,
            reason: view.reason.map(|reason| words.shared(reason)),
            fleet: view.fleet.map(|fleet| words.shared(fleet)),
            silenced: view.silenced_until.is_some(),
            last_contact: view.last_contact.map(|contact| contact.as_secs_f64()),
            watch_timeout: view.watch_timeout.map(|timeout| timeout.as_secs_f64()),
            hellos: view.hellos,
            node: view.node.map(|node| words.shared(node)),
            agent: view.agent.map(|agent| AgentFigures {
                running: agent.state == ActiveState::Active.as_str(),
                restarts: agent.restarts,
            }),
        }
    }
}

/// The body of a scrape, which is written while it is sent: in memory are the figures, and a few pieces
/// of text.
pub(super) async fn scrape(page: &Page) -> Result<Body, HttpRefusal> {
    let unavailable = |sentence| HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
    let turn = timeout(TURN, Arc::clone(&page.scrapes).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(unavailable("other clients are reading the metrics: try again later"));
    };
    let summary = page.daemon.summary().await?;
    let mut devices = Vec::with_capacity(summary.devices + summary.agents);
    let (mut after, mut words) = (None, Words::default());
    loop {
        let (views, next) = page.daemon.devices_after(after).await?;
        devices.extend(views.into_iter().map(|view| DeviceSeries::of(view, &mut words)));
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let past = page.figures.get(&page.daemon).await;
    let (alerts, started) = (page.recent.counts(), page.started);
    let scrape = Scrape { summary, alerts, devices, past, started };
    let (sender, pieces) = mpsc::channel(PIECES);
    // The library writes all at once, so a thread waits for the reader.
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { text: String::new(), sender, deadline: Instant::now() + READING };
        // A body without its end is seen to be cut off.
        if write(&mut out, scrape).and_then(|()| out.flush()).is_ok() {
            let _ = out.send(None);
        }
        drop(turn);
    });
    Ok(Body::from_stream(stream::unfold(pieces, |mut pieces| async move {
        let cut_off = || Err(io::Error::other("the reader is too slow"));
        let piece = pieces.recv().await.map_or_else(|| Some(cut_off()), |piece| piece.map(Ok));
        piece.map(|piece| (piece, pieces))
    })))
}

/// The number of scrapes that are sent at a time; the figures of each are in memory.
pub(super) const MOST_SCRAPES: usize = 2;

/// The time for which a scrape waits for its turn.
const TURN: Duration = Duration::from_secs(8);

/// The time within which a scrape is to be read. Prometheus gives up after ten seconds unless it is
/// configured otherwise, and after the interval between two scrapes at the latest.
const READING: Duration = Duration::from_secs(60);

/// The length of a piece of text, and the number of pieces that wait for the reader.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 4;

/// The pause before it is looked again whether the reader has taken a piece.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends what is written in pieces.
struct Pieces {
    text: String,
    /// `None` is the end.
    sender: mpsc::Sender<Option<Bytes>>,
    deadline: Instant,
}

impl Pieces {
    fn flush(&mut self) -> fmt::Result {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() { Ok(()) } else { self.send(Some(text.into())) }
    }

    /// Waits for the reader without the runtime, which may be ending.
    fn send(&self, piece: Option<Bytes>) -> fmt::Result {
        let mut piece = piece;
        loop {
            piece = match self.sender.try_send(piece) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(piece)) if Instant::now() < self.deadline => piece,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => return Err(fmt::Error),
            };
            std::thread::sleep(PAUSE);
        }
    }
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        if self.text.len() < PIECE { Ok(()) } else { self.flush() }
    }
}

fn write(out: &mut impl fmt::Write, scrape: Scrape) -> fmt::Result {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    encode_registry(out, &registry)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families(encoder);
        self.whole(&mut out)?;
        self.each_device(&mut out)?;
        self.each_agent(&mut out)?;
        self.process(&mut out)
    }
}

impl Scrape {
    fn whole(&self, out: &mut Families<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauge("iotmonitor_build_info", "The version that runs.", [(version, 1_i64)])?;
        let help = "Whether devices can be heard: the broker is connected and has subscribed.";
        let connected = Some(i64::from(self.summary.watching));
        out.single("iotmonitor_broker_connected", help, MetricType::Gauge, connected)?;
        let store_fails = Some(i64::from(self.summary.store_fails));
        let help = "Whether the store cannot be used, so that no states are recorded.";
        out.single("iotmonitor_store_failing", help, MetricType::Gauge, store_fails)?;
        let notifications = self.summary.notifications;
        let pending = i64::try_from(notifications.pending).ok();
        let help = "Alerts that wait to be delivered by their alertUnit.";
        out.single("iotmonitor_notifications_pending", help, MetricType::Gauge, pending)?;
        let failed = Some(i64::from(notifications.last_delivered == Some(false)));
        let help = "Whether the last alertUnit that was started has failed.";
        out.single("iotmonitor_notification_failing", help, MetricType::Gauge, failed)?;
        let count = |is_agent: bool, state: Liveness| {
            let fits = |it: &&DeviceSeries| it.agent.is_some() == is_agent && it.state == state;
            self.devices.iter().filter(fits).count()
        };
        let by_state =
            [("device", false), ("agent", true)].into_iter().flat_map(|(kind, agent)| {
                // Each state has a series from the start.
                Liveness::ALL.into_iter().map(move |state| {
                    ([("kind", kind), ("state", state.as_str())], count(agent, state))
                })
            });
        let help = "Configured and learned devices and agents by their state.";
        out.gauge("iotmonitor_devices", help, by_state)?;
        let mut fleets: BTreeMap<&str, u64> = BTreeMap::new();
        for fleet in self.devices.iter().filter_map(|it| it.fleet.as_deref()) {
            *fleets.entry(fleet).or_default() += 1;
        }
        let fleets = fleets.into_iter().map(|(fleet, count)| ([("fleet", fleet)], count));
        let help = "Devices that a fleet has learned; absent where there is none.";
        out.gauge("iotmonitor_fleet_devices", help, fleets)?;
        let refused = Some(self.summary.names_refused);
        let help =
            "Messages from which a fleet learned no device: the name was refused, or it is full.";
        out.single("iotmonitor_names_refused_total", help, MetricType::Counter, refused)?;
        let alerts = self.alerts.iter().map(|(kind, count)| ([("event", kind.event())], *count));
        let help = "Entries of the journal since the start by their IOTMONITOR_EVENT.";
        out.counter("iotmonitor_alerts_total", help, alerts)
    }

    fn each_device(&self, out: &mut Families<'_>) -> fmt::Result {
        let each = |value: fn(&DeviceSeries) -> i64| {
            self.devices.iter().map(move |device| (label(device), value(device)))
        };
        let help = "Whether a device or agent is silent past its watchTimeOut, or said to be away.";
        out.gauge(
            "iotmonitor_device_expired",
            help,
            each(|it| i64::from(it.state == Liveness::Expired)),
        )?;
        let alarms = self.devices.iter().filter_map(|it| {
            Some(([("device", &*it.name), ("reason", it.reason.as_deref()?)], 1_i64))
        });
        let help = "Why there is an alarm; absent without one.";
        out.gauge("iotmonitor_device_alarm", help, alarms)?;
        let silenced = self.devices.iter().filter(|it| it.silenced).map(|it| (label(it), 1_i64));
        let help = "Whether notifications about a device are silenced; absent where they are not.";
        out.gauge("iotmonitor_device_silenced", help, silenced)?;
        let nodes = self
            .devices
            .iter()
            .filter_map(|it| Some(([("device", &*it.name), ("node", it.node.as_deref()?)], 1_i64)));
        let help = "The node of the cluster that has a device; absent where none is known.";
        out.gauge("iotmonitor_device_node", help, nodes)?;
        let help = "Whether a device or agent is watched.";
        out.gauge(
            "iotmonitor_device_enabled",
            help,
            each(|it| i64::from(it.state != Liveness::Disabled)),
        )?;
        let contacts = self.devices.iter().filter_map(|it| Some((label(it), it.last_contact?)));
        let help = "When a device was last heard; absent if never.";
        out.gauge("iotmonitor_device_last_contact_timestamp_seconds", help, contacts)?;
        let timeouts = self.devices.iter().filter_map(|it| Some((label(it), it.watch_timeout?)));
        let help = "The longest silence that is allowed; absent where a device never expires.";
        out.gauge("iotmonitor_device_watch_timeout_seconds", help, timeouts)?;
        let hellos = self.devices.iter().map(|it| (label(it), it.hellos));
        out.counter("iotmonitor_device_hellos_total", "Hellos since the start.", hellos)?;
        let uptimes = self.devices.iter().flat_map(|device| {
            let label = move |window| [("device", &*device.name), ("window", window)];
            self.past.uptimes(&device.name).map(move |(window, up)| (label(window), up))
        });
        let help = "The share of time without an alarm; absent where no time counts.";
        out.gauge("iotmonitor_device_uptime_ratio", help, uptimes)?;
        let incidents = self
            .devices
            .iter()
            .filter_map(|it| Some((label(it), u64::from(self.past.of(&it.name)?.incidents))));
        let help = "Alarms of a device and failures of an agent since it is known.";
        out.counter("iotmonitor_device_incidents_total", help, incidents)
    }

    fn each_agent(&self, out: &mut Families<'_>) -> fmt::Result {
        let agents = || {
            self.devices.iter().filter_map(|it| it.agent.as_ref().map(|agent| (label(it), agent)))
        };
        let running = agents().map(|(label, agent)| (label, i64::from(agent.running)));
        let help = "Whether an agent's unit is active.";
        out.gauge("iotmonitor_agent_running", help, running)?;
        let restarts = agents().map(|(label, agent)| (label, agent.restarts));
        let help = "Restarts of an agent for any reason, counted over restarts of iotmonitor.";
        out.counter("iotmonitor_agent_restarts_total", help, restarts)
    }

    /// The names that Prometheus's own client libraries use.
    fn process(&self, out: &mut Families<'_>) -> fmt::Result {
        let started = Some(self.started.as_secs_f64());
        let help = "Start of the process, since the Unix epoch.";
        out.single("process_start_time_seconds", help, MetricType::Gauge, started)?;
        let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
            let time = usage.user_time() + usage.system_time();
            Duration::from_micros(time.num_microseconds().unsigned_abs()).as_secs_f64()
        });
        let help = "Processor time that was used, in user and system mode.";
        out.single("process_cpu_seconds_total", help, MetricType::Counter, cpu)?;
        let (name, help) = ("process_resident_memory_bytes", "Resident memory.");
        out.single(name, help, MetricType::Gauge, resident_memory())
    }
}

/// proc_pid_statm(5): the second figure is in pages.
fn resident_memory() -> Option<f64> {
    let figures = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = figures.split(' ').nth(1)?.parse().ok()?;
    let page = u32::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some(pages * f64::from(page))
}

fn label(device: &DeviceSeries) -> [(&'static str, &str); 1] {
    [("device", &device.name)]
}

/// Writes the families in order; one without a series is left out.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, series)
    }

    fn counter<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, series)
    }

    /// A family whose single series has no label.
    fn single<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        value: Option<V>,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, metric_type)?)
    }

    /// A counter's series is written like a gauge's: the library would append `_total` to the
    /// series alone, as OpenMetrics requires, and version 0.0.4 requires the same name in the
    /// descriptor. A family without series has its descriptor too, so that a person who looks for
    /// the metric finds what it means.
    fn family<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, metric_type)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::history::figures::FiguresMaker;
    use iotmonitor_core::model::view::{AgentView, NotificationsSummary};

    fn text_of(scrape: Scrape) -> Result<String, fmt::Error> {
        let mut text = String::new();
        write(&mut text, scrape).map(|()| text)
    }

    fn figures() -> Scrape {
        let lamp = DeviceView {
            name: "the \"lamp\"".to_owned(),
            state: Liveness::Expired,
            reason: Some("silent".to_owned()),
            since: Duration::ZERO,
            last_contact: Some(Duration::from_millis(1_500)),
            fleet: Some("esp".to_owned()),
            area: None,
            depends_on: Vec::new(),
            watch_timeout: Some(Duration::from_secs(60)),
            auto_timeout: false,
            learned: None,
            hellos: 3,
            disabled_until: None,
            silenced_until: Some(Duration::from_secs(9)),
            node: Some("pi2".to_owned()),
            epoch: None,
            is_unsent: false,
            agent: None,
        };
        let agent = AgentView {
            unit: "iotmonitor-agent-pump.service".to_owned(),
            state: "active".to_owned(),
            main_pid: 17,
            restarts: 2,
            ..AgentView::default()
        };
        let pump = DeviceView {
            name: "pump".to_owned(),
            state: Liveness::Disabled,
            reason: None,
            silenced_until: None,
            node: None,
            fleet: None,
            last_contact: None,
            watch_timeout: None,
            agent: Some(agent),
            ..lamp.clone()
        };
        Scrape {
            summary: Summary {
                watching: true,
                devices: 1,
                expired: 1,
                store_fails: true,
                names_refused: 4,
                notifications: NotificationsSummary {
                    pending: 2,
                    last_delivered: Some(false),
                    silenced: false,
                },
                ..Summary::default()
            },
            alerts: vec![(AlertKind::Expired, 7)],
            devices: {
                let mut words = Words::default();
                [lamp, pump].map(|view| DeviceSeries::of(view, &mut words)).into()
            },
            past: Figures::new(vec![FiguresMaker::new(NOW, Vec::new()).figures(
                "pump".to_owned(),
                NOW - Duration::from_secs(10),
                &[],
                5,
            )]),
            started: Duration::from_secs(1_795_473_762),
        }
    }

    const NOW: Duration = Duration::from_secs(1_795_473_999);

    #[test]
    fn each_figure_is_under_its_name() {
        let text = text_of(figures()).unwrap();
        for line in [
            "# TYPE iotmonitor_broker_connected gauge",
            "iotmonitor_broker_connected 1",
            "iotmonitor_devices{kind=\"device\",state=\"expired\"} 1",
            "iotmonitor_devices{kind=\"agent\",state=\"disabled\"} 1",
            "iotmonitor_devices{kind=\"agent\",state=\"alive\"} 0",
            "# TYPE iotmonitor_alerts_total counter",
            "iotmonitor_alerts_total{event=\"expired\"} 7",
            "iotmonitor_device_expired{device=\"the \\\"lamp\\\"\"} 1",
            "iotmonitor_device_expired{device=\"pump\"} 0",
            "iotmonitor_device_enabled{device=\"pump\"} 0",
            "iotmonitor_device_alarm{device=\"the \\\"lamp\\\"\",reason=\"silent\"} 1",
            "iotmonitor_device_silenced{device=\"the \\\"lamp\\\"\"} 1",
            "iotmonitor_device_node{device=\"the \\\"lamp\\\"\",node=\"pi2\"} 1",
            "iotmonitor_store_failing 1",
            "iotmonitor_fleet_devices{fleet=\"esp\"} 1",
            "iotmonitor_names_refused_total 4",
            "iotmonitor_notifications_pending 2",
            "iotmonitor_notification_failing 1",
            "iotmonitor_device_last_contact_timestamp_seconds{device=\"the \\\"lamp\\\"\"} 1.5",
            "iotmonitor_device_watch_timeout_seconds{device=\"the \\\"lamp\\\"\"} 60.0",
            "iotmonitor_device_hellos_total{device=\"pump\"} 3",
            "iotmonitor_agent_running{device=\"pump\"} 1",
            "iotmonitor_agent_restarts_total{device=\"pump\"} 2",
            "iotmonitor_device_uptime_ratio{device=\"pump\",window=\"30d\"} 1.0",
            "# TYPE iotmonitor_device_incidents_total counter",
            "iotmonitor_device_incidents_total{device=\"pump\"} 5",
            "process_start_time_seconds 1795473762.0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing:\n{text}");
        }
        assert!(!text.contains("last_contact_timestamp_seconds{device=\"pump\""));
        assert!(text.contains("process_resident_memory_bytes ") && !text.contains("EOF"));
    }

    #[test]
    fn a_family_without_a_series_says_what_it_means() {
        let empty = Scrape { devices: Vec::new(), ..figures() };
        let text = text_of(empty).unwrap();
        assert!(text.contains("# TYPE iotmonitor_agent_running gauge\n"), "{text}");
        assert!(!text.contains("\niotmonitor_agent_running"), "{text}");
    }
}
