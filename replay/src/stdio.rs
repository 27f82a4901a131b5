//! What goes through standard streams, and who is at the other end.

use crate::ahead::Ahead;
use crate::output::Output;
use crate::processes::{Processes, signed};
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record::{Header, StdioData, direction, stdio_type};
use std::collections::VecDeque;

/// Rows, and bytes in them, that wait for a process to become known.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(crate) struct Stdio {
    rows: i64,
    /// Rows whose peer is a process of which nothing has been said yet, and those after them. A shell starts the first program
    /// of a pipe before the second: it may write before there is one to read.
    waiting: VecDeque<(tables::Stdio, Option<u32>)>,
    waiting_bytes: usize,
}

impl Stdio {
    /// Takes a piece; `row` comes with what every row has.
    pub fn data(
        &mut self,
        (header, stdio, data): (&Header, &StdioData, &[u8]),
        (capture_id, proc_id, ts): (&str, i64, Timestamp),
        (ahead, processes): (&Ahead, &Processes),
        output: &mut Output<'_>,
    ) {
        let received = stdio.direction.get() == direction::RECEIVED;
        let peer = peer(header, stdio, received, ahead);
        let with_data = output.wants_column(tables::Stdio::TABLE, "data");
        let row = tables::Stdio {
            capture_id: capture_id.to_owned(),
            seq: self.rows,
            ts,
            proc_id,
            tid: header.tid.get().into(),
            fd: stdio.fd.get().into(),
            direction: if received { "received" } else { "sent" },
            object_type: stdio_type::name(stdio.object_type.get()).map(str::to_owned),
            peer_proc_id: None,
            stream_offset: signed(stdio.stream_offset.get()),
            len: stdio.len.get().into(),
            captured_len: data.len() as i64,
            data: if with_data { data.to_vec() } else { Vec::new() },
        };
        self.rows += 1;
        self.waiting_bytes += row.data.len();
        self.waiting.push_back((row, peer));
        self.hand_on(processes, output, false);
    }

    /// The capture ends.
    pub fn finish(&mut self, processes: &Processes, output: &mut Output<'_>) {
        self.hand_on(processes, output, true);
    }

    fn hand_on(&mut self, processes: &Processes, output: &mut Output<'_>, all: bool) {
        loop {
            let all = all || self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES;
            let Some((row, peer)) = self.waiting.front_mut() else { break };
            row.peer_proc_id = peer.and_then(|tgid| processes.known(tgid));
            if peer.is_some() && row.peer_proc_id.is_none() && !all {
                break;
            }
            self.waiting_bytes = self.waiting_bytes.saturating_sub(row.data.len());
            output.row(&*row);
            self.waiting.pop_front();
        }
    }
}

/// The process at the other end: of a pipe, who goes the other way; of a socket, who uses its other end at all.
fn peer(header: &Header, stdio: &StdioData, received: bool, ahead: &Ahead) -> Option<u32> {
    let object = Some(stdio.peer_object.get()).filter(|object| *object != 0)?;
    let (way, other_way) =
        if received { (direction::RECEIVED, direction::SENT) } else { (direction::SENT, direction::RECEIVED) };
    let user = |way| ahead.user(object, way, header);
    match stdio.object_type.get() {
        stdio_type::PIPE => user(other_way),
        stdio_type::SOCKET => user(other_way).or_else(|| user(way)),
        _ => return None,
    }
    .or_else(|| ahead.holder(object, other_way, header.tgid.get()))
}
