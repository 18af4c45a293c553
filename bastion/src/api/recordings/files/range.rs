//! `Range`, as RFC 9110 says: one range of bytes, or the whole.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// These bytes, of which there are some.
    Part(Range<u64>),
    /// Bytes that there are not.
    Nothing,
    /// Several ranges, another unit, or nonsense: the whole is a good answer.
    Ignored,
}

/// Reads the header's value, for a file of `length` bytes.
pub fn parse_range(text: &str, length: u64) -> Asked {
    let parse = || {
        let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
        if last.contains(',') {
            return None;
        }
        if first.is_empty() {
            let last: u64 = last.parse().ok()?;
            return Some((length.saturating_sub(last), length));
        }
        let first: u64 = first.parse().ok()?;
        if last.is_empty() {
            return Some((first, length));
        }
        let last: u64 = last.parse().ok()?;
        (last >= first).then(|| (first, last.saturating_add(1).min(length)))
    };
    match parse() {
        Some((first, end)) if first < end => Asked::Part(first..end),
        Some(_) => Asked::Nothing,
        None => Asked::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (text, asked) in [
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=90-", Asked::Part(90..100)),
            ("bytes=90-1000", Asked::Part(90..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("bytes=100-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=9-0", Asked::Ignored),
            ("bytes=0-1,5-6", Asked::Ignored),
            ("lines=0-1", Asked::Ignored),
            ("bytes=a-b", Asked::Ignored),
        ] {
            assert_eq!(parse_range(text, 100), asked, "{text}");
        }
    }
}
