//! A session's row, kept as the session goes: for as long as the database takes to answer.

use std::{future::pending, time::Duration};

use serde_json::json;
use tokio::{sync::watch, time::sleep};

use super::{Exit, Reason, Status};
use crate::{
    clock::Clock,
    db::{
        Db, DbError,
        audit::{Actor, Entry},
        sessions,
    },
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Writes where the session stands whenever that changes, the newest only. Never returns.
pub(super) async fn keep_status(db: &Db, session: &str, mut status: watch::Receiver<Option<Status>>) {
    while status.changed().await.is_ok() {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(now) = *status.borrow_and_update() else { break };
            match db.set_session_status(session, now.as_str()).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(session, %error, "where the session stands is not written yet"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    pending::<()>().await;
}

/// An end as the row has it.
pub(super) fn end(reason: Reason, exit: Option<Exit>) -> sessions::End {
    let exit = exit.unwrap_or_default();
    sessions::End {
        status: reason.status(),
        reason: reason.as_str(),
        exit_code: exit.code.map(i64::from),
        exit_signal: exit.signal,
    }
}

/// Writes the end; tries until the database has taken it: a slot must not stay taken.
pub(super) async fn write_end(db: &Db, clock: &Clock, session: &str, owner: &str, end: sessions::End) {
    let mut pause = FIRST_PAUSE;
    loop {
        let now = clock.millis();
        let entry = Entry::new(now, Actor::System, "session.end")
            .on("session", session)
            .with(json!({"reason": end.reason, "user": owner}));
        match db.end_session(session, end.clone(), now, entry).await {
            Ok(_) => return,
            Err(error) => tracing::warn!(session, %error, "the end is not written yet"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends a session that lives by its row only: its task is gone, as after a crash. One that has ended stays as it is.
pub async fn end_row(
    db: &Db,
    clock: &Clock,
    session: &str,
    reason: Reason,
    exit: Option<&recordings::Exit>,
) -> Result<(), DbError> {
    let now = clock.millis();
    let exit = exit.map(|exit| Exit { code: exit.code, signal: exit.signal.clone() });
    let entry = Entry::new(now, Actor::System, "session.end").on("session", session);
    db.end_session(session, end(reason, exit), now, entry).await?;
    Ok(())
}
