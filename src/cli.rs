//! The command line: one file for each command, and the exit code decided in one place.

mod alerts;
pub mod check;
mod cluster;
mod command;
mod discover;
mod guard;
mod history;
mod local_time;
mod logs;
mod migrate;
mod output;
mod run;
mod sql;
mod states;
mod status;
mod suggest;
mod table;

use crate::bus::Addressee;
use crate::config::{self, Environment};
use crate::dbus::Bus;
use crate::discovery::DevicePattern;
use crate::machine_id::{host_name, machine_id};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use iotmonitor_core::model::alert::Priority;
use iotmonitor_core::model::unit_name::DEFAULT_CLIENT_ID;
use iotmonitor_core::topic::TopicName;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// An error occurred that is not caused by the configuration.
const EXIT_FAILURE: u8 = 1;

/// Watches MQTT devices, restores their states, and supervises helper programs (agents).
#[derive(Debug, Parser)]
#[command(name = "iotmonitor", version, arg_required_else_help = true)]
struct Arguments {
    /// Use the user manager and its bus instead of the system's.
    #[arg(long, global = true)]
    user: bool,
    /// Address the monitor with this `clientid` [default: iotmonitor].
    #[arg(long, value_name = "ID", global = true)]
    clientid: Option<String>,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the monitor. The systemd service does this.
    Run {
        /// Configuration file [default: /etc/iotmonitor/config.toml, or
        /// ~/.config/iotmonitor/config.toml with --user].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Run as the instance iotmonitor@NAME [default: NAME of /etc/iotmonitor/NAME.toml].
        #[arg(long, value_name = "NAME", value_parser = config::Instance::new)]
        instance: Option<config::Instance>,
    },
    /// Check a configuration, and report every error in it. The exit code is 0 or 78.
    Check {
        /// The file to check [default: as for run].
        file: Option<PathBuf>,
        /// Check the file as that of the instance iotmonitor@NAME [default: as for run].
        #[arg(long, value_name = "NAME", value_parser = config::Instance::new)]
        instance: Option<config::Instance>,
    },
    /// Listen to a broker, and print a configuration for the devices that publish there.
    ///
    /// Devices are recognised by the descriptions of Home Assistant discovery, by the conventions of
    /// two dozen firmwares and bridges, and otherwise by the shape of their topics. The proposed
    /// timeouts follow by themselves, unless a description or a convention says how long a device is
    /// silent. Nothing is published and nothing is changed. Ctrl-C ends it early.
    Discover {
        /// Use the broker of this configuration, and leave its devices out [default: as for run].
        file: Option<PathBuf>,
        /// Listen to the broker at this address, without a login, and read no configuration.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "file")]
        server: Option<String>,
        /// Listen for this long. Devices that rarely publish need a longer time.
        #[arg(long = "for", value_name = "SPAN", default_value = "2m", value_parser = discover::span)]
        listen_for: Duration,
        /// Print only devices with this name, in which `*` stands for anything, or with a topic that
        /// matches this topic filter. May be given several times.
        #[arg(long, value_name = "PATTERN", value_parser = DevicePattern::new)]
        only: Vec<DevicePattern>,
    },
    /// Import the states and the configuration of the original iotmonitor.
    ///
    /// The running monitor records the states, and never replaces newer ones. The original's files
    /// are only read.
    Migrate {
        /// Directory in which the original ran, with iotdb.leveldb and config.toml.
        directory: PathBuf,
        /// Write its configuration into this new file, with its topics turned into filters.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Write the states into this new file for `states import`, instead of importing them.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// Import what can be read of a damaged database. By default nothing is imported then.
        #[arg(long)]
        skip_damaged: bool,
    },
    /// Show devices and agents as the running monitor sees them.
    Status {
        /// Show only this device or agent, in more detail.
        name: Option<String>,
        /// Print JSON for programs: the keys of the published status, times in Unix seconds.
        #[arg(long)]
        json: bool,
        /// Repeat the output every second until interrupted.
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// Show uptime, incidents and restarts. Days and times are those of the machine's time zone, or of
    /// TZ.
    History {
        /// Show only this device or agent, in more detail.
        name: Option<String>,
        /// Show incidents, restarts and days of this last stretch, such as 30d or 12h.
        #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = history::since)]
        since: Duration,
        /// Print JSON for programs, with times in Unix seconds.
        #[arg(long)]
        json: bool,
        /// Print incidents as comma-separated values, with times in Unix seconds.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
        /// Show the numbers that iotmonitor-recorder has recorded of this topic of the device, as a
        /// chart. With --csv and --json, print all its messages.
        #[arg(long, value_name = "TOPIC", requires = "name", value_parser = history::topic)]
        values: Option<TopicName>,
        /// Show when the monitor itself could not hear any device.
        #[arg(long, conflicts_with_all = ["name", "json", "values"])]
        unwatched: bool,
    },
    /// Show the alerts of the last day, also those from before a restart.
    Alerts {
        /// Show only those about this device or agent.
        name: Option<String>,
        /// Show those of this last stretch, such as 7d or 12h.
        #[arg(long, value_name = "SPAN", default_value = "1d", value_parser = history::since)]
        since: Duration,
        /// Show those of this priority and graver ones: error, warning, notice or info.
        #[arg(long, value_name = "PRIORITY", default_value = "info", value_parser = alerts::priority)]
        priority: Priority,
        /// Print JSON for programs, with times in Unix seconds.
        #[arg(long)]
        json: bool,
    },
    /// Note that you have seen to an alert, for others who look at the alerts.
    Acknowledge {
        /// Its number, which `alerts` shows.
        id: u64,
    },
    /// Query recorded messages and the past in SQL, with DuckDB or DataFusion where one is installed.
    ///
    /// Messages that iotmonitor-recorder has recorded are the view `message`. What the running
    /// monitor knows are the views `device`, `episode`, `day` and `device_topic`. The exit code is that
    /// of the SQL engine.
    Sql {
        /// Statement to run [default: a prompt, or what the standard input contains].
        statement: Option<String>,
        /// Print comma-separated values.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare each watchTimeOut with how long the device is usually silent, and propose better ones.
    Suggest {
        /// Show only this device or agent.
        name: Option<String>,
        /// Print JSON for programs, with times in seconds.
        #[arg(long)]
        json: bool,
    },
    /// Show the nodes of the cluster and who has what, as this node sees it.
    #[command(args_conflicts_with_subcommands = true)]
    Cluster {
        /// Print JSON for programs, with ages in seconds.
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        action: Option<cluster::ClusterAction>,
    },
    /// Show the journal's entries about a device or agent, including the agent's own output.
    Logs {
        /// Name of the device or agent.
        name: String,
        /// Follow new entries.
        #[arg(short, long)]
        follow: bool,
        /// Show this many of the latest entries first.
        #[arg(short = 'n', long, value_name = "COUNT")]
        lines: Option<u32>,
        /// Further arguments for journalctl(1).
        #[arg(last = true, value_name = "ARGUMENTS")]
        rest: Vec<String>,
    },
    /// Show and change recorded states. Requires root or polkit authorization.
    States {
        #[command(subcommand)]
        action: states::StatesAction,
    },
    /// Make the running monitor reload its configuration. A broken file changes nothing.
    Reload(Process),
    /// Enable a device or an agent again. Returns when the agent has started.
    Enable {
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        target: DeviceArg,
    },
    /// Stop watching a device, or stop an agent, until it is enabled again. Returns when the agent has
    /// stopped.
    Disable {
        /// Enable it again after this time, such as 2h or "1d 12h". Restarts and changes of the clock do
        /// not affect the time; while the machine is switched off it does not count.
        #[arg(long = "for", value_name = "SPAN", value_parser = command::pause)]
        span: Option<Duration>,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        target: DeviceArg,
    },
    /// Suppress notifications about a device or an agent for a time. It is watched, published and
    /// recorded as always, and conditions that persist are reported afterwards.
    Silence {
        #[command(flatten)]
        scope: Scope,
        /// Resume notifications after this time, such as 2h or "1d 12h". Restarts and changes of
        /// the clock do not affect the time; while the machine is switched off it does not count.
        #[arg(long = "for", value_name = "SPAN", value_parser = command::pause)]
        span: Duration,
    },
    /// End a silence before its time.
    Unsilence(Scope),
    /// Send a test alert through all stages of its delivery, and print the result.
    Notify {
        /// Send an alert that is marked as a test.
        #[arg(long, required = true)]
        test: bool,
        /// Use the alertUnit of this device or agent [default: that of the section alerts].
        name: Option<String>,
    },
    /// Publish a device's recorded states now.
    Restore(DeviceArg),
    /// Stop an agent and start it again. Returns when it has started.
    Restart {
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        target: DeviceArg,
    },
    /// Take a device that a fleet has learned out of it for good, with its recorded states.
    ///
    /// It does not come back when it is heard again, but when the configuration names it. A device
    /// that the configuration names cannot be forgotten.
    Forget(LearnedArg),
    /// Guard what a cluster shares. iotmonitor-guard.service does this.
    #[command(hide = true)]
    Guard,
}

#[derive(Debug, clap::Args)]
struct LearnedArg {
    /// Name of the device: the level `{name}` of its topics.
    name: String,
}

/// Whether to wait for the outcome.
#[derive(Debug, clap::Args)]
struct Patience {
    /// Return at once, without waiting for the outcome.
    #[arg(long)]
    no_block: bool,
}

/// Selects one of several monitors, also by its process.
#[derive(Debug, clap::Args)]
struct Process {
    /// Main process of the monitor, as systemd knows it.
    #[arg(long, value_name = "PID", conflicts_with = "clientid")]
    pid: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct DeviceArg {
    /// Name of the device or agent: the part after `device_` or `agent_` in the configuration.
    name: String,
}

/// One device, or everything.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// Name of the device or agent.
    name: Option<String>,
    /// All devices and agents, and conditions that concern none of them.
    #[arg(long)]
    all: bool,
}

impl CliCommand {
    /// Whether the command needs a running monitor.
    fn speaks_to_a_monitor(&self) -> bool {
        let init = cluster::ClusterAction::is_init;
        !matches!(self, Self::Run { .. } | Self::Check { .. } | Self::Discover { .. } | Self::Guard)
            && !matches!(self, Self::Cluster { action: Some(action), .. } if init(action))
    }
}

/// The command line as clap defines it, for generating manual pages and completions.
#[must_use]
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments, carries them out, and turns the outcome into the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { user, clientid, command } = Arguments::parse();
    let bus = if user { Bus::User } else { Bus::System };
    if clientid.is_some() && !command.speaks_to_a_monitor() {
        let sentence = "`--clientid` selects the monitor that a command addresses; this command addresses none";
        Arguments::command().error(ErrorKind::ArgumentConflict, sentence).exit();
    }
    let clientid = clientid.unwrap_or_else(|| DEFAULT_CLIENT_ID.to_owned());
    let addressee = Addressee::ClientId(clientid.clone());
    let code = match command {
        CliCommand::Run { config, instance } => {
            let (file, environment) = surroundings(user, config, instance);
            run::run(file, environment)
        }
        CliCommand::Check { file, instance } => {
            let (file, environment) = surroundings(user, file, instance);
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            let config_directory = (!user).then(|| config_directory(user));
            let environment = Environment {
                for_service: !user,
                look_around: true,
                config_directory,
                ..environment
            };
            check::check(&file, &environment, &mut out, &mut err)
        }
        CliCommand::Discover { file, server, listen_for, only } => {
            let (file, environment) = surroundings(user, file, None);
            let broker =
                server.map_or_else(|| discover::BrokerSource::Of(file), discover::BrokerSource::At);
            discover::discover(broker, listen_for, &only, &environment)
        }
        CliCommand::Migrate { directory, config, export, skip_damaged } => {
            let task = migrate::MigrateOptions { directory, config, export, skip_damaged };
            migrate::migrate(bus, addressee, &task)
        }
        CliCommand::Status { name, json, watch } => {
            status::status(bus, addressee, &status::StatusQuery { name, json, watch })
        }
        CliCommand::History { name, since, json, csv, values, unwatched } => {
            let format = match (json, csv) {
                (true, _) => history::HistoryFormat::Json,
                (_, true) => history::HistoryFormat::Csv,
                _ => history::HistoryFormat::Words,
            };
            let query = history::HistoryQuery { name, since, format, unwatched };
            match values {
                Some(topic) => history::values(bus, addressee, query, topic),
                None => history::history(bus, addressee, &query),
            }
        }
        CliCommand::Alerts { name, since, priority, json } => {
            alerts::alerts(bus, addressee, &alerts::AlertsQuery { name, since, priority, json })
        }
        CliCommand::Acknowledge { id } => alerts::acknowledge(bus, addressee, id),
        CliCommand::Sql { statement, csv, json } => {
            let format = match (csv, json) {
                (true, _) => sql::SqlFormat::Csv,
                (_, true) => sql::SqlFormat::Json,
                _ => sql::SqlFormat::Table,
            };
            sql::sql(bus, addressee, &sql::SqlQuery { statement, format })
        }
        CliCommand::Suggest { name, json } => suggest::suggest(bus, addressee, name, json),
        CliCommand::Cluster { json, action } => cluster::cluster(bus, addressee, json, action),
        CliCommand::Logs { name, follow, lines, rest } => {
            let question = logs::LogsQuery { name, follow, lines, rest };
            logs::logs(bus, clientid, question)
        }
        CliCommand::Guard => guard::guard(),
        CliCommand::States { action } => states::states(bus, addressee, action),
        CliCommand::Reload(Process { pid }) => {
            let addressee = pid.map_or(addressee, Addressee::Process);
            command::reload(bus, addressee)
        }
        CliCommand::Enable { patience, target: DeviceArg { name } } => {
            command::enable(bus, addressee, name, !patience.no_block)
        }
        CliCommand::Disable { span, patience, target: DeviceArg { name } } => {
            command::disable(bus, addressee, name, span, !patience.no_block)
        }
        CliCommand::Silence { scope, span } => command::silence(bus, addressee, scope.name, span),
        CliCommand::Unsilence(scope) => command::unsilence(bus, addressee, scope.name),
        CliCommand::Notify { test: _, name } => command::test_alert(bus, addressee, name),
        CliCommand::Restore(target) => command::restore(bus, addressee, target.name),
        CliCommand::Forget(target) => command::forget(bus, addressee, target.name),
        CliCommand::Restart { patience, target: DeviceArg { name } } => {
            command::restart(bus, addressee, name, !patience.no_block)
        }
    };
    ExitCode::from(code)
}

/// The file to use, and the instance that it belongs to.
fn surroundings(
    user: bool,
    file: Option<PathBuf>,
    instance: Option<config::Instance>,
) -> (PathBuf, Environment) {
    let directory = config_directory(user);
    let file = file.unwrap_or_else(|| {
        let name = instance.as_ref().and_then(config::Instance::name).unwrap_or("config");
        directory.join(format!("{name}.toml"))
    });
    // Below a home there is one unit rather than a template.
    let instance = instance.unwrap_or_else(|| match user {
        true => config::Instance::MAIN,
        false => instance_of(directory_from_systemd("RUNTIME_DIRECTORY"), &file, &directory),
    });
    let shared_copy = (!user).then(|| state_directory(user, &instance).join(config::COPY));
    let environment = Environment {
        credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        user_manager: user,
        runtime_directory: runtime_directory(user, &instance),
        instance,
        machine: machine_id(),
        host_name: host_name(),
        shared_copy,
        ..Environment::default()
    };
    (file, environment)
}

/// The instance of a file: that of the unit which uses it, wherever the file is, because the unit
/// may write only its own states. Without a unit, the name of the file decides.
fn instance_of(
    directory_of_unit: Option<PathBuf>,
    file: &Path,
    config_directory: &Path,
) -> config::Instance {
    directory_of_unit
        .and_then(|directory| config::Instance::of_directory(&directory))
        .unwrap_or_else(|| config::Instance::of_file(file, config_directory))
}

/// The default directory of configurations (file-hierarchy(7), XDG base directories).
fn config_directory(user: bool) -> PathBuf {
    if user {
        user_directory("XDG_CONFIG_HOME", ".config").join("iotmonitor")
    } else {
        PathBuf::from("/etc/iotmonitor")
    }
}

/// The directory of the states: systemd's StateDirectory, or the same place without a unit.
fn state_directory(user: bool, instance: &config::Instance) -> PathBuf {
    directory_from_systemd("STATE_DIRECTORY").unwrap_or_else(|| {
        let own = user.then(|| user_directory("XDG_STATE_HOME", ".local/state"));
        own.unwrap_or_else(|| PathBuf::from("/var/lib")).join(instance.unit_stem())
    })
}

/// The directory for files that last until the machine is switched off: systemd's RuntimeDirectory,
/// or the same place without a unit.
fn runtime_directory(user: bool, instance: &config::Instance) -> PathBuf {
    directory_from_systemd("RUNTIME_DIRECTORY").unwrap_or_else(|| {
        let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| user);
        own.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join(instance.unit_stem())
    })
}

/// Several directories are separated by colons (systemd.exec(5)); the first is the program's own.
fn directory_from_systemd(variable: &str) -> Option<PathBuf> {
    let directories = std::env::var_os(variable)?;
    directories.to_string_lossy().split(':').next().map(PathBuf::from)
}

fn user_directory(variable: &str, below_home: &str) -> PathBuf {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map_or_else(|| std::env::home_dir().unwrap_or_default().join(below_home), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> config::Instance {
        config::Instance::new(name).unwrap()
    }

    #[test]
    fn the_unit_decides_whose_a_file_is_that_a_drop_in_names() {
        let of = |unit: Option<&str>, file: &str| {
            instance_of(unit.map(PathBuf::from), Path::new(file), Path::new("/etc/iotmonitor"))
        };
        assert_eq!(
            of(Some("/run/iotmonitor"), "/etc/iotmonitor/house.toml"),
            config::Instance::MAIN
        );
        assert_eq!(of(Some("/run/iotmonitor@garden"), "/srv/garden.toml"), named("garden"));
        assert_eq!(of(Some("/run/iotmonitor@garden"), "/etc/iotmonitor/x.toml"), named("garden"));
        assert_eq!(of(Some("/run/another"), "/etc/iotmonitor/garden.toml"), named("garden"));
        assert_eq!(of(None, "/etc/iotmonitor/garden.toml"), named("garden"));
    }

    #[test]
    fn the_instance_follows_from_the_file_unless_it_is_named() {
        let file = PathBuf::from("/etc/iotmonitor/garden.toml");
        let (found, environment) = surroundings(false, Some(file.clone()), None);
        assert_eq!((found, environment.instance), (file.clone(), named("garden")));
        let (found, environment) = surroundings(false, Some(file.clone()), Some(named("shed")));
        assert_eq!((found, environment.instance), (file.clone(), named("shed")));
        let (found, environment) = surroundings(false, None, Some(named("garden")));
        assert_eq!((found, environment.instance), (file.clone(), named("garden")));
        let (found, environment) = surroundings(false, None, None);
        assert_eq!(found, PathBuf::from("/etc/iotmonitor/config.toml"));
        assert_eq!(environment.instance, config::Instance::MAIN);
        // Below a home there is one monitor, whatever the name of its file.
        assert_eq!(surroundings(true, Some(file), None).1.instance, config::Instance::MAIN);
    }

    #[test]
    fn each_instance_has_directories_of_its_own() {
        for (instance, stem) in
            [(config::Instance::MAIN, "iotmonitor"), (named("garden"), "iotmonitor@garden")]
        {
            assert!(state_directory(false, &instance).ends_with(stem));
            assert!(runtime_directory(false, &instance).ends_with(stem));
        }
    }
}
