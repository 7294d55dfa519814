//! Detects a secret in a command or a variable, as opposed to the location of one.
//!
//! The name decides, because a secret value looks like any other.

use iotmonitor_core::model::spec::Exec;

/// Words of a name that stand for a secret.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "pw",
    "secret",
    "token",
    "apikey",
    "credential",
    "credentials",
];

/// Words that turn a name into that of a location or a number: PASSWORD_FILE, TOKEN_URL.
const HARMLESS: &[&str] =
    &["file", "path", "dir", "url", "uri", "endpoint", "name", "id", "length", "ttl", "timeout"];

const QUOTES: [char; 2] = ['"', '\''];

/// Whether a command contains a secret itself rather than the location of one.
pub(super) fn command_shows_secret(exec: &Exec) -> bool {
    match exec {
        Exec::Argv(words) => words_show_secret(words.iter().map(String::as_str)),
        Exec::Shell(command) => {
            let ends = |c: char| c.is_whitespace() || ";|&()<>".contains(c);
            words_show_secret(command.split(ends).filter(|word| !word.is_empty()))
        }
    }
}

fn words_show_secret<'w>(words: impl Iterator<Item = &'w str>) -> bool {
    let mut words = words.peekable();
    let mut is_mosquittos = false;
    while let Some(word) = words.next() {
        let word = word.trim_start_matches(QUOTES);
        is_mosquittos |= word.contains("mosquitto_");
        let next = words.peek().copied().unwrap_or_default();
        let shows = match (word.strip_prefix('-'), word.split_once('=')) {
            _ if has_userinfo(word) => true,
            (_, Some((name, value))) => is_secret(name.trim_start_matches('-'), value),
            (Some("P"), None) => is_mosquittos && is_literal(next),
            (Some(option), None) => is_secret(option.trim_start_matches('-'), next),
            (None, None) => false,
        };
        if shows {
            return true;
        }
    }
    false
}

fn has_userinfo(word: &str) -> bool {
    let Some((_, rest)) = word.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let password = authority.rsplit_once('@').and_then(|(userinfo, _)| userinfo.split_once(':'));
    password.is_some_and(|(_, password)| is_literal(password))
}

/// Whether a value of this name is a secret.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    // `apiToken` has the words of `API_TOKEN`.
    let (mut spaced, mut after_small) = (String::new(), false);
    for c in name.chars() {
        if c.is_uppercase() && after_small {
            spaced.push('_');
        }
        after_small = c.is_lowercase();
        spaced.extend(c.to_lowercase());
    }
    let words: Vec<&str> = spaced.split(|c: char| !c.is_alphanumeric()).collect();
    let sounds = words.iter().any(|word| WORDS.contains(word) || word.ends_with("password"))
        || words.len() > 1 && words.last() == Some(&"key");
    sounds && !words.iter().any(|word| HARMLESS.contains(word)) && is_literal(value)
}

/// Whether this is a literal value rather than a location, a variable or an option.
fn is_literal(value: &str) -> bool {
    let value = value.trim_matches(QUOTES);
    !value.is_empty() && !value.starts_with(['/', '$', '`', '-', '~', '%', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(command: &str) -> bool {
        command_shows_secret(&Exec::Shell(command.into()))
    }

    #[test]
    fn secrets_in_commands_are_recognised() {
        for command in [
            "bridge --password hunter2",
            "bridge --password=hunter2",
            "bridge -token 'hunter2'",
            "MQTT_PASSWORD=hunter2 bridge",
            "export API_KEY=\"hunter2\"; bridge",
            "bridge --apiToken hunter2",
            "mosquitto_sub -u pi -P hunter2 -t '#'",
            "bridge mqtt://pi:hunter2@broker",
        ] {
            assert!(shell(command), "{command}");
        }
        let words = ["bridge", "--secret", "hunter2"].map(str::to_owned).to_vec();
        assert!(command_shows_secret(&Exec::Argv(words)));
    }

    #[test]
    fn places_variables_and_other_words_are_no_secrets() {
        for command in [
            "bridge --password-file /etc/p",
            "bridge --password /run/p",
            "bridge --password \"$PASSWORD\"",
            "bridge --token `cat /run/t`",
            "bridge --token-url https://x",
            "bridge --key /etc/k.pem",
            "bridge --keyboard de",
            "bridge -P 8080",
            "bridge mqtt://pi@broker",
            "bypass --passive x",
            "cat tokens.txt",
            "bridge --token",
        ] {
            assert!(!shell(command), "{command}");
        }
    }
}
