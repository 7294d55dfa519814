//! What a device states on its `availabilityTopic`: its birth message and its will.
//!
//! The broker publishes a will when the device's connection breaks, so that the device is known to
//! be gone at once. Here a retained message counts too: an old retained message never counts as
//! contact, but a retained will shows that the device is gone. It may, however, belong to another
//! connection, because many devices retain their will and not their birth message. So a replayed
//! will that the device has contradicted shows nothing, and one of which nothing is known is
//! doubted where the device may be talking all the while.
//!
//! With several topics a device is gone as long as any of them reports it gone.

mod sparkplug;

use crate::model::availability_words::{OwnWords, says};
use crate::model::snapshot::{DeviceRecord, SourceRecord};
use crate::model::sparkplug::Certificate;
use crate::topic::TopicName;
use std::time::Duration;

/// The first message from behind a gateway within this time after its return may come from its
/// memory.
const FROM_MEMORY: Duration = Duration::from_secs(60);

/// A doubted will is believed after this much silence at the latest.
pub const LONGEST_DOUBT: Duration = Duration::from_secs(600);

/// The availability of one device.
#[derive(Debug, Clone)]
pub struct Availability {
    sources: Box<[WordSource]>,
    own_words: Option<Box<OwnWords>>,
    /// The watched time of the last new report that the device is gone, since its last contact.
    confirmed_at: Option<Duration>,
    /// The watched time at which the last doubt arose.
    doubted_at: Duration,
}

/// One topic, or in Sparkplug all topics about the same object.
#[derive(Debug, Clone, Default)]
struct WordSource {
    /// The last report; `None` before any, and when a later contact contradicts it.
    word: Option<bool>,
    /// The broker may still retain that the device is gone, although it spoke after that.
    is_belied: bool,
    /// The broker also retains birth messages, so the last message it retains is current.
    retains_births: bool,
    /// Only a replay reports the device gone, and nothing was known before.
    is_doubted: bool,
    /// It is a device behind a node of Sparkplug.
    is_behind_node: bool,
    /// Of the node's last birth certificate.
    birth: Option<u64>,
}

/// The meaning of a message on one of the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The broker or a gateway reports that the device is gone; where there are numbers, since that
    /// birth.
    Gone {
        birth: Option<u64>,
    },
    Here {
        birth: Option<u64>,
    },
    /// The node that the device is behind was born.
    NodeHere {
        birth: Option<u64>,
    },
    /// Neither of the two.
    Other,
    /// The retained message is removed.
    Nothing,
}

/// How a message was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    pub is_replay: bool,
    /// The topic covers other devices, too: the message does not come from the device itself.
    pub is_shared: bool,
    /// Silence has a deadline, so a doubt can be waited out.
    pub can_wait: bool,
    pub watched: Duration,
}

/// The meaning of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub meaning: WordMeaning,
    /// It adds new knowledge.
    pub is_news: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordMeaning {
    Gone,
    /// The device is gone unless it speaks.
    Doubted,
    /// The device itself reports it, which is a contact.
    Here,
    /// It came back while the monitor was not listening, or another device reports it.
    Returned,
    /// It was there at some time, or not, which shows nothing.
    Nothing,
}

impl Availability {
    #[must_use]
    pub fn new(topics: &[TopicName], own_words: Option<Box<OwnWords>>) -> Self {
        let source = |topic: &TopicName| {
            let certificate = Certificate::of(topic);
            let of_device = [Some(Certificate::DeviceBirth), Some(Certificate::DeviceDeath)];
            WordSource { is_behind_node: of_device.contains(&certificate), ..WordSource::default() }
        };
        let sources = topics.iter().map(source).collect();
        Self { sources, own_words, confirmed_at: None, doubted_at: Duration::ZERO }
    }

    /// Interprets a message on the topic with this number, or on a related one.
    #[must_use]
    pub fn reads(&self, source: u8, topic: &TopicName, payload: &[u8]) -> Word {
        if let Some(certificate) = Certificate::of(topic) {
            let birth = sparkplug::birth_number(payload);
            return match certificate {
                Certificate::NodeDeath => Word::Gone { birth },
                Certificate::NodeBirth if self.is_behind_node(source) => Word::NodeHere { birth },
                Certificate::NodeBirth => Word::Here { birth },
                Certificate::DeviceDeath => Word::Gone { birth: None },
                Certificate::DeviceBirth => Word::Here { birth: None },
            };
        }
        let said = match &self.own_words {
            Some(own) => own.says(payload),
            None => says(payload),
        };
        match said {
            Some(false) => Word::Gone { birth: None },
            Some(true) => Word::Here { birth: None },
            None if payload.is_empty() => Word::Nothing,
            None => Word::Other,
        }
    }

    fn is_behind_node(&self, source: u8) -> bool {
        self.sources.get(usize::from(source)).is_some_and(|source| source.is_behind_node)
    }

    /// Judges a report on the topic with this number, and remembers it.
    pub fn judge(&mut self, number: u8, word: Word, hearing: Hearing) -> Verdict {
        let was_gone = self.is_gone();
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return NOTHING };
        let before = source.word;
        match word {
            Word::Nothing => return NOTHING,
            Word::Other if hearing.is_replay => return NOTHING,
            Word::NodeHere { birth } => {
                source.birth = birth;
                return NOTHING;
            }
            Word::Gone { birth } => {
                let verdict = source.gone(birth, hearing);
                if verdict.is_some_and(|verdict| !verdict.is_news) && !hearing.is_replay {
                    self.confirmed_at = Some(hearing.watched);
                }
                if self.is_doubted() && verdict.is_some_and(|verdict| verdict.is_news) {
                    self.doubted_at = hearing.watched;
                }
                return verdict.unwrap_or(NOTHING);
            }
            Word::Here { birth } => source.here(birth, hearing.is_replay),
            Word::Other => source.here(None, false),
        }
        let is_there = !self.is_gone();
        let speaks = !hearing.is_replay && !hearing.is_shared;
        let meaning = match is_there {
            true if speaks => WordMeaning::Here,
            true if was_gone => WordMeaning::Returned,
            true | false => WordMeaning::Nothing,
        };
        Verdict { meaning, is_news: before != Some(true) }
    }

    /// A contact contradicts that the device is gone.
    pub fn heard(&mut self) {
        self.sources.iter_mut().for_each(WordSource::belie);
        self.confirmed_at = None;
    }

    /// Whether a new report stated that the device is gone, since its last contact.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed_at.is_some()
    }

    /// Whether a contact that comes now may be from the memory of a gateway that came back then: it
    /// is the first after a new report that the device is gone. The next one is not affected.
    pub fn is_from_memory(&mut self, returned_at: Duration, watched: Duration) -> bool {
        let is_confirmed = self.confirmed_at.is_some_and(|at| at >= returned_at);
        let is_recent = watched <= returned_at + FROM_MEMORY;
        if is_confirmed && is_recent {
            self.confirmed_at = None;
        }
        is_confirmed && is_recent
    }

    /// The doubt was waited out, or the silence has become too long; returns whether there was a
    /// doubt.
    pub fn believe(&mut self) -> bool {
        let mut was_doubted = false;
        for source in &mut self.sources {
            was_doubted |= std::mem::take(&mut source.is_doubted);
        }
        was_doubted
    }

    /// Whether the device is reported gone, and the report is not doubted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.sources.iter().any(|source| source.word == Some(false) && !source.is_doubted)
    }

    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.sources.iter().any(|source| source.is_doubted)
    }

    /// The watched time since which it is doubted that the device is gone, if it is.
    #[must_use]
    pub fn doubted_since(&self) -> Option<Duration> {
        self.is_doubted().then_some(self.doubted_at)
    }

    /// Whether the device is reported present.
    #[must_use]
    pub fn is_here(&self) -> bool {
        !self.is_gone() && self.sources.iter().any(|source| source.word == Some(true))
    }

    /// Continues from an earlier run, where this one has no newer knowledge.
    pub fn resume(&mut self, record: &DeviceRecord, has_spoken: bool) {
        if record.availability.len() == self.sources.len() {
            for (source, before) in self.sources.iter_mut().zip(&record.availability) {
                source.resume(before, has_spoken);
            }
        } else if record.offline
            && let Some(source) = self.sources.first_mut()
        {
            source
                .resume(&SourceRecord { here: Some(false), ..SourceRecord::default() }, has_spoken);
        }
    }

    /// Continues from the device of the same name in the previous configuration.
    pub fn inherit(&mut self, before: Self) {
        if before.sources.len() == self.sources.len() {
            self.sources = before.sources;
            (self.confirmed_at, self.doubted_at) = (before.confirmed_at, before.doubted_at);
        } else if before.is_gone()
            && let Some(source) = self.sources.first_mut()
        {
            source.word = Some(false);
        }
    }

    /// The part that the store keeps.
    #[must_use]
    pub fn record(&self) -> Vec<SourceRecord> {
        self.sources.iter().map(WordSource::record).collect()
    }
}

const NOTHING: Verdict = Verdict { meaning: WordMeaning::Nothing, is_news: false };

impl WordSource {
    /// Returns `None` when the report shows nothing.
    fn gone(&mut self, birth: Option<u64>, hearing: Hearing) -> Option<Verdict> {
        let is_of_another = birth.is_some() && self.birth.is_some() && birth != self.birth;
        if is_of_another || hearing.is_replay && self.is_belied {
            return None;
        }
        let is_news = self.word.replace(false) != Some(false);
        self.is_belied = false;
        if !hearing.is_replay {
            self.is_doubted = false;
        } else if is_news {
            // The birth message after it may not be retained.
            self.is_doubted = hearing.can_wait && !self.retains_births;
        }
        let meaning = if self.is_doubted { WordMeaning::Doubted } else { WordMeaning::Gone };
        Some(Verdict { meaning, is_news })
    }

    fn here(&mut self, birth: Option<u64>, is_replay: bool) {
        self.birth = birth.or(self.birth);
        self.retains_births |= is_replay;
        self.belie();
        self.is_belied &= !self.retains_births;
        self.word = Some(true);
    }

    fn belie(&mut self) {
        if self.word == Some(false) {
            self.word = None;
            self.is_belied = true;
            self.is_doubted = false;
        }
    }

    fn resume(&mut self, before: &SourceRecord, has_spoken: bool) {
        self.birth = self.birth.or(before.birth);
        self.retains_births |= before.retains_births;
        let was_gone = before.here == Some(false);
        match self.word {
            None if self.is_belied => {}
            None => {
                (self.word, self.is_belied) = (before.here, before.is_belied);
                if has_spoken {
                    self.belie();
                }
            }
            Some(true) => self.is_belied |= !self.retains_births && (before.is_belied || was_gone),
            Some(false) if self.is_doubted && before.is_belied => self.belie(),
            Some(false) => self.is_doubted &= !was_gone && !self.retains_births,
        }
    }

    fn record(&self) -> SourceRecord {
        SourceRecord {
            // A doubt is resolved again after a restart.
            here: self.word.filter(|_| !self.is_doubted),
            is_belied: self.is_belied,
            retains_births: self.retains_births,
            birth: self.birth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device_name::DeviceName;

    const T: fn(u64) -> Duration = Duration::from_secs;
    const GONE: Word = Word::Gone { birth: None };
    const HERE: Word = Word::Here { birth: None };
    const LIVE: Hearing =
        Hearing { is_replay: false, is_shared: false, can_wait: true, watched: Duration::ZERO };
    const REPLAY: Hearing = Hearing { is_replay: true, ..LIVE };

    fn of(topics: &[&str]) -> Availability {
        let topics: Vec<TopicName> =
            topics.iter().map(|topic| TopicName::new(*topic).unwrap()).collect();
        Availability::new(&topics, None)
    }

    fn lamp() -> Availability {
        of(&["lamp/LWT"])
    }

    /// The meanings of consecutive reports.
    fn meanings(device: &mut Availability, words: &[(Word, Hearing)]) -> Vec<WordMeaning> {
        words.iter().map(|(word, hearing)| device.judge(0, *word, *hearing).meaning).collect()
    }

    #[test]
    fn the_last_word_counts_until_a_contact_belies_it() {
        let mut device = lamp();
        assert_eq!(meanings(&mut device, &[(GONE, LIVE), (GONE, REPLAY)]), [WordMeaning::Gone; 2]);
        device.heard();
        assert!(!device.is_gone() && !device.is_here());
        assert_eq!(meanings(&mut device, &[(GONE, REPLAY), (HERE, LIVE)])[1], WordMeaning::Here);
        device.heard();
        assert!(device.is_here());
        assert_eq!(
            meanings(&mut device, &[(GONE, LIVE), (Word::Nothing, LIVE)])[0],
            WordMeaning::Gone
        );
        assert!(device.is_gone(), "clearing the retained message reports nothing");
        assert_eq!(meanings(&mut device, &[(Word::Other, LIVE)]), [WordMeaning::Here]);
    }

    #[test]
    fn a_belied_will_is_no_news_when_it_is_replayed_but_it_is_when_it_is_live() {
        let mut device = lamp();
        meanings(&mut device, &[(GONE, LIVE), (HERE, LIVE)]);
        assert_eq!(meanings(&mut device, &[(GONE, REPLAY)]), [WordMeaning::Nothing]);
        assert_eq!(meanings(&mut device, &[(GONE, LIVE)]), [WordMeaning::Gone]);
        // Where birth messages are retained, too, the broker's retained message is the newest.
        meanings(&mut device, &[(HERE, REPLAY), (GONE, LIVE), (HERE, LIVE)]);
        assert_eq!(meanings(&mut device, &[(GONE, REPLAY)]), [WordMeaning::Gone]);
    }

    #[test]
    fn a_replayed_will_of_which_nothing_is_known_is_doubted_where_that_can_be_waited_out() {
        let mut device = lamp();
        assert_eq!(
            device.judge(0, GONE, REPLAY),
            Verdict { meaning: WordMeaning::Doubted, is_news: true }
        );
        assert!(device.is_doubted() && !device.is_gone());
        assert!(device.believe() && device.is_gone() && !device.believe());
        let mut device = lamp();
        let hearing = Hearing { can_wait: false, ..REPLAY };
        assert_eq!(meanings(&mut device, &[(GONE, hearing)]), [WordMeaning::Gone]);
        let mut device = lamp();
        meanings(&mut device, &[(GONE, REPLAY)]);
        device.heard();
        assert_eq!(meanings(&mut device, &[(GONE, REPLAY)]), [WordMeaning::Nothing]);
    }

    #[test]
    fn a_device_is_gone_as_long_as_any_of_its_topics_says_so() {
        let mut device = of(&["bridge/state", "lamp/availability"]);
        let judge = |device: &mut Availability, number, word, hearing| {
            device.judge(number, word, hearing).meaning
        };
        let shared = Hearing { is_shared: true, ..LIVE };
        assert_eq!(judge(&mut device, 0, HERE, shared), WordMeaning::Nothing, "that is the bridge");
        assert_eq!(judge(&mut device, 0, GONE, shared), WordMeaning::Gone);
        assert_eq!(judge(&mut device, 1, GONE, LIVE), WordMeaning::Gone);
        assert_eq!(judge(&mut device, 0, HERE, shared), WordMeaning::Nothing);
        assert!(device.is_gone());
        assert_eq!(judge(&mut device, 1, HERE, REPLAY), WordMeaning::Returned);
        assert_eq!(judge(&mut device, 0, GONE, shared), WordMeaning::Gone);
        assert_eq!(judge(&mut device, 0, HERE, shared), WordMeaning::Returned);
        assert_eq!(judge(&mut device, 7, GONE, LIVE), WordMeaning::Nothing);
    }

    #[test]
    fn the_first_contact_after_a_gateways_return_may_be_from_its_memory() {
        let reported_again = |at| {
            let mut device = lamp();
            device.judge(0, GONE, LIVE);
            device.judge(0, GONE, Hearing { watched: T(at), ..LIVE });
            device
        };
        let mut device = reported_again(100);
        assert!(device.is_from_memory(T(90), T(150)) && !device.is_from_memory(T(90), T(150)));
        assert!(!reported_again(100).is_from_memory(T(90), T(151)), "that is long ago");
        assert!(!reported_again(80).is_from_memory(T(90), T(91)), "it was said before the return");
        let mut device = lamp();
        device.judge(0, GONE, Hearing { watched: T(100), ..LIVE });
        assert!(!device.is_from_memory(T(90), T(101)), "it was said once");
    }

    #[test]
    fn a_death_certificate_of_an_earlier_birth_is_late() {
        let mut node = of(&["spBv1.0/p/NDEATH/n"]);
        let (gone, here) = (|n| Word::Gone { birth: Some(n) }, |n| Word::Here { birth: Some(n) });
        assert_eq!(meanings(&mut node, &[(gone(3), LIVE), (here(4), LIVE)])[0], WordMeaning::Gone);
        assert_eq!(meanings(&mut node, &[(gone(3), LIVE)]), [WordMeaning::Nothing]);
        assert_eq!(meanings(&mut node, &[(gone(4), LIVE)]), [WordMeaning::Gone]);
        let topic = |kind: &str| TopicName::new(format!("spBv1.0/p/{kind}")).unwrap();
        assert_eq!(node.reads(0, &topic("NBIRTH/n"), b""), Word::Here { birth: None });
        let device = of(&["spBv1.0/p/DDEATH/n/d"]);
        assert_eq!(device.reads(0, &topic("NBIRTH/n"), b""), Word::NodeHere { birth: None });
        assert_eq!(device.reads(0, &topic("DBIRTH/n/d"), b""), HERE);
        assert_eq!(device.reads(0, &topic("DDEATH/n/d"), b""), GONE);
        assert_eq!(device.reads(0, &topic("NDEATH/n"), b""), GONE);
    }

    #[test]
    fn an_earlier_run_is_gone_on_with() {
        let record = |device: &Availability| DeviceRecord {
            offline: device.is_gone(),
            availability: device.record(),
            ..DeviceRecord::new(DeviceName::new("lamp").unwrap())
        };
        let mut before = lamp();
        before.judge(0, GONE, LIVE);
        // The earlier report is known, whichever comes first, the replay or the store.
        let mut device = lamp();
        device.judge(0, GONE, REPLAY);
        device.resume(&record(&before), false);
        assert!(device.is_gone() && !device.is_doubted());
        let mut device = lamp();
        device.resume(&record(&before), true);
        assert!(!device.is_gone(), "it has spoken in this run");
        assert_eq!(meanings(&mut device, &[(GONE, REPLAY)]), [WordMeaning::Nothing]);
        // Versions before 0.4.0 kept no more than this.
        let mut device = lamp();
        device.resume(&DeviceRecord { availability: Vec::new(), ..record(&before) }, false);
        assert!(device.is_gone());

        before.heard();
        let mut device = lamp();
        device.judge(0, GONE, REPLAY);
        device.resume(&record(&before), false);
        assert!(!device.is_gone() && !device.is_doubted(), "it was belied");

        let mut elsewhere = of(&[]);
        elsewhere.resume(&record(&before), false);
        assert!(!elsewhere.is_gone() && elsewhere.record().is_empty());
    }
}
