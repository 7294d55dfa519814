//! The command and the environment of an agent's process, in a form that systemd preserves.

use iotmonitor_core::model::cluster::sharing::Tenure;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::{AgentSpec, Exec};
use std::collections::BTreeMap;

/// Environment variable in which [`CommandLine::carried`] reaches the process; removed before the
/// program runs.
const CARRIER: &str = "IOTMONITOR_EXEC";

/// Expands to the contents of the carrier, in the same process and without the carrier. It contains
/// neither `$` nor `;`.
const UNPACK: &str = "exec /usr/bin/env -u IOTMONITOR_EXEC /bin/bash -c \
                      \"`/usr/bin/printenv IOTMONITOR_EXEC`\"";

/// The ExecStart= and environment with which a program receives its words byte for byte.
///
/// systemd keeps a transient unit in a file and reads it again at each daemon-reload. Version 252
/// writes `$` and `;` in ExecStart= in a form that is read back with backslashes before them, and
/// writes ExecStartEx=, whose flag `no-env-expand` would be the direct way, in a form that is not
/// read back at all. Therefore words that contain one of the two are passed in an environment
/// variable, which is preserved and in which nothing is expanded.
pub(super) struct CommandLine {
    pub argv: Vec<String>,
    pub carried: Option<String>,
}

impl CommandLine {
    pub fn new(exec: &Exec) -> Self {
        let bash = |script: &str| vec!["/bin/bash".to_owned(), "-c".to_owned(), script.to_owned()];
        let faithful = |word: &String| !word.contains(['$', ';']);
        let carried = match exec {
            Exec::Shell(script) if faithful(script) => {
                return Self { argv: bash(script), carried: None };
            }
            Exec::Argv(argv) if argv.iter().all(faithful) => {
                return Self { argv: argv.clone(), carried: None };
            }
            // The shell's substitution removes line breaks at the end, which have no meaning to it.
            Exec::Shell(script) => script.clone(),
            Exec::Argv(argv) => argv.iter().fold("exec --".to_owned(), |script, word| {
                format!("{script} '{}'", word.replace('\'', "'\\''"))
            }),
        };
        Self { argv: bash(UNPACK), carried: Some(carried) }
    }
}

/// The variables of the process as `NAME=value`. The section's own take precedence over those that
/// every agent receives, and no name occurs twice, because systemd refuses such a block as a whole.
pub(super) fn environment(
    device: &DeviceName,
    agent: &AgentSpec,
    carried: Option<String>,
    tenure: Option<Tenure>,
) -> Vec<String> {
    let epoch = tenure.map(|tenure| tenure.epoch.0.to_string());
    let mut environment = BTreeMap::from([
        ("IOTMONITOR_AGENT", device.as_str()),
        ("MQTT_SERVER", &agent.mqtt_server),
        // Python buffers its output to anything but a terminal: the journal would contain nothing
        // of an agent that was killed.
        ("PYTHONUNBUFFERED", "1"),
    ]);
    environment.extend(agent.environment.iter().map(|(name, value)| (&**name, &**value)));
    environment.extend(epoch.as_deref().map(|epoch| ("IOTMONITOR_EPOCH", epoch)));
    environment.extend(carried.as_deref().map(|carried| (CARRIER, carried)));
    environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::properties::tests::{agent, shell};

    fn led_box() -> DeviceName {
        DeviceName::new("led-box").unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_command_that_systemd_keeps_faithfully_is_given_as_it_is() {
        let script = "echo %n %% \"quotes\" 'x' \\backslash | cat\nnewline\n";
        let command = CommandLine::new(&Exec::Shell(script.to_owned()));
        assert_eq!((command.argv, command.carried), (words(&["/bin/bash", "-c", script]), None));

        let argv = words(&["python3", "a b.py"]);
        let command = CommandLine::new(&Exec::Argv(argv.clone()));
        assert_eq!((command.argv, command.carried), (argv, None));
    }

    #[test]
    fn what_systemd_would_garble_is_carried_in_the_environment() {
        let script = "cd ~/agents;echo $HOME ${X} $$";
        let command = CommandLine::new(&Exec::Shell(script.to_owned()));
        assert_eq!(command.argv, words(&["/bin/bash", "-c", UNPACK]));
        assert!(!UNPACK.contains(['$', ';']));
        let expected = [
            "IOTMONITOR_AGENT=led-box",
            "IOTMONITOR_EXEC=cd ~/agents;echo $HOME ${X} $$",
            "MQTT_SERVER=tcp://localhost:1883",
            "PYTHONUNBUFFERED=1",
        ];
        let agent = agent(Exec::Shell(script.to_owned()));
        assert_eq!(environment(&led_box(), &agent, command.carried, None), expected);
    }

    /// Runs a command as systemd would, and returns what it writes.
    fn output(exec: Exec) -> String {
        let command = CommandLine::new(&exec);
        let output = std::process::Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .env(CARRIER, command.carried.unwrap_or_default())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_carried_script_is_what_bash_runs_and_leaves_no_trace() {
        let script = "printf '<%s>' \"${IOTMONITOR_EXEC-unset}\" '$x' \"a;b\" 'it'\\''s' %n '`'\n";
        assert_eq!(output(Exec::Shell(script.to_owned())), "<unset><$x><a;b><it's><%n><`>");
    }

    #[test]
    fn a_carried_list_reaches_its_program_word_for_word() {
        let words = ["$HOME", "a;b", "it's", "", "two\nlines\n", "\\", "`x`", "\"", "-e", "ü"];
        let argv = ["printf", "<%s>"].iter().chain(&words).map(|word| (*word).to_owned());
        let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
        assert_eq!(output(Exec::Argv(argv.collect())), expected);
    }

    #[test]
    fn the_sections_variables_win_and_no_name_is_there_twice() {
        let own = [
            ("IOTMONITOR_AGENT", "me"),
            ("MQTT_SERVER", "tcp://other:1883"),
            ("PYTHONUNBUFFERED", ""),
            ("X", "a b"),
        ];
        let environment = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let agent = AgentSpec { environment, ..shell() };
        let expected =
            ["IOTMONITOR_AGENT=me", "MQTT_SERVER=tcp://other:1883", "PYTHONUNBUFFERED=", "X=a b"];
        assert_eq!(super::environment(&led_box(), &agent, None, None), expected);
    }
}
