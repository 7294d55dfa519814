//! Programs to compare with, each a process of its own: this one, called with the program's name.
//!
//! `decode` decodes with the codec that the monitor uses and does nothing else, `split` only separates
//! packets, `loop` is the event loop of rumqttc-next whose events are ignored.

use crate::client::{Client, frame_length};
use crate::common::fleet::MQTT_5;
use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, MqttOptions};
use std::hint::black_box;
use std::process::{Child, Command, Stdio};

/// The line of the broker's log that shows that `mosquitto_sub` has subscribed.
pub const CLIENT_ID: &str = "reference";
pub const STREAM: &str = "b/#";

/// What the watch connection of so many devices subscribes to.
pub fn watch_filters(devices: usize) -> Vec<String> {
    let filters = |device| [format!("b/d{device}/sensors/#"), format!("b/d{device}/hello")];
    (0..devices).flat_map(filters).collect()
}

/// Starts one of them or `mosquitto_sub`, to end after so many messages. With `devices` it
/// subscribes to as many filters as a monitor of so many, and otherwise to one.
pub fn start(
    wrapper: &[String],
    name: &str,
    port: u16,
    messages: usize,
    devices: Option<usize>,
) -> Child {
    let (port, messages) = (port.to_string(), messages.to_string());
    let mut words = wrapper.to_vec();
    let mut output = Stdio::piped();
    if name == "mosquitto_sub" {
        let arguments = [name, "-h", "127.0.0.1", "-p", &port, "-i", CLIENT_ID, "-t", STREAM];
        words.extend(arguments.map(str::to_owned));
        words.extend(["-C".to_owned(), messages]);
        output = Stdio::null();
    } else {
        let this = std::env::current_exe().expect("Linux knows it");
        words.extend([this.display().to_string(), name.to_owned(), port, messages]);
        words.extend(devices.map(|devices| devices.to_string()));
    }
    Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(output)
        .spawn()
        .expect("taskset and mosquitto_sub are installed; `make deps` does it")
}

/// What this program does when it was called by [`start`]; says on its standard output when it has
/// subscribed. Whether there is a program of this name.
pub fn run(name: &str, port: u16, messages: usize, devices: Option<usize>) -> bool {
    match name {
        "decode" => decode(port, messages, devices),
        "split" => split(port, messages, devices),
        "loop" => event_loop(port, messages),
        _ => return false,
    }
    true
}

fn decode(port: u16, messages: usize, devices: Option<usize>) {
    let mut left = messages;
    each_block(port, devices, |input| {
        while let Ok(packet) = Packet::read(input, None) {
            left -= usize::from(matches!(black_box(packet), Packet::Publish(_)));
        }
        left > 0
    });
}

fn split(port: u16, messages: usize, devices: Option<usize>) {
    let mut left = messages;
    each_block(port, devices, |input| {
        while let Some((header, length)) = frame_length(input) {
            left -= usize::from(input[0] >> 4 == 3);
            input.advance(black_box(header + length));
        }
        left > 0
    });
}

fn each_block(port: u16, devices: Option<usize>, mut take: impl FnMut(&mut BytesMut) -> bool) {
    let mut client = Client::connect_at(port, CLIENT_ID, MQTT_5);
    match devices {
        Some(devices) => client.subscribe_all(&watch_filters(devices), Some(MQTT_5)),
        None => client.subscribe(STREAM, Some(MQTT_5)),
    }
    println!("subscribed");
    let (mut input, mut block) = (BytesMut::new(), vec![0; 64 * 1024]);
    while take(&mut input) {
        client.read_some(&mut input, &mut block);
    }
}

fn event_loop(port: u16, messages: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there are resources for it");
    runtime.block_on(async {
        let options = MqttOptions::new(CLIENT_ID, ("127.0.0.1", port));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe(STREAM, QoS::AtMostOnce).await.expect("there is room for one request");
        let mut left = messages;
        while left > 0 {
            match black_box(events.poll().await.expect("the broker is there")) {
                Event::Incoming(Packet::Publish(_)) => left -= 1,
                Event::Incoming(Packet::SubAck(_)) => println!("subscribed"),
                Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => {}
            }
        }
    });
}
