//! `iotmonitor status [NAME]`: shows the running monitor's state as a table, in words or as JSON.

use super::command::{AskError, conclude, fail, in_runtime, suggesting};
use super::output::{self, OutputStyle, Reader};
use super::table::TextTable;
use crate::bus::{Addressee, CallError, Caller};
use crate::dbus::Bus;
use crate::printable::{escaped_json, escaped_lines};
use crate::systemd::usage::{Usage, usages};
use clap::builder::styling::{AnsiColor, Style};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::status::DeviceStatus;
use iotmonitor_core::model::view::{AgentView, DeviceView, Liveness, NotificationsSummary};
use iotmonitor_core::model::words::{Ago, RoundedDuration, counted, mebibytes};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The interval at which `--watch` asks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Moves the cursor home and clears the screen (ECMA-48, CUP and ED).
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// The note below the output while no device can be heard.
const DEAF: &str = "\nThe broker cannot be reached now: no device is heard, and none expires. \
    `journalctl -u iotmonitor` says why.\n";

/// The requested contents and format.
#[derive(Debug)]
pub struct StatusQuery {
    pub name: Option<String>,
    pub json: bool,
    pub watch: bool,
}

/// Prints the answer; returns the exit code.
pub fn status(bus: Bus, addressee: Addressee, question: &StatusQuery) -> u8 {
    let name = match question.name.clone().map(DeviceName::new).transpose() {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    let outcome = in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let mut shown = false;
        loop {
            let text = match ask(bus, &caller, name.as_ref()).await {
                Ok(answer) => render(&answer, name.is_some(), question.json),
                // A monitor that is being restarted comes back.
                Err(error) if shown => escaped_lines(&format!("{error}\n")).into_owned(),
                Err(error) => return Err(error.into()),
            };
            shown = true;
            let clear = if question.watch { CLEAR_SCREEN } else { "" };
            let reader = output::print(format!("{clear}{text}"))?;
            if reader == Reader::Gone || !question.watch {
                return Ok::<(), AskError>(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    });
    conclude(outcome)
}

type Row = (DeviceView, Usage);

struct StatusReport {
    /// Whether devices are heard at present.
    watching: bool,
    notifications: NotificationsSummary,
    rows: Vec<Row>,
}

async fn ask(
    bus: Bus,
    caller: &Caller,
    name: Option<&DeviceName>,
) -> Result<StatusReport, CallError> {
    let (watching, notifications) = caller.health().await?;
    let devices = match name {
        Some(name) => vec![suggesting(caller, name, caller.device(name).await).await?],
        None => caller.devices().await?,
    };
    let units: Vec<&str> = devices
        .iter()
        .filter_map(|device| device.agent.as_ref())
        .map(|agent| agent.unit.as_str())
        .collect();
    // Without systemd's figures the rest is still useful.
    let mut usages = usages(bus, &units).await.unwrap_or_default().into_iter();
    let with_usage = |device: DeviceView| {
        let usage = if device.agent.is_some() { usages.next() } else { None };
        (device, usage.unwrap_or_default())
    };
    Ok(StatusReport {
        watching,
        notifications,
        rows: devices.into_iter().map(with_usage).collect(),
    })
}

fn render(report: &StatusReport, alone: bool, as_json: bool) -> String {
    let StatusReport { watching, notifications, rows } = report;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = match &rows[..] {
        [row] if alone && as_json => escaped_json(format!("{}\n", json_of(row))),
        _ if as_json => {
            escaped_json(format!("{}\n", Value::Array(rows.iter().map(json_of).collect())))
        }
        [row] if alone => escaped_lines(&description(row, now)).into_owned(),
        _ => table(rows, now, OutputStyle::of_stdout()),
    };
    if as_json {
        return text;
    }
    let deaf = if *watching { "" } else { DEAF };
    text + deaf + &hint_on(*notifications)
}

/// Describes a problem with the delivery of alerts to people; empty while there is none.
fn hint_on(notifications: NotificationsSummary) -> String {
    let mut hint = String::new();
    if notifications.silenced {
        hint.push_str("\nNo notifications are sent now; `iotmonitor unsilence --all` ends that.\n");
    }
    if notifications.last_delivered == Some(false) {
        let waiting = counted(notifications.pending, "alert");
        hint.push_str(&format!(
            "\nThe last notification failed, with {waiting} pending: \
             `journalctl -u iotmonitor IOTMONITOR_EVENT=alert-unit-failed` says why.\n"
        ));
    }
    hint
}

/// The status as it is published, together with values that are only available on request.
fn json_of((device, usage): &Row) -> Value {
    let mut value = serde_json::to_value(DeviceStatus::of(device)).unwrap_or_default();
    // Numbers always have a fraction, and an agent always has all keys, because scripts rely on
    // both.
    value["watchTimeOut"] = device.watch_timeout.unwrap_or_default().as_secs_f64().into();
    if device.agent.is_some() {
        let agent = &mut value["agent"];
        agent["memoryBytes"] = usage.memory.into();
        agent["cpuSeconds"] = usage.cpu.map(|cpu| cpu.as_secs_f64()).into();
        for key in ["lastExit", "lastExitAt", "nextStart"] {
            if agent.get(key).is_none() {
                agent[key] = Value::Null;
            }
        }
    }
    value
}

/// So many of the columns concern devices that are no agents.
const OF_DEVICES: usize = 5;

const HEADINGS: [&str; 10] =
    ["NAME", "STATE", "CONTACT", "TIMEOUT", "HELLOS", "UNIT", "PID", "RESTARTS", "MEMORY", "CPU"];

fn table(rows: &[Row], now: Duration, look: OutputStyle) -> String {
    if rows.is_empty() {
        return "no devices or agents are configured\n".to_owned();
    }
    let has_agents = rows.iter().any(|(device, _)| device.agent.is_some());
    let has_nodes = rows.iter().any(|(device, _)| device.node.is_some());
    let columns = if has_agents { HEADINGS.len() } else { OF_DEVICES };
    let [name, state, others @ ..] = HEADINGS;
    let others = others.into_iter().take(columns - 2);
    let node = has_nodes.then_some("NODE");
    let mut table = TextTable::new(look, [name, state].into_iter().chain(node).chain(others));
    for row in rows {
        let [name, state, others @ ..] = cells(row, now);
        let node = row.0.node.clone().unwrap_or_else(|| "-".to_owned());
        let state_style = style_of(row.0.state);
        let plain = |cell| (cell, Style::new());
        let first = [plain(name), (state, state_style)].into_iter();
        let node = has_nodes.then(|| plain(node));
        table.row(first.chain(node).chain(others.into_iter().take(columns - 2).map(plain)));
    }
    table.render()
}

fn style_of(state: Liveness) -> Style {
    match state {
        Liveness::Alive => AnsiColor::Green.on_default(),
        Liveness::Expired => AnsiColor::Red.on_default().bold(),
        Liveness::Unknown => AnsiColor::Yellow.on_default(),
        Liveness::Disabled | Liveness::Elsewhere => Style::new().dimmed(),
    }
}

fn cells((device, usage): &Row, now: Duration) -> [String; 10] {
    let none = || "-".to_owned();
    let agent = device.agent.as_ref();
    let of_agent = |cell: fn(&AgentView) -> String| agent.map_or_else(none, cell);
    [
        device.name.clone(),
        device.state.as_str().to_owned(),
        device.last_contact.map_or_else(|| "never".to_owned(), |contact| ago(now, contact)),
        device.watch_timeout.map_or_else(none, |timeout| RoundedDuration(timeout).to_string()),
        device.hellos.to_string(),
        of_agent(|agent| agent.state.clone()),
        of_agent(|agent| if agent.main_pid == 0 { "-".into() } else { agent.main_pid.to_string() }),
        of_agent(|agent| agent.restarts.to_string()),
        usage.memory.map_or_else(none, mebibytes),
        usage.cpu.map_or_else(none, |cpu| RoundedDuration(cpu).to_string()),
    ]
}

fn description((device, usage): &Row, now: Duration) -> String {
    let mut text = format!(
        "{} ({})\n  state:        {}{}, for {}\n",
        device.name,
        device.kind(),
        device.state.as_str(),
        device.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
        RoundedDuration(Duration::from_secs(now.as_secs().saturating_sub(device.since.as_secs())))
    );
    if let Some(node) = &device.node {
        let epoch = device.epoch.map(|epoch| format!(", epoch {epoch}")).unwrap_or_default();
        text.push_str(&format!("  node:         {node}{epoch}\n"));
    }
    if let Some(fleet) = &device.fleet {
        text.push_str(&format!("  fleet:        {fleet}\n"));
    }
    if let Some(area) = &device.area {
        text.push_str(&format!("  area:         {area}\n"));
    }
    if !device.depends_on.is_empty() {
        text.push_str(&format!("  depends on:   {}\n", device.depends_on.join(", ")));
    }
    if let Some(until) = device.disabled_until {
        text.push_str(&format!("  enabled:      {}\n", ahead(now, until)));
    }
    if let Some(until) = device.silenced_until {
        text.push_str(&format!("  silenced:     notifications resume {}\n", ahead(now, until)));
    }
    let contact = device.last_contact.map_or_else(|| "never".to_owned(), |at| ago(now, at));
    let timeout = device
        .watch_timeout
        .map_or_else(|| "none".to_owned(), |span| RoundedDuration(span).to_string());
    text.push_str(&format!("  last contact: {contact}\n  timeout:      {timeout}\n"));
    text.push_str(&format!("  hellos:       {}\n", device.hellos));
    if let Some(agent) = &device.agent {
        text.push_str(&format!("  unit:         {}, {}\n", agent.unit, agent.state));
        if agent.main_pid != 0 {
            text.push_str(&format!("  PID:          {}\n", agent.main_pid));
        }
        text.push_str(&format!("  restarts:     {}\n", agent.restarts));
        if let Some(exit) = &agent.last_exit {
            let when = agent.last_exit_at.map(|at| format!(", {}", ago(now, at)));
            text.push_str(&format!("  last exit:    {exit}{}\n", when.unwrap_or_default()));
        }
        if let Some(next) = agent.next_start {
            text.push_str(&format!("  next try:     {}\n", ahead(now, next)));
        }
        if let Some(memory) = usage.memory {
            text.push_str(&format!("  memory:       {}\n", mebibytes(memory)));
        }
        if let Some(cpu) = usage.cpu {
            text.push_str(&format!("  CPU:          {}\n", RoundedDuration(cpu)));
        }
    }
    text
}

/// A time in the future, rounded up; one that has passed is due.
fn ahead(now: Duration, then: Duration) -> String {
    match then.as_secs().saturating_sub(now.as_secs()) {
        0 => "now".to_owned(),
        seconds => format!("in {}", RoundedDuration(Duration::from_secs(seconds))),
    }
}

/// The seconds of a contact are whole, and a clock that steps back must not cause alarming values.
fn ago(now: Duration, then: Duration) -> String {
    Ago(Duration::from_secs(now.as_secs().saturating_sub(then.as_secs()))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamp() -> DeviceView {
        DeviceView {
            name: "lamp".to_owned(),
            state: Liveness::Expired,
            reason: Some("silent".to_owned()),
            since: Duration::from_secs(1_000),
            last_contact: Some(Duration::from_secs(940)),
            fleet: None,
            area: None,
            depends_on: Vec::new(),
            watch_timeout: Some(Duration::from_secs(60)),
            auto_timeout: false,
            learned: None,
            hellos: 2,
            disabled_until: None,
            silenced_until: None,
            node: None,
            epoch: None,
            is_unsent: false,
            agent: None,
        }
    }

    fn pump() -> DeviceView {
        let agent = AgentView {
            unit: "iotmonitor-agent-pump.service".to_owned(),
            state: "active".to_owned(),
            main_pid: 17,
            restarts: 3,
            ..AgentView::default()
        };
        let (name, state) = ("pump".to_owned(), Liveness::Unknown);
        DeviceView { name, state, last_contact: None, agent: Some(agent), ..lamp() }
    }

    const NOW: Duration = Duration::from_secs(1_180);

    #[test]
    fn devices_alone_need_no_columns_of_agents() {
        assert_eq!(
            table(&[(lamp(), Usage::default())], NOW, OutputStyle::default()),
            "NAME  STATE    CONTACT    TIMEOUT  HELLOS\n\
             lamp  expired  4 min ago  1 min    2\n"
        );
    }

    #[test]
    fn a_cluster_has_a_column_for_the_node() {
        let plug = DeviceView {
            name: "plug".to_owned(),
            state: Liveness::Elsewhere,
            node: Some("pi2".to_owned()),
            epoch: Some(41),
            ..lamp()
        };
        let rows = [(lamp(), Usage::default()), (plug.clone(), Usage::default())];
        assert_eq!(
            table(&rows, NOW, OutputStyle::default()),
            "NAME  STATE      NODE  CONTACT    TIMEOUT  HELLOS\n\
             lamp  expired    -     4 min ago  1 min    2\n\
             plug  elsewhere  pi2   4 min ago  1 min    2\n"
        );
        let text = description(&(plug, Usage::default()), NOW);
        assert!(text.contains("  node:         pi2, epoch 41\n"), "{text}");
    }

    #[test]
    fn agents_come_with_their_process() {
        let cpu = Some(Duration::from_millis(1_500));
        let usage = Usage { memory: Some(3 << 20), memory_peak: None, cpu };
        let text =
            table(&[(lamp(), Usage::default()), (pump(), usage)], NOW, OutputStyle::default());
        let last = text.lines().last().unwrap();
        let words: Vec<&str> = last.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
        assert_eq!(
            words,
            ["pump", "unknown", "never", "1 min", "2", "active", "17", "3", "3.0 MiB", "1.5 s"]
        );
    }

    #[test]
    fn what_is_wrong_with_the_way_of_alerts_is_said_below() {
        let well = NotificationsSummary { last_delivered: Some(true), ..Default::default() };
        assert_eq!(hint_on(well), "");
        let failed =
            NotificationsSummary { pending: 3, last_delivered: Some(false), silenced: true };
        let hint = hint_on(failed);
        assert!(
            hint.contains("with 3 alerts pending") && hint.contains("unsilence --all"),
            "{hint}"
        );
    }

    #[test]
    fn a_painted_table_has_the_same_words() {
        let rows = [(lamp(), Usage::default())];
        let painted = table(&rows, NOW, OutputStyle { coloured: true, ..OutputStyle::default() });
        assert!(painted.contains("\x1b["));
        let plain = painted.split("\x1b[").map(|part| part.split_once('m').map_or(part, |p| p.1));
        assert_eq!(plain.collect::<String>(), table(&rows, NOW, OutputStyle::default()));
    }

    #[test]
    fn an_agent_that_waits_for_its_next_try_says_why_and_how_long() {
        let mut view = pump();
        view.disabled_until = Some(NOW + Duration::from_secs(7_200));
        view.fleet = Some("esp".to_owned());
        view.area = Some("Kitchen".into());
        view.depends_on = vec!["gateway".to_owned(), "bridge".to_owned()];
        view.silenced_until = Some(NOW + Duration::from_secs(3_600));
        let agent = view.agent.as_mut().unwrap();
        agent.last_exit = Some("exited with 7".to_owned());
        agent.last_exit_at = Some(NOW - Duration::from_secs(4));
        agent.next_start = Some(NOW + Duration::from_secs(61));
        let text = description(&(view.clone(), Usage::default()), NOW);
        for line in [
            "  enabled:      in 2 h\n",
            "  fleet:        esp\n",
            "  area:         Kitchen\n",
            "  depends on:   gateway, bridge\n",
            "  silenced:     notifications resume in 1 h\n",
            "  last exit:    exited with 7, 4 s ago\n",
            "  next try:     in 1 min 1 s\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let value = json_of(&(view, Usage::default()));
        assert_eq!(value["agent"]["lastExit"], "exited with 7");
        assert_eq!(value["agent"]["nextStart"], 1_241);
        assert_eq!(value["disabledUntil"], 8_380);
        assert_eq!(value["fleet"], "esp");
        assert_eq!(value["area"], "Kitchen");
        assert_eq!(value["dependsOn"], serde_json::json!(["gateway", "bridge"]));
        assert_eq!(value["silencedUntil"], 4_780);
    }

    #[test]
    fn json_is_printed_with_these_bytes() {
        let report = |row: Row| StatusReport {
            watching: true,
            notifications: NotificationsSummary::default(),
            rows: vec![row],
        };
        assert_eq!(
            render(&report((lamp(), Usage::default())), true, true),
            "{\"hellos\":2,\"kind\":\"device\",\"lastContact\":940,\"name\":\"lamp\",\
             \"reason\":\"silent\",\"since\":1000,\"state\":\"expired\",\"watchTimeOut\":60.0}\n"
        );
        let cpu = Some(Duration::from_millis(1_500));
        let usage = Usage { memory: Some(3 << 20), memory_peak: None, cpu };
        assert_eq!(
            render(&report((pump(), usage)), false, true),
            "[{\"agent\":{\"cpuSeconds\":1.5,\"lastExit\":null,\"lastExitAt\":null,\"mainPid\":17,\
             \"memoryBytes\":3145728,\"nextStart\":null,\"restarts\":3,\"state\":\"active\",\
             \"unit\":\"iotmonitor-agent-pump.service\"},\"hellos\":2,\"kind\":\"agent\",\
             \"lastContact\":null,\"name\":\"pump\",\"reason\":\"silent\",\"since\":1000,\
             \"state\":\"unknown\",\"watchTimeOut\":60.0}]\n"
        );
    }

    #[test]
    fn json_bears_the_keys_of_the_published_status() {
        let value = json_of(&(pump(), Usage::default()));
        assert_eq!(value["kind"], "agent");
        assert_eq!(value["lastContact"], Value::Null);
        assert_eq!(value["agent"]["mainPid"], 17);
    }
}
