//! The hello with which each side begins TLS (RFC 8446, 4.1): the name that the client asks for (RFC 6066, 3) and the
//! application protocols (RFC 7301). What was captured may end anywhere; what stands before the end counts.

/// What a hello says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Whether the client says it.
    pub client: bool,
    pub server_name: Option<String>,
    /// The protocols that the client offers, or the one that the server chose.
    pub alpn: Vec<String>,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// Reads the first bytes of one direction of a connection; `None` if they are no hello.
pub(crate) fn parse(bytes: &[u8]) -> Option<Hello> {
    let message = handshake(bytes)?;
    let mut at = Bytes(&message);
    let client = match at.u8()? {
        CLIENT_HELLO => true,
        SERVER_HELLO => false,
        _ => return None,
    };
    let mut hello = Hello { client, ..Hello::default() };
    // Length, version, random.
    at.take(3 + 2 + 32)?;
    // What follows is left out where the capture ends.
    let _ = extensions(&mut at, &mut hello);
    Some(hello)
}

/// The first handshake message, which records may cut into pieces.
fn handshake(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut at = Bytes(bytes);
    while let (Some(HANDSHAKE), Some(3), Some(_), Some(len)) = (at.u8(), at.u8(), at.u8(), at.u16()) {
        let piece = at.up_to(len.into());
        message.extend_from_slice(piece);
        if piece.len() < usize::from(len) {
            break;
        }
    }
    Some(message).filter(|message| !message.is_empty())
}

fn extensions(at: &mut Bytes<'_>, hello: &mut Hello) -> Option<()> {
    let session = at.u8()?;
    at.take(session.into())?;
    if hello.client {
        let ciphers = at.u16()?;
        at.take(ciphers.into())?;
        let compressions = at.u8()?;
        at.take(compressions.into())?;
    } else {
        at.take(3)?;
    }
    let len = at.u16()?;
    let mut all = Bytes(at.up_to(len.into()));
    loop {
        let (kind, len) = (all.u16()?, all.u16()?);
        let body = all.take(len.into())?;
        match kind {
            EXTENSION_SERVER_NAME if hello.client => hello.server_name = server_name(body),
            EXTENSION_ALPN => hello.alpn = protocols(body),
            _ => {}
        }
    }
}

fn server_name(body: &[u8]) -> Option<String> {
    let mut at = Bytes(body);
    let (_, kind, len) = (at.u16()?, at.u8()?, at.u16()?);
    let name = at.take(len.into())?;
    let host_name = 0;
    let readable = kind == host_name && !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    readable.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn protocols(body: &[u8]) -> Vec<String> {
    let mut at = Bytes(body);
    let mut found = Vec::new();
    at.u16();
    while let Some(name) = at.u8().and_then(|len| at.take(len.into())) {
        found.push(String::from_utf8_lossy(name).into_owned());
    }
    found
}

/// Bytes that are read from their start.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// As many as there are.
    fn up_to(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    fn short(bytes: &[u8]) -> Vec<u8> {
        [&[bytes.len() as u8], bytes].concat()
    }

    /// A ClientHello, or (without a name) a ServerHello, as it goes over the wire in one record.
    pub(crate) fn hello(server_name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
        let names: Vec<u8> = alpn.iter().flat_map(|name| short(name.as_bytes())).collect();
        let mut extensions = [&[0, 23, 0, 0][..], &[0, 16], &long(&long(&names))].concat();
        if let Some(name) = server_name {
            extensions.extend([&[0, 0][..], &long(&long(&[&[0], &long(name.as_bytes())[..]].concat()))].concat());
        }
        let choices = if server_name.is_some() { [long(&[0x13, 1]), short(&[0])].concat() } else { vec![0x13, 1, 0] };
        let body = [&[3, 3][..], &[7; 32], &short(&[9; 32]), &choices, &long(&extensions)].concat();
        let kind = if server_name.is_some() { CLIENT_HELLO } else { SERVER_HELLO };
        let message = [&[kind, 0], &long(&body)[..]].concat();
        [&[HANDSHAKE, 3, 1], &long(&message)[..]].concat()
    }

    #[test]
    fn a_client_names_its_server_and_a_server_its_protocol() {
        let seen = parse(&hello(Some("API.example.com"), &["h2", "http/1.1"])).unwrap();
        let offered = vec!["h2".to_owned(), "http/1.1".to_owned()];
        assert_eq!(seen, Hello { client: true, server_name: Some("api.example.com".to_owned()), alpn: offered });
        let chosen = parse(&hello(None, &["h2"])).unwrap();
        assert_eq!(chosen, Hello { client: false, server_name: None, alpn: vec!["h2".to_owned()] });
    }

    #[test]
    fn a_hello_may_end_anywhere_and_be_cut_into_records() {
        let whole = hello(Some("api.example.com"), &["h2"]);
        for cut in 0..whole.len() {
            let seen = parse(&whole[..cut]);
            assert!(seen.is_none_or(|seen| seen.server_name.is_none()), "{cut}");
        }
        let (first, second) = whole[5..].split_at(20);
        let head = &whole[..3];
        let cut = [head, &long(first)[..], head, &long(second)[..]].concat();
        assert_eq!(parse(&cut), parse(&whole));
        let wrong: Vec<u8> = whole.iter().map(|byte| !byte).collect();
        assert_eq!((parse(&wrong), parse(b"GET / HTTP/1.1")), (None, None));
    }
}
