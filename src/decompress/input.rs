//! The bytes of a compressed file, in order, and whether there are as many as a decoder asks for. What they mean is not
//! known here.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bytes of a file that are in memory at a time.
const BUFFER: usize = 1 << 17;

/// The bytes of a file, in order.
pub struct Input {
    file: Rc<File>,
    /// How much of the file has been read.
    offset: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been used.
    used: usize,
    /// More was asked for than the file has.
    pub is_at_end: bool,
    /// What the system said, if it did not give what was asked for.
    pub failed: Option<io::Error>,
}

impl Input {
    /// Nothing has been read.
    pub fn new(file: Rc<File>) -> Self {
        let buffer = Vec::with_capacity(BUFFER);
        Self { file, offset: 0, buffer, used: 0, is_at_end: false, failed: None }
    }

    fn unused(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// How much of the file has been used.
    pub fn position(&self) -> u64 {
        self.offset.saturating_sub(self.unused().len() as u64)
    }

    /// Returns what comes next, at least so much where the file has that, without using it.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.unused().len() < count && self.read_on()? > 0 {}
        Ok(self.unused())
    }

    /// Reads what fits into the buffer, behind what has not been used. Returns how much that was.
    fn read_on(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let kept = self.buffer.len();
        self.buffer.resize(BUFFER, 0);
        let result = loop {
            let room = self.buffer.get_mut(kept..).unwrap_or_default();
            match self.file.read_at(room, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let count = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(kept.saturating_add(count));
        self.offset = self.offset.saturating_add(count as u64);
        result
    }

    /// Leaves out so many bytes. Returns whether all of them are there.
    pub fn skip(&mut self, count: u64) -> io::Result<bool> {
        // If the last one is there, all are.
        let count = count.saturating_sub(1);
        let beyond = count.saturating_sub(self.unused().len() as u64);
        self.consume(usize::try_from(count).unwrap_or(usize::MAX));
        self.offset = self.offset.saturating_add(beyond);
        let is_there = !self.peek(1)?.is_empty();
        self.consume(1);
        Ok(is_there)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unused().is_empty() {
            match self.read_on() {
                Ok(count) => self.is_at_end |= count == 0,
                Err(error) => {
                    let kind = error.kind();
                    self.failed = Some(error);
                    return Err(kind.into());
                }
            }
        }
        Ok(self.unused())
    }

    fn consume(&mut self, count: usize) {
        self.used = self.used.saturating_add(count).min(self.buffer.len());
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
