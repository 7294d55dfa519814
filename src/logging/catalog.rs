//! Checks that the journal catalog and the kinds of alert agree; this module contains only that
//! test.

use iotmonitor_core::model::alert::AlertKind;
use std::collections::BTreeSet;

const CATALOG: &str = include_str!("../../systemd/usr/lib/systemd/catalog/iotmonitor.catalog");

#[test]
fn every_kind_has_one_entry_and_no_entry_is_orphaned() {
    let ids = || CATALOG.lines().filter_map(|line| line.strip_prefix("-- "));
    let entries: BTreeSet<&str> = ids().collect();
    let kinds: BTreeSet<&str> = AlertKind::ALL.iter().map(|kind| kind.message_id()).collect();
    assert_eq!(entries, kinds);
    assert_eq!(ids().count(), kinds.len(), "an entry or a MESSAGE_ID is there twice");
}

#[test]
fn every_entry_has_its_header_and_an_explanation() {
    for entry in CATALOG.split("\n-- ").skip(1) {
        let (header, body) = entry.split_once("\n\n").unwrap_or((entry, ""));
        for key in ["\nSubject: ", "\nDefined-By: iotmonitor"] {
            assert!(header.contains(key), "{key:?} is missing in {entry:?}");
        }
        assert!(!body.trim().is_empty(), "no explanation in {entry:?}");
    }
}

#[test]
fn substitutions_name_fields_that_entries_carry() {
    for (number, piece) in CATALOG.split('@').enumerate() {
        if number % 2 == 1 {
            assert_eq!(piece, "IOTMONITOR_DEVICE");
        }
    }
}
