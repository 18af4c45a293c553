//! Who may open which terminal: gather the facts, have the chain rule, keep the ruling, hand out a permit.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use openapi::ticket::{BrowserClaims, Mode};
use policies::{
    AssetFacts, AssetStatus, Capabilities, Chain, Demand, Effect, Facts, Grant, Level, LiveSessions, Need,
    Obligations, Purpose, Refusal, Request, Ruling, Subject,
};
use recordings::Spool;
use serde_json::{Map, Value, json};

use crate::{
    clock::{self, Clock},
    db::{
        Db, DbError, assets,
        audit::{Actor, Entry},
        decisions, policies as policy_rows,
        slots::{Scope, Slot},
        users,
    },
    tickets::{BrowserTicket, TicketRefused, Tickets},
};

/// What sessions of this bastion can honour.
const HONOURED: [Demand; 6] = [
    Demand::MaxDuration,
    Demand::IdleTimeout,
    Demand::NotAfter,
    Demand::RecordInput,
    Demand::ReadOnly,
    Demand::RunAs,
];

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No such asset, or not for this user: nobody learns which.
    #[error("not available")]
    NotAvailable {
        /// Under which id the ruling is kept.
        decision: String,
    },
    /// A guard says no to somebody who has the grant.
    #[error("{detail}")]
    Guard {
        /// The guard's.
        code: String,
        /// For the user.
        detail: String,
        /// Members of the problem document.
        details: Map<String, Value>,
        /// Under which id the ruling is kept.
        decision: String,
    },
    /// Somebody must agree first.
    #[error("waiting for an approval")]
    Challenge {
        /// Under which id the ruling is kept.
        decision: String,
    },
    /// No recording can be made, so no session.
    #[error("no recording can be made: {0}")]
    Recording(recordings::SpoolError),
    /// The ticket is no good.
    #[error(transparent)]
    Ticket(#[from] TicketRefused),
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The policy document cannot be used, so nobody gets in.
    #[error("policy: {0}")]
    Policy(String),
}

/// The document that rules, compiled.
struct Active {
    version: i64,
    chain: Chain,
}

/// Who asks, as the policies see them.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    /// The user's row.
    pub user: &'a users::Model,
    /// The client's address.
    pub address: IpAddr,
    /// The login or token, as tickets refer to it.
    pub credential: &'a str,
}

/// The terminal that is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The asset's id, as the client wrote it.
    pub asset: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Instead of the login shell.
    pub command: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// For a plain client.
    pub plain: bool,
    /// Back to this session, and to do what. It is not counted against the limits: it is counted already.
    pub back_to: Option<(String, Mode)>,
}

/// A ticket, freshly minted.
#[derive(Debug)]
pub struct Issued {
    /// The ticket.
    pub token: String,
    /// Seconds.
    pub expires_in: i64,
    /// Whether what is typed in the session will be recorded, as things are now.
    pub records_input: bool,
}

/// A session that is gone back to, as far as a ruling minds: it is counted already, and records what it began with.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    records_input: bool,
    mode: Mode,
}

impl Back {
    /// What it can honour. What only looks types nothing that could be recorded.
    fn honours(self, demand: Demand) -> bool {
        demand != Demand::RecordInput || self.records_input || self.mode == Mode::Watch
    }
}

/// Proof of a ruling that allowed. Only [`Access::redeem`] makes one; only the hub takes it.
#[derive(Debug)]
pub struct Permit {
    /// Whose.
    pub user: users::Model,
    /// On which host.
    pub asset: assets::Model,
    /// The host's user.
    pub run_as: Option<String>,
    /// What the session must keep to.
    pub obligations: Obligations,
    /// When the ruling itself ends, UTC milliseconds.
    pub valid_until: Option<i64>,
    /// The limits it must fit in.
    pub slots: Vec<Slot>,
    /// The ticket's claims.
    pub claims: BrowserClaims,
    /// The login or token, none for a plain client.
    pub credential: Option<String>,
    /// The client's address.
    pub address: IpAddr,
    /// Under which id the ruling is kept.
    pub decision: String,
    _minted_here: (),
}

/// A ruling and what it was about.
#[derive(Debug)]
pub struct Judgement {
    /// The ruling with its trail.
    pub ruling: Ruling,
    /// The asset, if there is one.
    pub asset: Option<assets::Model>,
    facts: Facts,
    version: i64,
}

/// Rules on terminals.
#[derive(Clone)]
pub struct Access {
    db: Db,
    tickets: Tickets,
    spool: Spool,
    clock: Clock,
    active: Arc<RwLock<Arc<Active>>>,
    /// Held across the commit and the swap: the last to activate rules. Who waits: other activations.
    activating: Arc<tokio::sync::Mutex<()>>,
}

impl Access {
    /// Loads the document that rules; on the first start of all, the starting document.
    pub async fn open(db: Db, tickets: Tickets, spool: Spool, clock: Clock) -> Result<Self, Refused> {
        if db.active_policy().await?.is_none() {
            let now = clock.millis();
            let entry = |action| Entry::new(now, Actor::System, action);
            let document = policies::starting_document().to_owned();
            let comment = "The starting document".to_owned();
            let version = db.add_policy(document, comment, None, now, entry("policy.create")).await?;
            db.activate_policy(version, None, now, entry("policy.activate")).await?;
        }
        let active = Arc::new(RwLock::new(Arc::new(load(&db).await?)));
        Ok(Self { db, tickets, spool, clock, active, activating: Arc::default() })
    }

    /// Makes a version of the document rule; false when there is none such. Compiled first, so that what
    /// cannot be used never becomes active. Run it on a task of its own: it must not stop half-way.
    pub async fn activate(&self, version: i64, by: &str, entry: Entry) -> Result<bool, Refused> {
        let _one_at_a_time = self.activating.lock().await;
        let Some(row) = self.db.policy(version).await? else { return Ok(false) };
        let fresh = compile(&row)?;
        let by = Some(by.to_owned());
        self.db.activate_policy(version, by, self.clock.millis(), entry).await?;
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(true)
    }

    /// Rules, and mints a ticket if the ruling allows.
    pub async fn issue(&self, asker: &Asker<'_>, ask: &Ask) -> Result<Issued, Refused> {
        let back_to = ask.back_to.as_ref().map(|(session, mode)| (session.as_str(), Some(*mode)));
        let back = self.back(back_to).await?;
        let judgement = self.judge(asker, &ask.asset, Purpose::Issue, back, self.clock.millis()).await?;
        let purpose = if back.is_some() { "reattach" } else { "issue" };
        let decision = self.keep(asker, &ask.asset, purpose, ask.reason.as_deref(), &judgement).await?;
        let begins = allowed(&judgement.ruling, &decision)?.obligations.record_input;
        let records_input = back.map_or(begins, |back| back.records_input);
        self.admit(back.is_some())?;
        let ticket = BrowserTicket {
            user: &asker.user.id,
            asset: &ask.asset,
            decision: &decision,
            credential: asker.credential,
            address: asker.address,
            plain: ask.plain,
            cols: ask.cols,
            rows: ask.rows,
            command: ask.command.as_deref(),
            back_to: ask.back_to.as_ref().map(|(session, mode)| (session.as_str(), *mode)),
        };
        let (token, expires_in) = self.tickets.mint_browser(ticket).await?;
        Ok(Issued { token, expires_in, records_input })
    }

    /// Spends a ticket and rules again, on how things are now.
    pub async fn redeem(
        &self,
        token: &str,
        credential: Option<&str>,
        address: IpAddr,
    ) -> Result<Permit, Refused> {
        let claims = self.tickets.redeem_browser(token, credential, address).await?;
        let user = self.db.user(&claims.sub).await?.ok_or(TicketRefused::Bad)?;
        let asker = Asker { user: &user, address, credential: credential.unwrap_or("plain") };
        let back = self.back(claims.sid.as_deref().map(|session| (session, claims.mode))).await?;
        let judgement = self.judge(&asker, &claims.asset, Purpose::Redeem, back, self.clock.millis()).await?;
        let decision = self.keep(&asker, &claims.asset, "redeem", None, &judgement).await?;
        let grant = allowed(&judgement.ruling, &decision)?.clone();
        self.admit(back.is_some())?;
        let asset = judgement.asset.ok_or_else(|| Refused::NotAvailable { decision: decision.clone() })?;
        Ok(Permit {
            run_as: grant.obligations.run_as.first().cloned().or_else(|| asset.run_as.clone()),
            valid_until: grant.valid_until,
            slots: slots(&grant.needs),
            obligations: grant.obligations,
            credential: credential.map(str::to_owned),
            user,
            asset,
            claims,
            address,
            decision,
            _minted_here: (),
        })
    }

    /// What a session that is gone back to can honour.
    async fn back(&self, to: Option<(&str, Option<Mode>)>) -> Result<Option<Back>, DbError> {
        let Some((session, mode)) = to else { return Ok(None) };
        let row = self.db.session(session).await?;
        let records_input = row.is_some_and(|row| row.records_input());
        Ok(Some(Back { records_input, mode: mode.unwrap_or(Mode::Control) }))
    }

    /// A new session needs room to be recorded in; one that lives has it.
    fn admit(&self, back: bool) -> Result<(), Refused> {
        if back { Ok(()) } else { self.spool.admit().map_err(Refused::Recording) }
    }

    /// What the chain says of this user and this asset at an instant, UTC milliseconds. `back`: to a session
    /// that lives. Keeps nothing.
    pub async fn judge(
        &self,
        asker: &Asker<'_>,
        asset: &str,
        purpose: Purpose,
        back: Option<Back>,
        at: i64,
    ) -> Result<Judgement, Refused> {
        let asset = self.db.asset(asset).await?;
        let groups = self.db.groups_of(&asker.user.id).await?;
        let id = asset.as_ref().map_or("", |asset| &asset.id);
        let live = self.db.live(&asker.user.id, id, self.clock.millis()).await?;
        let besides = |count: u64| count.saturating_sub(u64::from(back.is_some()));
        let live = LiveSessions {
            user: besides(live.user),
            asset: besides(live.asset),
            user_asset: besides(live.user_asset),
            global: besides(live.global),
        };
        let honoured = HONOURED.into_iter().filter(|demand| back.is_none_or(|back| back.honours(*demand)));
        self.judge_with(asker, asset, groups, live, Capabilities::of(honoured), (purpose, at)).await
    }

    /// What the chain says of many assets, in their order; for lists.
    pub async fn judge_all(
        &self,
        asker: &Asker<'_>,
        assets: Vec<assets::Model>,
    ) -> Result<Vec<Judgement>, Refused> {
        let groups = self.db.groups_of(&asker.user.id).await?;
        let now = self.clock.millis();
        let mut judgements = Vec::with_capacity(assets.len());
        for asset in assets {
            let (live, honoured) = (LiveSessions::default(), Capabilities::of(HONOURED));
            let when = (Purpose::List, now);
            judgements.push(self.judge_with(asker, Some(asset), groups.clone(), live, honoured, when).await?);
        }
        Ok(judgements)
    }

    async fn judge_with(
        &self,
        asker: &Asker<'_>,
        asset: Option<assets::Model>,
        groups: Vec<String>,
        live: LiveSessions,
        capabilities: Capabilities,
        (purpose, now): (Purpose, i64),
    ) -> Result<Judgement, Refused> {
        let facts = Facts {
            subject: Subject {
                id: asker.user.id.clone(),
                groups,
                role: asker.user.role.clone(),
                disabled: asker.user.disabled,
            },
            asset: asset.as_ref().map(|asset| asset_facts(asset, now)).transpose()?,
            live,
            client: Some(asker.address),
        };
        let request = Request {
            facts: facts.clone(),
            now,
            level: if purpose == Purpose::List { Level::Viewer } else { Level::User },
            capabilities,
        };
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner).clone();
        let ruling = active.chain.decide(&request, purpose).await;
        Ok(Judgement { ruling, asset, facts, version: active.version })
    }

    /// Keeps a ruling with its trail; returns its id.
    async fn keep(
        &self,
        asker: &Asker<'_>,
        asset: &str,
        purpose: &'static str,
        reason: Option<&str>,
        judgement: &Judgement,
    ) -> Result<String, DbError> {
        let id = clock::new_id();
        let ruling = &judgement.ruling;
        let (effect, code) = outcome(ruling);
        self.db
            .add_decision(decisions::Model {
                id: id.clone(),
                at: self.clock.millis(),
                user_id: asker.user.id.clone(),
                asset_id: asset.chars().take(64).collect(),
                purpose: purpose.to_owned(),
                effect: effect.to_owned(),
                code,
                address: asker.address.to_string(),
                policy_version: judgement.version,
                trail: json!({"reason": reason, "facts": judgement.facts, "trail": ruling.trail,
                    "policies": ruling.policies})
                .to_string(),
            })
            .await?;
        Ok(id)
    }
}

/// `allow`, `deny` or `challenge`, and the code of a refusal.
pub fn outcome(ruling: &Ruling) -> (&'static str, Option<String>) {
    match &ruling.effect {
        Effect::Allow(_) => ("allow", None),
        Effect::Deny(Refusal::NotAvailable) => ("deny", Some("not_available".to_owned())),
        Effect::Deny(Refusal::Guard { code, .. }) => ("deny", Some(code.clone())),
        Effect::Challenge(_) => ("challenge", Some("approval_required".to_owned())),
    }
}

fn allowed<'a>(ruling: &'a Ruling, decision: &str) -> Result<&'a Grant, Refused> {
    let decision = decision.to_owned();
    match &ruling.effect {
        Effect::Allow(grant) => Ok(grant),
        Effect::Deny(Refusal::NotAvailable) => Err(Refused::NotAvailable { decision }),
        Effect::Deny(Refusal::Guard { code, user, details }) => Err(Refused::Guard {
            code: code.clone(),
            detail: user.clone(),
            details: details.clone(),
            decision,
        }),
        Effect::Challenge(_) => Err(Refused::Challenge { decision }),
    }
}

fn asset_facts(asset: &assets::Model, now: i64) -> Result<AssetFacts, DbError> {
    Ok(AssetFacts {
        id: asset.id.clone(),
        labels: BTreeMap::from_iter(asset.labels()?),
        allowed_users: asset.allowed_users()?,
        online: asset.is_heard(now),
        status: match asset.status.as_deref() {
            Some("maintenance") => Some(AssetStatus::Maintenance),
            // What is written there and not understood keeps everybody out.
            Some(_) => Some(AssetStatus::Quarantined),
            None => None,
        },
        last_seen: asset.last_heartbeat_at,
        deleted: asset.deleted_at.is_some(),
    })
}

fn slots(needs: &[Need]) -> Vec<Slot> {
    needs
        .iter()
        .map(|Need::Slot { scope, limit }| Slot {
            scope: match scope {
                policies::Scope::Global => Scope::Global,
                policies::Scope::Asset => Scope::Asset,
                policies::Scope::User => Scope::User,
                policies::Scope::UserAsset => Scope::UserAsset,
            },
            limit: *limit,
        })
        .collect()
}

async fn load(db: &Db) -> Result<Active, Refused> {
    let (row, _) = db.active_policy().await?.ok_or_else(|| Refused::Policy("no version is active".into()))?;
    compile(&row)
}

fn compile(row: &policy_rows::Model) -> Result<Active, Refused> {
    let chain = Chain::load(&row.document, &policies::builtin()).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.detail)).collect();
        Refused::Policy(format!("version {}: {}", row.version, faults.join("; ")))
    })?;
    Ok(Active { version: row.version, chain })
}
