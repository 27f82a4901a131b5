//! How TLS begins on a socket: what the hellos of both sides say of the session, and how many of the socket's bytes the
//! handshake may take. The capturer and the reader judge by it whether anything was said whose plaintext was not seen.

/// What tells a TLS session from all others: the random of its client's hello (RFC 8446, 4.1.2).
pub type Random = [u8; 32];

/// Offsets in a hello that stands whole in the first record: the length of the record, the type of the message, its random.
const RECORD_LEN: usize = 3;
const RECORD_HEAD: u64 = 5;
const MESSAGE_TYPE: usize = 5;
const RANDOM: usize = 11;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: &[u8] = &[3, 4];

/// The random of a server's hello that asks the client for another one: SHA-256 of `HelloRetryRequest` (RFC 8446, 4.1.3).
const RETRY: Random = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A client without a certificate sends no more bytes than this after its hello if it says nothing: the end of the handshake
/// and of the connection (RFC 5246, 7.4.7 and 7.4.9).
const SILENT_CLIENT: u64 = 160;

/// The same in TLS 1.3: a change of cipher, Finished with SHA-384, an alert (RFC 8446, 4.4.4, 6.1 and D.4).
const SILENT_CLIENT_1_3: u64 = 6 + 74 + 24;

/// What a second hello may have that the first has not: another share of a key, a cookie.
const MORE_IN_SECOND: u64 = 512;

/// No handshake has more of a client besides its hello, which may have a chain of certificates, or of a server.
pub const MOST_OF_CLIENT: u64 = 16 << 10;
const MOST_OF_SERVER: u64 = 32 << 10;

/// What is known of the handshake on a socket. A side is 0 for what the process sends and 1 for what it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The side of the client, and the length of its hello.
    client: Option<(usize, u64)>,
    is_1_3: bool,
    retried: bool,
}

impl Handshake {
    /// Takes the first bytes of a side, which are the beginning of `len`. Returns what names the session if they are the client's.
    pub fn hello(&mut self, side: usize, bytes: &[u8], len: u64) -> Option<Random> {
        let random = bytes.get(RANDOM..).and_then(|rest| rest.first_chunk()).copied();
        match bytes.get(MESSAGE_TYPE) {
            Some(&CLIENT_HELLO) => {
                // The call may have transferred a part of it.
                let record = bytes.get(RECORD_LEN..).and_then(|rest| rest.first_chunk());
                let whole = record.map_or(0, |len| RECORD_HEAD + u64::from(u16::from_be_bytes(*len)));
                self.client = Some((side & 1, len.max(whole)));
                random
            }
            Some(&SERVER_HELLO) => {
                self.is_1_3 = chosen_version(bytes) == Some(TLS_1_3);
                self.retried = random == Some(RETRY);
                None
            }
            _ => None,
        }
    }

    /// Whether the client of the session is this side.
    pub fn is_client(&self, side: usize) -> bool {
        self.client.is_some_and(|(client, _)| client == side)
    }

    /// Whether nothing was said: the sides have sent no more than this handshake and the end of the connection.
    pub fn is_all(&self, bytes: [u64; 2]) -> bool {
        let Some((client, hello)) = self.client else { return false };
        let silent = if self.is_1_3 { SILENT_CLIENT_1_3 } else { SILENT_CLIENT };
        let again = if self.retried { hello + MORE_IN_SECOND } else { 0 };
        bytes[client] <= hello + again + silent && bytes[1 - client] <= MOST_OF_SERVER
    }

    /// Whether a side has sent more than any handshake takes.
    pub fn is_exceeded(&self, side: usize, bytes: u64) -> bool {
        self.client.is_some_and(|(client, hello)| {
            bytes > if client == side { 2 * hello + MOST_OF_CLIENT } else { MOST_OF_SERVER }
        })
    }
}

/// The version that a server's hello chooses in an extension (RFC 8446, 4.2.1).
fn chosen_version(hello: &[u8]) -> Option<&[u8]> {
    let session = usize::from(*hello.get(RANDOM + 32)?);
    // Behind the session, its cipher and its compression.
    let mut rest = hello.get(RANDOM + 32 + 1 + session + 3..)?.get(2..)?;
    loop {
        let (head, behind) = rest.split_first_chunk::<4>()?;
        let body = behind.get(..usize::from(u16::from_be_bytes([head[2], head[3]])))?;
        if u16::from_be_bytes([head[0], head[1]]) == SUPPORTED_VERSIONS {
            return Some(body);
        }
        rest = behind.get(body.len()..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: u64 = 500;

    fn client(random: u8) -> Vec<u8> {
        [&[22, 3, 1, 1, 0xef, CLIENT_HELLO, 0, 1, 0xeb, 3, 3][..], &[random; 32], &[0; 100]].concat()
    }

    fn server(random: Random, version: &[u8]) -> Vec<u8> {
        let extensions = [&[0, 23, 0, 0, 0, 43, 0, 2][..], version].concat();
        let fixed = [0, 0x13, 1, 0, 0, extensions.len() as u8];
        [&[22, 3, 3, 0, 90, SERVER_HELLO, 0, 0, 86, 3, 3][..], &random, &fixed, &extensions].concat()
    }

    fn handshake(hello: &[u8]) -> Handshake {
        let mut handshake = Handshake::default();
        assert_eq!(handshake.hello(0, &client(7), HELLO), Some([7; 32]));
        assert_eq!(handshake.hello(1, hello, 4000), None);
        handshake
    }

    #[test]
    fn a_silent_client_sends_less_in_tls_1_3() {
        let older = handshake(&server([9; 32], &[3, 3]));
        assert_eq!([660, 661].map(|sent| older.is_all([sent, 4000])), [true, false]);
        let newer = handshake(&server([9; 32], TLS_1_3));
        assert_eq!([604, 605].map(|sent| newer.is_all([sent, 4000])), [true, false]);
    }

    #[test]
    fn a_client_that_is_asked_for_another_hello_sends_two() {
        let retried = handshake(&server(RETRY, TLS_1_3));
        assert_eq!([1604, 1700].map(|sent| retried.is_all([sent, 4000])), [true, false]);
    }

    #[test]
    fn a_short_request_with_a_long_answer_is_no_handshake() {
        let newer = handshake(&server([9; 32], TLS_1_3));
        assert_eq!([32 << 10, 40_144].map(|received| newer.is_all([541, received])), [true, false]);
    }

    #[test]
    fn what_exceeds_a_handshake_is_known_for_each_side() {
        let newer = handshake(&server([9; 32], TLS_1_3));
        assert_eq!([17_000, 21_742].map(|sent| newer.is_exceeded(0, sent)), [false, true]);
        assert_eq!([21_742, 40_144].map(|received| newer.is_exceeded(1, received)), [false, true]);
        assert!(!Handshake::default().is_exceeded(0, 1 << 30));
    }

    #[test]
    fn a_hello_of_which_a_part_was_transferred_has_the_length_of_its_record() {
        let mut part = Handshake::default();
        assert_eq!(part.hello(1, &client(7)[..40], 40), None);
        assert_eq!((part.is_client(1), part.is_all([3000, 660])), (true, true));
        (0..80).for_each(|len| _ = part.hello(0, &server([9; 32], TLS_1_3)[..len.min(57)], 40));
    }
}
