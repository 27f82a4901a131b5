//! The `.asc` capture file: the container and the raw records in it. `FORMAT.md` beside this crate is the specification;
//! this code follows it and not the other way round.
//!
//! The crate is pure: bytes in, bytes out. It knows no eBPF, no Arrow and no clock, and builds on any system. Whoever
//! writes a capture hands it finished records and clock samples; whoever reads one hands it anything that can be read
//! and gets pieces of verified records back, with a report of what was damaged.

mod error;
pub mod forwarding;
mod frame;
pub mod handshake;
mod head;
mod input;
mod piece;
mod reader;
pub mod record;
mod tail;
mod writer;

pub use error::Error;
pub use head::{Clocks, Head, MINOR, Metadata, VERSION};
pub use piece::{Damage, Item, Piece};
pub use reader::Reader;
pub use tail::{SegmentInfo, Tail};
pub use writer::Writer;
