//! Commands, which require the token.

use super::house::{House, Subscriber, TOKEN, free_port};

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 0\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n";

fn post(house: &House, path: &str, headers: &[(&str, &str)]) -> u16 {
    let bearer = format!("Bearer {TOKEN}");
    let all = [&[("authorization", bearer.as_str())][..], headers].concat();
    let path = match path.strip_prefix("../") {
        Some(about_all) => format!("/api/v1/{about_all}"),
        None => format!("/api/v1/devices/{path}"),
    };
    house.ask("POST", &path, &all).unwrap().status
}

#[test]
fn without_a_token_in_the_file_commands_are_refused() {
    let house = House::with(SECTIONS);
    assert_eq!(post(&house, "lamp/disable", &[]), 403);
    assert_eq!(house.get("/api/v1/devices/lamp").json()["state"], "unknown");
}

#[test]
fn requests_with_the_token_may_command() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    assert_eq!(house.get("/api/v1/status").json()["commands"], true);
    assert_eq!(post(&house, "lamp/disable", &[]), 204);
    assert_eq!(house.get("/api/v1/devices/lamp").json()["state"], "disabled");
    for (headers, status) in [
        (&[][..], 401),
        (&[("authorization", "Bearer another-token-of-32-characters")], 401),
        (&[("authorization", "Basic dXNlcjpwYXNz")], 401),
    ] {
        let answer = house.ask("POST", "/api/v1/devices/lamp/enable", headers).unwrap();
        assert_eq!((answer.status, answer.header("www-authenticate")), (status, "Bearer"));
    }
    assert_eq!(post(&house, "lamp/enable", &[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(post(&house, "lamp/enable", &[("origin", "http://evil.example")]), 403);
    assert_eq!(post(&house, "lamp/enable", &[("host", "evil.example")]), 421);
    assert_eq!(house.get("/api/v1/devices/lamp").json()["state"], "disabled");
    let origin = format!("http://127.0.0.1:{}", house.port);
    assert_eq!(post(&house, "lamp/enable", &[("origin", &origin)]), 204);
    house.until_state("lamp", "unknown");

    assert_eq!(post(&house, "lammp/enable", &[]), 404);
    assert_eq!(post(&house, "lamp/explode", &[]), 404);
    assert_eq!(post(&house, "lamp/restart", &[]), 409, "it has no process");
    assert_eq!(house.get("/api/v1/devices/lamp/enable").status, 405, "a link commands nothing");
}

#[test]
fn a_page_can_ask_whether_its_token_is_right() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    let ask = |value: &str| {
        let answer = house.ask("GET", "/api/v1/token", &[("authorization", value)]).unwrap();
        (answer.status, answer.body)
    };
    assert_eq!(ask(&format!("Bearer {TOKEN}")), (204, String::new()));
    let (status, sentence) = ask("Bearer another-token-of-32-characters");
    assert_eq!(status, 401);
    assert!(sentence.contains("error"), "{sentence}");
    let house = House::with(SECTIONS);
    assert_eq!(house.get("/api/v1/token").status, 403);
}

#[test]
fn alerts_are_silenced_for_a_time_and_devices_disabled() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    let lamp = || house.get("/api/v1/devices/lamp").json();
    let in_about = |until: &serde_json::Value, seconds: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        until.as_u64().is_some_and(|until| until.abs_diff(now.as_secs() + seconds) < 60)
    };
    assert_eq!(post(&house, "lamp/silence?for=2h", &[]), 204);
    assert!(in_about(&lamp()["silencedUntil"], 7_200), "{}", lamp());
    assert_eq!(post(&house, "lamp/unsilence", &[]), 204);
    assert!(lamp()["silencedUntil"].is_null(), "{}", lamp());
    assert_eq!(post(&house, "lamp/unsilence", &[]), 409, "it is not silenced");

    assert_eq!(post(&house, "lamp/disable?for=30min", &[]), 204);
    assert_eq!(lamp()["state"], "disabled");
    assert!(in_about(&lamp()["disabledUntil"], 1_800), "{}", lamp());
    assert_eq!(post(&house, "lamp/enable", &[]), 204);

    // All alerts.
    assert_eq!(post(&house, "../silence?for=1d", &[]), 204);
    assert_eq!(house.get("/api/v1/status").json()["silenced"], true);
    assert_eq!(post(&house, "../unsilence", &[]), 204);
    assert_eq!(house.get("/api/v1/status").json()["silenced"], false);
}

#[test]
fn a_command_with_wrong_parameters_changes_nothing() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    for path in [
        "lamp/silence",
        "lamp/silence?for=",
        "lamp/silence?for=soon",
        "lamp/silence?for=0",
        "lamp/silence?for=11y",
        "lamp/disable?fro=2h",
        "lamp/enable?for=2h",
        "lamp/restore?for=2h",
        "../silence",
        "../test?for=2h",
    ] {
        assert_eq!(post(&house, path, &[]), 400, "{path}");
    }
    let lamp = house.get("/api/v1/devices/lamp").json();
    assert_eq!((&lamp["state"], &lamp["silencedUntil"]), (&"unknown".into(), &().into()));
    for path in ["../restart", "../disable", "../explode"] {
        assert_eq!(post(&house, path, &[]), 404, "{path}");
    }
}

/// The delivery itself is tested with a real systemd.
#[test]
fn a_test_alert_without_a_way_out_is_refused_with_the_reason() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    assert_eq!(post(&house, "lamp/test", &[]), 409);
    assert_eq!(post(&house, "../test", &[]), 409);
    assert_eq!(post(&house, "lammp/test", &[]), 404);
}

#[test]
fn a_restore_gives_the_device_its_states() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    let heard = Subscriber::to(&house, "home/lamp/set/#");
    house.until("a state to be recorded and given back", || {
        house.publish("home/lamp/set/color", "red");
        house.publish("home/lamp", "hello");
        heard.count("red") >= 2
    });
    let before = heard.count("red");
    assert_eq!(post(&house, "lamp/restore", &[]), 204);
    house.until("the restore", || heard.count("red") > before);
}

/// Payloads and what agents print may be secrets.
#[test]
fn states_and_the_journal_are_for_those_with_the_token() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    let bearer = format!("Bearer {TOKEN}");
    let get = |path: &str| {
        let path = format!("/api/v1/devices/{path}");
        house.ask("GET", &path, &[("authorization", &bearer)]).unwrap()
    };
    for path in ["/api/v1/devices/lamp/states", "/api/v1/devices/lamp/journal"] {
        let answer = house.get(path);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
    }
    assert_eq!(get("lamp/states").json(), serde_json::json!([]));
    house.until_recorded("lamp", "home/lamp/set/color", "red <b>\u{202e}");
    house.broker.publish_bytes("home/lamp/set/raw", false, b"\0\xff");
    house.until("both to be recorded", || {
        get("lamp/states").json().as_array().is_some_and(|states| states.len() == 2)
    });
    let answer = get("lamp/states");
    let states = answer.json();
    assert_eq!(states[0]["topic"], "home/lamp/set/color");
    assert_eq!(states[0]["payload"], "red <b>\u{202e}");
    assert!(states[0]["time"].as_f64().is_some_and(|time| time > 1.7e9), "{states}");
    assert_eq!(states[1]["payloadBase64"], "AP8=");
    assert!(!answer.body.contains('\u{202e}'), "what turns a line round is escaped");
    for (path, status) in [
        ("lammp/states", 404),
        ("lamp/states?since=1d", 400),
        ("lammp/journal", 404),
        ("lamp/journal?lines=0", 400),
        ("lamp/journal?lines=501", 400),
        ("lamp/journal?lines=many", 400),
    ] {
        assert_eq!(get(path).status, status, "{path}");
    }
    // Its entries are tested with a real journal.
    let journal = get("lamp/journal?lines=5");
    assert!(journal.status == 200 || journal.status == 409, "{journal:?}");
    let without = House::with(SECTIONS);
    assert_eq!(without.get("/api/v1/devices/lamp/states").status, 403);
    assert_eq!(without.get("/api/v1/devices/lamp/journal").status, 403);
}

/// More than the store returns at a time.
#[test]
fn many_states_are_listed_whole_and_in_order() {
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    let bearer = format!("Bearer {TOKEN}");
    let large = "x".repeat(20_000);
    house.until_recorded("lamp", "home/lamp/set/000", &large);
    for number in 1..60 {
        house.publish(&format!("home/lamp/set/{number:03}"), &large);
    }
    let topics = || -> Vec<String> {
        let answer = house
            .ask("GET", "/api/v1/devices/lamp/states", &[("authorization", &bearer)])
            .unwrap()
            .json();
        let states = answer.as_array().unwrap().iter();
        states.map(|state| state["topic"].as_str().unwrap().to_owned()).collect()
    };
    house.until("all to be recorded", || topics().len() == 60);
    let expected: Vec<_> = (0..60).map(|number| format!("home/lamp/set/{number:03}")).collect();
    assert_eq!(topics(), expected);
}

#[test]
fn the_token_is_taken_from_a_file_and_shown_nowhere() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let key = format!("tokenFile = \"{}\"", file.path().display());
    let house = House::on(free_port(), &key, SECTIONS);
    assert_eq!(post(&house, "lamp/disable", &[]), 204);
    for path in ["/", "/metrics", "/api/v1/status", "/api/v1/devices", "/api/v1/alerts"] {
        assert!(!house.get(path).body.contains(TOKEN), "{path}");
    }
    house.reload(&format!("[http]\nport = {}\ntoken = \"short\"\n", house.port));
    house.until("the broken file to be refused", || house.said("can be guessed") == 1);
    assert_eq!(house.said(TOKEN) + house.said("short\""), 0);
    assert_eq!(post(&house, "lamp/enable", &[]), 204, "the old one stays in force");
}
