//! The tree of objects: the meaning of each path, and the description of each object.
//!
//! Nothing is registered: a device's object is derived from its path, so ten thousand of them cost
//! nothing until a caller asks.

use super::PATH;
use iotmonitor_core::model::device_name::DeviceName;

pub(super) const MONITOR: &str = super::NAME;
pub(super) const DEVICE: &str = "org.iotmonitor.Device1";
pub(super) const AGENT: &str = "org.iotmonitor.Agent1";
pub(super) const PEER: &str = "org.freedesktop.DBus.Peer";
pub(super) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The prefix of a device's name in its object's path.
const DEVICES: &str = "/org/iotmonitor/Monitor1/device";

const MONITOR_XML: &str =
    include_str!("../../systemd/usr/share/dbus-1/interfaces/org.iotmonitor.Monitor1.xml");
const DEVICE_XML: &str =
    include_str!("../../systemd/usr/share/dbus-1/interfaces/org.iotmonitor.Device1.xml");
const AGENT_XML: &str =
    include_str!("../../systemd/usr/share/dbus-1/interfaces/org.iotmonitor.Agent1.xml");

/// The interfaces that every object has (D-Bus specification, "Standard Interfaces").
const STANDARD_XML: &str = r#"  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg name="machine_uuid" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg name="xml_data" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="properties" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"#;

/// The meaning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    /// An object that only has this child.
    Ancestor(&'static str),
    Monitor,
    /// The parent of all devices.
    Devices,
    /// The device or agent of this name, if there is one.
    Device(DeviceName),
}

impl Object {
    /// Returns `None` when no object can have this path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Ancestor("org")),
            "/org" => Some(Self::Ancestor("iotmonitor")),
            "/org/iotmonitor" => Some(Self::Ancestor("Monitor1")),
            PATH => Some(Self::Monitor),
            DEVICES => Some(Self::Devices),
            _ => {
                let label = path.strip_prefix(DEVICES)?.strip_prefix('/')?;
                let name = DeviceName::new(unescape(label)?).ok()?;
                // Each object has one path.
                (escape(name.as_str()) == label).then_some(Self::Device(name))
            }
        }
    }
}

/// The path of a device's object.
pub(super) fn device_path(name: &str) -> String {
    format!("{DEVICES}/{}", escape(name))
}

/// Encodes a string as one element of an object's path, as sd_bus_path_encode(3) does: each byte
/// that is not an ASCII letter or digit, and a digit at the beginning, becomes `_` and two hex
/// digits.
pub(super) fn escape(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let mut label = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            label.push(char::from(byte));
        } else {
            label.push_str(&format!("_{byte:02x}"));
        }
    }
    label
}

/// The string whose [`escape`]d form this is.
pub(super) fn unescape(label: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'_' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// The interfaces that an object has besides the standard ones.
pub(super) fn interfaces(object: &Object, is_agent: bool) -> &'static [&'static str] {
    match object {
        Object::Ancestor(_) | Object::Devices => &[],
        Object::Monitor => &[MONITOR],
        Object::Device(_) if is_agent => &[DEVICE, AGENT],
        Object::Device(_) => &[DEVICE],
    }
}

/// The answer to Introspect: these interfaces, and these children by their path elements.
pub(super) fn introspection<C: AsRef<str>>(interfaces: &[&str], children: &[C]) -> String {
    let mut xml = String::from(concat!(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n",
        "  \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n"
    ));
    xml.push_str(STANDARD_XML);
    for interface in interfaces {
        xml.push_str(interface_element(interface));
    }
    for child in children {
        xml.push_str(&format!("  <node name=\"{}\"/>\n", child.as_ref()));
    }
    xml.push_str("</node>\n");
    xml
}

/// The part of the interface's file that describes this interface.
fn interface_element(interface: &str) -> &'static str {
    let file = match interface {
        DEVICE => DEVICE_XML,
        AGENT => AGENT_XML,
        _ => MONITOR_XML,
    };
    let start = file.find("  <interface").unwrap_or_default();
    let end = file.find("</node>").unwrap_or(file.len());
    &file[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_path_and_every_path_its_name() {
        for (name, label) in
            [("lamp", "lamp"), ("2nd", "_32nd"), ("my-lamp", "my_2dlamp"), ("ü_ ", "_c3_bc_5f_20")]
        {
            assert_eq!(escape(name), label);
            let object = Object::Device(DeviceName::new(name).unwrap());
            assert_eq!(Object::at(&device_path(name)), Some(object));
        }
        for nothing in ["_", "_6", "_zz", "_ff", "_61", "a/b", "_2f", ""] {
            assert_eq!(Object::at(&format!("{DEVICES}/{nothing}")), None, "{nothing}");
        }
        for path in ["/com", "/org/iotmonitor/Monitor2", "/org/iotmonitor/Monitor1/devices"] {
            assert_eq!(Object::at(path), None, "{path}");
        }
    }

    #[test]
    fn the_files_describe_the_interfaces_that_they_are_named_after() {
        for interface in [MONITOR, DEVICE, AGENT] {
            let element = interface_element(interface);
            assert!(element.contains(&format!("<interface name=\"{interface}\">")), "{element}");
            assert!(element.trim_end().ends_with("</interface>"), "{element}");
        }
    }
}
