//! MCP, over standard streams and over HTTP.

use super::pieces;
use crate::analyzers::mcp_fuzz;

/// The first byte: 0, the standard streams of a process; else an exchange (2: answered by events), its response behind a byte 0.
pub fn mcp(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    if how & 1 == 0 {
        let pieces: Vec<_> =
            pieces(data).into_iter().map(|piece| (piece.side == 1, piece.bytes, piece.missing)).collect();
        return mcp_fuzz::stdio(&pieces);
    }
    let (request, response) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    mcp_fuzz::http(how & 2 != 0, request, response.get(1..).unwrap_or_default());
}
