//! The table `dns`: questions to name servers with their answers; and the names that answers have given to addresses.

use crate::bounded::Bounded;
use crate::dns_message::{self, Answer, Message};
use crate::processes::signed;
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record::{SocketData, direction, ip_address};
use std::net::IpAddr;

/// Questions that wait for an answer; more are given up, the oldest first.
const MAX_WAITING: usize = 4096;
/// Addresses whose names are remembered.
const MAX_NAMES: usize = 65536;

/// Socket, id of the message, name and type.
type Key = (u64, u16, String, u16);

pub(crate) struct Dns {
    capture_id: String,
    /// When it was asked in nanoseconds of boot time, and its row.
    waiting: Bounded<Key, (u64, tables::Dns)>,
    /// The name behind an address, as a process was told last.
    names_of_process: Bounded<(i64, IpAddr), String>,
    /// As anybody was told; `None` if it has several.
    names: Bounded<IpAddr, Option<String>>,
}

impl Dns {
    pub fn new(capture_id: String) -> Self {
        Dns {
            capture_id,
            waiting: Bounded::new(MAX_WAITING),
            names_of_process: Bounded::new(MAX_NAMES),
            names: Bounded::new(MAX_NAMES),
        }
    }

    /// Takes a message. Returns the rows that are done: its own if it is an answer, and those given up.
    ///
    /// A process that answers is a name server: what it is asked is the business of those who ask.
    pub fn message(
        &mut self,
        data: &SocketData,
        bytes: &[u8],
        proc_id: i64,
        (time, ts): (u64, Timestamp),
    ) -> Option<tables::Dns> {
        let mut message = dns_message::parse(bytes)?;
        message.truncated |= (data.captured.get() as usize) < data.len.get() as usize;
        let received = data.direction.get() == direction::RECEIVED;
        if message.response != received {
            return None;
        }
        let (name, kind) = message.question.clone().unwrap_or_default();
        let key = (data.socket_id.get(), message.id, name.clone(), kind);
        if !message.response {
            let row = tables::Dns {
                capture_id: self.capture_id.clone(),
                ts,
                proc_id,
                query_name: name,
                query_type: dns_message::type_name(kind),
                server_address: server(data),
                ..tables::Dns::default()
            };
            // Asked again, it is the same question.
            let known = self.waiting.get(&key).is_some();
            return if known { None } else { self.waiting.insert(key, (time, row)).map(|(_, row)| row) };
        }
        self.learn(proc_id, &name, &message);
        let asked = self.waiting.remove(&key);
        let duration_ns = asked.as_ref().map(|(asked, _)| signed(time.saturating_sub(*asked)));
        let row = asked.map_or_else(
            || tables::Dns {
                capture_id: self.capture_id.clone(),
                ts,
                proc_id,
                query_name: name,
                query_type: dns_message::type_name(kind),
                ..tables::Dns::default()
            },
            |(_, row)| row,
        );
        Some(tables::Dns {
            answers: message.answers.iter().map(Answer::text).collect(),
            response_code: Some(dns_message::code_name(message.response_code)),
            duration_ns,
            server_address: row.server_address.or_else(|| server(data)),
            truncated: message.truncated,
            ..row
        })
    }

    fn learn(&mut self, proc_id: i64, name: &str, message: &Message) {
        for answer in &message.answers {
            if let Answer::Address(address) = answer {
                let address = address.to_canonical();
                self.names_of_process.insert((proc_id, address), name.to_owned());
                let known = self.names.get(&address);
                let same = known.is_none_or(|known| known.as_deref() == Some(name));
                self.names.insert(address, same.then(|| name.to_owned()));
            }
        }
    }

    /// The name that an address was the last answer for to this process; else the only one that it was for to any.
    pub fn name_of(&self, proc_id: i64, address: IpAddr) -> Option<&str> {
        let own = self.names_of_process.get(&(proc_id, address)).map(String::as_str);
        own.or_else(|| self.names.get(&address)?.as_deref())
    }

    /// Questions that were not answered, in the order in which they were asked.
    pub fn finish(&mut self) -> impl Iterator<Item = tables::Dns> {
        std::iter::from_fn(|| self.waiting.pop_first().map(|(_, row)| row))
    }
}

/// The other end, where the call named it.
fn server(data: &SocketData) -> Option<String> {
    let address = ip_address(data.family.get(), &data.peer)?.to_canonical();
    (!address.is_unspecified()).then(|| address.to_string())
}
