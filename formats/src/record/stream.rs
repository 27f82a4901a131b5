//! A stream of records: each with the bytes that follow its fixed part, decoded by its kind.

use super::*;
use std::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One record with the bytes that follow its fixed part.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub header: &'a Header,
    /// The whole record, header included, padding excluded.
    pub bytes: &'a [u8],
}

/// A record of a known kind, taken apart. Slices borrow from the record.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    Fork(&'a Fork),
    Exec {
        exec: &'a Exec,
        path: &'a [u8],
        cwd: &'a [u8],
        filename: &'a [u8],
    },
    ExecArgs {
        args: &'a ExecArgs,
        data: &'a [u8],
    },
    Exit(&'a Exit),
    Map {
        map: &'a Map,
        path: &'a [u8],
    },
    Adopt(&'a Adopt),
    Unwatched(&'a Unwatched),
    Identity(&'a Identity),
    TlsData {
        tls: &'a TlsData,
        data: &'a [u8],
    },
    TlsClose(TlsClose),
    TlsBind(&'a TlsBind),
    File {
        file: &'a File,
        base: &'a [u8],
        path: &'a [u8],
        new_base: &'a [u8],
        new_path: &'a [u8],
    },
    Socket {
        socket: &'a Socket,
        path: &'a [u8],
    },
    SocketData {
        data: &'a SocketData,
        bytes: &'a [u8],
    },
    StdioData {
        stdio: &'a StdioData,
        data: &'a [u8],
    },
    Endpoint(&'a Endpoint),
    Metric(&'a Metric),
    Descriptor {
        descriptor: &'a Descriptor,
        target: &'a [u8],
    },
    Checkpoint {
        checkpoint: &'a Checkpoint,
        drops: &'a [DropCounter],
    },
    Process {
        process: &'a Process,
        path: &'a [u8],
        cwd: &'a [u8],
        args: &'a [u8],
    },
    Connection(&'a Connection),
    Sums(&'a Sums),
    Probe {
        json: &'a [u8],
    },
    Note {
        json: &'a [u8],
    },
    /// A kind of a newer version.
    Unknown,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record length {len} at byte {at} is outside {HEADER_LEN}..={MAX_RECORD_LEN}")]
    Length { at: usize, len: usize },
    #[error("record at byte {at} needs {need} bytes, {have} are left")]
    Short { at: usize, need: usize, have: usize },
    #[error("record of kind {kind:#06x} is {have} bytes long, its fields need {need}")]
    Fields { kind: u16, need: usize, have: usize },
}

impl<'a> Record<'a> {
    /// A record out of its bytes, without padding; `None` if they are too few for a header.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        Header::ref_from_prefix(bytes).ok().map(|(header, _)| Record { header, bytes })
    }

    /// Takes the record apart.
    ///
    /// # Errors
    /// [`RecordError::Fields`] when the record is too short for its kind or for the lengths it names.
    pub fn body(&self) -> Result<Body<'a>, RecordError> {
        let kind = self.header.kind.get();
        Ok(match kind {
            kind::FORK => Body::Fork(self.fixed()?.0),
            kind::EXEC => {
                let (exec, rest) = self.fixed::<Exec>()?;
                let [path, cwd, filename] = self
                    .split(rest, [exec.path_len.get(), exec.cwd_len.get(), exec.filename_len.get()].map(usize::from))?;
                Body::Exec { exec, path, cwd, filename }
            }
            kind::EXEC_ARGS => {
                let (args, rest) = self.fixed::<ExecArgs>()?;
                let [data] = self.split(rest, [args.captured.get() as usize])?;
                Body::ExecArgs { args, data }
            }
            kind::EXIT => Body::Exit(self.fixed()?.0),
            kind::MAP => {
                let (map, rest) = self.fixed::<Map>()?;
                let [path] = self.split(rest, [map.path_len.get().into()])?;
                Body::Map { map, path }
            }
            kind::ADOPT => Body::Adopt(self.fixed()?.0),
            kind::UNWATCHED => Body::Unwatched(self.fixed()?.0),
            kind::IDENTITY => Body::Identity(self.fixed()?.0),
            kind::TLS_DATA => {
                let (tls, rest) = self.fixed::<TlsData>()?;
                let [data] = self.split(rest, [tls.captured.get() as usize])?;
                Body::TlsData { tls, data }
            }
            kind::TLS_CLOSE => Body::TlsClose(self.extended(offset_of!(TlsClose, sent))?),
            kind::TLS_BIND => Body::TlsBind(self.fixed()?.0),
            kind::FILE => {
                let (file, rest) = self.fixed::<File>()?;
                let lens = [file.base_len, file.path_len, file.new_base_len, file.new_path_len];
                let [base, path, new_base, new_path] = self.split(rest, lens.map(|len| usize::from(len.get())))?;
                Body::File { file, base, path, new_base, new_path }
            }
            kind::SOCKET => {
                let (socket, rest) = self.fixed::<Socket>()?;
                let [path] = self.split(rest, [socket.path_len.get().into()])?;
                Body::Socket { socket, path }
            }
            kind::SOCKET_DATA => {
                let (data, rest) = self.fixed::<SocketData>()?;
                let [bytes] = self.split(rest, [data.captured.get() as usize])?;
                Body::SocketData { data, bytes }
            }
            kind::STDIO_DATA => {
                let (stdio, rest) = self.fixed::<StdioData>()?;
                let [data] = self.split(rest, [stdio.captured.get() as usize])?;
                Body::StdioData { stdio, data }
            }
            kind::ENDPOINT => Body::Endpoint(self.fixed()?.0),
            kind::METRIC => Body::Metric(self.fixed()?.0),
            kind::DESCRIPTOR => {
                let (descriptor, rest) = self.fixed::<Descriptor>()?;
                let [target] = self.split(rest, [descriptor.target_len.get().into()])?;
                Body::Descriptor { descriptor, target }
            }
            kind::CHECKPOINT => {
                let (checkpoint, rest) = self.fixed::<Checkpoint>()?;
                let count = checkpoint.drop_count.get() as usize;
                let [bytes] = self.split(rest, [count.saturating_mul(size_of::<DropCounter>())])?;
                let drops = <[DropCounter]>::ref_from_bytes(bytes).map_err(|_| self.too_short(bytes.len()))?;
                Body::Checkpoint { checkpoint, drops }
            }
            kind::PROCESS => {
                let (process, rest) = self.fixed::<Process>()?;
                let [path, cwd, args] = self.split(
                    rest,
                    [
                        process.path_len.get() as usize,
                        process.cwd_len.get() as usize,
                        process.args_captured.get() as usize,
                    ],
                )?;
                Body::Process { process, path, cwd, args }
            }
            kind::CONNECTION => Body::Connection(self.fixed()?.0),
            kind::SUMS => Body::Sums(self.fixed()?.0),
            kind::PROBE => Body::Probe { json: self.fixed::<Json>()?.1 },
            kind::NOTE => Body::Note { json: self.fixed::<Json>()?.1 },
            _ => Body::Unknown,
        })
    }

    fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self) -> Result<(&'a T, &'a [u8]), RecordError> {
        T::ref_from_prefix(self.bytes).map_err(|_| self.too_short(size_of::<T>()))
    }

    /// A fixed part that was `least` bytes long once: fields that an older capturer did not write are 0.
    fn extended<T: FromBytes + IntoBytes>(&self, least: usize) -> Result<T, RecordError> {
        let mut extended = T::new_zeroed();
        let len = self.bytes.len().min(size_of::<T>());
        if len < least {
            return Err(self.too_short(least));
        }
        extended.as_mut_bytes()[..len].copy_from_slice(&self.bytes[..len]);
        Ok(extended)
    }

    fn split<const N: usize>(&self, mut rest: &'a [u8], lens: [usize; N]) -> Result<[&'a [u8]; N], RecordError> {
        let fixed = self.bytes.len() - rest.len();
        let need = lens.iter().fold(fixed, |sum, len| sum.saturating_add(*len));
        let mut parts = [&rest[..0]; N];
        for (part, len) in parts.iter_mut().zip(lens) {
            (*part, rest) = rest.split_at_checked(len).ok_or(self.too_short(need))?;
        }
        Ok(parts)
    }

    fn too_short(&self, need: usize) -> RecordError {
        RecordError::Fields { kind: self.header.kind.get(), need, have: self.bytes.len() }
    }
}

/// Walks the records in `bytes`, which start at a record and hold whole, padded records.
///
/// The iterator ends after the first error: without a length there is no next record.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { bytes, at: 0 }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Records<'_> {
    /// Offset of the next record in the bytes given to [`records`].
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        self.at = self.bytes.len();
        let Ok((header, _)) = Header::ref_from_prefix(rest) else {
            return Some(Err(RecordError::Short { at, need: HEADER_LEN, have: rest.len() }));
        };
        let len = header.len.get() as usize;
        if !(HEADER_LEN..=MAX_RECORD_LEN).contains(&len) {
            return Some(Err(RecordError::Length { at, len }));
        }
        let padded = padded_len(len);
        if rest.len() < padded {
            return Some(Err(RecordError::Short { at, need: padded, have: rest.len() }));
        }
        self.at = at + padded;
        Some(Ok(Record { header, bytes: &rest[..len] }))
    }
}

/// Bytes that a record of `len` bytes takes in the stream: the next multiple of 8.
pub const fn padded_len(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Appends a record to `out`: `fixed` (whose header's length is set here), then `parts`, then padding.
pub fn append<T: IntoBytes + Immutable>(out: &mut Vec<u8>, fixed: &T, parts: &[&[u8]]) {
    let start = out.len();
    out.extend_from_slice(fixed.as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    let len = out.len() - start;
    // A record is far below 4 GiB; should one ever not be, the reader names its length as damage.
    out[start..start + 4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    out.resize(start + padded_len(len), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(data: &[u8]) -> Vec<u8> {
        let fixed = TlsData {
            header: Header { kind: kind::TLS_DATA.into(), ..Header::default() },
            conn_id: 7.into(),
            stream_offset: 0.into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            direction: direction::SENT.into(),
            library: library::OPENSSL.into(),
            reserved: 0.into(),
        };
        let mut out = Vec::new();
        append(&mut out, &fixed, &[data]);
        out
    }

    #[test]
    fn records_are_padded_and_walked_one_by_one() {
        let bytes = [tls(b"hello"), tls(b""), tls(b"12345678")].concat();
        let seen: Vec<Vec<u8>> = records(&bytes)
            .map(|record| match record.unwrap().body().unwrap() {
                Body::TlsData { data, .. } => data.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, [b"hello".to_vec(), b"".to_vec(), b"12345678".to_vec()]);
        assert_eq!(bytes.len() % 8, 0);
    }

    #[test]
    fn a_cut_record_is_an_error_and_ends_the_walk() {
        let bytes = tls(b"hello");
        for cut in 1..bytes.len() {
            let seen: Vec<_> = records(&bytes[..cut]).collect();
            assert!(matches!(seen[..], [Err(RecordError::Short { at: 0, .. })]), "{cut}: {seen:?}");
        }
    }

    #[test]
    fn lengths_inside_a_record_are_checked() {
        let mut bytes = tls(b"hello");
        let at = std::mem::offset_of!(TlsData, captured);
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let record = records(&bytes).next().unwrap().unwrap();
        assert!(matches!(record.body(), Err(RecordError::Fields { kind: kind::TLS_DATA, .. })));
    }

    #[test]
    fn an_unknown_kind_is_kept() {
        let mut bytes = tls(b"hello");
        bytes[4..6].copy_from_slice(&0x7777u16.to_le_bytes());
        assert!(matches!(records(&bytes).next().unwrap().unwrap().body(), Ok(Body::Unknown)));
    }
}
