//! SQL over captures. Every table of `agentsight_replay` is a DataFusion table here; scanning one replays the captures and
//! decodes only what the query needs. [`Session`] runs SQL, [`output`] writes what comes out.

pub mod assertions;
mod batch;
mod error;
pub mod output;
mod provider;
mod session;

pub use batch::schema;
pub use error::Error;
pub use session::{ResultSink, Session};
