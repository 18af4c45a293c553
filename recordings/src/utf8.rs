//! Bytes to text over the cuts of a stream: one decoder a direction, kept for the life of the stream.

use std::str::from_utf8;

/// A stateful lossy decoder: what it gives does not depend on where the stream was cut.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    held: Vec<u8>,
    text: String,
}

impl Utf8 {
    /// The text that `bytes` complete; an unfinished character at their end waits for the next call.
    pub(crate) fn decode<'a>(&'a mut self, bytes: &'a [u8]) -> &'a str {
        if self.held.is_empty()
            && let Ok(text) = from_utf8(bytes)
        {
            return text;
        }
        self.held.extend_from_slice(bytes);
        let joined = std::mem::take(&mut self.held);
        let mut rest = joined.as_slice();
        self.text.clear();
        while !rest.is_empty() {
            let (valid, error) = match from_utf8(rest) {
                Ok(text) => (text.len(), None),
                Err(e) => (e.valid_up_to(), Some(e)),
            };
            self.text.push_str(&String::from_utf8_lossy(&rest[..valid]));
            rest = &rest[valid..];
            match error.map(|e| e.error_len()) {
                Some(Some(wrong)) => {
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[wrong..];
                }
                Some(None) => {
                    self.held.extend_from_slice(rest);
                    break;
                }
                None => break,
            }
        }
        &self.text
    }

    /// The bytes of an unfinished character.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Gives up on an unfinished character; whether there was one.
    pub(crate) fn give_up(&mut self) -> bool {
        let unfinished = !self.held.is_empty();
        self.held.clear();
        unfinished
    }
}
