//! Which form is taken where the archive has a file in several.

use std::os::unix::fs::symlink;

use super::{forms, gzip, segment, zstd};
use crate::site::{SEGMENT, Site};
use crate::wal::{MB, Segment};

#[test]
fn the_plain_file_wins_when_it_is_ready_and_only_then() {
    let other = Segment::named(SEGMENT).with_records(7).bytes();
    let mut damaged = segment(SEGMENT);
    damaged[Segment::record(10) + 40] ^= 1;
    for form in forms() {
        let site = form.site(form.packed());
        site.put(SEGMENT, &other);
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        assert!(site.restored().as_ref() == Some(&other), "{form:?}");
        for wrong in [&other[..MB / 2], b"", b"something else", &damaged] {
            site.put(SEGMENT, wrong);
            let ended = site.asks(&["-s", "60"], SEGMENT).ends().with_status(0);
            assert!(site.restored() == Some(segment(SEGMENT)), "{form:?} {ended:?}");
        }
    }
}

#[test]
fn of_several_forms_one_that_is_good_is_taken() {
    let mut built = forms();
    let (Some(bad), Some(good)) = (built.next(), built.next()) else { return };
    let mut damaged = bad.packed();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let site = bad.site(damaged);
    site.put(&good.name_of(SEGMENT), good.packed());
    site.asks(&["-s", "60"], SEGMENT).ends().with_status(0);
    assert!(site.restored() == Some(segment(SEGMENT)));
}

#[test]
fn a_link_without_a_target_does_not_hide_a_good_form() {
    for (broken, good) in [("", ".gz"), (".gz", ".zst")] {
        for target in ["nowhere".to_owned(), format!("{SEGMENT}{broken}")] {
            let site = Site::new();
            symlink(&target, site.archive().join(format!("{SEGMENT}{broken}"))).unwrap();
            let bytes = Segment::named(SEGMENT).bytes();
            let packed = if good == ".gz" { gzip(&bytes) } else { zstd(&bytes) };
            site.put(&format!("{SEGMENT}{good}"), packed);
            site.write("trigger", "smart");
            site.asks(&["-s", "0.1"], SEGMENT).with_trigger().ends().with_status(0);
            assert!(site.restored() == Some(bytes), "it differs");
        }
    }
}
