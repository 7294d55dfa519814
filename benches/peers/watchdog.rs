//! systemd's end of the watchdog: hears how often the monitor feeds it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The monitor's WatchdogSec=.
pub const INTERVAL: Duration = Duration::from_secs(3);

/// A wrapper that passes its watchdog to the monitor.
pub fn environment() -> [String; 2] {
    ["env".to_owned(), format!("WATCHDOG_USEC={}", INTERVAL.as_micros())]
}

/// The listener, until the program ends.
pub struct Watchdog {
    /// The last feeding, and the longest time between two.
    feedings: Arc<Mutex<(Instant, Duration)>>,
}

impl Watchdog {
    /// Listens where a monitor that starts in this directory sends its words.
    pub fn listen(directory: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.join("notify")).expect("a new name");
        let feedings = Arc::new(Mutex::new((Instant::now(), Duration::ZERO)));
        let heard = Arc::clone(&feedings);
        thread::spawn(move || {
            let mut word = [0; 4_096];
            while let Ok(count) = socket.recv(&mut word) {
                if word[..count].starts_with(b"WATCHDOG=1") {
                    let mut feedings = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    let now = Instant::now();
                    *feedings = (now, feedings.1.max(now - feedings.0));
                }
            }
        });
        Self { feedings }
    }

    /// Starts to count anew.
    pub fn forget(&self) {
        *self.feedings.lock().unwrap_or_else(PoisonError::into_inner) =
            (Instant::now(), Duration::ZERO);
    }

    /// Seconds between two feedings at most, the present wait among them.
    pub fn longest_wait(&self) -> f64 {
        let (last, longest) = *self.feedings.lock().unwrap_or_else(PoisonError::into_inner);
        longest.max(last.elapsed()).as_secs_f64()
    }
}
