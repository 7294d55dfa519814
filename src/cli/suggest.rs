//! `iotmonitor suggest [NAME]`: compares the learned silences of the devices with their timeouts.

use super::command::{AskError, conclude, fail, in_runtime, suggesting};
use super::output::{self, OutputStyle};
use super::table::TextTable;
use crate::bus::{Addressee, Caller};
use crate::dbus::Bus;
use crate::printable::escaped_json;
use crate::time_span;
use clap::builder::styling::Style;
use iotmonitor_core::machines::silence::rhythm::{FEWEST, TIMES, UNLEARNED};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::view::{DeviceView, Learned};
use iotmonitor_core::model::words::RoundedDuration;
use serde_json::{Value, json};
use std::time::Duration;

/// A timeout of this many times the proposed one raises an alarm late.
const LATE: u32 = 4;

/// Prints a table; returns the exit code.
pub fn suggest(bus: Bus, addressee: Addressee, name: Option<String>, as_json: bool) -> u8 {
    let name = match name.map(DeviceName::new).transpose() {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let devices = match &name {
            Some(name) => vec![suggesting(&caller, name, caller.device(name).await).await?],
            None => caller.devices().await?,
        };
        let text = if as_json {
            escaped_json(format!("{}\n", Value::Array(devices.iter().map(json_of).collect())))
        } else {
            table(&devices, OutputStyle::of_stdout())
        };
        output::print(text)?;
        Ok::<(), AskError>(())
    }))
}

const HEADINGS: [&str; 8] =
    ["NAME", "TIMEOUT", "USUAL", "RARE", "LONGEST", "INTERVALS", "PROPOSED", ""];

fn table(devices: &[DeviceView], look: OutputStyle) -> String {
    let mut table = TextTable::new(look, HEADINGS);
    for device in devices {
        table.row(row(device).map(|cell| (cell, Style::new())));
    }
    table.render()
}

fn row(device: &DeviceView) -> [String; 8] {
    let timeout = match (device.auto_timeout, device.watch_timeout) {
        (true, Some(timeout)) => format!("auto, {}", RoundedDuration(timeout)),
        (false, Some(timeout)) => RoundedDuration(timeout).to_string(),
        (_, None) => "-".to_owned(),
    };
    let span = |span: fn(&Learned) -> Duration| {
        device
            .learned
            .as_ref()
            .map_or("-".to_owned(), |learned| RoundedDuration(span(learned)).to_string())
    };
    let proposed = device.learned.and_then(|learned| learned.proposed);
    [
        device.name.clone(),
        timeout,
        span(|learned| learned.usual),
        span(|learned| learned.rare),
        span(|learned| learned.longest),
        device.learned.map_or(0, |learned| learned.intervals).to_string(),
        proposed.map_or("-".to_owned(), |proposed| format!("\"{}\"", time_span::format(proposed))),
        verdict(device),
    ]
}

/// The remark about the timeout in force.
fn verdict(device: &DeviceView) -> String {
    let Some(timeout) = device.watch_timeout else { return "is never too silent".to_owned() };
    let proposed = device.learned.and_then(|learned| Some((learned, learned.proposed?)));
    if device.auto_timeout && (proposed.is_some() || timeout < UNLEARNED) {
        return "follows by itself".to_owned();
    }
    let Some((learned, proposed)) = proposed else {
        return format!("too little is known: that takes a day, and {FEWEST} intervals");
    };
    if timeout <= learned.longest {
        format!("too short: it was silent for {}", RoundedDuration(learned.longest))
    } else if timeout < learned.longest + learned.longest / 2 {
        "tight: a little more silence is an alarm".to_owned()
    } else if timeout > proposed * LATE {
        format!("long: {TIMES} times its longest silence is an alarm sooner")
    } else {
        "fits".to_owned()
    }
}

fn json_of(device: &DeviceView) -> Value {
    let seconds = |span: Duration| span.as_secs_f64();
    json!({
        "name": device.name,
        "watchTimeOut": device.watch_timeout.map(seconds),
        "auto": device.auto_timeout,
        "usual": device.learned.map(|learned| seconds(learned.usual)),
        "rare": device.learned.map(|learned| seconds(learned.rare)),
        "longest": device.learned.map(|learned| seconds(learned.longest)),
        "intervals": device.learned.map_or(0, |learned| learned.intervals),
        "proposed": device.learned.and_then(|learned| learned.proposed).map(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::view::Liveness;

    fn device(timeout: Option<u64>, longest: u64, proposed: Option<u64>) -> DeviceView {
        let secs = Duration::from_secs;
        DeviceView {
            name: "lamp".to_owned(),
            state: Liveness::Alive,
            reason: None,
            since: Duration::ZERO,
            last_contact: None,
            fleet: None,
            area: None,
            depends_on: Vec::new(),
            watch_timeout: timeout.map(secs),
            auto_timeout: false,
            learned: Some(Learned {
                intervals: 8_640,
                usual: secs(16),
                rare: secs(longest),
                longest: secs(longest),
                proposed: proposed.map(secs),
            }),
            hellos: 0,
            disabled_until: None,
            silenced_until: None,
            node: None,
            epoch: None,
            is_unsent: false,
            agent: None,
        }
    }

    #[test]
    fn each_timeout_is_judged() {
        for (device, said) in [
            (device(Some(30), 40, Some(120)), "too short: it was silent for 40 s"),
            (device(Some(50), 40, Some(120)), "tight: a little more silence is an alarm"),
            (device(Some(60), 40, Some(120)), "fits"),
            (device(Some(480), 40, Some(120)), "fits"),
            (
                device(Some(600), 40, Some(120)),
                "long: 3 times its longest silence is an alarm sooner",
            ),
            (device(Some(60), 40, None), "too little is known: that takes a day, and 20 intervals"),
            (device(None, 40, Some(120)), "is never too silent"),
            (
                DeviceView { auto_timeout: true, ..device(Some(30), 40, Some(120)) },
                "follows by itself",
            ),
            (DeviceView { auto_timeout: true, ..device(Some(900), 40, None) }, "follows by itself"),
            (
                DeviceView { auto_timeout: true, ..device(Some(90_000), 40, None) },
                "too little is known: that takes a day, and 20 intervals",
            ),
        ] {
            assert_eq!(verdict(&device), said);
        }
    }

    #[test]
    fn a_table_shows_what_was_learned() {
        let unheard = DeviceView { learned: None, ..device(None, 0, None) };
        assert_eq!(
            table(&[device(Some(30), 40, Some(120)), unheard], OutputStyle::default()),
            "NAME  TIMEOUT  USUAL  RARE  LONGEST  INTERVALS  PROPOSED\n\
             lamp  30 s     16 s   40 s  40 s     8640       \"2min\"    too short: it was silent for 40 s\n\
             lamp  -        -      -     -        0          -         is never too silent\n"
        );
    }
}
