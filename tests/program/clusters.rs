//! Segments of another cluster: their system identifier is not the one in `global/pg_control`.

use crate::restoring::is_waited_on;
use crate::site::{SEGMENT, Site};
use crate::wal::{SYSTEM_IDENTIFIER, Segment};

#[test]
fn a_segment_of_another_cluster_is_named_with_both_identifiers() {
    let site = Site::new();
    site.write("global/pg_control", SYSTEM_IDENTIFIER.to_ne_bytes());
    site.put(SEGMENT, Segment::named(SEGMENT).with(|is| is.system_identifier = 42).bytes());
    is_waited_on(&site, "found system identifier 42, expected 7000000000000000001");
}

#[test]
fn without_a_control_file_that_can_be_read_nothing_is_restored() {
    let site = Site::new();
    site.write("global/pg_control", "short");
    let good = site.put_segment(SEGMENT);
    let options = ["-s", "0.1", "-r", "1"];
    let ended = site.asks(&options, SEGMENT).ends().with_status(201);
    ended.saying("could not read \"global/pg_control\"").saying("gave up after 2 tries");
    assert_eq!(site.restored(), None);

    // One that can be read in the end.
    let running = site.asks(&["-s", "0.1", "-r", "99"], SEGMENT).starts();
    let running = running.until_it_says("\"global/pg_control\"");
    site.write("global/pg_control", SYSTEM_IDENTIFIER.to_ne_bytes());
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(good));
}
