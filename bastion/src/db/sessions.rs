//! Terminal sessions.

use policies::Obligations;
use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue::Set, QueryOrder as _, QuerySelect as _, sea_query::Expr};

use super::audit::Entry;
use super::{Db, DbError, Page, paged};

/// A session's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tty_sessions")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// On which host.
    pub asset_id: String,
    /// Which node carries it.
    pub node_id: String,
    /// In which of its lives.
    pub node_epoch: i64,
    /// `connecting`, `active`, `detached`, `resuming`, `closed`, `error`.
    pub status: String,
    /// `exit`, `closed`, `idle`, …
    pub end_reason: Option<String>,
    /// The ruling that let it open.
    pub decision_id: String,
    /// The login or API token that asked for it, as `login:…` or `token:…`.
    pub credential: Option<String>,
    /// The client's.
    pub address: String,
    /// Of a plain client: it cannot come back.
    pub plain: bool,
    /// Run in the login shell; none: the login shell itself.
    pub command: Option<String>,
    /// The host's user; none: the agent's own.
    pub run_as: Option<String>,
    /// Columns at the start.
    pub cols: i64,
    /// Rows at the start.
    pub rows: i64,
    /// JSON object: what the policies demand while it lives.
    pub obligations: String,
    /// UTC milliseconds: it must end then at the latest.
    pub ends_at: Option<i64>,
    /// Of the shell.
    pub exit_code: Option<i64>,
    /// Of the shell.
    pub exit_signal: Option<String>,
    /// UTC milliseconds: redeemed.
    pub created_at: i64,
    /// UTC milliseconds: the agent came.
    pub started_at: Option<i64>,
    /// UTC milliseconds.
    pub ended_at: Option<i64>,
}

impl Model {
    /// Whether what is typed is recorded, for the session's whole life.
    pub fn records_input(&self) -> bool {
        serde_json::from_str(&self.obligations).is_ok_and(|terms: Obligations| terms.record_input)
    }
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Which sessions to list; `None` means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this user.
    pub user: Option<String>,
    /// On this asset.
    pub asset: Option<String>,
    /// Not ended.
    pub live: bool,
    /// In this status.
    pub status: Option<String>,
    /// Created at or after, UTC milliseconds.
    pub from: Option<i64>,
    /// Created before, UTC milliseconds.
    pub to: Option<i64>,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct End {
    /// `closed` or `error`.
    pub status: &'static str,
    /// The `end_reason`.
    pub reason: &'static str,
    /// Of the shell.
    pub exit_code: Option<i64>,
    /// Of the shell.
    pub exit_signal: Option<String>,
}

impl Db {
    /// The session with this id.
    pub async fn session(&self, id: &str) -> Result<Option<Model>, DbError> {
        Ok(Entity::find_by_id(id).one(&self.connection).await?)
    }

    /// A page of sessions, newest first.
    pub async fn sessions(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<(Vec<Model>, Option<String>), DbError> {
        let mut query = Entity::find().order_by_desc(Column::Id).limit(page.limit + 1);
        if let Some(user) = &filter.user {
            query = query.filter(Column::UserId.eq(user));
        }
        if let Some(asset) = &filter.asset {
            query = query.filter(Column::AssetId.eq(asset));
        }
        if filter.live {
            query = query.filter(Column::EndedAt.is_null());
        }
        if let Some(status) = &filter.status {
            query = query.filter(Column::Status.eq(status));
        }
        if let Some(from) = filter.from {
            query = query.filter(Column::CreatedAt.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(Column::CreatedAt.lt(to));
        }
        if let Some(cursor) = &page.cursor {
            query = query.filter(Column::Id.lt(cursor));
        }
        Ok(paged(query.all(&self.connection).await?, page, |row| row.id.clone()))
    }

    /// The agent came: the shell runs.
    pub async fn start_session(&self, id: &str, now: i64) -> Result<(), DbError> {
        let row = ActiveModel {
            id: Set(id.to_owned()),
            status: Set("active".to_owned()),
            started_at: Set(Some(now)),
            ..Default::default()
        };
        row.update(&self.connection).await?;
        Ok(())
    }

    /// Where a session that lives stands now.
    pub async fn set_session_status(&self, id: &str, status: &'static str) -> Result<(), DbError> {
        Entity::update_many()
            .col_expr(Column::Status, Expr::value(status))
            .filter(Column::Id.eq(id))
            .filter(Column::EndedAt.is_null())
            .exec(&self.connection)
            .await?;
        Ok(())
    }

    /// A session that an earlier life of its node left goes on in this one: it counts for the limits again,
    /// whatever they are now. False when it has ended meanwhile.
    pub async fn retake_session(&self, id: &str, node: &super::slots::Node) -> Result<bool, DbError> {
        let changed = Entity::update_many()
            .col_expr(Column::NodeEpoch, Expr::value(node.epoch))
            .col_expr(Column::Status, Expr::value("resuming"))
            .filter(Column::Id.eq(id))
            .filter(Column::NodeId.eq(&node.id))
            .filter(Column::EndedAt.is_null())
            .exec(&self.connection)
            .await?;
        Ok(changed.rows_affected == 1)
    }

    /// Ends a session; false when it had ended before.
    pub async fn end_session(&self, id: &str, end: End, now: i64, entry: Entry) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        let changed = Entity::update_many()
            .col_expr(Column::Status, Expr::value(end.status))
            .col_expr(Column::EndReason, Expr::value(end.reason))
            .col_expr(Column::ExitCode, Expr::value(end.exit_code))
            .col_expr(Column::ExitSignal, Expr::value(end.exit_signal))
            .col_expr(Column::EndedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::EndedAt.is_null())
            .exec(&tx)
            .await?;
        if changed.rows_affected != 1 {
            return Ok(false);
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Sessions of earlier lives of this node that nobody ended.
    pub async fn abandoned_sessions(&self, node: &super::slots::Node) -> Result<Vec<Model>, DbError> {
        Ok(Entity::find()
            .filter(Column::NodeId.eq(&node.id))
            .filter(Column::NodeEpoch.lt(node.epoch))
            .filter(Column::EndedAt.is_null())
            .all(&self.connection)
            .await?)
    }
}
