//! MCP over standard streams: one message a line, both ways through the descriptors 0 and 1 of a process.
//!
//! A process's own descriptors make a session. Where those of the process at the other end are recorded as well, the same
//! messages go by twice: whoever is recognised first speaks for both.

use super::methods::{Side, sender};
use super::sessions::{Key, Place, Sessions};
use crate::analyzers::Rows;
use crate::bounded::Bounded;
use crate::jsonrpc;
use crate::lines::Lines;
use crate::tables;
use std::collections::BTreeMap;

/// Streams that are followed, and bytes of lines that they may hold together.
const MAX_STREAMS: usize = 8192;
const MAX_HELD: usize = 128 << 20;

/// Processes that are followed.
const MAX_SPEAKERS: usize = 4096;

/// One direction of a descriptor.
#[derive(Default)]
struct Stream {
    lines: Lines,
    /// Offset of the next byte.
    next: i64,
}

/// A process that may be a client or a server.
#[derive(Clone, Copy, Default)]
struct Speaker {
    peer: Option<i64>,
    /// What it is.
    is: Option<Side>,
    /// The process at the other end speaks for it.
    silent: bool,
}

pub(super) struct Stdio {
    streams: Bounded<(i64, i64, bool), Stream>,
    speakers: Bounded<i64, Speaker>,
    /// Those that were recognised and speak: what they are, and their peers.
    speaking: BTreeMap<i64, (Side, Option<i64>)>,
    held: usize,
}

impl Default for Stdio {
    fn default() -> Self {
        Stdio {
            streams: Bounded::new(MAX_STREAMS),
            speakers: Bounded::new(MAX_SPEAKERS),
            speaking: BTreeMap::new(),
            held: 0,
        }
    }
}

impl Stdio {
    /// Takes a piece.
    pub fn piece(&mut self, piece: &tables::Stdio, sessions: &mut Sessions, out: &mut Rows<'_>) {
        if piece.fd > 1 || piece.object_type.as_deref() == Some("terminal") {
            return;
        }
        let speaker = self.speakers.get_or_default(&piece.proc_id);
        if speaker.silent {
            return;
        }
        speaker.peer = speaker.peer.or(piece.peer_proc_id);
        let sent = piece.direction == "sent";
        let key = (piece.proc_id, piece.fd, sent);
        if self.streams.get(&key).is_none()
            && let Some(old) = self.streams.insert(key, Stream::default())
        {
            self.held = self.held.saturating_sub(old.lines.held());
        }
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let before = stream.lines.held();
        let mut messages = Vec::new();
        let mut lost = stream.take(piece, |line| messages.extend(jsonrpc::messages(line)));
        self.held = (self.held + stream.lines.held()).saturating_sub(before);
        if self.held > MAX_HELD {
            self.held = self.held.saturating_sub(stream.lines.give_up());
            lost = true;
        }
        let place = Place { ts: piece.ts, http_id: None, whole: true };
        for message in messages {
            let Some(is) = self.recognise(piece.proc_id, sent, &message, sessions) else { continue };
            let from = if sent { is } else { is.other() };
            sessions.message(&Key::Stdio(piece.proc_id), from, message, place, out);
        }
        if let Some(is) = self.speakers.get(&piece.proc_id).and_then(|speaker| speaker.is).filter(|_| lost) {
            sessions.lost(&Key::Stdio(piece.proc_id), if sent { is } else { is.other() });
        }
    }

    /// What a process is that sends or receives this message; `None` if that is not known, or another speaks for it.
    fn recognise(
        &mut self,
        proc_id: i64,
        sent: bool,
        message: &jsonrpc::Message,
        sessions: &mut Sessions,
    ) -> Option<Side> {
        let speaker = self.speakers.get_mut(&proc_id).filter(|speaker| !speaker.silent)?;
        let is = match speaker.is {
            Some(is) => is,
            None => {
                let sender = sender(message)?;
                let is = if sent { sender } else { sender.other() };
                speaker.silent = spoken_for(&self.speaking, proc_id, is, speaker.peer);
                if speaker.silent {
                    return None;
                }
                *speaker.is.insert(is)
            }
        };
        let peer = speaker.peer;
        if self.speaking.get(&proc_id) != Some(&(is, peer)) {
            if self.speaking.len() >= MAX_SPEAKERS {
                self.speaking.pop_first();
            }
            self.speaking.insert(proc_id, (is, peer));
            let session = sessions.session(&Key::Stdio(proc_id));
            session.transport = "stdio";
            let (this, other) = (Some(proc_id), peer);
            (session.client, session.server) = if is == Side::Client { (this, other) } else { (other, this) };
        }
        Some(is)
    }
}

/// Whether the process at the other end speaks already. It may be a server here and a client of somebody else there: of one
/// conversation, the two are never the same.
fn spoken_for(speaking: &BTreeMap<i64, (Side, Option<i64>)>, proc_id: i64, is: Side, peer: Option<i64>) -> bool {
    let other_end = |(its, its_peer): &(Side, Option<i64>)| {
        *its == is.other() && (*its_peer == Some(proc_id) || its_peer.is_none() && peer.is_some())
    };
    match peer {
        Some(peer) => speaking.get(&peer).is_some_and(other_end),
        None => speaking.values().any(other_end),
    }
}

impl Stream {
    /// Takes a piece, and gives the lines that it completes. Returns whether bytes are missing.
    fn take(&mut self, piece: &tables::Stdio, mut line: impl FnMut(&[u8])) -> bool {
        let next = self.next;
        let mut lost = piece.stream_offset > next;
        if lost {
            self.lines.gap();
        }
        // What comes again was there already.
        let again = usize::try_from(next.saturating_sub(piece.stream_offset)).unwrap_or(0);
        lost |= self.lines.push(piece.data.get(again..).unwrap_or_default(), &mut line);
        if piece.captured_len < piece.len {
            self.lines.gap();
            lost = true;
        }
        self.next = next.max(piece.stream_offset.saturating_add(piece.len));
        lost
    }
}
