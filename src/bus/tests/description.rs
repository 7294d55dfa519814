//! The descriptions of the interfaces agree with what is answered, method by method.

use super::tree::TestMonitor;
use crate::bus::PATH;
use crate::bus::object::{AGENT, DEVICE, MONITOR, device_path};
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::{BTreeSet, HashMap};
use zbus::{Structure, Variant};

/// The source in which each method has an arm of a `match`.
const CALLS: &str = include_str!("../calls.rs");

/// An argument of a method: its name and its type.
type Argument = (String, String);

/// The methods of an interface by name, with what they take and what they return.
type Methods = HashMap<String, (Vec<Argument>, Vec<Argument>)>;

fn children<'n>(node: Node<'n, 'n>, tag: &'static str) -> impl Iterator<Item = Node<'n, 'n>> {
    node.children().filter(move |child| child.has_tag_name(tag))
}

/// What an object says of an interface. A program reads it as XML, so a part that is no XML is a
/// failure, and so is anything but the elements of the specification.
fn methods(xml: &str, interface: &str) -> Methods {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml, options);
    let document = document.unwrap_or_else(|error| panic!("{interface}: {error}"));
    let of_name = |it: &Node<'_, '_>| it.attribute("name") == Some(interface);
    let described = children(document.root_element(), "interface").find(of_name).unwrap();
    let stray =
        described.children().find(|it| it.is_text() && !it.text().unwrap().trim().is_empty());
    assert!(stray.is_none(), "{interface}: {stray:?} stands between the methods");
    let arguments = |method: Node<'_, '_>, direction: &str| -> Vec<Argument> {
        let is_meant = |it: &Node<'_, '_>| it.attribute("direction") == Some(direction);
        let text = |it: Node<'_, '_>, key: &str| it.attribute(key).unwrap().to_owned();
        let all = method.children().filter(|it| it.has_tag_name("arg")).filter(is_meant);
        all.map(|it| (text(it, "name"), text(it, "type"))).collect()
    };
    let methods = children(described, "method").map(|method| {
        let name = method.attribute("name").unwrap().to_owned();
        let (taken, returned) = (arguments(method, "in"), arguments(method, "out"));
        let arguments = method.children().filter(|it| it.is_element()).count();
        assert_eq!(arguments, taken.len() + returned.len(), "{name} has something else");
        (name, (taken, returned))
    });
    methods.collect()
}

/// A value of this type, which a method of this argument can use.
fn value((name, kind): &Argument) -> Variant<'static> {
    match (name.as_str(), kind.as_str()) {
        ("name" | "device", "s") => Variant::from("agent"),
        ("node", "s") => Variant::from("pi1"),
        ("topic", "s") => Variant::from("lamp/set"),
        ("command", "s") => Variant::from("enable"),
        (_, "s") => Variant::from(""),
        (_, "b") => Variant::from(false),
        (_, "y") => Variant::from(0_u8),
        (_, "u") => Variant::from(0_u32),
        (_, "t") => Variant::from(0_u64),
        (_, "as") => Variant::from(vec!["agent"]),
        (_, "at") => Variant::from(vec![1_u64, 2]),
        (_, "ay") => Variant::from(vec![0_u8]),
        (_, "a{sv}") => Variant::from(HashMap::<&str, Variant<'_>>::new()),
        (_, "a(saybt)") => {
            Variant::from(vec![("lamp/set".to_owned(), vec![0_u8], 0_u8, false, 1_u64)])
        }
        _ => panic!("{name} has the type {kind}, of which this test knows no value"),
    }
}

#[tokio::test]
async fn each_method_takes_and_returns_what_it_is_described_with() {
    let monitor = TestMonitor::of(&["lamp", "agent"]).await;
    let agent = device_path("agent");
    for (path, interface) in [(PATH, MONITOR), (&agent, DEVICE), (&agent, AGENT)] {
        let methods = methods(&monitor.description(path).await, interface);
        assert!(!methods.is_empty(), "{interface}");
        for (method, (taken, returned)) in methods {
            let arguments = taken.iter().map(value);
            let body = arguments.fold(Structure::builder(), |all, value| all.append_field(value));
            let reply = match taken.is_empty() {
                true => monitor.call(path, interface, &method, &()).await,
                false => monitor.call(path, interface, &method, &body.build().unwrap()).await,
            };
            let reply = reply.unwrap_or_else(|error| panic!("{interface}.{method}: {error}"));
            let expected: String = returned.iter().map(|(_, kind)| kind.as_str()).collect();
            let actual = reply.body().signature().to_string_no_parens();
            assert_eq!(actual, expected, "{interface}.{method}");
        }
    }
}

#[tokio::test]
async fn each_method_that_is_answered_is_described_and_no_other() {
    let monitor = TestMonitor::of(&["lamp", "agent"]).await;
    let agent = device_path("agent");
    let described = async |path: &str, interface: &str| -> BTreeSet<String> {
        methods(&monitor.description(path).await, interface).into_keys().collect()
    };
    // Order and Restart are answered before the others.
    let mut answered = arms("    async fn monitor(");
    answered.insert("Order".to_owned());
    assert_eq!(described(PATH, MONITOR).await, answered);
    assert_eq!(described(&agent, DEVICE).await, arms("    async fn device("));
    assert_eq!(described(&agent, AGENT).await, BTreeSet::from(["Restart".to_owned()]));
}

/// The strings for which a function has an arm.
fn arms(function: &str) -> BTreeSet<String> {
    let body = CALLS.split(function).nth(1).unwrap().split("\n    }\n").next().unwrap();
    let arms = body.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    arms.map(|(member, _)| member.to_owned()).collect()
}
