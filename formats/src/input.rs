//! A buffered, seekable input that can be looked at before it is consumed.

use std::io::{self, Read, Seek, SeekFrom};

const CHUNK: usize = 1 << 18;

pub(crate) struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next byte is.
    at: usize,
    /// Offset in the input of the buffer's first byte.
    base: u64,
}

impl<R: Read + Seek> Input<R> {
    pub fn new(mut inner: R) -> io::Result<Self> {
        inner.seek(SeekFrom::Start(0))?;
        Ok(Input { inner, buffer: Vec::new(), at: 0, base: 0 })
    }

    /// Offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Size of the input now; it may still grow.
    pub fn size(&mut self) -> io::Result<u64> {
        let end = self.inner.seek(SeekFrom::End(0))?;
        self.inner.seek(SeekFrom::Start(self.base + self.buffer.len() as u64))?;
        Ok(end)
    }

    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        if let Some(at) = offset.checked_sub(self.base).filter(|at| *at <= self.buffer.len() as u64) {
            self.at = at as usize;
            return Ok(());
        }
        self.inner.seek(SeekFrom::Start(offset))?;
        self.buffer.clear();
        self.at = 0;
        self.base = offset;
        Ok(())
    }

    /// The next `count` bytes; fewer only at the end.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.at < count {
            if !self.fill(count)? {
                break;
            }
        }
        let end = self.buffer.len().min(self.at + count);
        Ok(&self.buffer[self.at..end])
    }

    /// What is buffered, at least one byte except at the end.
    pub fn available(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.fill(1)?;
        }
        Ok(&self.buffer[self.at..])
    }

    /// Passes over bytes that were looked at.
    pub fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.buffer.len());
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        self.base += self.at as u64;
        self.buffer.drain(..self.at);
        self.at = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + CHUNK.max(want.min(8 << 20)), 0);
        let read = loop {
            match self.inner.read(&mut self.buffer[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }
}
