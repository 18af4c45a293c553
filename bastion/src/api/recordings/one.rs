//! One recording: looked at; held, let go and deleted, by admins only.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use serde::Deserialize;
use serde_json::json;

use super::{Recording, found, whole};
use crate::{
    api::{
        Chapter,
        assets::Gone,
        body::{Body, Checked, Faults},
        callers::{Admin, User, actor},
        error::ApiError,
    },
    app::App,
    db::{audit::Entry, recordings::Deletion},
    keeping::Tombstone,
};

/// The longest reason, in characters.
const REASON: usize = 500;

/// What to change.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct RecordingChange {
    /// Whether it is held: neither an admin nor `recordings.retention` deletes it then.
    hold: bool,
    /// Why, for the audit log; at most 500 characters.
    #[serde(default)]
    reason: Option<String>,
}

impl Checked for RecordingChange {
    fn check(&self, faults: &mut Faults) {
        faults.text("reason", self.reason.as_deref().unwrap_or_default(), REASON);
    }
}

/// Operations on one recording.
pub struct One;

#[OpenApi(tag = "Chapter::Recordings")]
impl One {
    /// Look at a recording
    ///
    /// A store that is away or damaged hides no more than the seal.
    #[oai(path = "/recordings/:id", method = "get")]
    async fn one(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Json<Recording>, ApiError> {
        let found = found(app, &caller, &id.0).await?;
        Ok(Json(whole(app, found).await?))
    }

    /// Hold a recording, or let it go
    #[oai(path = "/recordings/:id", method = "patch")]
    async fn hold(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        id: Path<String>,
        Body(body): Body<RecordingChange>,
    ) -> Result<Json<Recording>, ApiError> {
        found(app, &admin, &id.0).await?;
        let now = app.clock.millis();
        let action = if body.hold { "recording.hold" } else { "recording.release" };
        let entry = Entry::new(now, actor(&admin), action)
            .on("session", &id.0)
            .at_address(&admin.address.to_string())
            .with(json!({"reason": body.reason}));
        app.db.hold_recording(&id.0, body.hold, now, entry).await?;
        let changed = found(app, &admin, &id.0).await?;
        Ok(Json(whole(app, changed).await?))
    }

    /// Delete a recording
    ///
    /// A stored one that is not held: for good, with everything that was derived from it. The audit log keeps the reason
    /// and the hashes. 409 `held`; 409 `not_stored` while it is not in the store.
    #[oai(path = "/recordings/:id", method = "delete")]
    async fn delete(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        id: Path<String>,
        /// Why, for the audit log; 1 to 500 characters.
        reason: Query<String>,
    ) -> Result<Gone, ApiError> {
        let mut faults = Faults::default();
        faults.line("reason", &reason.0, REASON);
        faults.into_result()?;
        let row = found(app, &admin, &id.0).await?.row;
        let entry = Entry::new(app.clock.millis(), actor(&admin), "recording.delete")
            .at_address(&admin.address.to_string());
        match app.keeper.delete(&row, Tombstone { entry, reason: reason.0 }).await? {
            Deletion::Marked => Ok(Gone::Done),
            Deletion::Unknown => Err(ApiError::not_found()),
            Deletion::Held => {
                Err(ApiError::conflict("held", "The recording is held; let it go before you delete it."))
            }
            Deletion::NotStored => {
                Err(ApiError::conflict("not_stored", "Only a recording that is stored can be deleted."))
            }
        }
    }
}
