//! Explains why a call on the bus failed, and builds the error reply.

use crate::request::Rejection;
use zbus::Message;
use zbus::message::Header;

/// The reason of a failed call.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    /// The caller may not command; with the reason.
    #[error("{0}")]
    Denied(String),
    /// The command was not carried out; with the reason.
    #[error("{0}")]
    Failed(String),
    /// No device has that name.
    #[error("{0}")]
    UnknownDevice(String),
    #[error("there is no object at {0}")]
    UnknownObject(String),
    #[error("this object has no interface `{0}`")]
    UnknownInterface(String),
    #[error("there is no method `{0}`")]
    UnknownMethod(String),
    #[error("there is no property `{0}`")]
    UnknownProperty(String),
    #[error("properties are read-only")]
    ReadOnly,
    #[error("`{0}` takes different arguments")]
    InvalidArguments(String),
    #[error("too many calls of this user are pending; wait for their answers")]
    TooMany,
    #[error("the call is too long")]
    TooLong,
}

impl BusError {
    /// Its name on the bus.
    fn name(&self) -> &'static str {
        match self {
            Self::Denied(_) => "org.iotmonitor.Error.Denied",
            Self::Failed(_) => "org.iotmonitor.Error.Failed",
            Self::UnknownDevice(_) => "org.iotmonitor.Error.UnknownDevice",
            Self::UnknownObject(_) => "org.freedesktop.DBus.Error.UnknownObject",
            Self::UnknownInterface(_) => "org.freedesktop.DBus.Error.UnknownInterface",
            Self::UnknownMethod(_) => "org.freedesktop.DBus.Error.UnknownMethod",
            Self::UnknownProperty(_) => "org.freedesktop.DBus.Error.UnknownProperty",
            Self::ReadOnly => "org.freedesktop.DBus.Error.PropertyReadOnly",
            Self::InvalidArguments(_) => "org.freedesktop.DBus.Error.InvalidArgs",
            Self::TooMany | Self::TooLong => "org.freedesktop.DBus.Error.LimitsExceeded",
        }
    }

    /// The error reply.
    pub fn reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&self.to_string())
    }
}

impl From<zbus::Error> for BusError {
    fn from(error: zbus::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Rejection> for BusError {
    fn from(rejection: Rejection) -> Self {
        let sentence = rejection.to_string();
        match rejection {
            Rejection::UnknownDevice(_) => Self::UnknownDevice(sentence),
            Rejection::UnknownAlert(_) => Self::Failed(sentence),
            Rejection::Failed(_) => Self::Failed(sentence),
        }
    }
}
