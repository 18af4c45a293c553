//! Terminal sessions: listed, looked at, ended.

use std::{collections::HashMap, sync::Arc};

use openapi::ticket::Mode;
use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Chapter,
    assets::Gone,
    authorize::{Authorized, issued},
    callers::{Role, User, actor},
    error::ApiError,
    lists::{self, list_of, page},
    nullable::Nullable,
};
use crate::{
    access::Ask,
    app::App,
    clock::rfc3339,
    db::{DbError, audit::Entry, sessions},
    hub::Watch,
    session::{Reason, end_row},
};

/// A user, by name.
#[derive(Clone, Debug, Object)]
pub struct UserRef {
    /// The user's id.
    id: String,
    /// The user's present name.
    username: String,
}

/// A host, by name.
#[derive(Clone, Debug, Object)]
pub struct AssetRef {
    /// The asset's id.
    id: String,
    /// Its present name.
    hostname: String,
}

/// A terminal session.
#[derive(Debug, Object)]
#[oai(rename = "Session")]
pub struct SessionItem {
    /// The session's id.
    id: String,
    /// Whose.
    user: UserRef,
    /// On which host.
    asset: AssetRef,
    /// `connecting`, `active`, `detached`, `resuming`, `closed` or `error`.
    status: String,
    /// `exit`, `closed`, `detached`, `idle`, `max_time`, `policy`, `ended_by_admin`, `host_gone`,
    /// `no_agent`, `recording_failed` or `error`.
    end_reason: Nullable<String>,
    /// Null: the login shell.
    command: Nullable<String>,
    /// The client's.
    address: String,
    /// Columns at the start.
    cols: u16,
    /// Rows at the start.
    rows: u16,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC: the host came.
    started_at: Nullable<String>,
    /// RFC 3339, UTC.
    ended_at: Nullable<String>,
    /// Of the shell.
    exit_code: Nullable<i64>,
    /// Of the shell.
    exit_signal: Nullable<String>,
    /// State of its recording; null: there is none.
    recording: Nullable<String>,
}

list_of!(/// Sessions, newest first.
    SessionList, SessionItem);

/// Terminal sessions.
pub struct Sessions;

#[OpenApi(tag = "Chapter::Sessions")]
impl Sessions {
    /// List sessions
    ///
    /// One's own; all for admins and auditors. `state` is a status, or `live` for all that have not ended.
    #[oai(path = "/sessions", method = "get")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        user: Query<Option<String>>,
        asset: Query<Option<String>>,
        state: Query<Option<String>>,
        from: Query<Option<String>>,
        to: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<SessionList>, ApiError> {
        let page = page(limit.0, cursor.0)?;
        let Some(owner) = owner(&caller, user.0) else {
            return Ok(Json(SessionList { items: Vec::new(), next_cursor: None.into() }));
        };
        let filter = lists::sessions(owner, asset.0, state.0, from.0.as_deref(), to.0.as_deref())?;
        let (rows, next_cursor) = app.db.sessions(&filter, &page).await?;
        Ok(Json(SessionList { items: show(app, rows).await?, next_cursor: next_cursor.into() }))
    }

    /// Look at a session
    #[oai(path = "/sessions/:id", method = "get")]
    async fn one(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Json<SessionItem>, ApiError> {
        let session = seen(app, &caller, &id.0).await?;
        show(app, vec![session]).await?.pop().map(Json).ok_or_else(ApiError::not_found)
    }

    /// Come back to one's session
    ///
    /// A ticket for one more socket to a session that lives: to type (`control`; the socket before is closed
    /// with 4409) or only to look (`watch`). The chain rules again. 409 `ended`, with `end_reason`, when it is over;
    /// 409 `plain` when a plain client has it.
    #[oai(path = "/sessions/:id/reattach", method = "get")]
    async fn reattach(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
        mode: Query<Option<String>>,
    ) -> Result<Json<Authorized>, ApiError> {
        caller.require_same_site()?;
        let mode = match mode.0.as_deref() {
            None | Some("control") => Mode::Control,
            Some("watch") => Mode::Watch,
            Some(_) => return Err(ApiError::invalid_field("mode", "must be control or watch")),
        };
        let session = seen(app, &caller, &id.0).await?;
        if session.user_id != caller.id() {
            return Err(ApiError::not_found());
        }
        require_live(&session)?;
        if session.plain && mode == Mode::Control {
            let detail = "A plain client has this session: nobody can take it over.";
            return Err(ApiError::conflict("plain", detail));
        }
        let ask = Ask {
            asset: session.asset_id,
            cols: side(session.cols),
            rows: side(session.rows),
            command: session.command,
            reason: None,
            plain: false,
            back_to: Some((session.id, mode)),
        };
        Ok(Json(issued(app, &caller, ask).await?))
    }

    /// End a session
    ///
    /// One's own, or any for an admin; within a second. 409 `ended` when it is over.
    #[oai(path = "/sessions/:id", method = "delete")]
    async fn end(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Gone, ApiError> {
        let session = seen(app, &caller, &id.0).await?;
        let own = session.user_id == caller.id();
        if !own && caller.role < Role::Admin {
            return Err(ApiError::forbidden());
        }
        require_live(&session)?;
        let entry = Entry::new(app.clock.millis(), actor(&caller), "session.terminate")
            .on("session", &id.0)
            .at_address(&caller.address.to_string());
        app.db.note(entry).await?;
        let reason = if own { Reason::Closed } else { Reason::EndedByAdmin };
        if !app.hub.end(&id.0, reason) {
            end_row(&app.db, &app.clock, &id.0, reason, None).await?;
        }
        Ok(Gone::Done)
    }
}

/// What is over cannot be ended, nor come back to.
fn require_live(session: &sessions::Model) -> Result<(), ApiError> {
    if session.ended_at.is_none() {
        return Ok(());
    }
    let error = ApiError::conflict("ended", "The session is over.");
    Err(error.with("end_reason", session.end_reason.clone()))
}

/// A hold on a live session that the caller may see; who looks on is written down first.
pub async fn watch(app: &App, caller: &User, session: &sessions::Model) -> Result<Watch, ApiError> {
    require_live(session)?;
    app.note_watching(&session.id, caller.id(), &caller.address.to_string()).await?;
    let watch = app.hub.watch(&session.id, caller.id(), &caller.row.username).await;
    // Its row says that it lives, its task has just ended, or another node has it.
    watch.ok_or_else(|| ApiError::conflict("ended", "The session is not live here."))
}

/// Whose sessions to list: everybody's (`Some(None)`), somebody's, or nobody's.
pub fn owner(caller: &User, wanted: Option<String>) -> Option<Option<String>> {
    match wanted {
        None if caller.role >= Role::Auditor => Some(None),
        None => Some(Some(caller.id().to_owned())),
        Some(wanted) => caller.sees(&wanted).then_some(Some(wanted)),
    }
}

/// A session that the caller may see; what is somebody else's is not there.
pub async fn seen(app: &App, caller: &User, id: &str) -> Result<sessions::Model, ApiError> {
    let session = app.db.session(id).await?;
    session.filter(|session| caller.sees(&session.user_id)).ok_or_else(ApiError::not_found)
}

/// The names of users and hosts that some sessions are about.
pub struct Names {
    users: HashMap<String, String>,
    assets: HashMap<String, String>,
}

impl Names {
    /// Looks them up.
    pub async fn of(app: &App, rows: &[sessions::Model]) -> Result<Self, DbError> {
        let users = app.db.users_by_id(rows.iter().map(|row| row.user_id.clone()).collect()).await?;
        let assets = app.db.assets_by_id(rows.iter().map(|row| row.asset_id.clone()).collect()).await?;
        Ok(Self {
            users: users.into_iter().map(|user| (user.id, user.username)).collect(),
            assets: assets.into_iter().map(|asset| (asset.id, asset.hostname)).collect(),
        })
    }

    /// Whose a session is.
    pub fn user(&self, row: &sessions::Model) -> UserRef {
        let username = self.users.get(&row.user_id).cloned().unwrap_or_default();
        UserRef { id: row.user_id.clone(), username }
    }

    /// On which host it is.
    pub fn asset(&self, row: &sessions::Model) -> AssetRef {
        let hostname = self.assets.get(&row.asset_id).cloned().unwrap_or_default();
        AssetRef { id: row.asset_id.clone(), hostname }
    }
}

fn side(side: i64) -> u16 {
    u16::try_from(side).unwrap_or_default()
}

async fn show(app: &App, rows: Vec<sessions::Model>) -> Result<Vec<SessionItem>, ApiError> {
    let names = Names::of(app, &rows).await?;
    let recordings = app.db.recordings_of(rows.iter().map(|row| row.id.clone()).collect()).await?;
    let mut states: HashMap<_, _> =
        recordings.into_iter().map(|recording| (recording.session_id, recording.state)).collect();
    let items = rows.into_iter().map(|row| SessionItem {
        user: names.user(&row),
        asset: names.asset(&row),
        recording: states.remove(&row.id).into(),
        cols: side(row.cols),
        rows: side(row.rows),
        created_at: rfc3339(row.created_at),
        started_at: row.started_at.map(rfc3339).into(),
        ended_at: row.ended_at.map(rfc3339).into(),
        id: row.id,
        status: row.status,
        end_reason: row.end_reason.into(),
        command: row.command.into(),
        address: row.address,
        exit_code: row.exit_code.into(),
        exit_signal: row.exit_signal.into(),
    });
    Ok(items.collect())
}
