//! A server that an agent starts and speaks with over pipes.

use super::run::{AGENT, Run};
use super::*;
use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{Endpoint, StdioData, stdio_type};
use zerocopy::FromZeros;

/// Pipes between the agent and a server that it starts.
const TO_SERVER: u64 = 71;
const TO_AGENT: u64 = 72;

/// Which ends of a pair of pipes are recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    Server,
    Client,
    Both,
}

/// A server that speaks with the agent over its standard streams.
#[derive(Clone, Copy)]
pub struct Piped {
    pub server: u32,
    pub recorded: Recorded,
    /// Most bytes of one piece.
    pub size: usize,
}

impl Run {
    /// The agent starts a server.
    pub fn serve(&mut self, piped: Piped) {
        self.start(AGENT, piped.server, &["server"]);
        let ends = [(AGENT, TO_SERVER, SENT), (piped.server, TO_SERVER, RECEIVED)];
        let back = [(piped.server, TO_AGENT, SENT), (AGENT, TO_AGENT, RECEIVED)];
        for (tgid, object, direction) in ends.into_iter().chain(back) {
            let header = header(kind::ENDPOINT, self.time(), tgid);
            let object = object + 10 * u64::from(piped.server);
            let end = Endpoint { header, object: object.into(), direction: direction.into(), ..Endpoint::new_zeroed() };
            self.script.records.push(bytes(&end, &[]));
        }
    }

    /// The agent writes to a server.
    pub fn tell_server(&mut self, piped: Piped, data: &str) {
        self.through(piped, TO_SERVER, [(AGENT, 1, SENT), (piped.server, 0, RECEIVED)], data);
    }

    /// A server writes to the agent.
    pub fn tell_agent(&mut self, piped: Piped, data: &str) {
        self.through(piped, TO_AGENT, [(piped.server, 1, SENT), (AGENT, 0, RECEIVED)], data);
    }

    fn through(&mut self, piped: Piped, object: u64, ends: [(u32, u16, u16); 2], data: &str) {
        for chunk in data.as_bytes().chunks(piped.size) {
            for (tgid, fd, direction) in ends {
                let seen = if tgid == AGENT { Recorded::Client } else { Recorded::Server };
                if piped.recorded == Recorded::Both || piped.recorded == seen {
                    self.stdio((tgid, fd, direction), object + 10 * u64::from(piped.server), chunk, chunk.len());
                }
            }
        }
    }

    /// Something goes through a descriptor; `len` bytes of it, of which `data` is captured.
    pub fn stdio(&mut self, (tgid, fd, direction): (u32, u16, u16), object: u64, data: &[u8], len: usize) {
        let header = header(kind::STDIO_DATA, self.time(), tgid);
        let stream = u64::from(tgid) << 32 | u64::from(fd) << 16;
        let offset = self.script.offsets.entry((stream, direction)).or_default();
        let fixed = StdioData {
            header,
            object: object.into(),
            peer_object: object.into(),
            stream_offset: (*offset).into(),
            len: (len as u32).into(),
            captured: (data.len() as u32).into(),
            fd: fd.into(),
            direction: direction.into(),
            object_type: stdio_type::PIPE.into(),
            reserved: 0.into(),
        };
        *offset += len as u64;
        self.script.records.push(bytes(&fixed, &[data]));
    }
}
