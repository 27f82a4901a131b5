//! What a probe site tells the eBPF programs: one number, the cookie, that says what the function does and where its count
//! of bytes is found. The numbers have twins in `bpf/src/programs`; they are part of no file.

use serde::{Deserialize, Serialize};

/// What a function at a probe site does. Bits 0 to 7 of the cookie.
pub mod op {
    pub const READ: u64 = 1;
    pub const WRITE: u64 = 2;
    /// The connection ends: what is known of it is dropped.
    pub const FREE: u64 = 3;
    pub const AEAD_SEAL: u64 = 4;
    pub const AEAD_SEAL_SCATTER: u64 = 5;
    pub const AEAD_OPEN: u64 = 6;
    pub const AEAD_OPEN_GATHER: u64 = 7;
    pub const GO_READ: u64 = 8;
    pub const GO_WRITE: u64 = 9;
    /// At a `ret` instruction of the function, where the results are in registers.
    pub const GO_READ_RETURN: u64 = 10;
    pub const GO_WRITE_RETURN: u64 = 11;
    pub const NSS_READ: u64 = 12;
    pub const NSS_WRITE: u64 = 13;
    pub const GO_CLOSE: u64 = 14;
    pub const RING_SEAL: u64 = 15;
    pub const RING_OPEN: u64 = 16;
    /// As [`GO_READ`] and [`GO_WRITE`], of what points to the connection.
    pub const UTLS_READ: u64 = 17;
    pub const UTLS_WRITE: u64 = 18;
    /// What is written is taken from several buffers, and encrypted to where the program says.
    pub const SEAL_DATA: u64 = 19;
    /// What is read stays pending until the caller takes it off, and is read again until then; the cookie says where it is.
    pub const PEEK: u64 = 20;
    /// What was written before is sent now.
    pub const UNCORK: u64 = 21;
    /// What is read stays with the library, in a structure that it hands out.
    pub const READ_PACKET: u64 = 22;
}

/// How many bytes were read or written. Bits 8 to 15 of the cookie: zero, or the number (from 1) of the argument that points
/// to where the function leaves the count.
pub mod count {
    /// The return value is the number of bytes.
    pub const RETURNED: u64 = 0;
    /// `SSL_read_ex(ssl, buf, num, *count)`, and the internal functions of OpenSSL below it.
    pub const ARGUMENT_4: u64 = 4;
    /// `ssl_write_internal(ssl, buf, num, flags, *count)` since OpenSSL 3.3.
    pub const ARGUMENT_5: u64 = 5;
}

/// Bits 16 to 23 of the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Library {
    Openssl = 1,
    Boringssl = 2,
    AwsLc = 3,
    Go = 4,
    Gnutls = 5,
    Nss = 6,
    Ring = 8,
}

impl Library {
    /// The name in captures and messages.
    pub fn name(self) -> &'static str {
        match self {
            Library::Openssl => "openssl",
            Library::Boringssl => "boringssl",
            Library::AwsLc => "aws-lc",
            Library::Go => "go",
            Library::Gnutls => "gnutls",
            Library::Nss => "nss",
            Library::Ring => "ring",
        }
    }
}

/// The one place where a cookie is put together.
pub fn cookie(library: Library, op: u64, count: u64) -> u64 {
    op | count << 8 | (library as u64) << 16
}

/// That of [`op::PEEK`]: where the state of a connection is in it, and in that what is pending, as distances in bytes in bits 24 to
/// 39 and 40 to 55.
pub fn peek(library: Library, state: u16, pending: u16) -> u64 {
    cookie(library, op::PEEK, count::RETURNED) | u64::from(state) << 24 | u64::from(pending) << 40
}

/// What the function at a site does: one of [`op`].
pub fn op_of(cookie: u64) -> u64 {
    cookie & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_its_parts_in_separate_bytes() {
        let cookie = cookie(Library::AwsLc, op::AEAD_OPEN, count::ARGUMENT_4);
        assert_eq!((cookie, op_of(cookie)), (0x03_04_06, op::AEAD_OPEN));
        assert_eq!(peek(Library::Boringssl, 0x30, 0x80), 0x80_00_30_02_00_14);
    }
}
