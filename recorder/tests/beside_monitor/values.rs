//! `iotmonitor history NAME --values TOPIC`, and the same over HTTP.

use crate::house::{House, SECOND, message, now, script_at};
use serde_json::{Value, json};
use std::fs;

const TOPIC: &str = "home/boiler/temperature";
const SECTIONS: &str = "[device_boiler]\nwatchTopics = \"home/boiler/#\"\nwatchTimeOut = \"1d\"\n\
    [device_door]\nwatchTopics = \"home/+/door\"\nwatchTimeOut = \"1d\"\n";

fn house() -> House {
    let hour = 3_600 * SECOND;
    let start = now() - 6 * hour;
    House::with(
        SECTIONS,
        &[
            message(start, TOPIC, "20"),
            message(start + SECOND, TOPIC, "unavailable"),
            message(start + 2 * hour, TOPIC, "-4.5"),
            message(start + 4 * hour, TOPIC, "60"),
            message(start, "home/boiler/mode", "eco"),
            message(start, "garden/boiler/temperature", "1"),
        ],
    )
}

pub fn a_chart_and_all_messages() {
    let house = house();
    let values = |options: &[&str]| {
        let arguments = ["history", "boiler", "--values", TOPIC, "--since", "7h"];
        house.printed(&[&arguments[..], options].concat())
    };
    let chart = values(&[]);
    assert!(chart.starts_with("home/boiler/temperature\n          60 │"), "{chart}");
    assert!(chart.ends_with("least -4.5  mean 25.167  most 60\n"), "{chart}");
    assert_eq!(chart.matches('█').count(), 2 + 6, "{chart}");
    let csv = values(&["--csv"]);
    assert_eq!(csv.lines().count(), 5, "{csv}");
    assert!(csv.contains(",,unavailable,"), "{csv}");
    let json: Value = serde_json::from_str(&values(&["--json"])).unwrap();
    assert_eq!(json["messages"].as_array().unwrap().len(), 4);
    let none = house.printed(&["history", "boiler", "--values", "home/boiler/mode"]);
    assert!(
        none.starts_with("no numbers of home/boiler/mode are recorded in the last 30d"),
        "{none}"
    );
}

pub fn a_topic_of_another_device() {
    let house = house();
    let said = |name: &str, topic: &str| house.refused(&["history", name, "--values", topic]);
    assert_eq!(
        said("boiler", "home/boler/temperature"),
        "iotmonitor: `home/boler/temperature` is no topic of `boiler`, did you mean `home/boiler/temperature`?\n"
    );
    assert_eq!(
        said("door", TOPIC),
        format!("iotmonitor: `{TOPIC}` is no topic of `door`, whose topics are `home/+/door`\n")
    );
    assert!(said("boler", TOPIC).contains("did you mean `boiler`?"));
    let wrong = house.run(&["history", "boiler", "--values", "home/#"]);
    assert_eq!(wrong.status.code(), Some(2));
    fs::remove_file(house.bin().join("iotmonitor-recorder")).unwrap();
    for options in [&[][..], &["--csv"]] {
        let arguments = ["history", "boiler", "--values", TOPIC];
        let said = house.refused(&[&arguments[..], options].concat());
        assert!(said.contains("sudo apt install ./iotmonitor-recorder_*.deb"), "{said}");
        assert_eq!(said.lines().count(), 1);
    }
}

pub fn over_http() {
    let house = house();
    let path = "/api/v1/devices/boiler/values";
    assert_eq!(house.ask(path, "").unwrap().0, 401);
    let json_of = |query: &str| -> Value {
        let (status, body) = house.get(&format!("{path}{query}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    assert_eq!(json_of(""), json!([TOPIC]));
    let series = json_of("?topic=home/boiler/temperature&since=7h&points=1");
    assert_eq!(series["topic"], TOPIC);
    let [point] = &series["points"].as_array().unwrap()[..] else { panic!("{series}") };
    assert_eq!((&point[1], &point[3]), (&json!(-4.5), &json!(60.0)));
    assert_eq!(json_of("?topic=home/boiler/mode")["points"], json!([]));
    for (query, status) in [
        ("?topic=garden/boiler/temperature", 404),
        ("?topic=home/%23", 400),
        ("?topic=home/boiler/temperature&points=100000", 400),
        ("?topic=home/boiler/temperature&since=0", 400),
        ("?other=1", 400),
    ] {
        assert_eq!(house.get(&format!("{path}{query}")).0, status, "{query}");
    }
    assert_eq!(house.get("/api/v1/devices/boler/values").0, 404);

    let program = house.bin().join("iotmonitor-recorder");
    script_at(&program, "#!/bin/sh\necho 'iotmonitor-recorder: the disk is gone' >&2\nexit 1\n");
    let (status, body) = house.get(path);
    assert_eq!((status, &body[..]), (502, "{\"error\":\"the disk is gone\"}\n"));
    script_at(&program, "#!/bin/sh\nexec yes\n");
    assert_eq!(house.get(path).0, 502);
    fs::remove_file(&program).unwrap();
    let (status, body) = house.get(path);
    assert_eq!(status, 404);
    assert!(body.contains("iotmonitor-recorder, which is not installed"), "{body}");
}
