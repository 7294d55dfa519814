//! Requests and their answers.

use super::house::{Answer, House, free_port, read_chunk};
use std::io::{BufReader, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One that is silent soon, one that is not watched, one with a strange name, and an agent.
const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp/#\"\n\
    [device_off]\nwatchTopics = \"home/off/#\"\nenabled = false\n\
    [\"device_k <b>\"]\nwatchTimeOut = 0\nhelloTopic = \"home/k\"\n\
    [agent_pump]\nexec = \"exec sleep infinity\"\n";

fn names(answer: &Answer) -> Vec<String> {
    let value = answer.json();
    let items = value.as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn clients_that_accept_json_get_the_list_of_the_original() {
    let house = House::with(SECTIONS);
    house.until_state("lamp", "expired");
    let answer = house.ask("GET", "/", &[("accept", "application/json")]).unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(
        answer.json(),
        serde_json::json!([
            {"name": "k <b>", "enabled": true, "expired": false},
            {"name": "lamp", "enabled": true, "expired": true},
            {"name": "off", "enabled": false, "expired": false},
            {"name": "pump", "enabled": true, "expired": false},
        ])
    );
}

#[test]
fn the_interface_lists_devices_agents_and_alerts() {
    let house = House::with(SECTIONS);
    house.until_state("lamp", "expired");
    assert_eq!(names(&house.get("/api/v1/devices")), ["k <b>", "lamp", "off", "pump"]);
    assert_eq!(names(&house.get("/api/v1/agents")), ["pump"]);

    let lamp = house.get("/api/v1/devices/lamp").json();
    assert_eq!((&lamp["kind"], &lamp["reason"]), (&"device".into(), &"silent".into()));
    assert_eq!((&lamp["watchTimeOut"], &lamp["lastContact"]), (&1.into(), &().into()));
    let pump = house.get("/api/v1/devices/pump").json();
    assert_eq!(pump["agent"]["unit"], "iotmonitor-agent-pump.service");
    house.publish("home/k", "hello");
    house.until("the hello to count", || {
        house.get("/api/v1/devices/k%20%3Cb%3E").json()["hellos"] == 1
    });

    let unknown = house.get("/api/v1/devices/lammp");
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().unwrap().contains("`lammp`"));
    for path in ["/api/v1/devices/a%2Fb", "/api/v1", "/api/v2/devices", "/../etc/passwd"] {
        assert_eq!(house.get(path).status, 404, "{path}");
    }

    let status = house.get("/api/v1/status").json();
    assert_eq!((&status["watching"], &status["commands"]), (&true.into(), &false.into()));
    assert_eq!((&status["devices"], &status["agents"]), (&3.into(), &1.into()));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));

    let alerts = house.get("/api/v1/alerts").json();
    let find = |event: &str| alerts.as_array().unwrap().iter().position(|it| it["event"] == event);
    let (expired, started) = (find("expired").unwrap(), find("started").unwrap());
    assert!(expired < started, "the newest come first: {alerts}");
    assert_eq!(alerts[expired]["device"], "lamp");
    assert_eq!(alerts[expired]["priority"], "warning");
    assert!(alerts[expired]["message"].as_str().unwrap().contains("`lamp` is silent"));
    assert!(alerts[expired]["time"].as_u64().unwrap() >= status["started"].as_u64().unwrap());
}

#[test]
fn a_device_is_shown_in_its_area_and_behind_its_gateway() {
    let sections = "[device_gateway]\nwatchTopics = \"gateway\"\n\
        [device_lamp]\nwatchTopics = \"lamp\"\nwatchTimeOut = 0\narea = \"Kitchen\"\n\
        dependsOn = \"gateway\"\n";
    let house = House::with(sections);
    let list = house.get("/api/v1/devices").json();
    assert_eq!((&list[0]["area"], &list[0]["dependsOn"]), (&().into(), &().into()));
    assert_eq!(list[1]["area"], "Kitchen");
    assert_eq!(list[1]["dependsOn"], serde_json::json!(["gateway"]));
    assert!(list[1]["rhythm"].is_null(), "lists leave it out: {list}");
    let rhythm = serde_json::json!({"usual": null, "rare": null, "longest": null, "auto": null});
    assert_eq!(house.get("/api/v1/devices/lamp").json()["rhythm"], rhythm);
}

#[test]
fn the_past_of_a_device_is_reported_as_the_command_line_does() {
    let house = House::with(SECTIONS);
    house.until_state("lamp", "expired");
    house.until("the incident to be recorded", || {
        let report = house.get("/api/v1/devices/lamp/history?since=7d").json();
        let incidents = report["incidents"].as_array().unwrap();
        incidents.iter().any(|it| it["kind"] == "alarm" && it["end"].is_null())
    });
    let report = house.get("/api/v1/devices/lamp/history").json();
    assert_eq!(report["name"], "lamp");
    assert!(report["uptime"]["30d"].is_number(), "{report}");
    assert_eq!(house.get("/api/v1/devices/lammp/history").status, 404);
    for query in ["since=x", "since=1s", "sinse=7d"] {
        let answer = house.get(&format!("/api/v1/devices/lamp/history?{query}"));
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[test]
fn bars_show_how_the_intervals_between_chosen_boundaries_were_spent() {
    let house = House::with(SECTIONS);
    house.until_state("lamp", "expired");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // The device was not known before, and the last interval has not begun.
    let at = [now - 7_200, now - 3_600, now + 3_600, now + 7_200].map(|at| at.to_string());
    let path = format!(
        "/api/v1/bars?name=lamp&name=off&name=k%20%3Cb%3E&name=nobody&name=a/b&at={}",
        at.join(",")
    );
    let mut lamp = serde_json::Value::Null;
    house.until("the incident to be recorded", || {
        lamp = house.get(&path).json()["devices"]["lamp"].clone();
        lamp[1][3] == 1 && lamp[1][0].as_u64() >= Some(1)
    });
    assert_eq!((&lamp[0], &lamp[2]), (&().into(), &().into()), "{lamp}");
    assert_eq!(lamp.as_array().unwrap().len(), 3);
    let bars = house.get(&path).json();
    let devices = bars["devices"].as_object().unwrap();
    let names: Vec<_> = devices.keys().map(String::as_str).collect();
    assert_eq!(names, ["k <b>", "lamp", "off"], "what there is not is left out");
    house.until("the time for which a device is disabled to be recorded", || {
        let off = house.get(&path).json()["devices"]["off"][1].clone();
        off[2].as_u64() >= Some(1) && off[0] == 0 && off[3] == 0
    });
    let many = "name=x&".repeat(201);
    for query in ["", "at=1,2", "name=lamp", "name=lamp&at=2,1", "name=lamp&at=1", &many] {
        assert_eq!(house.get(&format!("/api/v1/bars?{query}")).status, 400, "{query}");
    }
}

#[test]
fn contacts_are_counted_by_the_hour() {
    let house = House::with(SECTIONS);
    house.publish("home/lamp/x", "1");
    house.until_state("lamp", "alive");
    let hours = house.get("/api/v1/devices/lamp/hours?since=2h").json();
    let begin = hours["begin"].as_u64().unwrap();
    assert_eq!(begin % 3_600, 0, "{hours}");
    let contacts = hours["contacts"].as_array().unwrap();
    assert!((1..=3).contains(&contacts.len()), "from when it is known: {hours}");
    assert!(hours["memory"].is_null(), "it is no agent: {hours}");
    assert_eq!(house.get("/api/v1/devices/lammp/hours").status, 404);
    assert_eq!(house.get("/api/v1/devices/lamp/hours?since=1").status, 400);
}

#[test]
fn a_fleet_is_listed_whole_and_in_order() {
    let sections: String = (0..1_234)
        .map(|number| format!("[device_d{number:04}]\nwatchTopics = \"d/{number}\"\n"))
        .collect();
    let house = House::with(&sections);
    let expected: Vec<String> = (0..1_234).map(|number| format!("d{number:04}")).collect();
    assert_eq!(names(&house.get("/api/v1/devices")), expected);
    assert_eq!(house.get("/api/v1/agents").json(), serde_json::json!([]));
}

#[test]
fn metrics_are_as_prometheus_wants_them() {
    let house = House::with(SECTIONS);
    house.until_state("lamp", "expired");
    let answer = house.get("/metrics");
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "iotmonitor_broker_connected 1",
        "iotmonitor_devices{kind=\"device\",state=\"expired\"} 1",
        "iotmonitor_alerts_total{event=\"expired\"} 1",
        "iotmonitor_device_expired{device=\"lamp\"} 1",
        "iotmonitor_device_enabled{device=\"off\"} 0",
        "iotmonitor_device_watch_timeout_seconds{device=\"lamp\"} 1.0",
        "iotmonitor_agent_running{device=\"pump\"} 0",
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line} is missing:\n{}", answer.body);
    }
}

#[test]
fn health_is_that_devices_are_heard() {
    let mut house = House::with(SECTIONS);
    assert_eq!(house.get("/healthz").body, "ok\n");
    house.broker.kill();
    house.until("the loss to be shown", || house.get("/healthz").status == 503);
    assert!(house.get("/healthz").body.contains("broker cannot be reached"));
    assert!(house.get("/metrics").body.contains("iotmonitor_broker_connected 0"));
    house.broker.restart();
    house.until("health", || house.get("/healthz").status == 200);
}

#[test]
fn events_are_streamed_as_they_happen() {
    let house = House::with(SECTIONS);
    house.until_state("lamp", "expired");
    let mut stream = house.connect();
    stream.write_all(house.request("GET", "/api/v1/events", &[]).as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let head = Answer::read_head(&mut stream).unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    let mut until = |awaited: &[(&str, &str)]| {
        let (mut awaited, since) = (awaited.to_vec(), Instant::now());
        while let Some(chunk) = read_chunk(&mut stream).unwrap() {
            // Heartbeats come in any case.
            assert!(since.elapsed() < Duration::from_secs(60), "{awaited:?} did not come");
            awaited.retain(|(event, words)| {
                !chunk.contains(&format!("event: {event}\n")) || !chunk.contains(words)
            });
            if awaited.is_empty() {
                return;
            }
        }
        panic!("the stream ended without {awaited:?}");
    };
    house.publish("home/lamp/sensors", "1");
    until(&[("device", "\"name\":\"lamp\",\"kind\":\"device\",\"state\":\"alive\"")]);
    // They come in this order, or in the other one if the client is slow.
    until(&[
        ("device", "\"name\":\"lamp\",\"kind\":\"device\",\"state\":\"expired\""),
        ("summary", "\"expired\":1"),
    ]);
    house.reload(&format!("[http]\nport = {}\n", house.port));
    // A browser drops an event without data.
    until(&[("refresh", "data: {}")]);
}

#[test]
fn a_heartbeat_proves_that_the_monitor_answers() {
    let house = House::with(SECTIONS);
    let mut stream = house.connect();
    stream.write_all(house.request("GET", "/api/v1/events", &[]).as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(Answer::read_head(&mut stream).unwrap().status, 200);
    let mut next = || {
        while let Some(chunk) = read_chunk(&mut stream).unwrap() {
            if chunk.contains("event: heartbeat\n") {
                let data = chunk.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                let value: serde_json::Value = serde_json::from_str(data).unwrap();
                return (Instant::now(), value["time"].as_u64().unwrap());
            }
        }
        panic!("the stream has ended");
    };
    let (first, time) = next();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time) < 60, "{time}");
    next();
    let (third, later) = next();
    let passed = third - first;
    assert!(passed > Duration::from_secs(5) && passed < Duration::from_secs(14), "{passed:?}");
    assert!(later >= time + 5, "{later} after {time}");
}

#[test]
fn every_answer_forbids_the_browser_what_it_need_not_do() {
    let house = House::with(SECTIONS);
    for path in ["/", "/metrics", "/api/v1/devices", "/nowhere"] {
        let answer = house.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}

/// As simple load balancers, busybox and monitoring plug-ins ask.
#[test]
fn health_is_answered_to_clients_of_this_machine_without_a_host() {
    let house = House::with(SECTIONS);
    let ask = |request: &str| {
        let mut stream = house.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut BufReader::new(stream)).unwrap()
    };
    let answer = ask("GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    for refused in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET /api/v1/devices HTTP/1.0\r\n\r\n",
        "POST /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nHost:\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(ask(refused).status, 421, "{refused}");
    }
}

#[test]
fn a_name_that_is_bent_to_this_machine_is_refused() {
    let names = "hostNames = [\"pi.local\", \"monitor.example\"]";
    let house = House::on(free_port(), names, SECTIONS);
    for (host, status) in [
        ("localhost:8079", 200),
        ("PI.local", 200),
        ("monitor.example:443", 200),
        ("evil.example:8079", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        let answer = house.ask("GET", "/api/v1/devices", &[("host", host)]).unwrap();
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(answer.body.contains("lamp"), status == 200, "{host}");
    }
    let foreign = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(house.ask("GET", "/api/v1/events", &foreign).unwrap().status, 403);
}
