//! The policies: what rules, and what they would say.

use std::sync::Arc;

use ::policies::{Chain, Finding, Obligations, Purpose, TrailEntry};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Any};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Chapter,
    authorize::refusal,
    body::{Body, Checked, Faults},
    callers::{Admin, actor},
    error::{ApiError, Fault},
    nullable::Nullable,
};
use crate::{
    access::{Asker, outcome},
    app::App,
    clock::{parse_rfc3339, rfc3339},
    db::audit::Entry,
};

/// The document that rules.
#[derive(Debug, Object)]
pub struct ActivePolicy {
    /// 1, 2, 3, …
    version: i64,
    /// Guardrails and policies.
    document: Any<Value>,
    /// Why it was written.
    comment: String,
    /// RFC 3339, UTC.
    activated_at: String,
}

/// A new version.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct NewPolicy {
    /// Guardrails and policies.
    document: Any<Value>,
    /// Why, at most 500 characters.
    comment: String,
}

impl Checked for NewPolicy {
    fn check(&self, faults: &mut Faults) {
        faults.text("comment", &self.comment, 500);
    }
}

/// A version was added; it does not rule yet.
#[derive(Debug, Object)]
pub struct PolicyVersion {
    /// 1, 2, 3, …
    version: i64,
}

/// A version was added.
#[derive(ApiResponse)]
pub enum Added {
    /// Added.
    #[oai(status = 201)]
    Done(Json<PolicyVersion>),
}

/// A question to the policies.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct SimulateRequest {
    /// The user's id.
    user: String,
    /// The asset's id.
    asset: String,
    /// When, RFC 3339; left out: now.
    #[serde(default)]
    at: Option<String>,
    /// From which address; left out: the caller's.
    #[serde(default)]
    ip: Option<String>,
}

impl Checked for SimulateRequest {
    fn check(&self, faults: &mut Faults) {
        faults.line("user", &self.user, 64);
        faults.line("asset", &self.asset, 64);
        if self.at.as_ref().is_some_and(|at| parse_rfc3339(at).is_none()) {
            faults.add("at", "must be an RFC 3339 time");
        }
        if self.ip.as_ref().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
            faults.add("ip", "must be an IP address");
        }
    }
}

/// What the policies would say, and why. Nothing is opened or kept.
#[derive(Debug, Object)]
pub struct Simulation {
    /// `allow`, `deny` or `challenge`.
    effect: String,
    /// Of the refusal.
    code: Nullable<String>,
    /// Every module's verdict, in the order in which they were asked.
    trail: Vec<TrailStep>,
    /// What a session would have to keep to; null unless allowed.
    obligations: Nullable<SessionTerms>,
}

/// What one module said.
#[derive(Debug, Object)]
pub struct TrailStep {
    /// Of which policy; null: a guardrail.
    policy: Nullable<String>,
    /// The module's id in the document.
    module: String,
    /// Its kind.
    kind: String,
    /// `allow`, `abstain`, `deny`, `challenge`, `failed` or `skipped`.
    verdict: String,
    /// Of the reason.
    code: Nullable<String>,
    /// The reason, for admins.
    text: Nullable<String>,
    /// Microseconds it took.
    micros: u64,
    /// Asked, but not heeded.
    shadow: bool,
}

/// What a session has to keep to.
#[derive(Debug, Object)]
pub struct SessionTerms {
    /// Seconds.
    max_duration: Nullable<u64>,
    /// Seconds without a key typed.
    idle_timeout: Nullable<u64>,
    /// RFC 3339, UTC.
    not_after: Nullable<String>,
    /// Input is recorded; what the host does not show, such as a password, as `•`.
    record_input: bool,
    /// Input is dropped.
    read_only: bool,
    /// Who is told.
    notify: Vec<String>,
    /// The host's user.
    run_as: Nullable<String>,
}

/// The policies.
pub struct Policies;

#[OpenApi(tag = "Chapter::Policies")]
impl Policies {
    /// What rules
    #[oai(path = "/policies/active", method = "get")]
    async fn active(
        &self,
        Data(app): Data<&Arc<App>>,
        _admin: Admin,
    ) -> Result<Json<ActivePolicy>, ApiError> {
        let (row, activated_at) = app.db.active_policy().await?.ok_or_else(ApiError::not_found)?;
        Ok(Json(ActivePolicy {
            version: row.version,
            document: Any(serde_json::from_str(&row.document).unwrap_or_default()),
            comment: row.comment,
            activated_at: rfc3339(activated_at),
        }))
    }

    /// Add a version
    ///
    /// Refused with the path of each fault; it does not rule until it is activated.
    #[oai(path = "/policies", method = "post")]
    async fn add(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        Body(body): Body<NewPolicy>,
    ) -> Result<Added, ApiError> {
        Chain::from_value(body.document.0.clone(), &::policies::builtin()).map_err(|faults| {
            let faults = faults.into_iter().map(|fault| Fault {
                path: format!("document.{}", fault.path).trim_end_matches('.').to_owned(),
                detail: fault.detail,
            });
            ApiError::invalid(faults.collect())
        })?;
        let now = app.clock.millis();
        let by = Some(admin.id().to_owned());
        let entry = Entry::new(now, actor(&admin), "policy.create").at_address(&admin.address.to_string());
        let document = body.document.0.to_string();
        let version = app.db.add_policy(document, body.comment, by, now, entry).await?;
        Ok(Added::Done(Json(PolicyVersion { version })))
    }

    /// Make a version rule
    #[oai(path = "/policies/:version/activate", method = "post")]
    async fn activate(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        version: Path<i64>,
    ) -> Result<Json<PolicyVersion>, ApiError> {
        let now = app.clock.millis();
        let entry = Entry::new(now, actor(&admin), "policy.activate")
            .on("policy", &version.0.to_string())
            .at_address(&admin.address.to_string());
        let (access, version, by) = (app.access.clone(), version.0, admin.id().to_owned());
        // Its own task: a client that goes away must not stop it between commit and effect.
        let activating = app.tasks.spawn(async move { access.activate(version, &by, entry).await });
        if activating.await.map_err(|error| ApiError::internal(&error))?.map_err(refusal)? {
            Ok(Json(PolicyVersion { version }))
        } else {
            Err(ApiError::not_found())
        }
    }

    /// What would the policies say?
    #[oai(path = "/policies/simulate", method = "post")]
    async fn simulate(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        Body(body): Body<SimulateRequest>,
    ) -> Result<Json<Simulation>, ApiError> {
        let user = app.db.user(&body.user).await?;
        let user = user.ok_or_else(|| ApiError::invalid_field("user", "must be the id of a user"))?;
        let at = body.at.as_deref().and_then(parse_rfc3339).unwrap_or_else(|| app.clock.millis());
        let address = body.ip.and_then(|ip| ip.parse().ok()).unwrap_or(admin.address);
        let asker = Asker { user: &user, address, credential: "simulation" };
        let judgement =
            app.access.judge(&asker, &body.asset, Purpose::Simulate, None, at).await.map_err(refusal)?;
        let (effect, code) = outcome(&judgement.ruling);
        Ok(Json(Simulation {
            effect: effect.to_owned(),
            code: code.into(),
            obligations: judgement.ruling.grant().map(|grant| terms(&grant.obligations)).into(),
            trail: judgement.ruling.trail.into_iter().map(step).collect(),
        }))
    }
}

fn step(entry: TrailEntry) -> TrailStep {
    TrailStep {
        verdict: finding(entry.verdict).to_owned(),
        policy: entry.policy.into(),
        module: entry.module,
        kind: entry.kind,
        code: entry.code.into(),
        text: entry.text.into(),
        micros: entry.micros,
        shadow: entry.shadow,
    }
}

fn terms(obligations: &Obligations) -> SessionTerms {
    SessionTerms {
        max_duration: obligations.max_duration.into(),
        idle_timeout: obligations.idle_timeout.into(),
        not_after: obligations.not_after.map(rfc3339).into(),
        record_input: obligations.record_input,
        read_only: obligations.read_only,
        notify: obligations.notify.iter().cloned().collect(),
        run_as: obligations.run_as.first().cloned().into(),
    }
}

fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Allow => "allow",
        Finding::Abstain => "abstain",
        Finding::Deny => "deny",
        Finding::Challenge => "challenge",
        Finding::Failed => "failed",
        Finding::Skipped => "skipped",
    }
}
