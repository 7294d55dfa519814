//! Tests of the names on the bus, and of the interface over a test bus.

mod both_sides;
mod description;
mod tree;

use super::{client_id_of, well_known_name};

#[test]
fn the_default_instance_has_the_plain_name_and_others_their_own() {
    for (client_id, name) in [
        ("iotmonitor", "org.iotmonitor.Monitor1"),
        ("garden", "org.iotmonitor.Monitor1.garden"),
        ("my-house.2", "org.iotmonitor.Monitor1.my_2dhouse_2e2"),
        ("a_b", "org.iotmonitor.Monitor1.a_5fb"),
        ("2nd", "org.iotmonitor.Monitor1.i2nd"),
        ("ü", "org.iotmonitor.Monitor1._c3_bc"),
        ("", "org.iotmonitor.Monitor1.i"),
    ] {
        assert_eq!(well_known_name(client_id).as_deref(), Some(name));
        assert_eq!(client_id_of(name).as_deref(), Some(client_id));
    }
    assert_eq!(well_known_name(&"x".repeat(300)), None);
}
