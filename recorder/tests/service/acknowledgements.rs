//! A kill at the one moment that a random one seldom meets: a message is on disk, and the broker does
//! not know it yet.

use crate::house::{House, VERSIONS, lasting_broker, numbers, publish, until};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// The first octet of an acknowledgement (MQTT 3.1.1 and 5, 3.4.1).
const PUBACK: u8 = 0x40;

/// Stands between a recorder and its broker. It can swallow acknowledgements, and counts them.
struct Relay {
    port: u16,
    swallows: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
    swallowed: Arc<AtomicUsize>,
}

impl Relay {
    fn to(broker: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            swallows: Arc::default(),
            passed: Arc::default(),
            swallowed: Arc::default(),
        };
        let swallows = Arc::clone(&relay.swallows);
        let counts = [Arc::clone(&relay.passed), Arc::clone(&relay.swallowed)];
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", broker)));
                let server = server.unwrap();
                let mut from_server = server.try_clone().unwrap();
                let mut to_client = client.try_clone().unwrap();
                thread::spawn(move || io::copy(&mut from_server, &mut to_client));
                let (swallows, counts) = (Arc::clone(&swallows), counts.clone());
                thread::spawn(move || {
                    let _ = pass_packets(client, &server, &swallows, &counts);
                    // The broker learns of the client's end.
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        relay
    }

    fn swallow(&self, does: bool) {
        self.swallows.store(does, Ordering::SeqCst);
    }

    fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::SeqCst)
    }
}

fn pass_packets(
    mut client: TcpStream,
    mut server: &TcpStream,
    swallows: &AtomicBool,
    [passed, swallowed]: &[Arc<AtomicUsize>; 2],
) -> io::Result<()> {
    loop {
        let packet = read_packet(&mut client)?;
        let is_acknowledgement = packet[0] == PUBACK;
        if is_acknowledgement && swallows.load(Ordering::SeqCst) {
            swallowed.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        server.write_all(&packet)?;
        passed.fetch_add(usize::from(is_acknowledgement), Ordering::SeqCst);
    }
}

/// The next packet with its fixed header (MQTT 3.1.1 and 5, 2.1).
fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0];
    stream.read_exact(&mut packet)?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        packet.push(octet[0]);
        length |= usize::from(octet[0] & 0x7f) << shift;
        shift += 7;
        if octet[0] < 0x80 {
            break;
        }
    }
    let begin = packet.len();
    packet.resize(begin + length, 0);
    stream.read_exact(&mut packet[begin..])?;
    Ok(packet)
}

fn counts(house: &House) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for payload in house.payloads("home/a") {
        *counts.entry(payload).or_default() += 1;
    }
    counts
}

#[test]
fn a_kill_between_the_disk_and_the_broker_loses_nothing_and_repeats_what_was_on_its_way() {
    // The messages that the broker sends before it waits for an acknowledgement.
    for (protocol, in_flight) in VERSIONS.into_iter().zip([500, 20]) {
        let broker = lasting_broker();
        let relay = Relay::to(broker.port());
        let mut house = House::new(&format!(
            "[mqtt]\nserverAddress = \"tcp://127.0.0.1:{}\"\nprotocol = \"{protocol}\"\n\
             [recorder]\nflush = \"1h\"\n",
            relay.port
        ));
        house.start();
        house.until_subscribed(&["#"]);
        publish(&broker, "home/a", &numbers(0..10), &[]);
        until(|| relay.passed() == 10, || format!("{} of 10 passed", relay.passed()));

        relay.swallow(true);
        publish(&broker, "home/a", &numbers(10..1_000), &[]);
        until(
            || relay.swallowed() == in_flight,
            || format!("{protocol}: {} of {in_flight}: {:#?}", relay.swallowed(), house.said()),
        );
        house.kill();
        // What the broker was to forget is on disk.
        let end = 10 + u32::try_from(in_flight).unwrap();
        assert_eq!(house.payloads("home/a"), numbers(0..end), "{protocol}");

        relay.swallow(false);
        house.start();
        until(|| counts(&house).len() == 1_000, || format!("{protocol}: {:#?}", house.said()));
        house.stop();
        let counts = counts(&house);
        let times = |range| {
            let mut times: Vec<usize> =
                numbers(range).iter().map(|payload| counts[payload]).collect();
            times.dedup();
            times
        };
        assert_eq!(times(0..10), [1], "{protocol}: the broker knew of them");
        assert_eq!(times(10..end), [2], "{protocol}: it did not, and sent them again");
        assert_eq!(times(end..1_000), [1], "{protocol}: these came after the kill");
        println!("{protocol}: 1000 messages, a kill, 0 lost, {in_flight} twice");
    }
}
