//! The page behind a proxy and in a frame of another page, with a real nginx and a real browser.

use super::browser::Browser;
use super::house::{Answer, House, PATIENCE, TOKEN, free_port, read_chunk};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 0\nwatchTopics = \"home/lamp/#\"\n";

/// nginx with the page below a path, as the documentation shows it.
struct Nginx {
    port: u16,
    process: Child,
    _directory: TempDir,
}

impl Nginx {
    fn before(house: &House) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, page) = (free_port(), house.port);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {kind};\n"))
            .concat();
        let text = format!(
            "pid nginx.pid;\nevents {{}}\nhttp {{\n{temporary}    access_log off;\n    server {{\n\
             listen 127.0.0.1:{port};\n\
             location /garden/iotmonitor/ {{ proxy_pass http://127.0.0.1:{page}/; }}\n}}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let process = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr", "-g", "daemon off; master_process off;"])
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx is installed; `make deps` installs it");
        let nginx = Self { port, process, _directory: directory };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "{method} /garden/iotmonitor/{path} HTTP/1.1\r\nHost: monitor.example\r\n\
             Connection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn below_a_path_of_a_proxy_everything_works() {
    let keys = format!("hostNames = [\"monitor.example\"]\ntoken = \"{TOKEN}\"");
    let house = House::on(free_port(), &keys, SECTIONS);
    let nginx = Nginx::before(&house);
    for path in ["", "app.js", "style.css", "healthz", "metrics", "api/v1/devices/lamp"] {
        let answer = Answer::read(&mut nginx.ask("GET", path, "")).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("location"), "", "{path}");
    }

    // A page that the browser knows as https://monitor.example sends a command.
    let headers = format!(
        "Authorization: Bearer {TOKEN}\r\nOrigin: https://monitor.example\r\n\
         Sec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n"
    );
    let post = |headers: &str| {
        let mut answer = nginx.ask("POST", "api/v1/devices/lamp/disable", headers);
        Answer::read(&mut answer).unwrap().status
    };
    assert_eq!(post(&headers.replace("monitor.example", "evil.example")), 403);
    assert_eq!(house.get("/api/v1/devices/lamp").json()["state"], "unknown");
    assert_eq!(post(&headers), 204);
    assert_eq!(house.get("/api/v1/devices/lamp").json()["state"], "disabled");

    // nginx holds no event back.
    let began = Instant::now();
    let mut stream = nginx.ask("GET", "api/v1/events", "");
    assert_eq!(Answer::read_head(&mut stream).unwrap().status, 200);
    let first = read_chunk(&mut stream).unwrap().unwrap();
    assert!(first.contains("event: heartbeat"), "{first}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let page = format!("http://127.0.0.1:{}/garden/iotmonitor/", nginx.port);
    let mut browser = Browser::at(&page);
    browser.until("the device to be shown", "document.querySelector('[data-name=lamp]') != null");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Serves one page for ever, which shows another in a frame. Its host is another site than that of the
/// framed page.
fn surroundings(framed: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let page = format!("<!doctype html><link rel=icon href=data:,><iframe src=\"{framed}\">");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let head = "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n";
            let _ = stream.get_mut().write_all(format!("{head}{page}").as_bytes());
            let _ = stream.get_mut().shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    origin
}

/// Waits for what the browser says of the frame: its address where it is shown, or a complaint.
fn frame_of(browser: &mut Browser, url: &str) -> Result<(), String> {
    let began = Instant::now();
    loop {
        // A frame of another site has a process, and so a target, of its own.
        let targets = browser.call("Target.getTargets", json!({}));
        let targets = targets["targetInfos"].as_array().unwrap();
        let complaints = browser.complaints().join("\n");
        if !complaints.is_empty() {
            return Err(complaints);
        }
        if targets.iter().any(|it| it["type"] == "iframe" && it["url"] == url) {
            return Ok(());
        }
        assert!(began.elapsed() < PATIENCE, "the frame stays empty: {targets:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_listed_page_may_show_this_one_in_a_frame_and_no_other() {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let listed = surroundings(&url);
    let other = surroundings(&url);
    let keys = format!("frameAncestors = \"{listed}\"");
    let house = House::on(port, &keys, SECTIONS);
    let policy = house.get("/").header("content-security-policy").to_owned();
    assert!(policy.ends_with(&format!("frame-ancestors {listed}")), "{policy}");

    let mut browser = Browser::at(&listed);
    assert_eq!(frame_of(&mut browser, &url), Ok(()));
    let mut browser = Browser::at(&other);
    let complaint = frame_of(&mut browser, &url).unwrap_err();
    assert!(complaint.contains("frame-ancestors"), "{complaint}");
}
