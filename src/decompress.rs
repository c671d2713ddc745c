//! The plain bytes of a compressed file: gzip members, LZ4 frames or Zstandard frames, told by their first bytes. All of
//! them are read, and nothing else may stand between or behind them. Memory is bounded whatever a file says of itself.
//! What the bytes mean, and how many there may be, is not known here.

mod fault;
mod input;

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

#[cfg(feature = "gzip")]
use flate2::bufread::GzDecoder;
use log::debug;
#[cfg(feature = "lz4")]
use lz4_flex::frame::FrameDecoder;
#[cfg(feature = "zstd")]
use zstd::stream::read::Decoder as ZstdDecoder;

pub use fault::{Fault, Format};
use input::Input;

/// Bytes that are looked at to tell what begins there; no header of a Zstandard frame is longer.
const LONGEST_START: usize = 18;
/// The largest window of Zstandard data, as a power of two: what every decoder has to take (RFC 8878), and levels up to 19
/// need.
#[cfg(feature = "zstd")]
const WINDOW_LOG: u32 = 23;

/// Frames in a row that hold nothing: nobody writes more, and while they are passed over nobody hears a signal.
const MOST_EMPTY: u32 = 1024;

/// Why there are no more plain bytes.
#[derive(Debug)]
pub enum Trouble {
    /// The file cannot be read.
    Read(io::Error),
    /// What it holds is wrong.
    Fault(Fault),
}

/// Reads a file from its start, wherever its file position is, compressed or not.
pub enum Reader {
    /// As it is, and how much of it has been read.
    Plain(Rc<File>, u64),
    /// Decompressed.
    Compressed(Decoder),
}

impl Reader {
    /// Nothing has been read.
    #[must_use]
    pub fn new(file: &Rc<File>, is_compressed: bool) -> Self {
        if is_compressed {
            Self::Compressed(Decoder::new(file))
        } else {
            Self::Plain(Rc::clone(file), 0)
        }
    }

    /// Reads some plain bytes; 0 where there are no more.
    ///
    /// # Errors
    /// The file cannot be read, or something is wrong with it.
    pub fn read(&mut self, plain: &mut [u8]) -> Result<usize, Trouble> {
        match self {
            Self::Plain(file, offset) => loop {
                match file.read_at(plain, *offset) {
                    Ok(count) => {
                        *offset = offset.saturating_add(count as u64);
                        return Ok(count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Trouble::Read(error)),
                }
            },
            Self::Compressed(decoder) => decoder.read(plain),
        }
    }

    /// The format of a compressed file, once something has been read.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Plain(..) => None,
            Self::Compressed(decoder) => decoder.format,
        }
    }

    /// Fills as much of `plain` as there is. Returns how much that was, and what went wrong behind it.
    pub fn fill(&mut self, plain: &mut [u8]) -> (usize, Result<(), Trouble>) {
        let mut filled: usize = 0;
        while let Some(rest) = plain.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(rest) {
                Ok(0) => break,
                Ok(count) => filled = filled.saturating_add(count),
                Err(trouble) => return (filled, Err(trouble)),
            }
        }
        (filled, Ok(()))
    }
}

/// Reads the plain bytes of one compressed file, wherever its file position is.
pub struct Decoder {
    state: State,
    /// The format, once it is known.
    format: Option<Format>,
    /// Plain bytes that have been read.
    plain: u64,
    /// Frames since then that hold nothing.
    empty: u32,
}

enum State {
    Between(Input),
    Within(Box<dyn Frame>),
    Over,
}

/// One frame or member, and what reads it. To read nothing is its end, or that of the file.
trait Frame {
    fn read(&mut self, plain: &mut [u8]) -> io::Result<usize>;
    fn input(&mut self) -> &mut Input;
    fn end(self: Box<Self>) -> Input;
}

macro_rules! frame {
    ($feature:literal, $decoder:ty, $end:ident) => {
        #[cfg(feature = $feature)]
        impl Frame for $decoder {
            fn read(&mut self, plain: &mut [u8]) -> io::Result<usize> {
                io::Read::read(self, plain)
            }

            fn input(&mut self) -> &mut Input {
                self.get_mut()
            }

            fn end(self: Box<Self>) -> Input {
                (*self).$end()
            }
        }
    };
}

frame!("gzip", GzDecoder<Input>, into_inner);
frame!("lz4", FrameDecoder<Input>, into_inner);
frame!("zstd", ZstdDecoder<'static, Input>, finish);

impl Decoder {
    /// Nothing has been read.
    #[must_use]
    pub fn new(file: &Rc<File>) -> Self {
        Self {
            state: State::Between(Input::new(Rc::clone(file))),
            format: None,
            plain: 0,
            empty: 0,
        }
    }

    /// Reads some plain bytes; 0 where there are no more.
    ///
    /// # Errors
    /// The file cannot be read, or something is wrong with it.
    fn read(&mut self, plain: &mut [u8]) -> Result<usize, Trouble> {
        loop {
            match mem::replace(&mut self.state, State::Over) {
                State::Over => return Ok(0),
                State::Between(input) => {
                    if let Some(frame) = self.begin(input)? {
                        self.state = State::Within(frame);
                    }
                }
                State::Within(mut frame) => {
                    let result = frame.read(plain);
                    let input = frame.input();
                    if let Some(error) = input.failed.take() {
                        return Err(Trouble::Read(error));
                    }
                    match result {
                        Ok(count) if count > 0 => {
                            self.plain = self.plain.saturating_add(count as u64);
                            self.empty = 0;
                            self.state = State::Within(frame);
                            return Ok(count);
                        }
                        // Not every decoder takes this for an error.
                        _ if input.is_at_end => {
                            return Err(Fault::CutShort { found: input.position() }.into());
                        }
                        Ok(_) if self.empty >= MOST_EMPTY => {
                            return Err(self.damaged(&io::ErrorKind::InvalidData.into()));
                        }
                        Ok(_) => {
                            self.empty = self.empty.saturating_add(1);
                            self.state = State::Between(frame.end());
                        }
                        Err(error) => return Err(self.damaged(&error)),
                    }
                }
            }
        }
    }

    /// Opens the next frame or member; `None` at the end of the file.
    fn begin(&mut self, mut input: Input) -> Result<Option<Box<dyn Frame>>, Trouble> {
        loop {
            let at = input.position();
            let start = input.peek(LONGEST_START).map_err(Trouble::Read)?;
            if let Some(length) = skippable(start) {
                if !input.skip(length).map_err(Trouble::Read)? {
                    return Err(Fault::CutShort { found: input.position() }.into());
                }
                continue;
            }
            let fault = match (Format::of(start), self.format) {
                (Some(format), None) => {
                    self.format = Some(format);
                    return open(format, input).map(Some);
                }
                (Some(format), Some(first)) if format == first => {
                    return open(format, input).map(Some);
                }
                (None, Some(_)) if start.is_empty() => return Ok(None),
                (_, Some(_)) => Fault::Trailing { after: at },
                (None, None) => match start {
                    [] => Fault::Empty,
                    [a, b, c, d, ..] => {
                        Fault::Unknown { found: u32::from_be_bytes([*a, *b, *c, *d]) }
                    }
                    _ => Fault::CutShort { found: start.len() as u64 },
                },
            };
            return Err(fault.into());
        }
    }

    fn damaged(&self, error: &io::Error) -> Trouble {
        let Some(format) = self.format else { return Fault::Empty.into() };
        debug!("{format} decompression failed: {error}");
        Fault::Damaged { format, good: self.plain }.into()
    }
}

/// The length of a frame that has no data in it, with its header: both LZ4 and Zstandard have such frames.
fn skippable(start: &[u8]) -> Option<u64> {
    match *start {
        [0x50..=0x5F, 0x2A, 0x4D, 0x18, a, b, c, d, ..] => {
            Some(u64::from(u32::from_le_bytes([a, b, c, d])).saturating_add(8))
        }
        _ => None,
    }
}

fn open(format: Format, input: Input) -> Result<Box<dyn Frame>, Trouble> {
    match format {
        #[cfg(feature = "gzip")]
        Format::Gzip => Ok(Box::new(GzDecoder::new(input))),
        #[cfg(feature = "lz4")]
        Format::Lz4 => Ok(Box::new(FrameDecoder::new(input))),
        #[cfg(feature = "zstd")]
        Format::Zstd => open_zstd(input),
        #[allow(unreachable_patterns, reason = "features decide")]
        _ => {
            drop(input);
            Err(Fault::NotBuilt(format).into())
        }
    }
}

#[cfg(feature = "zstd")]
fn open_zstd(mut input: Input) -> Result<Box<dyn Frame>, Trouble> {
    let expected = 1 << WINDOW_LOG;
    let start = input.peek(LONGEST_START).map_err(Trouble::Read)?;
    if let Some(found) = window(start).filter(|window| *window > expected) {
        return Err(Fault::Window { found, expected }.into());
    }
    let mut decoder = ZstdDecoder::with_buffer(input).map_err(Trouble::Read)?;
    decoder.window_log_max(WINDOW_LOG).map_err(Trouble::Read)?;
    Ok(Box::new(decoder.single_frame()))
}

/// The bytes before any place in a Zstandard frame that are needed there, as its header says (RFC 8878, 3.1.1.1).
#[cfg(feature = "zstd")]
fn window(start: &[u8]) -> Option<u64> {
    let (flags, rest) = start.get(4..)?.split_first()?;
    let is_single_segment = flags & 0x20 != 0;
    if !is_single_segment {
        let descriptor = rest.first()?;
        let base = 1_u64 << (descriptor >> 3).saturating_add(10);
        return Some(base.saturating_add((base >> 3).saturating_mul(u64::from(descriptor & 7))));
    }
    let dictionary = [0, 1, 2, 4].get(usize::from(flags & 3))?;
    match (flags >> 6, rest.get(*dictionary..)?) {
        (0, [a, ..]) => Some(u64::from(*a)),
        (1, [a, b, ..]) => Some(u64::from(u16::from_le_bytes([*a, *b])).saturating_add(256)),
        (2, [a, b, c, d, ..]) => Some(u64::from(u32::from_le_bytes([*a, *b, *c, *d]))),
        (3, rest) => rest.first_chunk().map(|size| u64::from_le_bytes(*size)),
        _ => None,
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Read(error) => error,
            Trouble::Fault(fault) => Self::new(io::ErrorKind::InvalidData, fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
