//! The sections that all nodes of a cluster share: puts those that people give into the shared store,
//! and takes a new version into force as a reload does.
//!
//! A version that this node cannot use leaves the former one in force. It is reported once, and tried
//! again at each reload, since the node's own file may have been the reason.

use super::Daemon;
use super::cluster::NO_CLUSTER;
use crate::cluster::{ClusterEvent, OrderError};
use crate::config::{self, ConfigErrors, Environment, GivenSections, Loaded};
use crate::etcd::Applied;
use crate::request::Rejection;
use iotmonitor_core::model::alert::{Alert, AlertKind};
use iotmonitor_core::model::cluster::orders::OrderStamp;
use iotmonitor_core::model::cluster::sections::{SectionsVersion, SharedSections};
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use iotmonitor_core::model::words::counted;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// The number of sections that are named of each kind of change.
const MOST_NAMED: usize = 8;

/// What this node has to do with the shared sections.
#[derive(Debug)]
pub struct SectionsState {
    /// What the store holds and this node does not use.
    pub offered: Option<Arc<SharedSections>>,
    /// The version of which was reported last that it cannot be used.
    refused: Option<OrderStamp>,
}

impl SectionsState {
    pub fn new(refused: Option<SectionsVersion>) -> Self {
        Self { offered: None, refused: refused.map(|version| version.stamp) }
    }
}

/// What is said of a copy that cannot be used, and its version.
pub type LeftOut = (Alert, Option<SectionsVersion>);

/// What came of sections that were offered.
pub enum OfferOutcome {
    /// They are in the configuration, and the copy of this node is of them.
    Taken(Arc<SharedSections>),
    /// The configuration is without them.
    Refused(Arc<SharedSections>, String),
}

/// Checks the configuration with sections that are offered, and keeps a copy of those that it can be
/// used with.
pub fn load_offered(
    file: &Path,
    environment: &Environment,
    offered: &SharedSections,
) -> Result<Loaded, String> {
    let path = environment.shared_copy.as_deref().unwrap_or(Path::new(config::COPY));
    let given = GivenSections { path, text: &offered.text };
    let mut loaded =
        config::load_with(file, environment, given).map_err(|errors| errors.to_string())?;
    // Without a part there is no section [cluster] any more, which a reload refuses.
    let Some(part) = &mut loaded.shared else { return Ok(loaded) };
    part.version = Some(offered.version.clone());
    config::keep_copy(path, offered).map_err(|error| {
        format!("{} cannot be written: {error}; make room for it, and reload", path.display())
    })?;
    Ok(loaded)
}

/// Reads the configuration at a start. A copy that it cannot be used with is left out, since etcd may
/// have a version that it can be used with.
pub fn load_at_start(
    file: &Path,
    environment: &Environment,
) -> Result<(Loaded, Option<LeftOut>), ConfigErrors> {
    let errors = match config::load(file, environment) {
        Ok(loaded) => return Ok((loaded, None)),
        Err(errors) => errors,
    };
    let Some(copy) = environment.shared_copy.as_deref().filter(|copy| copy.exists()) else {
        return Err(errors);
    };
    let own = Environment { shared_copy: None, ..environment.clone() };
    match (&errors, config::load(file, &own)) {
        (ConfigErrors::Invalid { .. }, Ok(loaded)) => {
            let message = format!(
                "the sections that all nodes share are left out until etcd has others, or this \
                 node's file has changed:\n{errors}"
            );
            let version = config::version_of_copy(copy);
            Ok((loaded, Some((Alert::plain(AlertKind::SharedRefused, message), version))))
        }
        _ => Err(errors),
    }
}

impl Daemon<'_> {
    /// Takes what the cluster says of the shared sections.
    pub(super) fn hear_of_sections(&mut self, event: ClusterEvent) {
        match event {
            ClusterEvent::Sections(offered) => {
                self.sections.offered = Some(offered);
                self.reload_offered();
            }
            ClusterEvent::SectionsMissing { number, reason } => {
                let message = format!(
                    "version {number} of the sections that all nodes share cannot be read, and the \
                     former one stays in force: {reason}"
                );
                self.refuse(message);
            }
            _ => {}
        }
    }

    /// Notes what came of sections that were offered.
    pub(super) fn end_offer(&mut self, outcome: OfferOutcome) {
        match outcome {
            OfferOutcome::Taken(taken) => {
                if self.sections.offered.as_ref().is_some_and(|it| it.version == taken.version) {
                    self.sections.offered = None;
                }
            }
            OfferOutcome::Refused(refused, reason) => {
                let version = &refused.version;
                if self.sections.refused.replace(version.stamp) != Some(version.stamp) {
                    self.refuse(format!(
                        "version {} of the sections that all nodes share, applied on node `{}`, \
                         cannot be used here, and the former one stays in force:\n{reason}",
                        version.number, version.by
                    ));
                }
            }
        }
    }

    fn refuse(&mut self, message: String) {
        let now = self.now();
        self.tell_of_cluster(now, vec![ClusterFact::ConfigRefused { message }]);
    }

    /// Checks sections as this node would use them, and puts them into the shared store. Answers with
    /// what has changed.
    pub(super) fn apply_sections(
        &self,
        path: PathBuf,
        text: Arc<str>,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        let Some(cluster) = &self.cluster else {
            let _ = reply.send(Err(Rejection::Failed(NO_CLUSTER.to_owned())));
            return;
        };
        let (handle, settings) = (cluster.handle(), cluster.settings().clone());
        let (file, environment) =
            (self.options.config_file.clone(), self.options.environment.clone());
        let checked = Arc::clone(&text);
        let check = move || {
            let given = GivenSections { path: &path, text: &checked };
            let loaded = config::load_with(&file, &environment, given)
                .map_err(|errors| errors.to_string())?;
            if loaded.config.cluster.as_ref() != Some(&settings) {
                let sentence =
                    "[cluster] has changed: restart iotmonitor before you apply sections";
                return Err(sentence.to_owned());
            }
            let warnings = loaded.warnings.iter().filter(|warning| warning.path == path);
            Ok(warnings.map(|warning| format!("{warning}\n\n")).collect::<String>())
        };
        tokio::spawn(async move {
            let applied = async {
                let warnings = spawn_blocking(check).await.map_err(|error| error.to_string())??;
                let refused = |error: OrderError| error.to_string();
                let applied = handle.map_err(refused)?.apply(Arc::clone(&text)).await;
                let applied = applied.map_err(refused)?;
                let account = move || warnings + &account(&applied, &text);
                spawn_blocking(account).await.map_err(|error| error.to_string())
            };
            // The caller may have gone away meanwhile.
            let _ = reply.send(applied.await.map_err(Rejection::Failed));
        });
    }
}

/// What has changed, for people.
fn account(applied: &Applied, text: &str) -> String {
    let number = applied.version.number;
    if !applied.is_new {
        return format!("nothing has changed: version {number} has the same sections\n");
    }
    let parsed = |text: &str| toml::from_str::<toml::Table>(text).unwrap_or_default();
    let (before, after) = (parsed(&applied.former), parsed(text));
    let names = |from: &toml::Table, holds: &dyn Fn(&str, &toml::Value) -> bool| {
        let chosen = from.iter().filter(|(name, value)| holds(name, value));
        chosen.map(|(name, _)| format!("[{}]", name.escape_debug())).collect::<Vec<String>>()
    };
    let changes = [
        ("added", names(&after, &|name, _| !before.contains_key(name))),
        ("changed", names(&after, &|name, value| before.get(name).is_some_and(|it| it != value))),
        ("removed", names(&before, &|name, _| !after.contains_key(name))),
    ];
    let mut said = String::new();
    for (what, names) in changes {
        let (shown, more) = names.split_at(names.len().min(MOST_NAMED));
        if shown.is_empty() {
            continue;
        }
        said.push_str(&format!("{what}: {}", shown.join(", ")));
        if !more.is_empty() {
            said.push_str(&format!(" and {} more", more.len()));
        }
        said.push('\n');
    }
    let sections = counted(after.len(), "section");
    let end = "is in etcd; `iotmonitor cluster` shows which nodes use it";
    said.push_str(&format!("version {number} with {sections} {end}\n"));
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::NodeName;

    fn said(former: &str, text: &str, is_new: bool) -> String {
        let version = SectionsVersion {
            number: 7,
            stamp: OrderStamp { stamp: 1 },
            given: 0,
            by: NodeName::new("pi1").unwrap(),
            bytes: text.len(),
            chunks: 1,
        };
        account(&Applied { former: former.to_owned(), version, is_new }, text)
    }

    #[test]
    fn a_person_reads_what_has_changed() {
        let former = "[device_a]\nwatchTopics = \"a\"\n[device_b]\nwatchTopics = \"b\"\n[agent_c]\nexec = \"c\"\n";
        let text = "[device_a]\nwatchTopics = \"A\"\n[device_d]\nwatchTopics = \"d\"\n[agent_c]\nexec = \"c\"\n";
        assert_eq!(
            said(former, text, true),
            "added: [device_d]\nchanged: [device_a]\nremoved: [device_b]\n\
             version 7 with 3 sections is in etcd; `iotmonitor cluster` shows which nodes use it\n"
        );
        assert_eq!(
            said(text, text, false),
            "nothing has changed: version 7 has the same sections\n"
        );
        let none = said(former, "", true);
        assert!(none.starts_with("removed: [agent_c], [device_a], [device_b]\nversion 7 with 0"));
    }

    #[test]
    fn a_long_list_of_changes_is_cut_short() {
        let many: String = (0..20_000).map(|at| format!("[device_{at:05}]\n")).collect();
        let said = said("", &many, true);
        assert!(said.starts_with("added: [device_00000], "), "{said}");
        assert!(
            said.contains("[device_00007] and 19992 more\nversion 7 with 20000 sections"),
            "{said}"
        );
    }
}
