//! Agents that want to be let in, and the admins who decide.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openapi::agents::{
    HOSTNAME_MAX, REASON_MAX, RegisterRequest, RegisterResponse, RegistrationStatus, VERSION_MAX, WAIT_MAX,
};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Query, payload::Json, types::Any};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Chapter,
    assets::Asset,
    body::{Body, Checked, Faults},
    callers::Admin,
    error::ApiError,
    lists::{list_of, page},
    nullable::Nullable,
    signed::{Signed, SignedGet, counted},
};
use crate::{
    app::App,
    clock::rfc3339,
    db::registrations::{Model, Standing},
    enrolment::{AgentRefused, Applicant, Approval, DecisionRefused},
};

impl Checked for RegisterRequest {
    fn check(&self, faults: &mut Faults) {
        faults.id("client_id", &self.client_id);
        faults.line("hostname", &self.hostname, HOSTNAME_MAX);
        faults.line("version", &self.version, VERSION_MAX);
        faults.labels("labels", &self.labels);
    }
}

/// An agent's application.
#[derive(Debug, Object)]
pub struct Registration {
    /// The application's id, `apply_id` to the agent.
    id: String,
    /// The agent's own id; the asset's, once approved.
    client_id: String,
    /// As the agent says.
    hostname: String,
    /// Of its key; compare it with what the agent prints.
    fingerprint: String,
    /// What the agent proposes; counts for nothing until approved.
    labels: BTreeMap<String, String>,
    /// As the agent says.
    static_info: Any<Value>,
    /// Of the agent.
    version: String,
    /// `pending`, `approved`, `rejected` or `lapsed`.
    status: String,
    /// Another key is approved for this agent id.
    key_changed: bool,
    /// Where it came from.
    address: String,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    decided_at: Nullable<String>,
    /// The admin's user id.
    decided_by: Nullable<String>,
    /// Of a rejection.
    reason: Nullable<String>,
}

list_of!(/// Applications, newest first.
    RegistrationList, Registration);

/// An approval.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The application's id.
    id: String,
    /// What the agent printed; refused if it is not this application's.
    #[serde(default)]
    fingerprint: Option<String>,
    /// The asset's labels; left out: what the agent proposes, or what the asset has already.
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    /// Ids of the users on the asset's own list; left out: nobody, or whom the asset has already.
    #[serde(default)]
    allowed_users: Option<Vec<String>>,
}

impl Checked for ApproveRequest {
    fn check(&self, faults: &mut Faults) {
        faults.line("id", &self.id, 64);
        if let Some(fingerprint) = &self.fingerprint {
            faults.line("fingerprint", fingerprint, 64);
        }
        if let Some(labels) = &self.labels {
            faults.labels("labels", labels);
        }
        super::assets::check_users(self.allowed_users.as_deref(), faults);
    }
}

/// The asset that an approval made.
#[derive(Debug, Object)]
pub struct ApproveResponse {
    /// `approved`.
    status: String,
    /// The asset.
    asset: Asset,
}

/// A rejection.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct RejectRequest {
    /// The application's id.
    id: String,
    /// For the agent's log, at most 500 characters.
    #[serde(default)]
    reason: Option<String>,
}

impl Checked for RejectRequest {
    fn check(&self, faults: &mut Faults) {
        faults.line("id", &self.id, 64);
        faults.text("reason", self.reason.as_deref().unwrap_or_default(), REASON_MAX);
    }
}

/// A rejection was taken.
#[derive(Debug, Object)]
pub struct RejectResponse {
    /// `rejected`.
    status: String,
}

/// An application was taken.
#[derive(ApiResponse)]
pub enum Registered {
    /// Taken; or it was there already.
    #[oai(status = 202)]
    Accepted(Json<RegisterResponse>),
}

/// Applications of agents.
pub struct Registrations;

#[OpenApi]
impl Registrations {
    /// Apply to be let in
    ///
    /// Signed with the RSA key that the body brings; `keyid` is the `client_id`. The same agent and key
    /// again find the same application.
    #[oai(path = "/register", method = "post", tag = "Chapter::Agents")]
    async fn register(
        &self,
        Data(app): Data<&Arc<App>>,
        signed: Signed<RegisterRequest>,
    ) -> Result<Registered, ApiError> {
        let bucket = signed.peer.bucket();
        app.limits.registrations.check(&bucket).map_err(|wait| ApiError::rate_limited(wait.0))?;
        // The key is in the body, so the body is parsed before the signature can be checked; its digest need not wait.
        if !signed.request.claim.as_ref().is_some_and(|claim| claim.covers(&signed.request.body)) {
            return counted(app, &signed.peer, Err(AgentRefused::BadSignature));
        }
        let body = signed.parse()?;
        let applicant = Applicant { address: signed.peer.addr.to_string(), bucket };
        let answer = app.enrolment.register(&signed.request, body, &applicant).await;
        Ok(Registered::Accepted(Json(counted(app, &signed.peer, answer)?)))
    }

    /// Ask for the decision
    ///
    /// Signed with the application's RSA key. With `wait` (seconds, 0 to 30) the answer comes as soon as
    /// there is a decision.
    #[oai(path = "/register/status", method = "get", tag = "Chapter::Agents")]
    async fn status(
        &self,
        Data(app): Data<&Arc<App>>,
        signed: SignedGet,
        apply_id: Query<Option<String>>,
        wait: Query<Option<u64>>,
    ) -> Result<Json<RegistrationStatus>, ApiError> {
        let wait = wait_of(wait.0)?;
        let apply_id = apply_id.0.unwrap_or_default();
        let answer = app.enrolment.status(&signed.0.request, &apply_id, wait).await;
        Ok(Json(counted(app, &signed.0.peer, answer)?))
    }

    /// List applications
    #[oai(path = "/registrations", method = "get", tag = "Chapter::Registrations")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        _admin: Admin,
        status: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<RegistrationList>, ApiError> {
        let standing = status.0.as_deref().map(standing).transpose()?;
        let page = page(limit.0, cursor.0)?;
        let now = app.clock.millis();
        let (rows, next_cursor) = app.db.applications(standing, now, &page).await?;
        let items = rows.into_iter().map(|row| show(row, now)).collect();
        Ok(Json(RegistrationList { items, next_cursor: next_cursor.into() }))
    }

    /// Approve an application
    ///
    /// Compare the fingerprint with what the agent printed on its host, and send it along: 409 if it is
    /// another one. A second decision is a 409 too.
    #[oai(path = "/approve", method = "post", tag = "Chapter::Registrations")]
    async fn approve(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        Body(body): Body<ApproveRequest>,
    ) -> Result<Json<ApproveResponse>, ApiError> {
        super::assets::require_users(app, body.allowed_users.as_deref()).await?;
        let approval = Approval {
            fingerprint: body.fingerprint,
            labels: body.labels,
            allowed_users: body.allowed_users,
        };
        let asset = app.enrolment.approve(&body.id, approval, admin.id()).await.map_err(decision)?;
        let asset = super::assets::show_to(app, &admin, asset).await?;
        Ok(Json(ApproveResponse { status: "approved".to_owned(), asset }))
    }

    /// Reject an application
    #[oai(path = "/reject", method = "post", tag = "Chapter::Registrations")]
    async fn reject(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        Body(body): Body<RejectRequest>,
    ) -> Result<Json<RejectResponse>, ApiError> {
        app.enrolment.reject(&body.id, body.reason, admin.id()).await.map_err(decision)?;
        Ok(Json(RejectResponse { status: "rejected".to_owned() }))
    }
}

/// Seconds that a long poll may wait.
pub fn wait_of(seconds: Option<u64>) -> Result<Duration, ApiError> {
    match seconds.unwrap_or(0) {
        seconds @ 0..=WAIT_MAX => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::invalid_field("wait", format!("must be 0 to {WAIT_MAX} seconds"))),
    }
}

fn standing(text: &str) -> Result<Standing, ApiError> {
    [Standing::Pending, Standing::Approved, Standing::Rejected, Standing::Lapsed]
        .into_iter()
        .find(|standing| standing.as_str() == text)
        .ok_or_else(|| ApiError::invalid_field("status", "must be pending, approved, rejected or lapsed"))
}

fn decision(error: DecisionRefused) -> ApiError {
    match error {
        DecisionRefused::NotFound => ApiError::not_found(),
        DecisionRefused::Decided(_) => ApiError::conflict("already_decided", error.to_string()),
        DecisionRefused::Fingerprint => ApiError::conflict("fingerprint_mismatch", error.to_string()),
        DecisionRefused::Vault(_) => ApiError::internal(&error),
        DecisionRefused::Db(error) => error.into(),
    }
}

fn show(row: Model, now: i64) -> Registration {
    Registration {
        status: row.standing(now).as_str().to_owned(),
        id: row.apply_id,
        client_id: row.client_id,
        hostname: row.hostname,
        fingerprint: row.fingerprint,
        // A damaged column shows as nothing: the rest of the list is still good.
        labels: serde_json::from_str(&row.labels).unwrap_or_default(),
        static_info: Any(serde_json::from_str(&row.static_info).unwrap_or_default()),
        version: row.version,
        key_changed: row.key_changed,
        address: row.address,
        created_at: rfc3339(row.created_at),
        decided_at: row.decided_at.map(rfc3339).into(),
        decided_by: row.decided_by.into(),
        reason: row.reason.into(),
    }
}
