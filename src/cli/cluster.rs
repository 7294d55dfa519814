//! `iotmonitor cluster`: the cluster as this node sees it, and orders to it.

mod apply;
mod init;

use super::command::{AskError, conclude, fail, in_runtime, suggesting};
use super::local_time::LocalTime;
use super::output::{OutputStyle, print};
use super::table::TextTable;
use crate::bus::{Addressee, Caller};
use crate::dbus::Bus;
use crate::printable::{escaped_json, escaped_lines};
use clap::builder::styling::{AnsiColor, Style};
use iotmonitor_core::model::cluster::view::{ClusterView, NodeState, NodeView, StoreView};
use iotmonitor_core::model::cluster::{Item, SHARDS, SessionId};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::words::RoundedDuration;
use std::path::PathBuf;
use std::time::Duration;

/// Lists are wrapped so that a line fits an ordinary terminal.
const COLUMNS: usize = 80;

/// What is ordered, on any node.
#[derive(Debug, clap::Subcommand)]
pub enum ClusterAction {
    /// Move an agent to another node. Returns when that node has it. The agent stops before it starts
    /// there, and stays there.
    Move {
        /// Name of the agent.
        name: String,
        /// Node that is to have it.
        node: String,
    },
    /// Let a node give away everything that it has and take nothing, also after a restart. Returns when
    /// it has nothing left.
    Drain {
        /// The node [default: this one].
        node: Option<String>,
        /// Let it take part again.
        #[arg(long)]
        end: bool,
    },
    /// Give the sections of devices, agents and fleets in a file to all nodes, in place of those that
    /// were given before. An empty file takes them away. Requires root.
    Apply {
        /// The file, or `-` for the standard input.
        file: PathBuf,
    },
    /// Prepare the first three hosts: write the configuration of etcd, certificates and the section
    /// [cluster] of each into a directory, and print what to do with them.
    Init(init::InitOptions),
}

impl ClusterAction {
    /// Whether it only writes files.
    pub fn is_init(&self) -> bool {
        matches!(self, Self::Init(_))
    }
}

/// Shows the cluster or orders something; returns the exit code.
pub fn cluster(bus: Bus, addressee: Addressee, json: bool, action: Option<ClusterAction>) -> u8 {
    match action {
        None => show(bus, addressee, json),
        Some(ClusterAction::Apply { file }) => apply::apply(bus, addressee, &file),
        Some(ClusterAction::Init(options)) => init::init(&options),
        Some(ClusterAction::Move { name, node }) => move_agent(bus, addressee, name, &node),
        Some(ClusterAction::Drain { node, end }) => conclude(in_runtime(async {
            let caller = Caller::connect(bus, None, addressee).await?;
            caller.drain_node(&node.unwrap_or_default(), !end).await
        })),
    }
}

fn move_agent(bus: Bus, addressee: Addressee, name: String, node: &str) -> u8 {
    let name = match DeviceName::new(name) {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let outcome = caller.move_agent(&name, node).await;
        suggesting(&caller, &name, outcome).await
    }))
}

fn show(bus: Bus, addressee: Addressee, json: bool) -> u8 {
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let text = caller.cluster().await?;
        if json {
            print(escaped_json(format!("{text}\n")))?;
        } else {
            let view = caller.cluster_view(&text)?;
            let time = LocalTime::of_this_machine();
            let text = description(&view, OutputStyle::of_stdout(), &time);
            print(escaped_lines(&text).as_bytes())?;
        }
        Ok::<(), AskError>(())
    }))
}

fn description(view: &ClusterView, look: OutputStyle, time: &LocalTime) -> String {
    let mut text = etcd_line(&view.etcd);
    if let Some(epoch) = view.epoch {
        text.push_str(&format!("Epoch {epoch}, as node {} sees it:\n\n", view.node));
    } else {
        text.push_str(&format!("No plan has been read by node {} yet.\n\n", view.node));
    }
    text.push_str(&nodes_table(view, look));
    push_sections(&mut text, view, time);
    text.push('\n');
    for node in view.nodes.keys() {
        push_items(&mut text, node.as_str(), view.items_of(node));
    }
    push_items(&mut text, "nowhere", view.orphans());
    text
}

fn etcd_line(etcd: &StoreView) -> String {
    let lasts = RoundedDuration(etcd.lasts);
    match (etcd.answers, &etcd.reason) {
        (Some(true), _) => format!("etcd has answered for {lasts}.\n"),
        (Some(false), reason) => {
            let reason = reason.as_deref().unwrap_or("no reason is known");
            format!("etcd has not answered for {lasts}: {reason}\n")
        }
        (None, _) => format!("etcd is being asked for the first time since {lasts}.\n"),
    }
}

fn nodes_table(view: &ClusterView, look: OutputStyle) -> String {
    let headings = ["NODE", "STATE", "RENEWED", "BROKER", "AGENTS", "SHARDS", "SESSION"];
    let mut table = TextTable::new(look, headings);
    for (name, node) in &view.nodes {
        let is_agent = |item: &&Item| matches!(item, Item::Agent(_));
        let is_shard = |item: &&Item| matches!(item, Item::Shard(_));
        let mark = if *name == view.node { " (this node)" } else { "" };
        let (state, style) = state_of(node);
        let broker = if node.broker { "connected" } else { "away" };
        let lives = node.state != NodeState::Lost;
        let plain = Style::new();
        table.row([
            (format!("{name}{mark}"), plain),
            (state.to_owned(), style),
            (ago(node.renewed), plain),
            (if lives { broker } else { "-" }.to_owned(), plain),
            (view.items_of(name).filter(is_agent).count().to_string(), plain),
            (view.items_of(name).filter(is_shard).count().to_string(), plain),
            (short(node.session), plain),
        ]);
    }
    table.render()
}

/// The version of the shared sections, and the nodes that do not use it.
fn push_sections(text: &mut String, view: &ClusterView, time: &LocalTime) {
    let held = view.etcd.config.as_ref();
    let number = held.map(|held| held.number);
    let living = view.nodes.iter().filter(|(_, node)| node.state != NodeState::Lost);
    let others: Vec<_> = living.filter(|(_, node)| node.config != number).collect();
    match held {
        Some(held) => {
            let what = if held.bytes == 0 { "none, by version" } else { "version" };
            let (given, by) = (time.show(held.given), &held.by);
            text.push_str(&format!(
                "\nShared sections: {what} {} of {given}, applied on {by}.\n",
                held.number
            ));
        }
        None if others.is_empty() => return,
        None => text.push_str("\nShared sections: etcd has none.\n"),
    }
    if others.is_empty() {
        text.push_str("All nodes use this version.\n");
    }
    for (name, node) in others {
        match node.config {
            Some(number) => text.push_str(&format!("Node {name} uses version {number}.\n")),
            None => text.push_str(&format!("Node {name} uses none.\n")),
        }
    }
}

fn state_of(node: &NodeView) -> (&'static str, Style) {
    match node.state {
        NodeState::Alive if node.drains => ("drained", AnsiColor::Yellow.on_default()),
        NodeState::Alive => (node.state.as_str(), AnsiColor::Green.on_default()),
        NodeState::Late => (node.state.as_str(), AnsiColor::Yellow.on_default()),
        NodeState::Lost => (node.state.as_str(), AnsiColor::Red.on_default().bold()),
    }
}

/// Tenths of a second matter below the lease.
fn ago(age: Duration) -> String {
    if age < Duration::from_secs(10) {
        format!("{:.1} s ago", age.as_secs_f64())
    } else {
        format!("{} ago", RoundedDuration(Duration::from_secs(age.as_secs())))
    }
}

/// The part of a session that tells it from others at a glance.
fn short(session: SessionId) -> String {
    format!("{:08x}", session.number >> 32)
}

/// What a node has, in as many lines as it takes.
fn push_items<'a>(text: &mut String, place: &str, items: impl Iterator<Item = &'a Item>) {
    let (mut words, mut shards) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::House => words.push("the house".to_owned()),
            Item::Shard(number) => shards.push(*number),
            Item::Agent(name) => words.push(name.to_string()),
        }
    }
    if let [_, ..] = shards[..] {
        let noun = if shards.len() == usize::from(SHARDS) { "all shards" } else { "shards" };
        words.push(format!("{noun} {}", ranges(&shards)));
    }
    if words.is_empty() {
        return;
    }
    let mut line = format!("{place}:");
    let indent = " ".repeat(2);
    for (at, word) in words.iter().enumerate() {
        let comma = if at + 1 < words.len() { "," } else { "" };
        for part in format!("{word}{comma}").split(' ') {
            if line.len() + 1 + part.len() > COLUMNS {
                text.push_str(&line);
                text.push('\n');
                line = format!("{indent}{part}");
            } else {
                line.push(' ');
                line.push_str(part);
            }
        }
    }
    text.push_str(&line);
    text.push('\n');
}

/// Ascending numbers, with those that follow each other as a range.
fn ranges(numbers: &[u8]) -> String {
    let mut parts: Vec<(u8, u8)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let words = parts.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::NodeName;
    use iotmonitor_core::model::cluster::orders::OrderStamp;
    use iotmonitor_core::model::cluster::sections::SectionsVersion;
    use iotmonitor_core::model::cluster::store::Revision;
    use iotmonitor_core::model::cluster::view::ItemView;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn node(state: NodeState, millis: u64, number: u64) -> NodeView {
        NodeView {
            session: SessionId { boot: 1, number },
            state,
            renewed: Duration::from_millis(millis),
            failover_after: Duration::from_secs(8),
            broker: true,
            drains: false,
            config: None,
        }
    }

    fn view() -> ClusterView {
        let on = |node| ItemView { node: Some(name(node)), nodes: Vec::new(), epoch: None };
        let shards = (0..SHARDS).map(|shard| {
            (Item::Shard(shard), on(if shard % 3 == 0 || shard > 20 { "pi1" } else { "pi2" }))
        });
        let agents = [("rules", on("pi2")), ("zigbee", on("pi1")), ("lights", on("pi1"))];
        let agents = agents.map(|(agent, view)| (agent.parse().unwrap(), view));
        let orphan =
            ("pump".parse().unwrap(), ItemView { node: None, nodes: Vec::new(), epoch: None });
        ClusterView {
            node: name("pi1"),
            epoch: Some(Revision(4_711)),
            etcd: StoreView {
                answers: Some(true),
                lasts: Duration::from_secs(7_200),
                reason: None,
                config: None,
            },
            nodes: [
                (name("nas"), node(NodeState::Lost, 90_000, 0x1122_3344_5566_7788)),
                (name("pi1"), node(NodeState::Alive, 420, 0xdead_beef_0000_0000)),
                (name("pi2"), NodeView { drains: true, ..node(NodeState::Alive, 1_900, 7) }),
            ]
            .into(),
            items: shards.chain([(Item::House, on("pi1"))]).chain(agents).chain([orphan]).collect(),
        }
    }

    fn shown(view: &ClusterView) -> String {
        description(view, OutputStyle::default(), &LocalTime::by_rules("UTC0"))
    }

    #[test]
    fn the_shared_sections_are_named_with_the_nodes_that_do_not_use_them() {
        let mut view = view();
        assert!(!shown(&view).contains("Shared sections"));
        let version = SectionsVersion {
            number: 7,
            stamp: OrderStamp { stamp: 1 },
            given: 1_700_000_000,
            by: name("pi2"),
            bytes: 30,
            chunks: 1,
        };
        view.etcd.config = Some(version.clone());
        for node in ["pi1", "pi2"] {
            view.nodes.get_mut(&name(node)).unwrap().config = Some(7);
        }
        let said = "Shared sections: version 7 of 2023-11-14 22:13:20 UTC, applied on pi2.\n";
        let text = shown(&view);
        assert!(text.contains(&format!("\n\n{said}All nodes use this version.\n\n")), "{text}");
        view.nodes.get_mut(&name("pi1")).unwrap().config = Some(6);
        view.nodes.get_mut(&name("pi2")).unwrap().config = None;
        let others = "Node pi1 uses version 6.\nNode pi2 uses none.\n\n";
        assert!(shown(&view).contains(&format!("{said}{others}")), "{}", shown(&view));
        view.etcd.config = Some(SectionsVersion { bytes: 0, ..version });
        assert!(shown(&view).contains("Shared sections: none, by version 7 of "));
        view.etcd.config = None;
        let text = shown(&view);
        assert!(text.contains("etcd has none.\nNode pi1 uses version 6.\n\n"), "{text}");
    }

    #[test]
    fn the_view_fits_a_terminal_and_names_everything() {
        assert_eq!(
            shown(&view()),
            "\
etcd has answered for 2 h.
Epoch 4711, as node pi1 sees it:

NODE             STATE    RENEWED         BROKER     AGENTS  SHARDS  SESSION
nas              lost     1 min 30 s ago  -          0       0       11223344
pi1 (this node)  alive    0.4 s ago       connected  2       18      deadbeef
pi2              drained  1.9 s ago       connected  1       14      00000000

pi1: the house, lights, zigbee, shards 0 3 6 9 12 15 18 21-31
pi2: rules, shards 1-2 4-5 7-8 10-11 13-14 16-17 19-20
nowhere: pump
"
        );
    }

    #[test]
    fn a_long_list_is_wrapped_at_eighty_columns() {
        let mut view = view();
        for number in 0..40 {
            let item = format!("agent-with-a-name-{number}").parse().unwrap();
            view.items
                .insert(item, ItemView { node: Some(name("nas")), nodes: Vec::new(), epoch: None });
        }
        let text = shown(&view);
        assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert!(text.contains("agent-with-a-name-39"), "{text}");
    }

    #[test]
    fn what_keeps_etcd_away_is_said_first() {
        let mut view = view();
        view.etcd = StoreView {
            answers: Some(false),
            lasts: Duration::from_secs(5),
            reason: Some("etcd at http://pi1:2379 has not answered within 1s".to_owned()),
            config: None,
        };
        let text = shown(&view);
        assert!(text.starts_with("etcd has not answered for 5 s: etcd at http://pi1"), "{text}");
    }
}
