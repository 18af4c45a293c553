//! Applications of agents: pending, decided, never deleted.

use sea_orm::entity::prelude::*;
use sea_orm::{
    Condition, QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _},
};

use super::audit::Entry;
use super::{Db, DbError, Page, assets, paged};

/// An application's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_register_apply")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub apply_id: String,
    /// The agent's own id.
    pub client_id: String,
    /// As it said, cleaned.
    pub hostname: String,
    /// SPKI PEM.
    pub client_public_key: String,
    /// `SHA256:…` of that key.
    pub fingerprint: String,
    /// JSON object; proposed.
    pub labels: String,
    /// JSON object.
    pub static_info: String,
    /// The agent's.
    pub version: String,
    /// Where from.
    pub address: String,
    /// What limits count by: the address, or an IPv6 network.
    pub bucket: String,
    /// `pending`, `approved`, `rejected`.
    pub status: String,
    /// Another key is approved for this `client_id`.
    pub key_changed: bool,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds: lapses then, if still pending.
    pub expires_at: i64,
    /// UTC milliseconds.
    pub decided_at: Option<i64>,
    /// Which admin.
    pub decided_by: Option<String>,
    /// UTC milliseconds: the agent has proved that it holds the secret.
    pub delivered_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Where an application stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has decided yet.
    Pending,
    /// Accepted.
    Approved,
    /// Refused.
    Rejected,
    /// Nobody decided in time.
    Lapsed,
}

impl Standing {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Pending => "pending",
            Standing::Approved => "approved",
            Standing::Rejected => "rejected",
            Standing::Lapsed => "lapsed",
        }
    }
}

impl Model {
    /// Where it stands at `now`.
    pub fn standing(&self, now: i64) -> Standing {
        match self.status.as_str() {
            "approved" => Standing::Approved,
            "rejected" => Standing::Rejected,
            _ if self.expires_at <= now => Standing::Lapsed,
            _ => Standing::Pending,
        }
    }
}

/// How much waits for a decision.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// From one bucket.
    pub here: u64,
    /// In all.
    pub all: u64,
    /// Whether any is of one agent's id.
    pub same_id: bool,
}

impl Db {
    /// The application with this id.
    pub async fn application(&self, apply_id: &str) -> Result<Option<Model>, DbError> {
        Ok(Entity::find_by_id(apply_id).one(&self.connection).await?)
    }

    /// The newest application of this agent with this key.
    pub async fn latest_application(
        &self,
        client_id: &str,
        fingerprint: &str,
    ) -> Result<Option<Model>, DbError> {
        Ok(Entity::find()
            .filter(Column::ClientId.eq(client_id))
            .filter(Column::Fingerprint.eq(fingerprint))
            .order_by_desc(Column::ApplyId)
            .one(&self.connection)
            .await?)
    }

    /// What is pending: from `bucket`, in all, and whether any is of this agent's id.
    pub async fn pending_applications(
        &self,
        bucket: &str,
        client_id: &str,
        now: i64,
    ) -> Result<Pending, DbError> {
        let pending = Entity::find().filter(Column::Status.eq("pending")).filter(Column::ExpiresAt.gt(now));
        let count = async |of| pending.clone().filter(of).count(&self.connection).await;
        Ok(Pending {
            here: count(Column::Bucket.eq(bucket)).await?,
            same_id: count(Column::ClientId.eq(client_id)).await? > 0,
            all: pending.clone().count(&self.connection).await?,
        })
    }

    /// Adds an application.
    pub async fn add_application(&self, application: Model, entry: Entry) -> Result<(), DbError> {
        let tx = self.begin().await?;
        Entity::insert(ActiveModel::from(application)).exec_without_returning(&tx).await?;
        entry.write(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// A page of applications, newest first.
    pub async fn applications(
        &self,
        standing: Option<Standing>,
        now: i64,
        page: &Page,
    ) -> Result<(Vec<Model>, Option<String>), DbError> {
        let wanted = match standing {
            None => None,
            Some(Standing::Pending) => Some(Column::Status.eq("pending").and(Column::ExpiresAt.gt(now))),
            Some(Standing::Lapsed) => Some(Column::Status.eq("pending").and(Column::ExpiresAt.lte(now))),
            Some(decided) => Some(Column::Status.eq(decided.as_str())),
        };
        let before = page.cursor.clone().map(|cursor| Column::ApplyId.lt(cursor));
        let rows = Entity::find()
            .filter(Condition::all().add_option(wanted).add_option(before))
            .order_by_desc(Column::ApplyId)
            .limit(page.limit + 1)
            .all(&self.connection)
            .await?;
        Ok(paged(rows, page, |row| row.apply_id.clone()))
    }

    /// Approves a pending application and puts `asset` in its place, at once or not at all. False when
    /// somebody decided before.
    pub async fn approve(
        &self,
        apply_id: &str,
        asset: assets::Model,
        by: &str,
        now: i64,
        entry: Entry,
    ) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        if !decide(&tx, apply_id, Standing::Approved, None, by, now).await? {
            return Ok(false);
        }
        // A key that was waiting to deliver an older secret has lost its turn.
        Entity::update_many()
            .col_expr(Column::DeliveredAt, Expr::value(now))
            .filter(Column::ClientId.eq(&asset.id))
            .filter(Column::ApplyId.ne(apply_id))
            .filter(Column::Status.eq("approved"))
            .filter(Column::DeliveredAt.is_null())
            .exec(&tx)
            .await?;
        // Whoever else waits with this id has another key than the one that now counts.
        Entity::update_many()
            .col_expr(Column::KeyChanged, Expr::value(true))
            .filter(Column::ClientId.eq(&asset.id))
            .filter(Column::Fingerprint.ne(&asset.fingerprint))
            .filter(Column::Status.eq("pending"))
            .exec(&tx)
            .await?;
        assets::replace(&tx, asset).await?;
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Rejects a pending application. False when somebody decided before.
    pub async fn reject(
        &self,
        apply_id: &str,
        reason: Option<String>,
        by: &str,
        now: i64,
        entry: Entry,
    ) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        if !decide(&tx, apply_id, Standing::Rejected, reason, by, now).await? {
            return Ok(false);
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The agent has shown that it holds the secret: it is never given again.
    pub async fn mark_delivered(&self, client_id: &str, now: i64) -> Result<(), DbError> {
        Entity::update_many()
            .col_expr(Column::DeliveredAt, Expr::value(now))
            .filter(Column::ClientId.eq(client_id))
            .filter(Column::Status.eq("approved"))
            .filter(Column::DeliveredAt.is_null())
            .exec(&self.connection)
            .await?;
        Ok(())
    }
}

async fn decide(
    tx: &sea_orm::DatabaseTransaction,
    apply_id: &str,
    standing: Standing,
    reason: Option<String>,
    by: &str,
    now: i64,
) -> Result<bool, DbError> {
    let changed = Entity::update_many()
        .col_expr(Column::Status, Expr::value(standing.as_str()))
        .col_expr(Column::Reason, Expr::value(reason))
        .col_expr(Column::DecidedAt, Expr::value(now))
        .col_expr(Column::DecidedBy, Expr::value(by))
        .filter(Column::ApplyId.eq(apply_id))
        .filter(Column::Status.eq("pending"))
        .filter(Column::ExpiresAt.gt(now))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected == 1)
}
