//! Checking takes time that grows as the file does, whatever is wrong with it.
//!
//! Each shape is checked in one size and in four times that size, in the same run and by the
//! processor time of this thread, so that a busy machine changes nothing: what is linear takes four
//! times as long, what is quadratic sixteen times.

use super::{MQTT, system};
use iotmonitor::config::parse;
use nix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Between four (linear) and sixteen (quadratic).
const MOST: u32 = 8;

/// What else may happen in the meantime; far below what a quadratic check of any shape takes.
const NOISE: Duration = Duration::from_millis(20);

/// The processor time of one check, the least of three.
fn effort(text: &str) -> Duration {
    let once = || {
        let begun = spent();
        // What a person sees is part of the work.
        let _shown = match parse(text, Path::new("c"), &system()) {
            Ok(loaded) => format!("{:?}", loaded.warnings),
            Err(errors) => format!("{errors} {:?}", errors.warnings()),
        };
        spent() - begun
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn assert_linear(what: &str, count: usize, text: impl Fn(usize) -> String) {
    let (small, large) = (effort(&text(count)), effort(&text(4 * count)));
    assert!(
        large < MOST * small + NOISE,
        "{what}: {small:?} for {count}, {large:?} for four times as many"
    );
}

/// So many times what `part` writes.
fn repeated(count: usize, mut part: impl FnMut(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, at| {
        let _ = text.write_str(&part(at));
        text
    })
}

#[test]
fn names_that_are_not_there() {
    assert_linear("one wrong name in every section", 2_000, |count| {
        let device =
            |at| format!("[device_d{at}]\nwatchTopics = \"a/{at}\"\ndependsOn = \"gatway\"\n");
        format!("{MQTT}[device_gateway]\nwatchTopics = \"g\"\n{}", repeated(count, device))
    });
    assert_linear("a wrong name of its own in every section", 2_000, |count| {
        let device =
            |at| format!("[device_d{at}]\nwatchTopics = \"a/{at}\"\ndependsOn = \"e{at}\"\n");
        format!("{MQTT}{}", repeated(count, device))
    });
    assert_linear("wrong names in one list", 2_000, |count| {
        let names = repeated(count, |at| format!("\"e{at}\","));
        let others = repeated(count, |at| format!("[device_d{at}]\nwatchTopics = \"a\"\n"));
        format!("{MQTT}[device_x]\nwatchTopics = \"x\"\ndependsOn = [{names}]\n{others}")
    });
}

#[test]
fn long_lists() {
    for key in ["watchTopics", "stateTopics"] {
        assert_linear(key, 10_000, |count| {
            let topics = repeated(count, |at| format!("\"home/{at}/+/sensors\","));
            format!("{MQTT}[device_x]\n{key} = [{topics}]\n")
        });
    }
    assert_linear("dependsOn", 4_000, |count| {
        let names = repeated(count, |at| format!("\"d{at}\","));
        let others = repeated(count, |at| format!("[device_d{at}]\nwatchTopics = \"a\"\n"));
        format!("{MQTT}[device_x]\nwatchTopics = \"x\"\ndependsOn = [{names}]\n{others}")
    });
    assert_linear("hostNames", 10_000, |count| {
        format!("{MQTT}[http]\nhostNames = [{}]\n", repeated(count, |at| format!("\"h{at}\",")))
    });
}

#[test]
fn fleets() {
    let fleet = |count, topics: &str| {
        let names = repeated(count, |at| format!("\"d{at}\","));
        format!("{MQTT}[fleet_x]\nnames = [{names}]\n{topics}\n")
    };
    let topics = "watchTopics = \"home/{name}/#\"\nhelloTopic = \"{name}\"\n";
    assert_linear("names", 2_500, |count| fleet(count, topics));
    assert_linear("names with sections of their own", 1_000, |count| {
        let own = repeated(count, |at| format!("[device_d{at}]\nwatchTimeOut = 5\n"));
        format!("{}{own}", fleet(count, topics))
    });
    assert_linear("names twice", 2_500, |count| {
        format!("{}[fleet_y]\nnames = \"auto\"\n", fleet(count, topics).replace("d1", "d"))
    });
    assert_linear("names that are wrong", 2_500, |count| {
        fleet(count, topics).replace("\"d", "\"+")
    });
    assert_linear("wrong dependencies", 2_500, |count| {
        fleet(count, "watchTopics = \"{name}\"\ndependsOn = [\"x\", \"y{name}\"]")
    });
    assert_linear("sections beside an automatic fleet", 1_000, |count| {
        let own = repeated(count, |at| format!("[device_d{at}]\nhelloTopic = \"x\"\n"));
        format!("{MQTT}[fleet_x]\nnames = \"auto\"\n{topics}{own}")
    });
    assert_linear("automatic fleets", 500, |count| {
        let fleet = |at| format!("[fleet_x{at}]\nnames = \"auto\"\nwatchTopics = \"{{name}}/#\"\n");
        format!("{MQTT}{}", repeated(count, fleet))
    });
}

#[test]
fn chains_and_circles() {
    let device =
        |at, next| format!("[device_d{at}]\nwatchTopics = \"a\"\ndependsOn = \"d{next}\"\n");
    assert_linear("a chain", 4_000, |count| {
        let end = format!("[device_d{count}]\nwatchTopics = \"a\"\n");
        format!("{MQTT}{}{end}", repeated(count, |at| device(at, at + 1)))
    });
    assert_linear("one circle", 4_000, |count| {
        format!("{MQTT}{}", repeated(count, |at| device(at, (at + 1) % count)))
    });
    assert_linear("many circles", 4_000, |count| {
        format!("{MQTT}{}", repeated(count, |at| device(at, at ^ 1)))
    });
}

#[test]
fn findings_in_great_number() {
    assert_linear("unknown keys", 2_000, |count| {
        format!("{MQTT}{}", repeated(count, |at| format!("colour{at} = {at}\n")))
    });
    assert_linear("unknown sections", 4_000, |count| {
        format!("{MQTT}{}", repeated(count, |at| format!("[x{at}]\ny = 1\n")))
    });
    assert_linear("errors in one line", 4_000, |count| {
        format!("{MQTT}[device_x]\nwatchTopics = [{}]\n", repeated(count, |_| "5,".to_owned()))
    });
    assert_linear("secrets and errors in one line", 2_000, |count| {
        let variables = repeated(count, |at| format!("{at} = \"hunter2\", "));
        format!("{MQTT}[agent_x]\nexec = \"x\"\nenvironment = {{ {variables} A = \"\" }}\n")
    });
    assert_linear("agents that share a user", 2_000, |count| {
        let agent = |at| format!("[agent_a{at}]\nexec = \"x\"\npassCredentials = true\n");
        format!("{MQTT}{}", repeated(count, agent))
    });
    assert_linear("warnings", 4_000, |count| {
        let topics = repeated(count, |at| format!("\"home/monitoring/{at}\",\n"));
        format!("{MQTT}[device_x]\nwatchTopics = [{topics}]\n")
    });
    assert_linear("errors of syntax", 4_000, |count| {
        format!("{MQTT}{}", repeated(count, |at| format!("x{at} = y\n")))
    });
    assert_linear("doubled sections", 4_000, |count| {
        format!("{MQTT}{}", repeated(count, |_| "[device_x]\n".to_owned()))
    });
}

#[test]
fn long_lines_and_deep_tables() {
    assert_linear("a long line that is wrong", 100_000, |count| {
        format!("{MQTT}colour = \"{}\"\n", "ü".repeat(count))
    });
    assert_linear("brackets", 100_000, |count| format!("{MQTT}x = {}\n", "[".repeat(count)));
    assert_linear("a key with many dots", 20_000, |count| {
        format!("{MQTT}{}a = 1\n", "a.".repeat(count))
    });
    assert_linear("a section with many dots", 20_000, |count| {
        format!("{MQTT}[{}a]\n", "a.".repeat(count))
    });
}

#[test]
fn long_names_in_commands_and_environments() {
    assert_linear("a long word before an equals sign", 5_000, |count| {
        format!("{MQTT}[agent_x]\nexec = \"echo {}=\"\n", "aB".repeat(count))
    });
    assert_linear("a long variable", 5_000, |count| {
        format!(
            "{MQTT}[agent_x]\nexec = \"x\"\nenvironment = {{ {} = \"1\" }}\n",
            "aB".repeat(count)
        )
    });
}
