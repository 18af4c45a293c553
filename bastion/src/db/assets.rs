//! Hosts.

use std::collections::BTreeMap;

use sea_orm::entity::prelude::*;
use sea_orm::{
    ActiveValue::Set,
    QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _},
};

use super::audit::Entry;
use super::{Db, DbError, json, parsed};

/// A host's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "assets")]
pub struct Model {
    /// Its agent's `client_id`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// As the agent said, cleaned.
    pub hostname: String,
    /// SPKI PEM of the key that an admin approved.
    pub client_public_key: String,
    /// `SHA256:…` of that key.
    pub fingerprint: String,
    /// The 32 bytes shared with the agent, sealed to this row.
    pub agent_secret_sealed: String,
    /// `maintenance`, `quarantined` or nothing.
    pub status: Option<String>,
    /// JSON object; set by admins, counts for grants.
    pub labels: String,
    /// JSON object; the agent's wish, counts for nothing.
    pub proposed_labels: String,
    /// JSON list of user ids.
    pub allowed_users: String,
    /// The host's user to open shells as; none: the agent's own.
    pub run_as: Option<String>,
    /// The agent's.
    pub version: String,
    /// JSON object, as the agent said.
    pub static_info: String,
    /// JSON object, as the agent said.
    pub dynamic_info: String,
    /// JSON object: what the agent holds.
    pub tty_status: String,
    /// UTC milliseconds.
    pub last_heartbeat_at: Option<i64>,
    /// UTC milliseconds: the one before.
    pub previous_heartbeat_at: Option<i64>,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds.
    pub updated_at: i64,
    /// UTC milliseconds.
    pub deleted_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// An asset is online while its last heartbeat is younger than this, in milliseconds.
pub const ONLINE_FOR: i64 = 90_000;

impl Model {
    /// Labels that an admin set.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, DbError> {
        parsed(&self.labels, "assets.labels", &self.id)
    }

    /// Ids of those on the asset's own list.
    pub fn allowed_users(&self) -> Result<Vec<String>, DbError> {
        parsed(&self.allowed_users, "assets.allowed_users", &self.id)
    }

    /// Whether it has been heard of lately. Maintenance does not count here.
    pub fn is_heard(&self, now: i64) -> bool {
        self.last_heartbeat_at.is_some_and(|at| now - at < ONLINE_FOR)
    }
}

/// What an admin may change of an asset; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// All the labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The whole list.
    pub allowed_users: Option<Vec<String>>,
    /// `Some(None)` makes it usable again.
    pub status: Option<Option<String>>,
    /// `Some(None)` means the agent's own user.
    pub run_as: Option<Option<String>>,
}

/// What a heartbeat brings.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// JSON object.
    pub dynamic_info: String,
    /// JSON object, when it changed.
    pub static_info: Option<String>,
    /// The agent's.
    pub version: String,
    /// JSON object.
    pub tty_status: String,
}

impl Db {
    /// The asset with this id that is not deleted.
    pub async fn asset(&self, id: &str) -> Result<Option<Model>, DbError> {
        let asset = Entity::find_by_id(id).one(&self.connection).await?;
        Ok(asset.filter(|asset| asset.deleted_at.is_none()))
    }

    /// Some assets by id, deleted ones too: lists name them.
    pub async fn assets_by_id(&self, ids: Vec<String>) -> Result<Vec<Model>, DbError> {
        Ok(Entity::find().filter(Column::Id.is_in(ids)).all(&self.connection).await?)
    }

    /// The next assets after `cursor` in order of id, at most `limit`, whose host name or labels contain `q`.
    pub async fn assets_after(
        &self,
        cursor: Option<&str>,
        limit: u64,
        q: Option<&str>,
    ) -> Result<Vec<Model>, DbError> {
        let mut query =
            Entity::find().filter(Column::DeletedAt.is_null()).order_by_asc(Column::Id).limit(limit);
        if let Some(cursor) = cursor {
            query = query.filter(Column::Id.gt(cursor));
        }
        if let Some(q) = q {
            query = query.filter(Column::Hostname.contains(q).or(Column::Labels.contains(q)));
        }
        Ok(query.all(&self.connection).await?)
    }

    /// Changes an asset; none when there is none.
    pub async fn change_asset(
        &self,
        id: &str,
        change: Change,
        now: i64,
        entry: Entry,
    ) -> Result<Option<Model>, DbError> {
        let tx = self.begin().await?;
        let row = Entity::find_by_id(id).filter(Column::DeletedAt.is_null()).one(&tx).await?;
        let Some(row) = row else { return Ok(None) };
        let mut asset = ActiveModel::from(row);
        asset.updated_at = Set(now);
        if let Some(labels) = change.labels {
            asset.labels = Set(json(&labels));
        }
        if let Some(users) = change.allowed_users {
            asset.allowed_users = Set(json(&users));
        }
        if let Some(status) = change.status {
            asset.status = Set(status);
        }
        if let Some(run_as) = change.run_as {
            asset.run_as = Set(run_as);
        }
        let asset = asset.update(&tx).await?;
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(Some(asset))
    }

    /// Deletes an asset softly: its agent is a stranger from now on. False when there is none.
    pub async fn delete_asset(&self, id: &str, now: i64, entry: Entry) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        let changed = Entity::update_many()
            .col_expr(Column::DeletedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::DeletedAt.is_null())
            .exec(&tx)
            .await?;
        if changed.rows_affected != 1 {
            return Ok(false);
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes a heartbeat; false when the secret that signed it is not the asset's any more.
    pub async fn heartbeat(&self, asset: &Model, beat: Heartbeat, now: i64) -> Result<bool, DbError> {
        let mut update = Entity::update_many()
            .col_expr(Column::LastHeartbeatAt, Expr::value(now))
            .col_expr(Column::PreviousHeartbeatAt, Expr::value(asset.last_heartbeat_at))
            .col_expr(Column::DynamicInfo, Expr::value(beat.dynamic_info))
            .col_expr(Column::Version, Expr::value(beat.version))
            .col_expr(Column::TtyStatus, Expr::value(beat.tty_status))
            .filter(Column::Id.eq(&asset.id))
            .filter(Column::AgentSecretSealed.eq(&asset.agent_secret_sealed));
        if let Some(info) = beat.static_info {
            update = update.col_expr(Column::StaticInfo, Expr::value(info));
        }
        Ok(update.exec(&self.connection).await?.rows_affected == 1)
    }
}

/// Puts a freshly approved asset in place of whatever had its id.
pub(super) async fn replace(tx: &sea_orm::DatabaseTransaction, asset: Model) -> Result<(), DbError> {
    Entity::delete_by_id(&asset.id).exec(tx).await?;
    Entity::insert(ActiveModel::from(asset)).exec_without_returning(tx).await?;
    Ok(())
}
