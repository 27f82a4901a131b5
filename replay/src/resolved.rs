//! What systemd-resolved is asked over its local socket, as glibc does where `hosts:` in nsswitch.conf has `resolve`: JSON objects,
//! each with a NUL behind it (varlink.org), of which `io.systemd.Resolve.ResolveHostname` asks for the addresses of a name. Answers
//! come in the order of questions.

use crate::dns_message;
use crate::values;
use serde_json::Value;
use std::net::IpAddr;

/// Where it is asked.
pub(crate) const SOCKET: &str = "/run/systemd/resolve/io.systemd.Resolve";

const RESOLVE: &str = "io.systemd.Resolve.ResolveHostname";

/// No question or answer is longer.
const MAX_OBJECT: usize = 64 << 10;

/// One direction of a connection to it.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    held: Vec<u8>,
    /// Bytes are missing, or came that are no such objects: nobody knows any more which answer is whose.
    pub lost: bool,
}

impl Objects {
    /// Takes the next bytes. Returns the objects that are whole by now; `None` stands for what is none.
    pub fn push(&mut self, data: &[u8]) -> Vec<Option<Value>> {
        if self.lost {
            return Vec::new();
        }
        self.held.extend_from_slice(data);
        let mut whole = Vec::new();
        while let Some(end) = memchr::memchr(0, &self.held) {
            whole.push(values::parse(&self.held[..end]));
            self.held.drain(..=end);
        }
        if self.held.len() > MAX_OBJECT {
            self.lose();
        }
        whole
    }

    pub fn lose(&mut self) {
        (self.held, self.lost) = (Vec::new(), true);
    }
}

/// The name that a call asks for, and the types of records; `None` if it asks for something else.
pub(crate) fn question(call: &Value) -> Option<(String, &'static str)> {
    if call.get("method")?.as_str()? != RESOLVE {
        return None;
    }
    let parameters = call.get("parameters")?;
    // Families of addresses, by Linux's numbers.
    let kind = match parameters.get("family").and_then(Value::as_u64) {
        Some(2) => "A",
        Some(10) => "AAAA",
        _ => "A/AAAA",
    };
    Some((canonical(parameters.get("name")?.as_str()?), kind))
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The name that has the addresses, as it was found on the way.
    pub name: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub code: String,
}

pub(crate) fn reply(reply: &Value) -> Reply {
    let parameters = |name: &str| reply.get("parameters").and_then(|parameters| parameters.get(name));
    let code = match reply.get("error").and_then(Value::as_str) {
        None => dns_message::code_name(0),
        Some(error) => {
            let code = parameters("rcode").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
            let named = || error.rsplit('.').next().unwrap_or(error).to_owned();
            code.map_or_else(named, dns_message::code_name)
        }
    };
    let found = parameters("addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let name = parameters("name").and_then(Value::as_str).map(canonical);
    Reply { name, addresses: found.iter().filter_map(address).collect(), code }
}

/// A name in lower case, without the last dot.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// An address is an array of its bytes.
fn address(found: &Value) -> Option<IpAddr> {
    let bytes = found.get("address")?.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok());
    let bytes = bytes.take(17).collect::<Option<Vec<u8>>>()?;
    if let Ok(bytes) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(&bytes[..]).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn objects_are_found_however_they_are_cut_and_not_behind_a_gap() {
        for cut in 0..7 {
            let mut objects = Objects::default();
            let mut found = objects.push(&b"{}\0x\0[1"[..cut]);
            found.extend(objects.push(&b"{}\0x\0[1"[cut..]));
            assert_eq!(found, [Some(value("{}")), None]);
        }
        let mut objects = Objects::default();
        objects.lose();
        assert_eq!(objects.push(b"{}\0"), []);
        let mut objects = Objects::default();
        assert!(objects.push(&[b'x'; MAX_OBJECT + 1]).is_empty() && objects.lost && objects.held.is_empty());
    }

    #[test]
    fn only_names_are_asked_for() {
        let call = |method: &str, rest: &str| {
            question(&value(&format!(r#"{{"method":"io.systemd.Resolve.{method}","parameters":{{{rest}}}}}"#)))
        };
        let asked = |kind| Some(("api.example.com".to_owned(), kind));
        assert_eq!(call("ResolveHostname", r#""name":"API.example.com.","flags":0"#), asked("A/AAAA"));
        assert_eq!(call("ResolveHostname", r#""name":"api.example.com","family":10"#), asked("AAAA"));
        assert_eq!(call("ResolveAddress", r#""name":"api.example.com""#), None);
        assert_eq!(question(&value("7")), None);
    }

    #[test]
    fn a_reply_has_addresses_or_says_why_not() {
        let found = r#"{"parameters":{"addresses":[{"ifindex":2,"family":2,"address":[10,0,0,7]},
            {"family":10,"address":[32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,1]},{"address":[1,2]},{"address":[256,0,0,1]}],"name":"b.example"}}"#;
        let addresses = vec!["10.0.0.7".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let expected = Reply { name: Some("b.example".to_owned()), addresses, code: "NOERROR".to_owned() };
        assert_eq!(reply(&value(found)), expected);
        let failed = |text: &str| reply(&value(text)).code;
        assert_eq!(failed(r#"{"error":"io.systemd.Resolve.DNSError","parameters":{"rcode":3}}"#), "NXDOMAIN");
        assert_eq!(failed(r#"{"error":"io.systemd.Resolve.QueryTimedOut"}"#), "QueryTimedOut");
    }
}
