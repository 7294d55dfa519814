//! A headless Chromium, driven over its debugging pipe (Chrome DevTools Protocol).

#[path = "axe.rs"]
mod axe;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything that works takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// It reads commands from descriptor 3 and writes answers to 4, each with a NUL at its end.
const START: &str = "exec ${2:+nsenter --net=$2} chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --no-first-run --disable-background-networking --remote-debugging-pipe --user-data-dir=\"$1\" ${3:+\"$3\"} \
    about:blank 3<&0 4>&1 </dev/null >/dev/null 2>\"$1/log\"";

/// Everything that axe-core complains about: the rule, why, and where.
const AXE: &str = "axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
    violations.map(({id, help, nodes}) => [id, help, ...nodes.slice(0, 5).map((it) => `${it.html} ${it.failureSummary}`)]))";

/// A tab of a browser, by the session of its debugger.
pub struct Tab(String);

pub struct Browser {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
    last_id: u64,
    /// The tab in use.
    session: Option<String>,
    first_tab: Option<Tab>,
    /// What the console and the browser itself have complained about.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// A browser with one tab, at this address.
    pub fn at(url: &str) -> Self {
        Self::in_network("", url)
    }

    /// The same in the network of this file (network_namespaces(7)), or in that of the test.
    pub fn in_network(network: &str, url: &str) -> Self {
        Self::started(network, "", url)
    }

    /// The same with another option of Chromium.
    pub fn with_option(option: &str, url: &str) -> Self {
        Self::started("", option, url)
    }

    fn started(network: &str, option: &str, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new("bash")
            .args(["-c", START, "bash"])
            .arg(profile.path())
            .args([network, option])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let (sink, answers) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                if sink.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let commands = process.stdin.take().unwrap();
        let mut browser = Self {
            process,
            commands,
            answers,
            last_id: 0,
            session: None,
            first_tab: None,
            complaints: Vec::new(),
            _profile: profile,
        };
        browser.first_tab = Some(browser.open_tab(url));
        browser
    }

    /// Opens a tab at this address, which is the tab in use and in front from now on.
    pub fn open_tab(&mut self, url: &str) -> Tab {
        self.session = None;
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach);
        let tab = Tab(attached["sessionId"].as_str().unwrap().to_owned());
        self.session = Some(tab.0.clone());
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.call("Page.navigate", json!({"url": url}));
        tab
    }

    /// Closes the tab that was opened first, as a person does; another one has to be turned to.
    pub fn close_first_tab(&mut self) {
        let first = self.first_tab.take().unwrap();
        self.turn_to(&first);
        self.call("Page.close", json!({}));
    }

    /// Uses this tab, without bringing it to the front.
    pub fn turn_to(&mut self, tab: &Tab) {
        self.session = Some(tab.0.clone());
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let message = self
                .answers
                .recv_timeout(PATIENCE)
                .expect("Chromium is installed and answers; `make deps` installs it");
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let is_bad = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => {
                ["error", "warning", "assert"].iter().any(|kind| parameters["type"] == *kind)
            }
            "Log.entryAdded" => {
                ["error", "warning"].iter().any(|level| parameters["entry"]["level"] == *level)
            }
            _ => false,
        };
        if is_bad {
            self.complaints.push(parameters.to_string());
        }
    }

    /// The value of an expression in the page; a promise is waited for.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let outcome = self.call("Runtime.evaluate", asked);
        assert!(outcome["exceptionDetails"].is_null(), "{expression}: {outcome}");
        outcome["result"]["value"].clone()
    }

    pub fn until(&mut self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression) != true {
            let text = self.value("document.body?.innerText ?? ''");
            assert!(Instant::now() < deadline, "waited in vain for {what}; it shows {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shows the page in this size and colour scheme, and keeps a picture of it. Less motion is asked for, so that
    /// a change of the scheme begins no transition, in the middle of which colours are hard to tell apart.
    pub fn look(&mut self, (width, height): (u32, u32), scheme: &str, name: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
        // A transition that had begun before goes on. Styles that have changed are applied before the answer.
        self.until("the page to stand still", "document.getAnimations().length === 0");
        let picture = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            picture["data"].as_str().unwrap(),
        );
        std::fs::write(directory.join(format!("page-{name}.png")), bytes.unwrap()).unwrap();
    }

    /// Checks what is shown against the rules of WCAG and the advice of axe-core, in light and dark, on a
    /// desk and on a phone; `name` is that of the pictures.
    pub fn assert_accessible(&mut self, name: &str) {
        for (width, scheme) in [(1_100, "light"), (1_100, "dark"), (360, "light"), (360, "dark")] {
            self.look((width, 900), scheme, &format!("{name}-{width}-{scheme}"));
            if self.value("typeof axe") == "undefined" {
                self.value(&format!("{}; 1", axe::source()));
            }
            let found = self.value(AXE);
            assert_eq!(found, json!([]), "{name}, {width} {scheme}: {found:#}");
        }
    }

    /// How long the pages have waited for a processor that something else had: the second field of
    /// `/proc/PID/task/TID/schedstat` of their main threads, in nanoseconds.
    pub fn waited_for_a_processor(&mut self) -> Duration {
        let session = self.session.take();
        let all = self.call("SystemInfo.getProcessInfo", json!({}));
        self.session = session;
        let pages = all["processInfo"].as_array().unwrap().iter();
        let pages = pages.filter(|process| process["type"] == "renderer");
        let waited = pages.map(|process| {
            let pid = process["id"].as_u64().unwrap();
            let path = format!("/proc/{pid}/task/{pid}/schedstat");
            let text = std::fs::read_to_string(path).unwrap();
            text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(waited.sum())
    }

    /// What the console and the browser have complained about up to now.
    pub fn complaints(&mut self) -> &[String] {
        // Events come in order: those from before this answer have come.
        self.value("1");
        &self.complaints
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
