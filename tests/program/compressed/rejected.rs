//! What is not ready: data that cannot be decompressed, and what they turn out to be.

use std::time::Duration;

use super::{FORMS, HISTORY_CONTENT, forms, is_waited_out, segment};
use crate::site::{HISTORY, SEGMENT, Site};
use crate::wal::{MB, Segment, after};

#[test]
fn a_stream_that_is_cut_short_anywhere_is_not_ready() {
    for form in forms() {
        let packed = form.packed();
        let cuts = (1..12).chain((1..20).map(|part| packed.len() * part / 20));
        for length in cuts.chain(packed.len() - 10..packed.len()) {
            let site = form.site(&packed[..length]);
            let ended = site.asks(&["--no-wait", "-d"], SEGMENT).ends().with_status(201);
            let ended = ended.saying("is not ready: compressed data cut short");
            assert_eq!((site.restored(), site.litter()), (None, Vec::new()), "{length} {ended:?}");
        }
        is_waited_out(form, &packed[..packed.len() / 2], "compressed data cut short: found ");
        is_waited_out(form, "", "empty: expected compressed data");
    }
}

#[test]
fn what_is_damaged_is_not_ready_wherever_that_is() {
    for form in forms() {
        let packed = form.packed();
        // The last bytes of each format are a checksum, of which gzip has the length behind it.
        for at in [packed.len() / 3, packed.len() / 2, packed.len() - 1] {
            let mut packed = packed.clone();
            packed[at] ^= 0x10;
            is_waited_out(
                form,
                packed,
                &format!("damaged {} data: decompression failed", form.name),
            );
        }
    }
}

#[test]
fn nothing_else_may_follow() {
    for form in forms() {
        let packed = form.packed();
        let other = FORMS.iter().find(|other| other.suffix != form.suffix).unwrap();
        for more in [&b"x"[..], &[0; 512], b"and so on", &other.packed()] {
            let reason =
                format!("trailing garbage after {} bytes of compressed data", packed.len());
            is_waited_out(form, [&packed, more].concat(), &reason);
        }
    }
}

#[test]
fn a_plain_segment_in_disguise_is_not_ready() {
    for form in FORMS {
        if form.is_built {
            let reason =
                "not compressed: begins with 10D10200, expected gzip, LZ4 or Zstandard data";
            is_waited_out(form, segment(SEGMENT), reason);
            is_waited_out(form, vec![0; MB], "not compressed: begins with 00000000");
        }
    }
}

#[test]
fn what_is_longer_or_shorter_than_its_segment_is_not_ready() {
    for form in forms() {
        let bytes = segment(SEGMENT);
        let longer = [&bytes[..], b"x"].concat();
        is_waited_out(
            form,
            (form.compress)(&longer),
            "too long: decompresses to more than 1048576",
        );
        // A gigabyte of zeros in less than the segment itself takes.
        let zeros = (form.compress)(&vec![0; 64 * MB]);
        let bomb = [form.packed(), zeros.repeat(16)].concat();
        assert!(bomb.len() < 8 * MB, "{}", bomb.len());
        is_waited_out(form, bomb, "too long: decompresses to more than 1048576 bytes");
        let shorter = (form.compress)(&bytes[..MB - 8192]);
        is_waited_out(form, shorter, "too short: found 1040384 bytes, expected 1048576");
        is_waited_out(form, (form.compress)(b""), "too short for a header: found 0 bytes");
    }
}

#[test]
fn what_is_decompressed_is_checked_like_any_other_segment() {
    for form in forms() {
        let of_another_place = Segment::named(&after(SEGMENT, 1)).bytes();
        is_waited_out(form, (form.compress)(&of_another_place), "wrong part of WAL");
        let mut damaged = segment(SEGMENT);
        damaged[Segment::record(10) + 40] ^= 1;
        let packed = (form.compress)(&damaged);
        is_waited_out(form, &packed, "the server could read it only up to 0/5002A8");

        let site = form.site(form.packed());
        site.write("global/pg_control", 7_u64.to_ne_bytes());
        site.asks(&["-w", "0.3", "-s", "0.1"], SEGMENT)
            .ends()
            .with_status(1)
            .saying("another cluster");
        let site = form.site(packed);
        site.asks(&["--verify=header"], SEGMENT).ends().with_status(0).in_silence();
    }
}

#[test]
fn half_a_history_file_and_an_endless_one_are_not_ready() {
    for form in forms() {
        let endless = b"1\t0/380000\tno recovery target specified\n".repeat(MB);
        let half = &HISTORY_CONTENT[..HISTORY_CONTENT.len() - 1];
        let packed = (form.compress)(HISTORY_CONTENT);
        for (bytes, reason) in [
            ((form.compress)(half), "incomplete history file"),
            ((form.compress)(&endless), "too long: decompresses to more than 1048576 bytes"),
            (packed[..packed.len() - 1].to_vec(), "compressed data cut short"),
            (Vec::new(), "empty: expected compressed data"),
        ] {
            let site = Site::new();
            site.put(&form.name_of(HISTORY), bytes);
            let running = site.asks(&["-s", "0.1"], HISTORY).starts().until_it_says(reason);
            assert_eq!(site.restored(), None);
            site.put(&form.name_of(HISTORY), &packed);
            running.ends().with_status(0);
            assert_eq!(site.restored().as_deref(), Some(HISTORY_CONTENT));
        }
    }
}

#[test]
fn what_was_found_damaged_is_decompressed_again_only_when_it_has_changed() {
    for form in forms() {
        let mut damaged = form.packed();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let site = form.site(&damaged);
        let times = |stderr: &str| stderr.matches("copying").count();
        let starts = || site.asks(&["-d", "-s", "0.1"], SEGMENT).starts();
        let running = starts().until_it_says("decompression failed");
        assert_eq!(times(&running.still_waits_after(Duration::from_millis(900))), 1);
        let running = starts().until_it_says("data: decompression failed");
        site.put(&form.name_of(SEGMENT), form.packed());
        assert_eq!(times(&running.ends().with_status(0).stderr), 2);
    }
}

#[test]
fn a_form_that_this_build_lacks_is_named() {
    for form in FORMS.into_iter().filter(|form| !form.is_built) {
        let site = form.site(form.packed());
        let words = format!("is not ready: this pg_standby was built without {}", form.name);
        let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says(&words);
        site.put_segment(SEGMENT);
        running.ends().with_status(0);
    }
}
