//! The chain over the audit log: the form of a row that is hashed, and the hash that covers all rows before it.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::db::audit::Model;

/// A row as it is hashed: every column but the hash. RFC 8785 wants the members in this order, which is that of their
/// names; serde_json escapes just what it demands, and the numbers are small enough to be written alike everywhere.
#[derive(Serialize)]
struct Canonical<'a> {
    action: &'a str,
    actor_id: Option<&'a str>,
    actor_kind: &'a str,
    address: Option<&'a str>,
    at: i64,
    detail: &'a str,
    id: &'a str,
    seq: Option<i64>,
    target_id: Option<&'a str>,
    target_kind: Option<&'a str>,
}

/// A row in JCS form (RFC 8785).
///
/// # Errors
/// None in practice: these are strings and small integers.
pub(super) fn canonical(row: &Model) -> serde_json::Result<String> {
    serde_json::to_string(&Canonical {
        action: &row.action,
        actor_id: row.actor_id.as_deref(),
        actor_kind: &row.actor_kind,
        address: row.address.as_deref(),
        at: row.at,
        detail: &row.detail,
        id: &row.id,
        seq: row.seq,
        target_id: row.target_id.as_deref(),
        target_kind: row.target_kind.as_deref(),
    })
}

/// The hash of a row that has its place: hex SHA-256 of the hash before it (32 bytes; of the first row, zeros) and the
/// row in JCS form. `None` when `before` is no hash.
pub(super) fn link(before: &str, row: &Model) -> Option<String> {
    let mut hash = [0_u8; 32];
    if !before.is_empty() {
        hex::decode_to_slice(before, &mut hash).ok()?;
    }
    let row = canonical(row).ok()?;
    Some(hex::encode(Sha256::new().chain_update(hash).chain_update(row).finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Model {
        Model {
            id: "0199".to_owned(),
            at: 1_764_000_000_000,
            actor_kind: "user".to_owned(),
            actor_id: Some("a\"b\u{7}é終".to_owned()),
            action: "recording.view".to_owned(),
            target_kind: Some("session".to_owned()),
            target_id: None,
            address: Some("::1".to_owned()),
            detail: r#"{"b":1,"a":2}"#.to_owned(),
            seq: Some(7),
            hash: Some("not hashed".to_owned()),
        }
    }

    #[test]
    fn a_row_is_written_as_rfc_8785_says() {
        let told = canonical(&row()).unwrap();
        assert_eq!(
            told,
            r#"{"action":"recording.view","actor_id":"a\"b\u0007é終","actor_kind":"user","address":"::1","at":1764000000000,"detail":"{\"b\":1,\"a\":2}","id":"0199","seq":7,"target_id":null,"target_kind":"session"}"#
        );
        // Whatever sorts the members finds them sorted.
        let sorted: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&told).unwrap();
        assert_eq!(serde_json::to_string(&sorted).unwrap(), told);
    }

    #[test]
    fn the_hash_covers_every_column_and_what_was_before() {
        let first = link("", &row()).unwrap();
        assert_eq!(first, link(&"0".repeat(64), &row()).unwrap(), "before the first row are zeros");
        let change: [fn(&mut Model); 10] = [
            |row| row.id.push('x'),
            |row| row.at += 1,
            |row| row.actor_kind.push('x'),
            |row| row.actor_id = None,
            |row| row.action.push('x'),
            |row| row.target_kind = None,
            |row| row.target_id = Some(String::new()),
            |row| row.address = None,
            |row| row.detail.push(' '),
            |row| row.seq = Some(8),
        ];
        let mut seen = vec![first.clone(), link(&first, &row()).unwrap()];
        for change in change {
            let mut changed = row();
            change(&mut changed);
            seen.push(link("", &changed).unwrap());
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 12);
        let unhashed = Model { hash: None, ..row() };
        assert_eq!(link("", &unhashed).unwrap(), first);
        assert_eq!(link("none", &row()), None);
    }
}
