//! What the recorder's events are to a session: what its actions add to the recording, and what of it is shown.

use bytes::Bytes;
use openapi::frames::{Control, Frame, MAX_DATA};
use recordings::Kind;

use super::machine::Action;

/// What an action adds to the recording.
pub(super) fn recorded(action: &Action) -> Option<Kind> {
    match action {
        Action::RecordOutput { offset, bytes } => {
            Some(Kind::Output { offset: *offset, bytes: bytes.clone() })
        }
        Action::RecordInput { offset, bytes } => {
            Some(Kind::Input { offset: *offset, bytes: bytes.clone(), echo: true })
        }
        Action::RecordMasked { end } => Some(Kind::Input { offset: *end, bytes: Bytes::new(), echo: false }),
        Action::RecordSize { offset, cols, rows } => {
            Some(Kind::Resize { offset: *offset, cols: *cols, rows: *rows })
        }
        Action::RecordGap { lost } => Some(Kind::Gap { lost: *lost }),
        Action::Mark(label) => Some(Kind::Marker(label.clone())),
        Action::Begin
        | Action::ToBrowser(_)
        | Action::Replay { .. }
        | Action::Draw(_)
        | Action::DropBrowser(_)
        | Action::ToRelay(_)
        | Action::DropRelay(_)
        | Action::BrowserEnding
        | Action::Tell(_)
        | Action::HandOver
        | Action::Finish { .. } => None,
    }
}

/// What a browser is shown of a recording.
pub fn shown(kind: Kind) -> Vec<Frame> {
    match kind {
        Kind::Output { offset, bytes } => pieces(offset, bytes).collect(),
        Kind::Resize { offset, cols, rows } => vec![Frame::Resized { offset, cols, rows }],
        Kind::Exit(exit) => vec![Frame::Control(Control::Exit { code: exit.code, signal: exit.signal })],
        Kind::Input { .. } | Kind::Marker(_) | Kind::Gap { .. } => Vec::new(),
    }
}

/// Output in pieces that fit their frames: what is read back may be longer.
fn pieces(mut offset: u64, mut bytes: Bytes) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(MAX_DATA));
        let frame = Frame::Data { offset, bytes: piece.clone() };
        offset += piece.len() as u64;
        (!piece.is_empty()).then_some(frame)
    })
}
