//! That a compressed file is otherwise treated like a plain one: by the wait and its ends, by timelines, by `pg_rewind`, and
//! while it is being received.

use std::fs::{self, OpenOptions};

use super::{FORMS, forms, segment};
use crate::site::{HISTORY, SEGMENT, Site};
use crate::wal::{MB, Segment, after};

#[test]
fn a_compressed_file_that_comes_wakes_it_at_once() {
    for form in forms() {
        for option in ["-c", "--partial"] {
            let site = Site::new();
            let running = site.asks(&["-s", "60", option], SEGMENT).starts().until_it_waits();
            site.put(&form.name_of(SEGMENT), form.packed());
            running.ends().with_status(0).in_silence();
        }
        // In place of one that was not good.
        let site = form.site("");
        let running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
        fs::write(site.archive().join(form.name_of(SEGMENT)), form.packed()).unwrap();
        running.ends().with_status(0).in_silence();
    }
}

#[test]
fn a_compressed_file_that_is_open_for_writing_is_not_ready() {
    for form in forms() {
        let site = form.site(form.packed());
        let path = site.archive().join(form.name_of(SEGMENT));
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        let mut running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
        assert!(running.goes_on());
        assert_eq!(site.restored(), None);
        drop(writer);
        running.ends().with_status(0);
    }
}

#[test]
fn a_smart_failover_ends_before_a_damaged_one_and_counts_each_later_one_once() {
    for form in forms() {
        let packed = form.packed();
        let site = form.site(&packed[..packed.len() - 1]);
        for (count, other) in FORMS.iter().enumerate() {
            let name = after(SEGMENT, u32::try_from(count).unwrap() + 1);
            site.put_segment(&name);
            site.put(&other.name_of(&name), "");
        }
        site.put(&form.name_of(&after(SEGMENT, 9)), "");
        site.write("trigger", "smart");
        let ended = site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(1);
        ended
            .saying("compressed data cut short")
            .saying("; failover continues without it")
            .saying("later segments in the archive that are not replayed: 4");
        assert_eq!(site.restored(), None);
    }
}

#[test]
fn other_ways_to_end_take_a_damaged_one_for_no_end_of_the_archive() {
    for form in forms() {
        let packed = form.packed();
        let site = form.site(&packed[..packed.len() - 1]);
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(201).saying("the server stops");
        site.asks(&["--on-error=promote", "--no-wait"], SEGMENT).ends().with_status(201);
        site.write("standby.signal", "");
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(1);
        let longer = (form.compress)(&[&segment(SEGMENT)[..], b"x"].concat());
        let site = form.site(longer);
        let running = site.asks(&["-s", "0.1", "--on-error=promote"], SEGMENT).starts();
        running.until_it_says("decompresses to more than").until_it_waits();
    }
}

#[test]
fn compressed_history_files_tell_of_timelines_as_plain_ones_do() {
    for form in forms() {
        // A segment before its timeline began.
        let site = Site::new();
        let early = SEGMENT.replacen("00000001", "00000002", 1);
        let history = (form.compress)(b"1\t0/A000000\tno recovery target specified\n");
        site.put(&form.name_of(HISTORY), &history);
        site.put(&form.name_of(SEGMENT), form.packed());
        site.asks(&["-s", "60"], &early).ends().with_status(1).in_silence();

        // Up to 9.2 only the archive has the history file of the timeline that the server follows.
        let site = form.site((form.compress)(&segment(SEGMENT)));
        site.write("PG_VERSION", "9.2\n");
        site.write("recovery.conf", "recovery_target_timeline = 'latest'\n");
        let history =
            (form.compress)(b"1\t000000010000000000000005\tno recovery target specified\n");
        site.put(&form.name_of(HISTORY), &history);
        let ended = site.asks(&["-w", "0.2", "-s", "0.1"], SEGMENT).ends().with_status(1);
        ended.saying("follows timeline 2").saying(&form.name_of(HISTORY));

        // An abandoned one that is compressed itself.
        let site = form.site(form.packed());
        site.write("pg_wal/00000002.history", "1\t0/500000\tno recovery target specified\n");
        let ended = site.asks(&["-w", "0.2", "-s", "0.1"], SEGMENT).ends().with_status(1);
        ended.saying("is treated as absent");
    }
}

#[test]
fn pg_rewind_is_given_decompressed_segments() {
    for form in forms() {
        let site = Site::with("archive", format!("pg_wal/{SEGMENT}"));
        site.put(&form.name_of(SEGMENT), form.packed());
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        assert!(site.restored() == Some(segment(SEGMENT)), "{form:?}");
    }
}

#[test]
fn of_a_compressed_segment_that_is_being_received_what_has_come_is_handed_over() {
    let whole = Segment::named(SEGMENT).with_records(100).bytes();
    for form in forms() {
        let site = Site::new();
        site.write("trigger", "smart");
        let name = format!("{SEGMENT}{}.partial", form.suffix);
        let asks = || site.asks(&["--partial"], SEGMENT).with_trigger().ends();
        // Frames that are whole, and the beginning of one more.
        let one = (form.compress)(&whole[..Segment::record(60)]);
        let two = (form.compress)(&whole[Segment::record(60)..]);
        for more in [0, 1, two.len() / 2] {
            site.put(&name, [&one, &two[..more]].concat());
            let ended = asks().with_status(0).saying("recovery ends at 0/5");
            let restored = site.restored().unwrap();
            assert!(
                restored.len() == MB
                    && restored[..Segment::record(60)] == whole[..Segment::record(60)]
            );
            assert!(ended.stderr.contains(&name), "{ended:?}");
            fs::remove_file(site.destination()).unwrap();
        }
        // All of it.
        site.put(&name, [&one[..], &two].concat());
        asks().with_status(0);
        assert!(site.restored().unwrap()[..Segment::record(100)] == whole[..Segment::record(100)]);
        fs::remove_file(site.destination()).unwrap();
        // Nothing yet, and nothing that can be read.
        for (bytes, words) in
            [(&one[..0], ""), (&one[..9], ""), (b"nonsense", "is not ready: not compressed")]
        {
            site.put(&name, bytes);
            asks().with_status(1).saying("smart failover requested").saying(words);
            assert_eq!(site.restored(), None);
        }
    }
}

#[test]
fn a_compressed_partial_segment_that_grows_wakes_it_in_standby_mode() {
    for form in forms() {
        let site = Site::new();
        site.write("PG_VERSION", "15\n");
        site.write("standby.signal", "");
        let whole = Segment::named(SEGMENT).with_records(100).bytes();
        let running = site.asks(&["--partial=0.05", "-s", "60"], SEGMENT).starts().until_it_waits();
        site.put(
            &format!("{SEGMENT}{}.partial", form.suffix),
            (form.compress)(&whole[..Segment::record(60)]),
        );
        running.ends().with_status(0);
        assert!(site.restored().unwrap()[..Segment::record(60)] == whole[..Segment::record(60)]);
    }
}
