//! Adapts the original's configuration. Its keys are read unchanged, but its topics were not
//! filters: the original matched every topic that begins with the configured string.

use toml::de::{DeTable, DeValue};

/// The keys whose topics were matched by their beginning. The topic of a hello was compared as a
/// whole.
const KEYS: [&str; 2] = ["watchTopics", "stateTopics"];

/// Returns the configuration with filters that match what the original matched, level by level, and
/// the topics that were changed. Everything else remains as it is, including comments, and so does
/// a string that is not TOML.
#[must_use]
pub fn adapted(text: &str) -> (String, Vec<String>) {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut changes = Vec::new();
    for section in root.get_ref().values() {
        let DeValue::Table(table) = section.get_ref() else { continue };
        let topics = table.iter().filter(|(key, _)| KEYS.contains(&key.get_ref().as_ref()));
        for (_, value) in topics {
            let Some(topic) = value.get_ref().as_str() else { continue };
            let plain = !topic.is_empty() && !topic.contains(['#', '+']);
            if plain {
                let slash = if topic.ends_with('/') { "" } else { "/" };
                changes.push((value.span(), topic.to_owned(), format!("{topic}{slash}#")));
            }
        }
    }
    changes.sort_by_key(|(span, ..)| std::cmp::Reverse(span.start));
    let mut adapted = text.to_owned();
    let mut topics = Vec::new();
    for (span, topic, filter) in changes {
        adapted.replace_range(span, &toml::Value::from(filter).to_string());
        topics.insert(0, topic);
    }
    (adapted, topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_becomes_a_filter_and_the_rest_stays() {
        let text = "# mine\n[agent_a]\nwatchTopics=\"home/agents\" # all\nhelloTopic='home/a'\n\
            stateTopics='home/state/'\n[device_b]\nwatchTopics = \"home/b/#\"\nstateTopics = \"\"\n";
        let (adapted, topics) = adapted(text);
        assert_eq!(
            adapted,
            "# mine\n[agent_a]\nwatchTopics=\"home/agents/#\" # all\nhelloTopic='home/a'\n\
            stateTopics=\"home/state/#\"\n[device_b]\nwatchTopics = \"home/b/#\"\nstateTopics = \"\"\n"
        );
        assert_eq!(topics, ["home/agents", "home/state/"]);
        for broken in ["", "[x", "watchTopics = 3\n[a]\nwatchTopics = [\"x\"]\n"] {
            assert_eq!(super::adapted(broken), (broken.to_owned(), Vec::new()));
        }
    }
}
