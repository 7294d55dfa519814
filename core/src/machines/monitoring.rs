//! Whether a device is monitored: what its section says, what a person has chosen, and whether
//! another node has it.
//!
//! It takes one byte, because there are very many devices, and answers with one look, because each
//! message asks.

/// Whether this node monitors a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitoring(u8);

const BY_SECTION: u8 = 1;
const IS_CHOSEN: u8 = 1 << 1;
const BY_CHOICE: u8 = 1 << 2;
const IS_ELSEWHERE: u8 = 1 << 3;
/// Follows from the others.
const IS_ACTIVE: u8 = 1 << 4;
const IS_SAID_DOWN: u8 = 1 << 5;

impl Monitoring {
    /// Of a device on this node about which nobody has chosen anything.
    #[must_use]
    pub fn new(by_section: bool) -> Self {
        Self(if by_section { BY_SECTION } else { 0 }).settled()
    }

    /// Whether this node monitors it.
    #[must_use]
    pub fn is_active(self) -> bool {
        self.has(IS_ACTIVE)
    }

    /// Whether it is to be monitored by whichever node has it.
    #[must_use]
    pub fn is_wanted(self) -> bool {
        self.choice().unwrap_or(self.by_section())
    }

    /// What its section says.
    #[must_use]
    pub fn by_section(self) -> bool {
        self.has(BY_SECTION)
    }

    /// A person's choice, which takes precedence over the section.
    #[must_use]
    pub fn choice(self) -> Option<bool> {
        self.has(IS_CHOSEN).then(|| self.has(BY_CHOICE))
    }

    /// Whether another node has it, or none has it at the moment.
    #[must_use]
    pub fn is_elsewhere(self) -> bool {
        self.has(IS_ELSEWHERE)
    }

    pub fn choose(&mut self, choice: Option<bool>) {
        let others = self.0 & !(IS_CHOSEN | BY_CHOICE);
        let choice = match choice {
            None => 0,
            Some(false) => IS_CHOSEN,
            Some(true) => IS_CHOSEN | BY_CHOICE,
        };
        *self = Self(others | choice).settled();
    }

    pub fn set_elsewhere(&mut self, is_elsewhere: bool) {
        let others = self.0 & !IS_ELSEWHERE;
        *self = Self(others | if is_elsewhere { IS_ELSEWHERE } else { 0 }).settled();
    }

    /// Whether the node that has it says that what depends on it cannot be heard.
    #[must_use]
    pub fn is_said_down(self) -> bool {
        self.has(IS_SAID_DOWN)
    }

    /// Returns whether that has changed.
    pub fn say_down(&mut self, is_down: bool) -> bool {
        let before = self.is_said_down();
        self.0 = self.0 & !IS_SAID_DOWN | if is_down { IS_SAID_DOWN } else { 0 };
        before != is_down
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn settled(self) -> Self {
        let is_active = self.is_wanted() && !self.is_elsewhere();
        Self(self.0 & !IS_ACTIVE | if is_active { IS_ACTIVE } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_monitored_where_it_is_and_as_it_was_chosen_last() {
        for by_section in [false, true] {
            for choice in [None, Some(false), Some(true)] {
                for is_elsewhere in [false, true] {
                    let mut monitoring = Monitoring::new(by_section);
                    assert_eq!(monitoring.is_active(), by_section);
                    monitoring.set_elsewhere(!is_elsewhere);
                    monitoring.choose(Some(true));
                    monitoring.choose(choice);
                    monitoring.set_elsewhere(is_elsewhere);
                    let is_wanted = choice.unwrap_or(by_section);
                    assert_eq!(
                        (monitoring.choice(), monitoring.by_section()),
                        (choice, by_section)
                    );
                    assert_eq!(monitoring.is_wanted(), is_wanted);
                    assert_eq!(monitoring.is_elsewhere(), is_elsewhere);
                    assert_eq!(monitoring.is_active(), is_wanted && !is_elsewhere);
                    let before = monitoring;
                    assert!(monitoring.say_down(true) && !monitoring.say_down(true));
                    assert!(monitoring.is_said_down() && monitoring.say_down(false));
                    assert_eq!(monitoring, before, "the rest stays");
                }
            }
        }
    }
}
