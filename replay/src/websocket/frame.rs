//! The frames of one direction of a WebSocket (RFC 6455, 5), put together to messages.
//!
//! Frames have no marks to find them again by: where bytes are missing anywhere but inside a payload, or a frame is not as the
//! standard wants it, the direction is lost. What would follow could be taken for anything.

/// Longest message that is kept, in bytes; of a longer one only its end is told.
pub(super) const MAX_MESSAGE: usize = 64 << 20;

/// Longest header of a frame: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

pub(super) mod opcode {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// What a direction says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A message: its payload is whole, but may be compressed.
    Message { opcode: u8, compressed: bool, payload: Vec<u8> },
    /// A message of which bytes are missing, or that is too long.
    Damaged { compressed: bool },
    /// A control frame.
    Control { opcode: u8, payload: Vec<u8> },
    /// Nothing more can be understood.
    Lost,
}

/// A message on its way.
struct Open {
    opcode: u8,
    compressed: bool,
    payload: Vec<u8>,
    damaged: bool,
}

/// A frame whose payload is on its way.
struct Frame {
    fin: bool,
    control: Option<u8>,
    mask: Option<[u8; 4]>,
    at: u64,
    left: u64,
}

/// Parses one direction.
pub(super) struct Parser {
    /// Clients mask what they send, servers do not.
    masked: bool,
    /// Whether messages may be compressed.
    deflate: bool,
    header: Vec<u8>,
    frame: Option<Frame>,
    control: Vec<u8>,
    control_damaged: bool,
    message: Option<Open>,
    lost: bool,
}

impl Parser {
    pub fn new(masked: bool, deflate: bool) -> Self {
        Parser {
            masked,
            deflate,
            header: Vec::new(),
            frame: None,
            control: Vec::new(),
            control_damaged: false,
            message: None,
            lost: false,
        }
    }

    pub fn push(&mut self, bytes: &[u8], said: &mut Vec<Said>) {
        let mut rest = bytes;
        while !self.lost && !rest.is_empty() {
            if self.frame.is_some() {
                let taken = self.payload(rest);
                rest = rest.get(taken..).unwrap_or_default();
            } else {
                let Some((first, after)) = rest.split_first() else { return };
                self.header.push(*first);
                rest = after;
                self.header(said);
            }
            self.end_of_frame(said);
        }
    }

    /// Bytes are missing.
    pub fn gap(&mut self, len: u64, said: &mut Vec<Said>) {
        if self.lost {
            return;
        }
        match &mut self.frame {
            Some(frame) if len <= frame.left => {
                frame.left -= len;
                frame.at = frame.at.wrapping_add(len);
                match (frame.control, &mut self.message) {
                    (Some(_), _) => self.control_damaged = true,
                    (None, Some(message)) => message.damaged = true,
                    (None, None) => {}
                }
                self.end_of_frame(said);
            }
            _ => self.lose(said),
        }
    }

    /// Bytes of the message that is on its way.
    pub fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.payload.len())
    }

    /// Does not keep the message that is on its way: others take too much.
    pub fn give_up(&mut self) {
        if let Some(message) = &mut self.message {
            message.damaged = true;
            message.payload = Vec::new();
        }
    }

    fn lose(&mut self, said: &mut Vec<Said>) {
        self.lost = true;
        self.message = None;
        said.push(Said::Lost);
    }

    /// Reads the header, if it is whole.
    fn header(&mut self, said: &mut Vec<Said>) {
        let (Some(&first), Some(&second)) = (self.header.first(), self.header.get(1)) else { return };
        let (short, masked) = (second & 0x7f, second & 0x80 != 0);
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if masked { 4 } else { 0 };
        let Some(length) = self.header.get(2..2 + length_bytes) else { return };
        let Some(mask) = self.header.get(2 + length_bytes..2 + length_bytes + mask_bytes) else { return };
        let length = if length_bytes == 0 {
            short.into()
        } else {
            length.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte))
        };
        let mask = <[u8; 4]>::try_from(mask).ok();
        debug_assert!(self.header.len() <= MAX_HEADER);
        self.header.clear();
        if masked != self.masked || length > i64::MAX as u64 || !self.begin(first, length) {
            return self.lose(said);
        }
        let control = Some(first & 0x0f).filter(|opcode| *opcode >= opcode::CLOSE);
        self.frame = Some(Frame { fin: first & 0x80 != 0, control, mask, at: 0, left: length });
    }

    /// Begins a frame. Returns whether it may stand here.
    fn begin(&mut self, first: u8, length: u64) -> bool {
        let (fin, compressed, opcode) = (first & 0x80 != 0, first & 0x40 != 0, first & 0x0f);
        if first & 0x30 != 0 || compressed && !self.deflate {
            return false;
        }
        match opcode {
            opcode::CONTINUATION => self.message.is_some() && !compressed,
            opcode::TEXT | opcode::BINARY => {
                let new = Open { opcode, compressed, payload: Vec::new(), damaged: false };
                self.message.replace(new).is_none()
            }
            opcode::CLOSE | opcode::PING | opcode::PONG => fin && !compressed && length <= 125,
            _ => false,
        }
    }

    /// Takes what belongs to the payload. Returns how many bytes that were.
    fn payload(&mut self, bytes: &[u8]) -> usize {
        let Some(frame) = &mut self.frame else { return 0 };
        let take = bytes.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let piece = bytes.get(..take).unwrap_or_default();
        let into = match (frame.control, &mut self.message) {
            (Some(_), _) => &mut self.control,
            (None, Some(message)) if message.damaged || message.payload.len() + take > MAX_MESSAGE => {
                message.damaged = true;
                message.payload = Vec::new();
                &mut Vec::new()
            }
            (None, Some(message)) => &mut message.payload,
            (None, None) => &mut Vec::new(),
        };
        match frame.mask {
            Some(mask) => {
                let turn = (frame.at % 4) as usize;
                into.extend(piece.iter().zip(mask.iter().cycle().skip(turn)).map(|(byte, mask)| byte ^ mask));
            }
            None => into.extend_from_slice(piece),
        }
        frame.left -= take as u64;
        frame.at = frame.at.wrapping_add(take as u64);
        take
    }

    fn end_of_frame(&mut self, said: &mut Vec<Said>) {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return };
        if let Some(opcode) = frame.control {
            let payload = std::mem::take(&mut self.control);
            if !std::mem::take(&mut self.control_damaged) {
                said.push(Said::Control { opcode, payload });
            }
        } else if frame.fin
            && let Some(Open { opcode, compressed, payload, damaged }) = self.message.take()
        {
            said.push(match damaged {
                true => Said::Damaged { compressed },
                false => Said::Message { opcode, compressed, payload },
            });
        }
    }
}
