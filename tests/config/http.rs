//! The section `[http]`.

use super::{MQTT, errors, parsed};
use iotmonitor::config::{Environment, load, parse};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const TOKEN: &str = "hunter2-hunter2-hunter2";

fn with(lines: &str) -> String {
    format!("{MQTT}[http]\n{lines}\n")
}

#[test]
fn the_page_is_there_where_the_section_is_and_for_this_machine_alone() {
    assert_eq!(parsed(MQTT).config.http, None);
    let page = parsed(&with("")).config.http.unwrap();
    assert_eq!(page.address().to_string(), "127.0.0.1:8079");
    assert_eq!((page.host_names.len(), &page.token), (0, &None));
}

#[test]
fn every_key_of_the_section_arrives() {
    let lines = format!(
        "bind = \"::\"\nport = 8080\nhostNames = [\"Pi.local\", \"pi\"]\ntoken = \"{TOKEN}\""
    );
    let loaded = parsed(&with(&lines));
    let page = loaded.config.http.unwrap();
    assert_eq!(page.address().to_string(), "[::]:8080");
    assert_eq!(page.host_names, ["pi.local", "pi"]);
    assert_eq!(page.token.unwrap().reveal(), TOKEN);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.contains("without encryption"), "{}", loaded.warnings[0]);
    for (bind, address) in
        [("localhost", "127.0.0.1"), ("[::1]", "::1"), ("192.168.4.2", "192.168.4.2")]
    {
        let page = parsed(&with(&format!("bind = \"{bind}\""))).config.http.unwrap();
        assert_eq!(page.bind.to_string(), address);
    }
}

#[test]
fn pages_that_may_embed_the_page_are_named_by_their_origin() {
    let of = |value: &str| {
        parsed(&with(&format!("frameAncestors = {value}"))).config.http.unwrap().frame_ancestors
    };
    assert_eq!(of("\"HTTP://HomeAssistant.local:8123/\""), ["http://homeassistant.local:8123"]);
    assert_eq!(
        of("[\"https://a.example\", \"http://192.168.4.2:8123\", \"http://[fd00::2]:8123\"]"),
        ["https://a.example", "http://192.168.4.2:8123", "http://[fd00::2]:8123"]
    );
    for wrong in [
        "",
        "homeassistant.local",
        "https://",
        "ftp://a.example",
        "http://a.example/path",
        "https://*.example",
        "http://a.example:0",
        "http://a.example:",
        "http://a.example:99999",
        "http://a b",
        "http://a;b",
        "http://a'b",
        "http://me@a.example",
        "http://bücher.example",
        "http://[::1",
        "*",
    ] {
        let errors = errors(&with(&format!("frameAncestors = [\"{wrong}\"]")));
        assert_eq!(errors.len(), 1, "{wrong}: {errors:?}");
        assert!(errors[0].message.contains("is not the origin of a page"), "{}", errors[0]);
    }
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    for (lines, message, hint) in [
        ("bind = \"pi.local\"", "bind: `pi.local` is not an IP address", "0.0.0.0"),
        ("bind = 1", "bind", "bind = \"…\""),
        ("port = 0", "port = `0` is not a port number", "8079"),
        ("port = 65536", "port = `65536` is not a port number", "8079"),
        ("port = \"8079\"", "port = `8079` is not a port number", "8079"),
        ("hostNames = \"http://pi\"", "hostNames: `http://pi` is not a host name", "`//`"),
        ("hostNames = \"pi:8079\"", "hostNames: `pi:8079` is not a host name", "`//`"),
        ("hostNames = 1", "hostNames", "pi.local"),
        ("prot = 1", "unknown key `prot`, did you mean `port`?", "knows bind"),
        ("token = \"hunter2\"", "a token of 7 characters can be guessed", "openssl rand"),
        ("token = \"hunter2 hunter2 hunter2\"", "ASCII letters", "openssl rand"),
        ("tokenFile = \"/nowhere/hunter\"", "tokenFile: cannot read /nowhere/hunter", "alone"),
    ] {
        let errors = errors(&with(lines));
        assert_eq!(errors.len(), 1, "{lines}: {errors:?}");
        assert!(errors[0].message.contains(message), "{lines}: {}", errors[0]);
        assert!(errors[0].hint.contains(hint), "{lines}: {}", errors[0]);
        assert!(!errors[0].to_string().contains("hunter2"), "{}", errors[0]);
    }
    let misspelled = parsed(&with("").replace("[http]", "[htpp]"));
    assert!(misspelled.warnings[0].to_string().contains("did you mean [http]?"));
}

#[test]
fn the_token_can_come_as_a_file_and_as_a_credential_which_wins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "from-a-file-0123456789\n").unwrap();
    let text = with("tokenFile = \"token\"\ntoken = \"in-the-file-itself-0123\"");
    let path = directory.path().join("config.toml");
    let token = |environment: &Environment| {
        let config = parse(&text, &path, environment).unwrap().config;
        config.http.unwrap().token.unwrap().reveal().to_owned()
    };
    assert_eq!(token(&Environment::default()), "from-a-file-0123456789");
    let credentials = directory.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let given =
        Environment { credentials_directory: Some(credentials.clone()), ..Environment::default() };
    assert_eq!(token(&given), "from-a-file-0123456789");
    std::fs::write(credentials.join("http-token"), "as-a-credential-0123456").unwrap();
    assert_eq!(token(&given), "as-a-credential-0123456");
}

#[test]
fn a_token_that_others_can_read_gets_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, with(&format!("token = \"{TOKEN}\""))).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let loaded = load(&path, &Environment::default()).unwrap();
    assert!(loaded.warnings[0].message.contains("others can read the token"));
    assert!(!loaded.warnings[0].to_string().contains(TOKEN));
}

#[test]
fn a_port_that_takes_a_right_gets_a_warning_from_check() {
    let service = Environment { for_service: true, ..Environment::default() };
    let loaded = parse(&with("port = 80"), Path::new("config.toml"), &service).unwrap();
    assert!(loaded.warnings[0].message.contains("requires a privilege"));
}
