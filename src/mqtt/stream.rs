//! What MQTT is spoken over: TCP, TLS, a websocket or a Unix socket.

/// What MQTT is spoken over.
pub(super) type Stream = Box<dyn rumqttc_core::AsyncReadWrite>;
