//! The meaning of the messages on a topic. It is decided by, in this order, a description, a
//! convention, and the shape of the topic together with the messages on it.

/// The role of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRole {
    /// The device reports by itself, whether or not anything happens.
    Telemetry,
    /// The device reports what it is set to, mostly when that changes.
    State,
    /// Something happened, such as motion or the press of a button.
    Event,
    /// Lines of a log, which a busy device writes and a healthy one need not write.
    Log,
    /// The device announces itself after its start.
    Hello,
    /// The birth message and the will of a device.
    Availability,
    /// Others send the device the value to take.
    Order,
    /// Others ask the device, or have it do something once.
    Request,
    /// A description of something, or a message that is not a device's sign of life.
    Description,
}

impl TopicRole {
    /// Returns whether a message is a sign of life that a watch may wait for.
    pub fn is_contact(self) -> bool {
        matches!(self, Self::Telemetry | Self::State | Self::Event)
    }

    /// Returns whether it is others that publish on the topic.
    pub fn is_said_to_it(self) -> bool {
        matches!(self, Self::Order | Self::Request)
    }

    /// Returns the role of a topic to which a description gives the role `described`, and a
    /// convention or its shape the role `self`.
    pub fn decided_by(self, described: Option<Self>) -> Self {
        match described {
            Some(Self::Order | Self::Request) if self.is_said_to_it() => {
                self.max(described.unwrap_or(self))
            }
            Some(described) if described.is_said_to_it() => described,
            Some(Self::Availability) if self.is_contact() => Self::Availability,
            Some(described)
                if described.is_contact() && (self.is_contact() || self.is_said_to_it()) =>
            {
                described
            }
            _ => self,
        }
    }
}
