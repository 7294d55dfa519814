//! Finds the device of a topic by its levels where no convention applies. Most people write
//! `place/device/what`, with levels in between that only name a kind of thing.

use super::content;

/// Levels, in lower case, that name a kind of message and not a device.
const KINDS: [&str; 34] = [
    "sensor",
    "sensors",
    "actuator",
    "actuators",
    "state",
    "states",
    "status",
    "stat",
    "tele",
    "telemetry",
    "data",
    "value",
    "values",
    "event",
    "events",
    "info",
    "attributes",
    "config",
    "hello",
    "boot",
    "birth",
    "lwt",
    "will",
    "availability",
    "available",
    "online",
    "connected",
    "out",
    "in",
    "input",
    "output",
    "measurement",
    "measurements",
    "heartbeat",
];

/// Levels that give an order. Messages there come from others.
const ORDERS: [&str; 8] = ["set", "cmd", "cmnd", "command", "commands", "get", "request", "do"];

/// Last levels of a birth message or a will.
const AVAILABILITIES: [&str; 9] = [
    "lwt",
    "will",
    "availability",
    "available",
    "online",
    "connected",
    "connection",
    "status",
    "state",
];

/// Last levels of topics on which a device announces itself after its start.
const HELLOS: [&str; 4] = ["hello", "boot", "birth", "startup"];

/// Levels below which a device writes its log.
const LOGS: [&str; 8] = ["log", "logs", "logging", "logger", "debug", "console", "syslog", "trace"];

/// Levels that ask for something, or have something done.
const REQUESTS: [&str; 9] =
    ["get", "request", "do", "rpc", "notify", "api", "restart", "reboot", "toggle"];

/// Returns the number of levels from the left that name the device.
pub fn device_levels(levels: &[&str], is_object: bool) -> usize {
    let is_kind = |at: usize| one_of(&KINDS, levels[at]) || one_of(&ORDERS, levels[at]);
    let last = levels.len() - 1;
    // A device that sends an object sends all its values on one topic, which is then its own.
    if last == 0 || (is_object && !is_kind(last) && (last < 2 || !is_kind(last - 1))) {
        return levels.len();
    }
    let mut count = last;
    while count > 1 && is_kind(count - 1) {
        count -= 1;
    }
    count
}

pub fn is_order(levels: &[&str]) -> bool {
    let is_command = |level: &&str| {
        one_of(&ORDERS, level)
            || level.starts_with("set_")
            || level.ends_with("_set")
            || level.ends_with("_command")
    };
    levels.iter().skip(1).any(is_command) || one_of(&["cmnd", "cmd"], levels[0])
}

/// Returns the topic that an order refers to, which is the topic on which it is answered.
pub fn answer(topic: &str) -> &str {
    let mut rest = topic;
    while let Some((before, last)) = rest.rsplit_once('/') {
        if one_of(&ORDERS, last) {
            return before;
        }
        rest = before;
    }
    topic
}

/// Returns whether a topic is one on which a device is asked, or is ordered to do something once.
pub fn is_request(levels: &[&str]) -> bool {
    levels.iter().skip(1).any(|level| one_of(&REQUESTS, level))
}

pub fn is_log(levels: &[&str]) -> bool {
    levels.iter().skip(1).any(|level| one_of(&LOGS, level))
}

/// Returns whether a level names a reading or a kind of message, which means that the levels before
/// it are the device.
pub fn is_of_a_device(level: &str) -> bool {
    one_of(&KINDS, level)
        || one_of(&ORDERS, level)
        || one_of(&HELLOS, level)
        || content::measures(level)
}

pub fn is_availability(levels: &[&str]) -> bool {
    levels.last().is_some_and(|level| one_of(&AVAILABILITIES, level))
}

pub fn is_hello(levels: &[&str]) -> bool {
    levels.last().is_some_and(|level| one_of(&HELLOS, level))
}

/// Returns the last level that names something.
pub fn name(device: &str) -> &str {
    let mut levels = device.rsplit('/');
    let named = levels.find(|level| !level.trim().is_empty() && !one_of(&KINDS, level));
    named.unwrap_or(device)
}

fn one_of(words: &[&str], level: &str) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_what_stands_before_what_it_says() {
        for (topic, is_object, device) in [
            ("home/esp04/sensors/temperature", false, "home/esp04"),
            ("home/esp04/sensors/bme280", true, "home/esp04"),
            ("home/esp04/hello", false, "home/esp04"),
            ("sensors/kitchen/temperature", false, "sensors/kitchen"),
            ("sensors/kitchen", true, "sensors/kitchen"),
            ("theengs/BTtoMQTT/AABBCC", true, "theengs/BTtoMQTT/AABBCC"),
            ("kitchen/temperature", false, "kitchen"),
            ("temperature", false, "temperature"),
            ("pump/state", true, "pump"),
            ("state", false, "state"),
            ("garden/pump/set/speed", false, "garden/pump"),
            ("/a/b", false, "/a"),
            ("//", false, "/"),
        ] {
            let levels: Vec<&str> = topic.split('/').collect();
            let count = device_levels(&levels, is_object);
            assert_eq!(levels[..count].join("/"), device, "{topic}");
        }
    }

    #[test]
    fn orders_are_distinguished_from_what_a_device_publishes() {
        let is_order = |topic: &str| is_order(&topic.split('/').collect::<Vec<_>>());
        assert!(is_order("home/lamp/set") && is_order("home/lamp/set/power"));
        assert!(is_order("cmnd/plug/POWER"));
        assert!(!is_order("home/lamp/power") && !is_order("set/lamp"));
    }

    #[test]
    fn a_name_is_the_last_level_that_names_something() {
        assert_eq!(name("home/esp04"), "esp04");
        assert_eq!(name("pump/state"), "pump");
        assert_eq!(name("state"), "state");
        assert_eq!(name("/"), "/");
    }
}
