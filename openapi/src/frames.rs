//! The frames of a framed terminal socket and of the relay, and their codec; it knows no socket.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol of framed browsers and of the relay.
pub const SUBPROTOCOL: &str = "castellan.tty.v1";
/// The most bytes one DATA frame carries.
pub const MAX_DATA: usize = 32 * 1024;
/// The most bytes one part of a SCREEN carries.
pub const MAX_SCREEN_PART: usize = 16 * 1024;
/// The largest WebSocket message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// How many output bytes an agent may have sent without an ACK.
pub const OUTPUT_WINDOW: u64 = 262_144;
/// How many input bytes a browser may have sent without an ACK.
pub const INPUT_WINDOW: u64 = 65_536;
/// The largest number of columns or rows.
pub const MAX_SIDE: u16 = 1000;

/// Why a socket was closed.
pub mod close {
    /// The shell ended and its exit is journalled.
    pub const EXIT: u16 = 1000;
    /// Nothing was heard from the other end for too long.
    pub const AWAY: u16 = 1001;
    /// A message above [`super::MAX_MESSAGE`].
    pub const TOO_BIG: u16 = 1009;
    /// To an agent: the bastion restarts in order; resume.
    pub const RESTART: u16 = 1012;
    /// To a browser that fell too far behind: it may come back.
    pub const TRY_AGAIN: u16 = 1013;
    /// The protocol was broken.
    pub const PROTOCOL: u16 = 4400;
    /// A bad or used ticket.
    pub const TICKET: u16 = 4401;
    /// The policy says no (now).
    pub const POLICY: u16 = 4403;
    /// Idle for too long, or the longest time is over.
    pub const TIMEOUT: u16 = 4408;
    /// Attached elsewhere; to an agent: replaced by a newer relay.
    pub const ELSEWHERE: u16 = 4409;
    /// Ended by an admin.
    pub const ENDED_BY_ADMIN: u16 = 4410;
    /// The host is gone.
    pub const HOST_GONE: u16 = 4411;
    /// The recording failed.
    pub const RECORDING_FAILED: u16 = 4423;
    /// A fault of the bastion or of the other end.
    pub const FAULT: u16 = 4500;
}

const DATA: u8 = 0x00;
const ACK: u8 = 0x01;
const RESIZE: u8 = 0x02;
const CONTROL: u8 = 0x03;
const RESIZED: u8 = 0x04;
const ECHO: u8 = 0x05;
const SCREEN: u8 = 0x06;

/// One binary message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 1 to [`MAX_DATA`] bytes of a stream.
    Data {
        /// Where the first byte stands in this direction's stream.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// How many bytes of the other direction's stream were taken so far.
    Ack(u64),
    /// The browser's terminal has this size now.
    Resize {
        /// 1 to [`MAX_SIDE`].
        cols: u16,
        /// 1 to [`MAX_SIDE`].
        rows: u16,
    },
    /// A message in JSON.
    Control(Control),
    /// From this output offset on, the host's terminal has this size.
    Resized {
        /// An offset in the output stream.
        offset: u64,
        /// 1 to [`MAX_SIDE`].
        cols: u16,
        /// 1 to [`MAX_SIDE`].
        rows: u16,
    },
    /// From this input offset on, the host's terminal does or does not echo.
    Echo {
        /// An offset in the input stream.
        offset: u64,
        /// Whether it echoes.
        on: bool,
    },
    /// A part of what redraws the screen as it stands at an output offset.
    Screen {
        /// An offset in the output stream, the same in every part.
        offset: u64,
        /// Whether this is the last part.
        last: bool,
        /// At most [`MAX_SCREEN_PART`] bytes.
        bytes: Bytes,
    },
}

/// What a CONTROL frame says. Fields it does not name are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// The first message of an agent and of a framed browser.
    Hello {
        /// An agent: the offset of its next DATA. A browser: the output bytes it already has.
        have: u64,
    },
    /// The first message to a browser.
    Ready {
        /// The session.
        session_id: String,
        /// Its columns.
        cols: u16,
        /// Its rows.
        rows: u16,
        /// Input bytes taken so far: the browser's next DATA starts here.
        input: u64,
        /// Output bytes printed so far: what comes from before here is a repetition, and what it asks of the
        /// terminal must not be answered.
        #[serde(default)]
        output: u64,
    },
    /// The shell ended; its last output follows.
    Exiting,
    /// How the shell ended: both keys are always there.
    Exit {
        /// The exit code, unless a signal ended it.
        code: Option<i32>,
        /// The signal's name, such as `SIGHUP`.
        signal: Option<String>,
    },
    /// The bastion's first message to an agent that resumes.
    Resume {
        /// Complete output bytes it has.
        have: u64,
        /// Input bytes it holds acknowledged.
        input: u64,
    },
    /// Are you there?
    Ping,
    /// I am.
    Pong,
    /// The session will be closed.
    Closing {
        /// A sentence for the user.
        reason: String,
        /// Seconds from now.
        in_seconds: u64,
    },
    /// Output the browser was not shown.
    Skipped {
        /// How many bytes.
        bytes: u64,
    },
    /// How many look on.
    Peers {
        /// The number of them.
        count: u32,
    },
    /// A type this version does not know: ignored.
    #[serde(other)]
    Unknown,
}

/// Why a message is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message has no byte.
    #[error("an empty message")]
    Empty,
    /// The first byte is no known type.
    #[error("unknown frame type {0:#04x}")]
    Type(u8),
    /// The body is shorter or longer than its type says.
    #[error("a frame of the wrong length")]
    Length,
    /// A side of 0 or above [`MAX_SIDE`].
    #[error("a terminal size outside 1 to {MAX_SIDE}")]
    Size,
    /// A flag that is neither 0 nor 1.
    #[error("a flag that is neither 0 nor 1")]
    Flag,
    /// Offset and length do not fit in 64 bits.
    #[error("an offset beyond the end of numbers")]
    Offset,
    /// The body of a CONTROL frame is no object with a `type`, or lacks its fields.
    #[error("a control message that cannot be read")]
    Control,
}

impl Frame {
    /// The message's bytes. The caller keeps to [`MAX_DATA`] and [`MAX_SCREEN_PART`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.room());
        match self {
            Self::Data { offset, bytes } => {
                out.put_u8(DATA);
                out.put_u64(*offset);
                out.put_slice(bytes);
            }
            Self::Ack(taken) => {
                out.put_u8(ACK);
                out.put_u64(*taken);
            }
            Self::Resize { cols, rows } => {
                out.put_u8(RESIZE);
                out.put_u16(*cols);
                out.put_u16(*rows);
            }
            Self::Control(control) => {
                out.put_u8(CONTROL);
                // Strings and numbers under fixed keys always become JSON.
                out.put_slice(&serde_json::to_vec(control).unwrap_or_default());
            }
            Self::Resized { offset, cols, rows } => {
                out.put_u8(RESIZED);
                out.put_u64(*offset);
                out.put_u16(*cols);
                out.put_u16(*rows);
            }
            Self::Echo { offset, on } => {
                out.put_u8(ECHO);
                out.put_u64(*offset);
                out.put_u8(u8::from(*on));
            }
            Self::Screen { offset, last, bytes } => {
                out.put_u8(SCREEN);
                out.put_u64(*offset);
                out.put_u8(u8::from(*last));
                out.put_slice(bytes);
            }
        }
        out.freeze()
    }

    /// Reads one binary message; the bytes of DATA and SCREEN are a slice of it, not a copy.
    ///
    /// # Errors
    /// [`FrameError`], for which the socket is closed with [`close::PROTOCOL`].
    pub fn decode(mut message: Bytes) -> Result<Self, FrameError> {
        let kind = *message.first().ok_or(FrameError::Empty)?;
        message.advance(1);
        let mut body = Body(message);
        match kind {
            DATA => body.data(),
            ACK => Ok(Self::Ack(body.u64()?)),
            RESIZE => Ok(Self::Resize { cols: body.side()?, rows: body.side()? }),
            CONTROL => body.control(),
            RESIZED => Ok(Self::Resized { offset: body.u64()?, cols: body.side()?, rows: body.side()? }),
            ECHO => Ok(Self::Echo { offset: body.u64()?, on: body.flag()? }),
            SCREEN => body.screen(),
            other => Err(FrameError::Type(other)),
        }
        .and_then(|frame| if body.0.is_empty() { Ok(frame) } else { Err(FrameError::Length) })
    }

    fn room(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => 9 + bytes.len(),
            Self::Screen { bytes, .. } => 10 + bytes.len(),
            Self::Control(_) => 128,
            Self::Ack(_) | Self::Resize { .. } | Self::Resized { .. } | Self::Echo { .. } => 16,
        }
    }
}

/// What is left to read of a frame.
struct Body(Bytes);

impl Body {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, _) = self.0.split_first_chunk::<N>().ok_or(FrameError::Length)?;
        let head = *head;
        let _ = self.0.split_to(N);
        Ok(head)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.take().map(u64::from_be_bytes)
    }

    fn side(&mut self) -> Result<u16, FrameError> {
        let side = u16::from_be_bytes(self.take()?);
        if (1..=MAX_SIDE).contains(&side) { Ok(side) } else { Err(FrameError::Size) }
    }

    fn flag(&mut self) -> Result<bool, FrameError> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(FrameError::Flag),
        }
    }

    fn rest(&mut self, room: std::ops::RangeInclusive<usize>, offset: u64) -> Result<Bytes, FrameError> {
        let bytes = std::mem::take(&mut self.0);
        if !room.contains(&bytes.len()) {
            return Err(FrameError::Length);
        }
        offset.checked_add(bytes.len() as u64).ok_or(FrameError::Offset)?;
        Ok(bytes)
    }

    fn data(&mut self) -> Result<Frame, FrameError> {
        let offset = self.u64()?;
        Ok(Frame::Data { offset, bytes: self.rest(0..=MAX_DATA, offset)? })
    }

    fn screen(&mut self) -> Result<Frame, FrameError> {
        let offset = self.u64()?;
        let last = self.flag()?;
        Ok(Frame::Screen { offset, last, bytes: self.rest(0..=MAX_SCREEN_PART, offset)? })
    }

    fn control(&mut self) -> Result<Frame, FrameError> {
        let json = self.rest(0..=MAX_MESSAGE, 0)?;
        // serde would read a tagged enum from an array too; the contract says one object.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(FrameError::Control);
        }
        serde_json::from_slice(&json).map(Frame::Control).map_err(|_| FrameError::Control)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn bytes(room: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), room).prop_map(Bytes::from)
    }

    fn control() -> impl Strategy<Value = Control> {
        prop_oneof![
            any::<u64>().prop_map(|have| Control::Hello { have }),
            (".{0,40}", 1..=MAX_SIDE, 1..=MAX_SIDE, any::<[u64; 2]>()).prop_map(
                |(session_id, cols, rows, [input, output])| Control::Ready {
                    session_id,
                    cols,
                    rows,
                    input,
                    output
                }
            ),
            Just(Control::Exiting),
            (any::<Option<i32>>(), proptest::option::of("SIG[A-Z]{2,5}"))
                .prop_map(|(code, signal)| Control::Exit { code, signal }),
            any::<(u64, u64)>().prop_map(|(have, input)| Control::Resume { have, input }),
            Just(Control::Ping),
            Just(Control::Pong),
            (".{0,200}", any::<u64>())
                .prop_map(|(reason, in_seconds)| Control::Closing { reason, in_seconds }),
            any::<u64>().prop_map(|bytes| Control::Skipped { bytes }),
            any::<u32>().prop_map(|count| Control::Peers { count }),
        ]
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let offset = 0..u64::MAX / 2;
        let side = 1..=MAX_SIDE;
        prop_oneof![
            (offset.clone(), bytes(1..=300)).prop_map(|(offset, bytes)| Frame::Data { offset, bytes }),
            any::<u64>().prop_map(Frame::Ack),
            (side.clone(), side.clone()).prop_map(|(cols, rows)| Frame::Resize { cols, rows }),
            control().prop_map(Frame::Control),
            (offset.clone(), side.clone(), side).prop_map(|(offset, cols, rows)| Frame::Resized {
                offset,
                cols,
                rows
            }),
            (offset.clone(), any::<bool>()).prop_map(|(offset, on)| Frame::Echo { offset, on }),
            (offset, any::<bool>(), bytes(0..=300)).prop_map(|(offset, last, bytes)| Frame::Screen {
                offset,
                last,
                bytes
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_as_it_went(frame in frame()) {
            prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        }

        #[test]
        fn no_message_makes_the_decoder_panic(message in bytes(0..=64)) {
            let _ = Frame::decode(message);
        }

        #[test]
        fn no_control_text_makes_the_decoder_panic(text in "\\PC{0,64}") {
            let _ = Frame::decode(Bytes::from([b"\x03", text.as_bytes()].concat()));
        }

        #[test]
        fn a_fixed_frame_takes_no_byte_more_or_less(frame in frame(), extra in any::<u8>()) {
            let fixed = !matches!(frame, Frame::Data { .. } | Frame::Screen { .. } | Frame::Control(_));
            prop_assume!(fixed);
            let message = frame.encode();
            let longer = Bytes::from([&message[..], &[extra]].concat());
            prop_assert_eq!(Frame::decode(longer), Err(FrameError::Length));
            prop_assert_eq!(Frame::decode(message.slice(..message.len() - 1)), Err(FrameError::Length));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let data = Frame::Data { offset: 258, bytes: Bytes::from_static(b"hi") };
        assert_eq!(data.encode(), &b"\x00\0\0\0\0\0\0\x01\x02hi"[..]);
        assert_eq!(Frame::Resize { cols: 80, rows: 24 }.encode(), &b"\x02\0\x50\0\x18"[..]);
        assert_eq!(Frame::Echo { offset: 1, on: true }.encode(), &b"\x05\0\0\0\0\0\0\0\x01\x01"[..]);
        let exit = Frame::Control(Control::Exit { code: Some(0), signal: None });
        assert_eq!(exit.encode(), &b"\x03{\"type\":\"exit\",\"code\":0,\"signal\":null}"[..]);
    }

    #[test]
    fn data_is_a_slice_of_its_message() {
        let message = Frame::Data { offset: 0, bytes: Bytes::from_static(b"abc") }.encode();
        let start = message[9..].as_ptr();
        let Ok(Frame::Data { bytes, .. }) = Frame::decode(message) else { panic!("no data") };
        assert_eq!(bytes.as_ptr(), start);
    }

    #[test]
    fn limits_hold_at_the_limit_and_break_one_beyond() {
        let data = |size: usize| Frame::Data { offset: 0, bytes: Bytes::from(vec![0; size]) }.encode();
        assert!(Frame::decode(data(MAX_DATA)).is_ok());
        assert_eq!(Frame::decode(data(MAX_DATA + 1)), Err(FrameError::Length));
        assert!(Frame::decode(data(0)).is_ok());
        let resize = |cols, rows| Frame::decode(Frame::Resize { cols, rows }.encode());
        assert!(resize(1, MAX_SIDE).is_ok());
        assert_eq!(resize(0, 1), Err(FrameError::Size));
        assert_eq!(resize(1, MAX_SIDE + 1), Err(FrameError::Size));
        let far = Frame::Data { offset: u64::MAX, bytes: Bytes::from_static(b"x") };
        assert_eq!(Frame::decode(far.encode()), Err(FrameError::Offset));
        assert_eq!(Frame::decode(Bytes::from_static(&[7])), Err(FrameError::Type(7)));
    }

    #[test]
    fn control_is_one_object_with_a_type() {
        let read = |json: &str| Frame::decode(Bytes::from([b"\x03", json.as_bytes()].concat()));
        assert_eq!(
            read(r#"{"type":"hello","have":3,"more":[1]}"#),
            Ok(Frame::Control(Control::Hello { have: 3 }))
        );
        assert_eq!(read(r#"{"type":"dance"}"#), Ok(Frame::Control(Control::Unknown)));
        assert_eq!(read(r#"{"type":"ping","x":1}"#), Ok(Frame::Control(Control::Ping)));
        for bad in [
            r#"["ping"]"#,
            r#""ping""#,
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"hello"}"#,
            r#"{"type":"ping"}x"#,
            "",
        ] {
            assert_eq!(read(bad), Err(FrameError::Control), "{bad}");
        }
        let long = format!(r#"{{"type":"new","x":"{}"}}"#, "a".repeat(MAX_DATA));
        assert_eq!(read(&long), Ok(Frame::Control(Control::Unknown)));
    }
}
