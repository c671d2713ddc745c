//! What a decoder makes of data that are whole, cut short, damaged or noise.

#![cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
#![allow(clippy::arithmetic_side_effects)]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;

fn file(bytes: &[u8]) -> Rc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Rc::new(file)
}

/// All plain bytes, as long as there are no more than `limit`.
fn read_all(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let mut reader = Reader::new(&file(bytes), true);
    let mut plain = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(plain),
            Ok(count) => plain.extend(&piece[..count]),
            Err(Trouble::Fault(fault)) => return Err(fault),
            Err(Trouble::Read(error)) => panic!("{error}"),
        }
        if plain.len() > limit {
            return Err(Fault::TooLong { expected: limit as u64 });
        }
    }
}

fn pack(format: Format, bytes: &[u8]) -> Vec<u8> {
    match format {
        Format::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Format::Lz4 => {
            let info = FrameInfo::new().block_mode(BlockMode::Linked).content_checksum(true);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Format::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn format() -> impl Strategy<Value = Format> {
    let formats = [
        (cfg!(feature = "gzip"), Format::Gzip),
        (cfg!(feature = "lz4"), Format::Lz4),
        (cfg!(feature = "zstd"), Format::Zstd),
    ];
    let built: Vec<_> = formats.into_iter().filter(|(built, _)| *built).map(|it| it.1).collect();
    prop::sample::select(built)
}

/// Bytes that compress to some degree.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((any::<u8>(), 0..200_usize), 0..300).prop_map(|runs| {
        runs.into_iter().flat_map(|(byte, count)| std::iter::repeat_n(byte, count)).collect()
    })
}

#[cfg(feature = "zstd")]
#[test]
fn a_window_is_as_large_as_its_frame_says() {
    let of = |rest: &[u8]| window(&[&[0x28, 0xB5, 0x2F, 0xFD][..], rest].concat());
    for (header, expected) in [
        (&[0x00, 0x00][..], Some(1 << 10)),
        (&[0x00, 0x58], Some(1 << 21)),
        (&[0x04, 0x68], Some(1 << 23)),
        (&[0x04, 0x69], Some((1 << 23) + (1 << 20))),
        (&[0x20, 7], Some(7)),
        (&[0x60, 0, 1], Some(512)),
        (&[0xA1, 9, 0, 0, 0, 1], Some(1 << 24)),
        (&[0xE3, 9, 9, 9, 9, 0, 0, 0, 0, 1, 0, 0, 0], Some(1 << 32)),
        (&[0x00], None),
        (&[0xA0, 0, 0], None),
        (&[], None),
    ] {
        assert_eq!(of(header), expected, "{header:X?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_compressed_comes_out_again_in_any_number_of_frames(
        format in format(), pieces in prop::collection::vec(plain(), 1..4)
    ) {
        let packed: Vec<_> = pieces.iter().flat_map(|piece| pack(format, piece)).collect();
        prop_assert_eq!(read_all(&packed, usize::MAX), Ok(pieces.concat()));
    }

    #[test]
    fn what_is_cut_short_is_never_whole(format in format(), plain in plain(), cut: prop::sample::Index) {
        let packed = pack(format, &plain);
        let length = cut.index(packed.len());
        let fault = if length == 0 { Fault::Empty } else { Fault::CutShort { found: length as u64 } };
        prop_assert_eq!(read_all(&packed[..length], usize::MAX), Err(fault));
    }

    #[test]
    fn what_is_damaged_is_noticed_or_makes_no_difference(
        format in format(), plain in plain(), at: prop::sample::Index, bit in 0..8_u32
    ) {
        let mut packed = pack(format, &plain);
        let at = at.index(packed.len());
        packed[at] ^= 1 << bit;
        // Some bits of a header mean nothing.
        if let Ok(found) = read_all(&packed, plain.len()) {
            prop_assert!(found == plain || found.is_empty(), "{format:?} {at}");
        }
    }

    #[test]
    fn noise_is_read_without_a_panic(format in format(), noise: Vec<u8>, plain in plain()) {
        let start: &[u8] = match format {
            Format::Gzip => &[0x1F, 0x8B, 8, 0],
            Format::Lz4 => &[0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82],
            Format::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
        };
        let _ = read_all(&noise, 1 << 20);
        let _ = read_all(&[start, &noise].concat(), 1 << 20);
        let mut packed = pack(format, &plain);
        let middle = packed.len() / 2;
        packed.splice(middle..middle, noise);
        let _ = read_all(&packed, 1 << 20);
    }
}
