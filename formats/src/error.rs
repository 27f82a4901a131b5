//! What can go wrong with a capture file.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(
        "not a capture file: it does not start with a capture's head (is it compressed once more, or another format?)"
    )]
    NotACapture,
    #[error("the file is empty: the capturer did not get as far as writing its head")]
    Empty,
    #[error("format version {found} is newer than this program, which reads up to {known}: install a newer agentsight")]
    NewerVersion { found: u16, known: u16 },
    #[error("cannot write: {0}")]
    Encode(&'static str),
}
