//! The audit log, for admins and auditors.

use std::{collections::HashMap, sync::Arc};

use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Chapter,
    callers::Auditor,
    error::ApiError,
    lists::{instant, list_of, page},
    nullable::Nullable,
};
use crate::{app::App, clock::rfc3339, db::audit::Filter};

/// Who did it.
#[derive(Debug, Object)]
pub struct AuditActor {
    /// `user`, `agent`, `operator`, `system` or `stranger`.
    kind: String,
    /// The user's or agent's id.
    id: Nullable<String>,
    /// The user's present name.
    name: Nullable<String>,
}

/// What it was done to.
#[derive(Debug, Object)]
pub struct AuditTarget {
    /// `user`, `asset`, `session`, …
    kind: String,
    /// Its id.
    id: String,
}

/// Something that happened.
#[derive(Debug, Object)]
pub struct AuditEvent {
    /// The event's id.
    id: String,
    /// RFC 3339, UTC.
    at: String,
    /// Who.
    actor: AuditActor,
    /// `noun.verb`.
    action: String,
    /// To what.
    target: Nullable<AuditTarget>,
    /// The client's.
    address: Nullable<String>,
    /// More.
    detail: Any<Value>,
    /// Its place in the chain; null for the moment until it is chained.
    seq: Nullable<i64>,
    /// Its hash, hex, which covers all rows before it; null for the moment until it is chained.
    hash: Nullable<String>,
}

list_of!(/// What happened, newest first.
    AuditList, AuditEvent);

/// The audit log.
pub struct Audit;

#[OpenApi(tag = "Chapter::Administration")]
impl Audit {
    /// Read the audit log
    ///
    /// `action` is the beginning of an action, as in `session.` or `login.fail`; `target` is the id of what it was done
    /// to: that of a session finds who looked at its recording.
    #[oai(path = "/audit", method = "get")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        _auditor: Auditor,
        action: Query<Option<String>>,
        target: Query<Option<String>>,
        from: Query<Option<String>>,
        to: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<AuditList>, ApiError> {
        let (from, to) = (instant("from", from.0.as_deref())?, instant("to", to.0.as_deref())?);
        let filter = Filter { action: action.0, target: target.0, from, to };
        let (rows, next_cursor) = app.db.audit(&filter, &page(limit.0, cursor.0)?).await?;
        let ids = rows.iter().filter_map(|row| row.actor_id.clone()).collect();
        let users = app.db.users_by_id(ids).await?;
        let names: HashMap<_, _> = users.into_iter().map(|user| (user.id, user.username)).collect();
        let items = rows.into_iter().map(|row| AuditEvent {
            id: row.id,
            at: rfc3339(row.at),
            actor: AuditActor {
                name: row.actor_id.as_ref().and_then(|id| names.get(id).cloned()).into(),
                kind: row.actor_kind,
                id: row.actor_id.into(),
            },
            action: row.action,
            target: row.target_kind.zip(row.target_id).map(|(kind, id)| AuditTarget { kind, id }).into(),
            address: row.address.into(),
            detail: Any(serde_json::from_str(&row.detail).unwrap_or_default()),
            seq: row.seq.into(),
            hash: row.hash.into(),
        });
        Ok(Json(AuditList { items: items.collect(), next_cursor: next_cursor.into() }))
    }
}
