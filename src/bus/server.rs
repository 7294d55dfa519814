//! The daemon's side: owns the name, takes calls, and comes back when the bus was away.

use super::authority::may_command;
use super::view::{Dictionary, to_dictionary};
use super::{BusCommand, PATH, Rejection, Request, well_known_name};
use crate::dbus::{Backoff, Bus, CALL_TIMEOUT, connect};
use crate::monitor::spec::DeviceName;
use crate::pulse::Pulse;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use zbus::Connection;
use zbus::message::Header;

/// How often the pulse beats when nothing happens.
const BEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Which bus, and which instance.
#[derive(Debug, Clone)]
pub struct BusSettings {
    pub bus: Bus,
    pub client_id: String,
    /// D-Bus address instead of the bus's well-known one.
    pub bus_address: Option<String>,
}

/// Offers the interface for as long as the returned task lives; needs a tokio runtime. The pulse
/// beats twice a second, also while the bus is away.
///
/// When `requests` is full, callers wait for their turn, as they wait for their answers.
pub fn spawn(
    settings: BusSettings,
    requests: mpsc::Sender<Request>,
    pulse: Pulse,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(serve(settings, requests, pulse))
}

async fn serve(settings: BusSettings, requests: mpsc::Sender<Request>, pulse: Pulse) {
    let mut backoff = Backoff::new();
    while !requests.is_closed() {
        let connecting = offer(&settings, &requests);
        tokio::pin!(connecting);
        let connected = loop {
            pulse.beat();
            tokio::select! {
                connected = &mut connecting => break connected,
                () = tokio::time::sleep(BEAT_INTERVAL) => {}
            }
        };
        if let Ok(connection) = connected {
            backoff.reset();
            while !connection.is_closed() && !requests.is_closed() {
                pulse.beat();
                let _ = tokio::time::timeout(BEAT_INTERVAL, connection.closed()).await;
            }
        }
        // Not reported: without a bus systemd's loss is, and that the name belongs to another
        // instance the next command shows.
        let until = Instant::now() + backoff.delay();
        while Instant::now() < until {
            pulse.beat();
            let next = until.min(Instant::now() + BEAT_INTERVAL);
            let _ = timeout_at(next, requests.closed()).await;
            if requests.is_closed() {
                return;
            }
        }
    }
}

/// Connects, exports the object, and only then takes the name, so that nobody who sees the name
/// misses the object.
async fn offer(
    settings: &BusSettings,
    requests: &mpsc::Sender<Request>,
) -> zbus::Result<Connection> {
    let name = well_known_name(&settings.client_id).ok_or(zbus::Error::InvalidName("clientid"))?;
    let connection = connect(settings.bus, settings.bus_address.as_deref(), CALL_TIMEOUT).await?;
    let monitor = Monitor { bus: settings.bus, requests: requests.clone() };
    connection.object_server().at(PATH, monitor).await?;
    connection.request_name(name).await?;
    Ok(connection)
}

/// The exported object.
struct Monitor {
    bus: Bus,
    requests: mpsc::Sender<Request>,
}

/// What a failed call is answered with.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.iotmonitor.Error")]
pub(super) enum Error {
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The caller may not command, in words.
    Denied(String),
    /// The command was not carried out, in words.
    Failed(String),
    /// No device has that name.
    UnknownDevice(String),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let sentence = rejection.to_string();
        match rejection {
            Rejection::UnknownDevice(_) => Error::UnknownDevice(sentence),
            Rejection::Failed(_) => Error::Failed(sentence),
        }
    }
}

impl Monitor {
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Rejection>>) -> Request,
    ) -> Result<T, Error> {
        let ending = || Error::Failed("iotmonitor is shutting down".to_owned());
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| ending())?;
        Ok(answer.await.map_err(|_| ending())??)
    }

    async fn command(&self, caller: Caller<'_>, command: BusCommand) -> Result<(), Error> {
        may_command(self.bus, caller.0, &caller.1).await?;
        self.ask(|reply| Request::Command { command, reply }).await
    }

    async fn command_on(
        &self,
        caller: Caller<'_>,
        name: String,
        command: impl FnOnce(DeviceName) -> BusCommand,
    ) -> Result<(), Error> {
        self.command(caller, command(device_name(name)?)).await
    }
}

/// Who calls: the bus that the call came over, and its header.
struct Caller<'a>(&'a Connection, Header<'a>);

fn device_name(name: String) -> Result<DeviceName, Error> {
    DeviceName::new(name).map_err(|error| Error::UnknownDevice(error.to_string()))
}

#[zbus::interface(name = "org.iotmonitor.Monitor1")]
impl Monitor {
    /// Reads the configuration again; answers when the new one is in force, or fails and the old
    /// one stays.
    async fn reload(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.command(Caller(bus, call), BusCommand::Reload).await
    }

    /// Takes a device into the monitoring.
    async fn enable(
        &self,
        name: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.command_on(Caller(bus, call), name, BusCommand::Enable).await
    }

    /// Takes a device out of the monitoring.
    async fn disable(
        &self,
        name: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.command_on(Caller(bus, call), name, BusCommand::Disable).await
    }

    /// Publishes a device's recorded states.
    async fn restore(
        &self,
        name: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.command_on(Caller(bus, call), name, BusCommand::Restore).await
    }

    /// Restarts an agent.
    async fn restart_agent(
        &self,
        name: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.command_on(Caller(bus, call), name, BusCommand::RestartAgent).await
    }

    /// What is known of one device or agent: Name, State, Since, WatchTimeOut and Hellos; LastContact
    /// where there was one; of an agent also Unit, UnitState, MainPID and Restarts. Times are Unix
    /// seconds.
    async fn get_device(&self, name: String) -> Result<Dictionary, Error> {
        let device = device_name(name)?;
        Ok(to_dictionary(self.ask(|reply| Request::View { device, reply }).await?))
    }

    /// The devices whose names follow `after`, in their order and at most 1,000; the empty text
    /// begins. Each as in GetDevice.
    async fn list_devices(&self, after: String) -> Result<Vec<Dictionary>, Error> {
        let after = if after.is_empty() { None } else { Some(device_name(after)?) };
        let views = self.ask(|reply| Request::Views { after, reply }).await?;
        Ok(views.into_iter().map(to_dictionary).collect())
    }

    /// The program's version.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_bears_the_name_that_callers_use() {
        use zbus::object_server::Interface;
        assert_eq!(Monitor::name().as_str(), super::super::NAME);
    }
}
