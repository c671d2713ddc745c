//! Files that the archive has only in a compressed form, and what compresses them here.

/// Which form is taken of several.
mod choice;
/// That a compressed file is otherwise treated like a plain one.
mod like_plain;
/// What is read: every format with all that it allows.
mod read;
/// What is not ready: data that cannot be decompressed, and what they turn out to be.
mod rejected;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};

use crate::site::{SEGMENT, Site};
use crate::wal::{MB, Segment};

const HISTORY_CONTENT: &[u8] = b"1\t0/380000\tno recovery target specified\n";

/// One compressed form.
#[derive(Clone, Copy, Debug)]
struct Form {
    suffix: &'static str,
    /// As `-d` calls it.
    name: &'static str,
    compress: fn(&[u8]) -> Vec<u8>,
    is_built: bool,
}

const FORMS: [Form; 3] = [
    Form { suffix: ".gz", name: "gzip", compress: gzip, is_built: cfg!(feature = "gzip") },
    Form { suffix: ".lz4", name: "LZ4", compress: lz4, is_built: cfg!(feature = "lz4") },
    Form { suffix: ".zst", name: "Zstandard", compress: zstd, is_built: cfg!(feature = "zstd") },
];

/// Those that the program was built with.
fn forms() -> impl Iterator<Item = Form> {
    FORMS.into_iter().filter(|form| form.is_built)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With blocks that depend on each other, as `pg_receivewal` writes them.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    lz4_with(FrameInfo::new().block_mode(BlockMode::Linked).content_checksum(true), bytes)
}

fn lz4_with(info: FrameInfo, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd_with(3, None, bytes)
}

/// With a checksum, as the tool writes it, and a window of its own choice or of 2 to that power.
fn zstd_with(level: i32, window_log: Option<u32>, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(true).unwrap();
    if let Some(log) = window_log {
        encoder.window_log(log).unwrap();
    }
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A segment that does not compress to nothing.
fn segment(name: &str) -> Vec<u8> {
    let mut bytes = Segment::named(name).with_records(50).bytes();
    // What follows the switch record does not count.
    let mut noise: u32 = 1;
    for byte in &mut bytes[MB / 2..] {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (noise >> 24) as u8;
    }
    bytes
}

impl Form {
    fn name_of(self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    /// The archive of a standby that has `bytes` as this form of [`SEGMENT`].
    fn site(self, bytes: impl AsRef<[u8]>) -> Site {
        let site = Site::new();
        site.put(&self.name_of(SEGMENT), bytes);
        site
    }

    fn packed(self) -> Vec<u8> {
        (self.compress)(&segment(SEGMENT))
    }
}

/// Asserts that it is not ready for this reason, leaves nothing behind, and is taken once it is good.
#[track_caller]
fn is_waited_out(form: Form, bytes: impl AsRef<[u8]>, reason: &str) {
    let site = form.site(bytes);
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts();
    let running =
        running.until_it_says(&format!("{SEGMENT}{}\" is not ready: {reason}", form.suffix));
    assert_eq!((site.restored(), site.litter()), (None, Vec::new()));
    site.put(&form.name_of(SEGMENT), form.packed());
    let ended = running.ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 2, "one line, and that it is ready: {ended:?}");
    assert_eq!(site.restored(), Some(segment(SEGMENT)));
}
