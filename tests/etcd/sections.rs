//! The sections that all nodes share: put as a whole, and never read as a half.

use crate::members::{Members, read};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use iotmonitor::etcd::{Applied, EtcdError, EtcdStore};
use iotmonitor_core::model::cluster::NodeName;
use serde_json::json;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// Sections of devices, so many that etcd would not take them in one request. They differ by a word.
fn devices(count: usize, word: &str) -> String {
    let device = |at: usize| {
        let topic = format!("home/{word}/{at:05}");
        format!(
            "[device_{at:05}]\nwatchTopics = \"{topic}/#\"\nhelloTopic = \"{topic}/hello\"\n\
             watchTimeOut = \"5m\"\n"
        )
    };
    (0..count).map(device).collect()
}

/// Applies again for as long as a busy machine does not answer in time.
async fn apply(store: &EtcdStore, text: &str, by: &str) -> Result<Applied, EtcdError> {
    let began = Instant::now();
    loop {
        match store.apply(text, &node(by)).await {
            Err(error) if error.is_passing() && began.elapsed() < LIMIT => {}
            outcome => return outcome,
        }
    }
}

async fn text_of(store: &EtcdStore) -> Option<String> {
    let version = read(store).await.config?;
    store.sections(&version).await.unwrap()
}

/// The number of parts of all versions.
fn parts(members: &Members) -> usize {
    let key = |key: &str| BASE64_STANDARD.encode(format!("/iotmonitor/house/{key}"));
    let asked = json!({ "key": key("chunk/"), "range_end": key("chunk0"), "keys_only": true });
    let answer = members.post(0, "/v3/kv/range", &asked);
    answer["kvs"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn twenty_thousand_devices_are_put_and_read_as_a_whole() {
    let members = Members::start(1).await;
    let store = members.store();
    assert_eq!(read(&store).await.config, None);
    let text = devices(20_000, "a");
    assert!(text.len() > 3 << 19, "{} bytes are no more than etcd takes at once", text.len());
    let first = apply(&store, &text, "pi1").await.unwrap();
    assert!(first.is_new && first.former.is_empty());
    assert_eq!((first.version.number, first.version.by.as_str()), (1, "pi1"));
    assert_eq!(read(&store).await.config, Some(first.version.clone()));
    assert_eq!(text_of(&store).await.as_ref(), Some(&text));
    assert_eq!(parts(&members), first.version.chunks);

    let again = apply(&store, &text, "pi2").await.unwrap();
    assert_eq!((again.is_new, again.version), (false, first.version.clone()));

    let second = apply(&store, &devices(7, "b"), "pi2").await.unwrap();
    assert_eq!((second.former, second.version.number), (text, 2));
    assert_eq!(parts(&members), 1, "those of the former version are gone");
    assert_eq!(store.sections(&first.version).await.unwrap(), None);

    let none = apply(&store, "", "pi2").await.unwrap();
    assert_eq!((none.version.number, none.version.chunks, parts(&members)), (3, 0, 0));
    assert_eq!(text_of(&store).await.as_deref(), Some(""));
}

#[tokio::test]
async fn a_reader_never_sees_a_half_while_two_nodes_apply() {
    let members = Members::start(3).await;
    let writers = ["pi1", "pi2"].map(|name| {
        let store = members.store();
        tokio::spawn(async move {
            let mut made = 0;
            for round in 0..15 {
                match apply(&store, &devices(9_000, &format!("{name}-{round}")), name).await {
                    Ok(applied) => made += usize::from(applied.is_new),
                    Err(EtcdError::OtherSections) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            made
        })
    });
    let store = members.store();
    let (mut seen, mut last) = (0, 0);
    while !writers.iter().all(|writer| writer.is_finished()) {
        let Some(version) = read(&store).await.config else { continue };
        assert!(version.number >= last, "{version:?} after {last}");
        last = version.number;
        let Ok(text) = store.sections(&version).await else { continue };
        let Some(text) = text else {
            let now = read(&store).await.config.unwrap();
            assert!(now.number > version.number, "a part is missing of {now:?}");
            continue;
        };
        let word = text.split('/').nth(1).unwrap();
        assert_eq!(text, devices(9_000, word), "of {version:?}");
        seen += 1;
    }
    let mut made = 0;
    for writer in writers {
        made += writer.await.unwrap();
    }
    assert!(seen > 0 && made > 0, "{seen} read of {made}");
    let version = read(&store).await.config.unwrap();
    assert_eq!(usize::try_from(version.number).unwrap(), made);
    println!("{made} versions of 30 applied, {seen} read");
}

#[tokio::test]
async fn whoever_ends_between_two_parts_leaves_the_former_version() {
    let members = Members::start(1).await;
    let former = devices(9_000, "former");
    let version = apply(&members.store(), &former, "pi1").await.unwrap().version;
    let store = members.store();
    let killed = tokio::spawn(async move { apply(&store, &devices(150_000, "b"), "pi2").await });
    // Nothing but this goes on while etcd is asked for its keys, so that the text is not complete.
    while parts(&members) == version.chunks {
        assert!(!killed.is_finished());
        tokio::task::yield_now().await;
    }
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    let store = members.store();
    assert_eq!(read(&store).await.config, Some(version));
    assert_eq!(text_of(&store).await, Some(former));
    let next = apply(&store, &devices(9_000, "next"), "pi1").await.unwrap().version;
    assert_eq!((next.number, parts(&members)), (2, next.chunks), "what was left is gone");
}
