//! Hosts, as far as the caller may see them.

use std::{collections::BTreeMap, sync::Arc};

use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::Any,
};
use policies::Selector;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Chapter,
    body::{Body, Checked, Faults},
    callers::{Admin, Role, User, actor},
    error::ApiError,
    lists::{list_of, page},
    nullable::{Nullable, Patch},
};
use crate::{
    access::{Asker, Judgement, outcome},
    app::App,
    clock::rfc3339,
    db::{assets, audit::Entry},
    session::Reason,
};

/// What a policy would say to the caller now.
#[derive(Debug, Object)]
pub struct Access {
    /// `allow`, `deny` or `challenge`.
    effect: String,
    /// Of the refusal.
    code: Nullable<String>,
    /// A sentence for the user.
    detail: Nullable<String>,
}

/// A host.
#[derive(Debug, Object)]
pub struct Asset {
    /// Its agent's `client_id`.
    id: String,
    /// As its agent says.
    hostname: String,
    /// Set by admins; policies go by them.
    labels: BTreeMap<String, String>,
    /// As its agent proposed; they count for nothing.
    proposed_labels: BTreeMap<String, String>,
    /// `online`, `offline`, `maintenance` or `quarantined`.
    status: String,
    /// RFC 3339, UTC.
    last_heartbeat_at: Nullable<String>,
    /// Of its agent.
    version: String,
    /// Ids of the users on its own list; shown to admins only.
    #[oai(skip_serializing_if_is_none)]
    allowed_users: Option<Vec<String>>,
    /// The host's user that shells run as; null: the agent's own.
    run_as: Nullable<String>,
    /// What it is, as its agent says.
    static_info: Any<Value>,
    /// How it is doing, as its agent says.
    dynamic_info: Any<Value>,
    /// Of its agent's key.
    fingerprint: String,
    /// RFC 3339, UTC.
    created_at: String,
    /// What a policy would say to the caller now.
    access: Access,
}

list_of!(/// Hosts, in order of their id.
    AssetList, Asset);

/// A change of an asset; what is left out stays.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct AssetChange {
    /// All the labels.
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    /// Ids of all the users on its own list.
    #[serde(default)]
    allowed_users: Option<Vec<String>>,
    /// `maintenance`, `quarantined`, or null to make it usable again.
    #[serde(default)]
    status: Patch<String>,
    /// The host's user that shells run as; null: the agent's own.
    #[serde(default)]
    run_as: Patch<String>,
}

impl Checked for AssetChange {
    fn check(&self, faults: &mut Faults) {
        if let Some(labels) = &self.labels {
            faults.labels("labels", labels);
        }
        check_users(self.allowed_users.as_deref(), faults);
        if let Some(Some(status)) = &self.status.0
            && !["maintenance", "quarantined"].contains(&status.as_str())
        {
            faults.add("status", "must be maintenance, quarantined or null");
        }
        if let Some(Some(run_as)) = &self.run_as.0 {
            faults.line("run_as", run_as, 64);
            if run_as.starts_with('-') || run_as.contains(char::is_whitespace) {
                faults.add("run_as", "must be a user name");
            }
        }
    }
}

/// Done; nothing to say.
#[derive(ApiResponse)]
pub enum Gone {
    /// Done.
    #[oai(status = 204)]
    Done,
}

/// Hosts.
pub struct Assets;

#[OpenApi(tag = "Chapter::Assets")]
impl Assets {
    /// List hosts
    ///
    /// Those that the caller has a grant for; all for admins and auditors.
    #[oai(path = "/assets", method = "get")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        selector: Query<Option<String>>,
        status: Query<Option<String>>,
        q: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<AssetList>, ApiError> {
        let mut page = page(limit.0, cursor.0)?;
        let selector = selector.0.filter(|text| !text.is_empty()).map(|text| {
            text.parse::<Selector>().map_err(|error| ApiError::invalid_field("selector", error.to_string()))
        });
        let selector = selector.transpose()?;
        let q = q.0.filter(|q| !q.is_empty());
        let mut items = Vec::new();
        // The chain, not the query, decides what is seen: rows are read on until the page is full.
        loop {
            let rows = app.db.assets_after(page.cursor.as_deref(), 200, q.as_deref()).await?;
            let exhausted = rows.len() < 200;
            page.cursor = rows.last().map(|row| row.id.clone());
            for judgement in judged(app, &user, rows).await? {
                if items.len() as u64 == page.limit {
                    let next_cursor = items.last().map(|asset: &Asset| asset.id.clone());
                    return Ok(Json(AssetList { items, next_cursor: next_cursor.into() }));
                }
                let Some(asset) = visible(app, &user, judgement) else { continue };
                let labelled = selector.as_ref().is_none_or(|selector| selector.matches(&asset.labels));
                if labelled && status.0.as_ref().is_none_or(|wanted| *wanted == asset.status) {
                    items.push(asset);
                }
            }
            if exhausted {
                return Ok(Json(AssetList { items, next_cursor: None.into() }));
            }
        }
    }

    /// Look at a host
    #[oai(path = "/assets/:id", method = "get")]
    async fn one(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        id: Path<String>,
    ) -> Result<Json<Asset>, ApiError> {
        let asset = app.db.asset(&id.0).await?.ok_or_else(ApiError::not_found)?;
        let judgement = judged(app, &user, vec![asset]).await?.pop();
        let asset = judgement.and_then(|judgement| visible(app, &user, judgement));
        Ok(Json(asset.ok_or_else(ApiError::not_found)?))
    }

    /// Change a host
    #[oai(path = "/assets/:id", method = "patch")]
    async fn change(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        id: Path<String>,
        Body(body): Body<AssetChange>,
    ) -> Result<Json<Asset>, ApiError> {
        require_users(app, body.allowed_users.as_deref()).await?;
        let now = app.clock.millis();
        let change = assets::Change {
            labels: body.labels,
            allowed_users: body.allowed_users,
            status: body.status.0,
            run_as: body.run_as.0,
        };
        let entry = Entry::new(now, actor(&admin), "asset.change")
            .on("asset", &id.0)
            .at_address(&admin.address.to_string())
            .with(json!({"labels": change.labels, "allowed_users": change.allowed_users,
                "status": change.status, "run_as": change.run_as}));
        let asset = app.db.change_asset(&id.0, change, now, entry).await?;
        let asset = asset.ok_or_else(ApiError::not_found)?;
        Ok(Json(show_to(app, &admin, asset).await?))
    }

    /// Delete a host
    ///
    /// Its agent is a stranger from now on and its live sessions end; recordings and history stay.
    #[oai(path = "/assets/:id", method = "delete")]
    async fn delete(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        id: Path<String>,
    ) -> Result<Gone, ApiError> {
        let now = app.clock.millis();
        let entry = Entry::new(now, actor(&admin), "asset.delete")
            .on("asset", &id.0)
            .at_address(&admin.address.to_string());
        if !app.db.delete_asset(&id.0, now, entry).await? {
            return Err(ApiError::not_found());
        }
        app.hub.end_on_asset(&id.0, Reason::EndedByAdmin);
        Ok(Gone::Done)
    }
}

/// Checks the shape of a list of user ids.
pub fn check_users(users: Option<&[String]>, faults: &mut Faults) {
    for (index, user) in users.unwrap_or_default().iter().enumerate() {
        faults.line(&format!("allowed_users[{index}]"), user, 64);
    }
}

/// Refuses ids that are no user's: a list by id must not hold names that do nothing.
pub async fn require_users(app: &App, users: Option<&[String]>) -> Result<(), ApiError> {
    let Some(users) = users else { return Ok(()) };
    let known = app.db.users_by_id(users.to_vec()).await?;
    let unknown = users.iter().position(|id| !known.iter().any(|user| user.id == *id));
    match unknown {
        Some(index) => {
            Err(ApiError::invalid_field(format!("allowed_users[{index}]"), "must be the id of a user"))
        }
        None => Ok(()),
    }
}

/// An asset as this caller sees it, whatever the chain says.
pub async fn show_to(app: &App, user: &User, asset: assets::Model) -> Result<Asset, ApiError> {
    let judgement = judged(app, user, vec![asset]).await?.pop();
    let shown = judgement.and_then(|judgement| show(app, user, judgement));
    shown.ok_or_else(|| ApiError::internal(&"an asset without a judgement"))
}

async fn judged(app: &App, user: &User, assets: Vec<assets::Model>) -> Result<Vec<Judgement>, ApiError> {
    let credential = user.credential.reference();
    let asker = Asker { user: &user.row, address: user.address, credential: &credential };
    app.access.judge_all(&asker, assets).await.map_err(super::authorize::refusal)
}

fn visible(app: &App, user: &User, judgement: Judgement) -> Option<Asset> {
    let seen = judgement.ruling.visible() || user.role >= Role::Auditor;
    if seen { show(app, user, judgement) } else { None }
}

fn show(app: &App, user: &User, judgement: Judgement) -> Option<Asset> {
    let asset = judgement.asset?;
    let (effect, code) = outcome(&judgement.ruling);
    let detail = match &judgement.ruling.effect {
        policies::Effect::Deny(policies::Refusal::Guard { user, .. }) => Some(user.clone()),
        policies::Effect::Allow(_) | policies::Effect::Deny(_) | policies::Effect::Challenge(_) => None,
    };
    let status = match &asset.status {
        Some(status) => status.clone(),
        None if asset.is_heard(app.clock.millis()) => "online".to_owned(),
        None => "offline".to_owned(),
    };
    let object = |text: &str| Any(serde_json::from_str(text).unwrap_or_default());
    Some(Asset {
        status,
        labels: asset.labels().unwrap_or_default(),
        proposed_labels: serde_json::from_str(&asset.proposed_labels).unwrap_or_default(),
        allowed_users: (user.role == Role::Admin).then(|| asset.allowed_users().unwrap_or_default()),
        last_heartbeat_at: asset.last_heartbeat_at.map(rfc3339).into(),
        static_info: object(&asset.static_info),
        dynamic_info: object(&asset.dynamic_info),
        created_at: rfc3339(asset.created_at),
        access: Access { effect: effect.to_owned(), code: code.into(), detail: detail.into() },
        id: asset.id,
        hostname: asset.hostname,
        version: asset.version,
        run_as: asset.run_as.into(),
        fingerprint: asset.fingerprint,
    })
}
