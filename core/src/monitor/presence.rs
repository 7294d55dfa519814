//! Whether a message shows that a device exists of which nothing is known yet.

use crate::machines::availability::{Availability, Word};
use crate::model::message::Message;
use crate::model::sparkplug::Certificate;
use crate::model::spec::DeviceSpec;

/// Whether a message is a will, or a word of the same meaning. The broker sends it.
fn is_death(spec: &DeviceSpec, message: &Message) -> bool {
    Certificate::of(&message.topic).is_some_and(Certificate::is_death)
        || matches!(word_of(spec, message), Word::Gone { .. })
}

/// Whether a message says nothing about whether its device exists: a will, or an empty payload, by
/// which anybody removes what the broker retains. Many a device says hello with an empty payload.
pub(super) fn tells_nothing(spec: &DeviceSpec, message: &Message) -> bool {
    let is_hello = || spec.hello.as_ref().is_some_and(|hello| hello.matches(&message.topic));
    is_death(spec, message) || (message.payload.is_empty() && !is_hello())
}

/// What a message reports about the device's availability.
fn word_of(spec: &DeviceSpec, message: &Message) -> Word {
    let source = spec.availability.iter().position(|topic| *topic == message.topic);
    let Some(source) = source.and_then(|at| u8::try_from(at).ok()) else { return Word::Nothing };
    let availability = Availability::new(&spec.availability, spec.availability_words.clone());
    availability.reads(source, &message.topic, &message.payload)
}

/// Whether a live message on a topic of its fleet shows that the device exists.
pub(super) fn shows_presence(spec: &DeviceSpec, message: &Message) -> bool {
    if tells_nothing(spec, message) {
        return false;
    }
    let is_contact = spec.watch.iter().chain(&spec.hello).any(|own| own.matches(&message.topic));
    let is_birth = Certificate::of(&message.topic).is_some() && !spec.availability.is_empty();
    is_contact || is_birth || matches!(word_of(spec, message), Word::Here { .. })
}
