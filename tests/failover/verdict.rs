//! What became of the simulated devices in one round.

use super::broker_log::Published;
use super::devices::{CLIENT, Device, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong, in words, and how much there was that could have been wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lost: Vec<String>,
    pub twice: Vec<String>,
    pub false_alarms: Vec<String>,
    pub missed_alarms: Vec<String>,
    /// States that were to be given back after a hello.
    pub asked: usize,
    /// Devices that fell silent.
    pub silent: usize,
    /// Recorded states that were compared, on all nodes.
    pub compared: usize,
}

impl Verdict {
    /// Everything that is wrong.
    pub fn wrong(&self) -> impl Iterator<Item = String> + '_ {
        let all = [&self.lost, &self.twice, &self.false_alarms, &self.missed_alarms];
        all.into_iter().flatten().cloned()
    }

    /// What was missing of a hello's answer, and what has alarmed, by what was published.
    pub fn of(devices: &[Device], published: &[Published]) -> Self {
        let mut verdict = Self::default();
        for device in devices {
            let Device { name, .. } = device;
            match device.kind {
                Kind::Steady if alarms(published, name) > 0 => {
                    verdict.false_alarms.push(format!("{name} has expired, but was never silent"));
                }
                Kind::Steady => {}
                Kind::Fickle => {
                    verdict.silent += 1;
                    if alarms(published, name) == 0 {
                        verdict.missed_alarms.push(format!("{name} is silent and has not expired"));
                    }
                }
                Kind::Asking => verdict.judge_answers(device, published),
            }
        }
        verdict
    }

    fn judge_answers(&mut self, device: &Device, published: &[Published]) {
        let changing = device.changing_state();
        for (topic, nodes) in answers(device, published) {
            // What changes just then is rightly not given back.
            let is_asked = topic != changing;
            self.asked += usize::from(is_asked);
            match nodes.len() {
                0 if is_asked => {
                    self.lost.push(format!("{topic} was not given back after a hello"))
                }
                0 | 1 => {}
                _ => self.twice.push(format!("{topic} was given back by {nodes:?}")),
            }
        }
    }
}

/// Whether each hello has an answer, and each silent device an alarm.
pub fn is_complete(devices: &[Device], published: &[Published]) -> bool {
    let Verdict { lost, missed_alarms, .. } = Verdict::of(devices, published);
    lost.is_empty() && missed_alarms.is_empty()
}

/// How often a device has expired.
fn alarms(published: &[Published], name: &str) -> usize {
    let topic = format!("home/monitoring/expire/{name}");
    published.iter().filter(|it| it.topic == topic).count()
}

/// The nodes that have restored each state of a device after its hello. What the nodes restore before
/// it, such as after a restart of the monitor, is no answer.
fn answers(device: &Device, published: &[Published]) -> BTreeMap<String, BTreeSet<String>> {
    let hello = device.hello();
    let mut from_there_on = published.iter().skip_while(|it| it.topic != hello);
    if from_there_on.next().is_none() {
        return BTreeMap::new();
    }
    let mut answers = BTreeMap::from(device.states().map(|topic| (topic, BTreeSet::new())));
    for Published { client, topic } in from_there_on.filter(|it| it.client != CLIENT) {
        if let Some(nodes) = answers.get_mut(topic) {
            nodes.insert(client.clone());
        }
    }
    answers
}

/// Tries [`Verdict::of`].
pub fn check() {
    let all = Device::all();
    let one_of = |kind| all.iter().find(|device| device.kind == kind).expect("there are some");
    let [steady, fickle, asking] = [Kind::Steady, Kind::Fickle, Kind::Asking].map(one_of);
    let devices = [steady, fickle, asking].map(Clone::clone);
    let says = |client: &str, topic: &str| Published { client: client.into(), topic: topic.into() };
    let alarm = |device: &Device| {
        says("iotmonitor@pi1", &format!("home/monitoring/expire/{}", device.name))
    };
    let hello = says(CLIENT, &asking.hello());
    let [a, b, c] = asking.states();
    let [first, second] = ["iotmonitor@pi1-states", "iotmonitor@pi2-states"];
    let counts = |published: &[Published]| {
        let verdict = Verdict::of(&devices, published);
        [verdict.lost, verdict.twice, verdict.false_alarms, verdict.missed_alarms]
            .map(|wrong| wrong.len())
    };
    let good = [says(first, &a), hello.clone(), says(first, &a), says(first, &b), alarm(fickle)];
    assert_eq!(counts(&good), [0; 4]);
    assert_eq!(counts(&[]), [0, 0, 0, 1]);
    let bad = [hello, says(CLIENT, &b), says(first, &a), says(second, &a), alarm(steady)];
    assert_eq!(counts(&bad), [1, 1, 1, 1]);
    let both = [&good[..], &[says(first, &c), says(second, &c)]].concat();
    assert_eq!(counts(&both), [0, 1, 0, 0], "what changes is given back by one at most");
    let halves = [&good[..3], &[says(second, &b), alarm(fickle)]].concat();
    assert_eq!(counts(&halves), [0; 4], "the second node goes on where the first one ended");
}
