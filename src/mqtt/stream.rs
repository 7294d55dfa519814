//! The streams that carry MQTT: TCP, TLS, a websocket or a Unix socket.

/// A stream that carries MQTT.
pub(super) type Stream = Box<dyn rumqttc_core::AsyncReadWrite>;
