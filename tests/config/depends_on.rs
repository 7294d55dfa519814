//! The key `dependsOn`.

use super::{MQTT, device, errors, parsed};

/// A section for each of `name` or `name: what it depends on`.
fn house(sections: &[&str]) -> String {
    let section = |text: &&str| {
        let (name, key) = match text.split_once(": ") {
            Some((name, value)) => (name, format!("dependsOn = {value}\n")),
            None => (*text, String::new()),
        };
        format!("[device_{name}]\nwatchTopics = \"home/{name}\"\n{key}")
    };
    format!("{MQTT}{}", sections.iter().map(section).collect::<String>())
}

fn parents(text: &str, name: &str) -> Vec<String> {
    let loaded = parsed(text);
    device(&loaded, name).depends_on.iter().map(ToString::to_string).collect()
}

#[test]
fn it_is_one_name_or_a_list_in_any_order_of_sections() {
    let text =
        house(&["lamp: \"gateway\"", "bell: [\"gateway\", \"lamp\", \"gateway\"]", "gateway"]);
    assert_eq!(parents(&text, "lamp"), ["gateway"]);
    assert_eq!(parents(&text, "bell"), ["gateway", "lamp"]);
    assert!(parents(&text, "gateway").is_empty());
    assert!(parents(&house(&["lamp: \"\""]), "lamp").is_empty(), "an empty text is no key");
    assert!(parsed(&text).warnings.is_empty());
}

#[test]
fn an_agent_may_be_depended_on_and_depend() {
    let text = format!(
        "{}[agent_bridge]\nexec = \"run\"\ndependsOn = \"stick\"\n",
        house(&["lamp: \"bridge\"", "stick"])
    );
    assert_eq!(parents(&text, "lamp"), ["bridge"]);
    assert_eq!(parents(&text, "bridge"), ["stick"]);
}

#[test]
fn a_name_that_is_not_there_is_answered_with_the_nearest() {
    let errors = errors(&house(&["lamp: \"gatway\"", "gateway", "bell: [\"gateway\", \"zzz\"]"]));
    let said: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "dependsOn: there is no `gatway`, did you mean `gateway`?",
            "dependsOn: there is no device or agent `zzz`"
        ]
    );
    assert_eq!(errors[0].line, 5);
}

#[test]
fn a_circle_is_reported_once_with_its_way() {
    for (sections, ways) in [
        (&["a: \"a\""][..], &["a → a"][..]),
        (&["a: \"b\"", "b: \"c\"", "c: \"a\"", "tail: \"a\"", "d"], &["a → b → c → a"]),
        (
            &["a: \"b\"", "b: [\"d\", \"a\"]", "d", "x: \"y\"", "y: \"x\""],
            &["a → b → a", "x → y → x"],
        ),
    ] {
        let errors = errors(&house(sections));
        let said: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        let expected: Vec<String> =
            ways.iter().map(|way| format!("dependsOn goes in a circle: {way}")).collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn a_diamond_is_no_circle() {
    parsed(&house(&["a: [\"b\", \"c\"]", "b: \"d\"", "c: \"d\"", "d"]));
}

/// A person would not write it. `growth` sees to it that the time grows with the length alone.
#[test]
fn a_long_chain_is_read() {
    let mut sections: Vec<String> =
        (0..20_000).map(|at| format!("d{at}: \"d{}\"", at + 1)).collect();
    sections.push("d20000".to_owned());
    let all: Vec<&str> = sections.iter().map(String::as_str).collect();
    parsed(&house(&all));
    sections[19_999] = "d19999: \"d19998\"".to_owned();
    let all: Vec<&str> = sections.iter().map(String::as_str).collect();
    assert_eq!(errors(&house(&all)).len(), 1);
}

#[test]
fn anything_else_is_refused_by_its_type() {
    let errors = errors(&house(&["lamp: 3", "bell: [1]"]));
    assert!(errors[0].message.starts_with("dependsOn must be a name or a list of names"));
    assert!(errors[1].message.starts_with("dependsOn must be a string"), "{}", errors[1].message);
}
