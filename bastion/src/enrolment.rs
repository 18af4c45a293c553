//! Agents: application, decision, sealed secret, first heartbeat; and who signs a request.

use std::{sync::Arc, time::Duration};

use openapi::{
    agents::{
        ApplicationStatus, HeartbeatRequest, RegisterRequest, RegisterResponse, RegistrationStatus, clean,
    },
    keys::{self, KeyError, Secret},
    signature::{Claim, MAX_SKEW_SECONDS, SignatureError, Target, VerifyingKey},
    ticket::{APPROVAL_TYP, ApprovalClaims, TicketError},
};
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Clock},
    db::{
        Db, DbError, assets,
        audit::{Actor, Entry},
        registrations::{self, Standing},
    },
    signing::Signing,
    vault::{Place, Vault, VaultError},
};

/// How long an application waits for its decision, in milliseconds.
const PENDING_FOR: i64 = 24 * 3600 * 1000;
/// Applications that may be pending from one address, and in all.
const PENDING_CAPS: (u64, u64) = (50, 1000);
/// How often a waiting status request looks again, for decisions made on another node.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a used nonce is remembered, in milliseconds: longer than a request with it is fresh.
const NONCE_FOR: i64 = 2 * MAX_SKEW_SECONDS * 1000 + 10_000;

/// Why an agent's request was refused.
#[derive(Debug, thiserror::Error)]
pub enum AgentRefused {
    /// Unsigned, malformed, unknown key or wrong signature: nobody learns which.
    #[error("the signature does not hold")]
    BadSignature,
    /// Signed too long ago, or in the future.
    #[error("the clocks differ by more than {MAX_SKEW_SECONDS} s")]
    ClockSkew,
    /// The nonce was used before.
    #[error("the nonce was used before")]
    Replayed,
    /// The request is about another agent.
    #[error("this is another agent's")]
    NotYours,
    /// No such application, or not this key's.
    #[error("no such application")]
    NotFound,
    /// Too many wait already.
    #[error("too many applications are pending")]
    TooMany,
    /// The key cannot be used.
    #[error("client_public_key: {0}")]
    Key(KeyError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The approval could not be signed.
    #[error(transparent)]
    Signing(#[from] TicketError),
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecisionRefused {
    /// No such application.
    #[error("there is no such application")]
    NotFound,
    /// It was decided before, or has lapsed.
    #[error("the application is {0} already")]
    Decided(&'static str),
    /// The fingerprint that the admin compared is not this application's.
    #[error("the fingerprint is another one; compare it with what the agent prints")]
    Fingerprint,
    /// A secret could not be made.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A request as it was signed. `claim` is none when the headers are missing or malformed.
#[derive(Debug)]
pub struct SignedRequest {
    /// What the headers say.
    pub claim: Option<Claim>,
    /// Upper case.
    pub method: String,
    /// The bastion's, as the agent addressed it.
    pub authority: String,
    /// As sent.
    pub path: String,
    /// As sent, without `?`.
    pub query: Option<String>,
    /// Raw.
    pub body: bytes::Bytes,
}

impl SignedRequest {
    fn verify(&self, key: &VerifyingKey) -> Result<&Claim, SignatureError> {
        let claim = self.claim.as_ref().ok_or(SignatureError::Malformed)?;
        claim.verify(
            key,
            &Target {
                method: &self.method,
                authority: &self.authority,
                path: &self.path,
                query: self.query.as_deref(),
                body: (!self.body.is_empty()).then_some(&self.body),
            },
        )?;
        Ok(claim)
    }
}

/// What an admin decides with an approval; `None` keeps what is there, or takes what the agent proposes.
#[derive(Debug, Default)]
pub struct Approval {
    /// What the admin compared.
    pub fingerprint: Option<String>,
    /// All the labels.
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    /// Ids of those on the list.
    pub allowed_users: Option<Vec<String>>,
}

/// Enrols agents and knows them again.
#[derive(Clone, Debug)]
pub struct Enrolment {
    db: Db,
    vault: Arc<Vault>,
    signing: Arc<Signing>,
    clock: Clock,
    /// Changes with every decision: who waits for one looks again.
    decided: watch::Sender<()>,
    /// Ends the waiting.
    shutdown: CancellationToken,
}

/// Where an application comes from.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// The client's address.
    pub address: String,
    /// What limits count by: the address, or an IPv6 network.
    pub bucket: String,
}

impl Enrolment {
    /// Needs the vault for secrets and the identity key for proofs.
    pub fn new(
        db: Db,
        vault: Arc<Vault>,
        signing: Arc<Signing>,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Self {
        Self { db, vault, signing, clock, decided: watch::Sender::new(()), shutdown }
    }

    /// Takes an application, signed with the key it brings.
    pub async fn register(
        &self,
        signed: &SignedRequest,
        request: RegisterRequest,
        peer: &Applicant,
    ) -> Result<RegisterResponse, AgentRefused> {
        let key = keys::parse_public_key(&request.client_public_key).map_err(AgentRefused::Key)?;
        let fingerprint = keys::fingerprint(&key).map_err(AgentRefused::Key)?;
        let claim =
            signed.verify(&VerifyingKey::Rsa(Box::new(key))).map_err(|_| AgentRefused::BadSignature)?;
        self.burn(claim).await?;
        if claim.keyid != request.client_id {
            return Err(AgentRefused::NotYours);
        }
        let now = self.clock.millis();
        let asset = self.db.asset(&request.client_id).await?;
        let latest = self.db.latest_application(&request.client_id, &fingerprint).await?;
        if let Some(known) = latest.filter(|known| still_stands(known, asset.as_ref(), now)) {
            let status = published(known.standing(now));
            return Ok(RegisterResponse { status, apply_id: known.apply_id, fingerprint });
        }
        let pending = self.db.pending_applications(&peer.bucket, &request.client_id, now).await?;
        if pending.here >= PENDING_CAPS.0 || pending.all >= PENDING_CAPS.1 {
            return Err(AgentRefused::TooMany);
        }
        // Two keys for one id, approved or not: an admin should know.
        let key_changed = asset.is_some_and(|asset| asset.fingerprint != fingerprint) || pending.same_id;
        let apply_id = clock::new_id();
        let entry = Entry::new(now, Actor::Agent(request.client_id.clone()), "registration.create")
            .on("registration", &apply_id)
            .at_address(&peer.address)
            .with(json!({"fingerprint": fingerprint, "key_changed": key_changed}));
        let row = registrations::Model {
            apply_id: apply_id.clone(),
            client_id: request.client_id,
            hostname: clean(&request.hostname, 253),
            client_public_key: request.client_public_key,
            fingerprint: fingerprint.clone(),
            labels: json!(request.labels).to_string(),
            static_info: cleaned(json!(request.static_info)).to_string(),
            version: clean(&request.version, 64),
            address: peer.address.clone(),
            bucket: peer.bucket.clone(),
            status: "pending".to_owned(),
            key_changed,
            reason: None,
            created_at: now,
            expires_at: now + PENDING_FOR,
            decided_at: None,
            decided_by: None,
            delivered_at: None,
        };
        self.db.add_application(row, entry).await?;
        Ok(RegisterResponse { status: ApplicationStatus::Pending, apply_id, fingerprint })
    }

    /// Where an application stands; with `wait`, answers as soon as that changes.
    pub async fn status(
        &self,
        signed: &SignedRequest,
        apply_id: &str,
        wait: Duration,
    ) -> Result<RegistrationStatus, AgentRefused> {
        let mut application = self.db.application(apply_id).await?.ok_or(AgentRefused::NotFound)?;
        let key = keys::parse_public_key(&application.client_public_key).map_err(AgentRefused::Key)?;
        let verifying = VerifyingKey::Rsa(Box::new(key.clone()));
        let claim = signed.verify(&verifying).map_err(|_| AgentRefused::NotFound)?;
        if claim.keyid != application.client_id {
            return Err(AgentRefused::NotFound);
        }
        self.burn(claim).await?;
        let (deadline, mut decided) = (Instant::now() + wait, self.decided.subscribe());
        while application.standing(self.clock.millis()) == Standing::Pending && Instant::now() < deadline {
            let until = deadline.min(Instant::now() + LOOK_AGAIN);
            tokio::select! {
                // Woken or not, look again.
                _ = timeout_at(until, decided.changed()) => {}
                () = self.shutdown.cancelled() => break,
            }
            application = self.db.application(apply_id).await?.ok_or(AgentRefused::NotFound)?;
        }
        self.answer(&application, &key).await
    }

    async fn answer(
        &self,
        application: &registrations::Model,
        key: &keys::RsaPublic,
    ) -> Result<RegistrationStatus, AgentRefused> {
        let standing = application.standing(self.clock.millis());
        let mut answer = RegistrationStatus {
            status: published(standing),
            reason: application.reason.clone(),
            encrypted_secret: None,
            proof: None,
        };
        if standing == Standing::Lapsed {
            answer.reason = Some("Nobody decided in time; register again.".to_owned());
        }
        if standing != Standing::Approved || application.delivered_at.is_some() {
            return Ok(answer);
        }
        let Some(asset) = self.db.asset(&application.client_id).await? else { return Ok(answer) };
        let secret = self.secret_of(&asset)?;
        let encrypted = keys::seal_secret(key, &secret).map_err(AgentRefused::Key)?;
        let claims = ApprovalClaims {
            apply_id: application.apply_id.clone(),
            client_id: application.client_id.clone(),
            fingerprint: application.fingerprint.clone(),
            secret_sha256: hex::encode(sha2::Sha256::digest(encrypted.as_bytes())),
            iat: self.clock.seconds(),
        };
        answer.proof = Some(self.signing.identity.sign(APPROVAL_TYP, &claims)?);
        answer.encrypted_secret = Some(encrypted);
        Ok(answer)
    }

    /// Approves: a fresh secret, and the asset in place of whatever had its id.
    pub async fn approve(
        &self,
        apply_id: &str,
        approval: Approval,
        by: &str,
    ) -> Result<assets::Model, DecisionRefused> {
        let application = self.db.application(apply_id).await?.ok_or(DecisionRefused::NotFound)?;
        let now = self.clock.millis();
        still_pending(&application, now)?;
        if approval.fingerprint.as_ref().is_some_and(|seen| *seen != application.fingerprint) {
            return Err(DecisionRefused::Fingerprint);
        }
        let before = self.db.asset(&application.client_id).await?;
        let asset = self.asset(&application, approval, before, now)?;
        let entry = Entry::new(now, Actor::User(by.to_owned()), "registration.approve")
            .on("registration", apply_id)
            .with(json!({"asset": asset.id, "fingerprint": asset.fingerprint}));
        if !self.db.approve(apply_id, asset.clone(), by, now, entry).await? {
            return Err(DecisionRefused::Decided("decided"));
        }
        self.decided.send_replace(());
        Ok(asset)
    }

    fn asset(
        &self,
        application: &registrations::Model,
        approval: Approval,
        before: Option<assets::Model>,
        now: i64,
    ) -> Result<assets::Model, DecisionRefused> {
        let secret = Secret::new(clock::random());
        let place = secret_place(&application.client_id);
        let (kept_labels, kept_users) = match &before {
            Some(before) => (before.labels.clone(), before.allowed_users.clone()),
            None => (application.labels.clone(), "[]".to_owned()),
        };
        Ok(assets::Model {
            id: application.client_id.clone(),
            hostname: application.hostname.clone(),
            client_public_key: application.client_public_key.clone(),
            fingerprint: application.fingerprint.clone(),
            agent_secret_sealed: self.vault.seal(place, secret.expose())?,
            status: before.as_ref().and_then(|before| before.status.clone()),
            labels: approval.labels.map_or(kept_labels, |labels| json!(labels).to_string()),
            proposed_labels: application.labels.clone(),
            allowed_users: approval.allowed_users.map_or(kept_users, |users| json!(users).to_string()),
            run_as: before.as_ref().and_then(|before| before.run_as.clone()),
            version: application.version.clone(),
            static_info: application.static_info.clone(),
            dynamic_info: "{}".to_owned(),
            tty_status: "{}".to_owned(),
            last_heartbeat_at: None,
            previous_heartbeat_at: None,
            created_at: before.map_or(now, |before| before.created_at),
            updated_at: now,
            deleted_at: None,
        })
    }

    /// Rejects.
    pub async fn reject(
        &self,
        apply_id: &str,
        reason: Option<String>,
        by: &str,
    ) -> Result<(), DecisionRefused> {
        let application = self.db.application(apply_id).await?.ok_or(DecisionRefused::NotFound)?;
        let now = self.clock.millis();
        still_pending(&application, now)?;
        let entry = Entry::new(now, Actor::User(by.to_owned()), "registration.reject")
            .on("registration", apply_id)
            .with(json!({"asset": application.client_id, "reason": reason}));
        if !self.db.reject(apply_id, reason, by, now, entry).await? {
            return Err(DecisionRefused::Decided("decided"));
        }
        self.decided.send_replace(());
        Ok(())
    }

    /// Which approved agent signed this request. Signature first, then clock, then nonce.
    pub async fn identify(&self, signed: &SignedRequest) -> Result<assets::Model, AgentRefused> {
        let claim = signed.claim.as_ref().ok_or(AgentRefused::BadSignature)?;
        let asset = self.db.asset(&claim.keyid).await?.ok_or(AgentRefused::BadSignature)?;
        let key = VerifyingKey::Hmac(self.secret_of(&asset)?);
        let claim = signed.verify(&key).map_err(|_| AgentRefused::BadSignature)?;
        self.burn(claim).await?;
        Ok(asset)
    }

    /// Takes a heartbeat of the agent that signed it; the first delivers its secret for good.
    pub async fn heartbeat(
        &self,
        asset: assets::Model,
        request: HeartbeatRequest,
    ) -> Result<(), AgentRefused> {
        let now = self.clock.millis();
        let beat = assets::Heartbeat {
            dynamic_info: cleaned(json!(request.metrics)).to_string(),
            static_info: request.static_info.map(|info| cleaned(json!(info)).to_string()),
            version: clean(&request.version, 64),
            tty_status: json!(request.tty_status).to_string(),
        };
        if !self.db.heartbeat(&asset, beat, now).await? {
            // Approved anew meanwhile: the secret that signed this is void.
            return Err(AgentRefused::BadSignature);
        }
        if asset.last_heartbeat_at.is_none() {
            self.db.mark_delivered(&asset.id, now).await?;
        }
        Ok(())
    }

    fn secret_of(&self, asset: &assets::Model) -> Result<Secret, VaultError> {
        let place = secret_place(&asset.id);
        let plain = self.vault.unseal(place, &asset.agent_secret_sealed)?;
        let bytes = plain.as_slice().try_into().map_err(|_| VaultError::Closed(asset.id.clone()))?;
        Ok(Secret::new(bytes))
    }

    async fn burn(&self, claim: &Claim) -> Result<(), AgentRefused> {
        if !claim.fresh(self.clock.seconds()) {
            return Err(AgentRefused::ClockSkew);
        }
        let until = self.clock.millis() + NONCE_FOR;
        if self.db.burn_nonce(&claim.keyid, &claim.nonce, until).await? {
            Ok(())
        } else {
            Err(AgentRefused::Replayed)
        }
    }
}

/// Free-form JSON of an agent without the characters that do not show.
fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text, usize::MAX)),
        Value::Array(items) => items.into_iter().map(cleaned).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (clean(&key, usize::MAX), cleaned(value))).collect()
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

fn secret_place(asset: &str) -> Place<'_> {
    Place { column: "assets.agent_secret_sealed", row: asset }
}

fn still_pending(application: &registrations::Model, now: i64) -> Result<(), DecisionRefused> {
    match application.standing(now) {
        Standing::Pending => Ok(()),
        decided @ (Standing::Approved | Standing::Rejected | Standing::Lapsed) => {
            Err(DecisionRefused::Decided(decided.as_str()))
        }
    }
}

/// Whether registering again finds this application rather than making a new one: it is pending, or its
/// secret has yet to be delivered to the asset it made.
fn still_stands(application: &registrations::Model, asset: Option<&assets::Model>, now: i64) -> bool {
    match application.standing(now) {
        Standing::Pending => true,
        Standing::Approved => {
            application.delivered_at.is_none()
                && asset.is_some_and(|asset| asset.fingerprint == application.fingerprint)
        }
        Standing::Rejected | Standing::Lapsed => false,
    }
}

fn published(standing: Standing) -> ApplicationStatus {
    match standing {
        Standing::Pending => ApplicationStatus::Pending,
        Standing::Approved => ApplicationStatus::Approved,
        Standing::Rejected | Standing::Lapsed => ApplicationStatus::Rejected,
    }
}
