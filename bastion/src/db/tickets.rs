//! One-time tickets, kept as hashes. Redeeming is one conditional update: of many tries one wins.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;

use super::{Db, DbError};

/// A ticket's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tickets")]
pub struct Model {
    /// Hex SHA-256 of the `jti`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub jti_hash: String,
    /// `browser` or `relay`.
    pub kind: String,
    /// Whose session.
    pub user_id: String,
    /// On which host.
    pub asset_id: String,
    /// A relay's: which session.
    pub session_id: Option<String>,
    /// A browser's: the login or API token that asked, as `login:…` or `token:…`.
    pub credential: Option<String>,
    /// A plain client's: the address that asked.
    pub address: Option<String>,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds.
    pub expires_at: i64,
    /// UTC milliseconds.
    pub redeemed_at: Option<i64>,
    /// UTC milliseconds: a newer one was handed out in its place.
    pub voided_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Db {
    /// Keeps a new ticket. One for a relay voids the older ones of its session.
    pub async fn add_ticket(&self, ticket: Model) -> Result<(), DbError> {
        let tx = self.begin().await?;
        if let Some(session) = &ticket.session_id {
            Entity::update_many()
                .col_expr(Column::VoidedAt, Expr::value(ticket.created_at))
                .filter(Column::SessionId.eq(session))
                .filter(Column::Kind.eq(&ticket.kind))
                .filter(Column::VoidedAt.is_null())
                .exec(&tx)
                .await?;
        }
        Entity::insert(ActiveModel::from(ticket)).exec_without_returning(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// Spends a ticket; none when it is unknown, spent, voided or too old.
    pub async fn redeem_ticket(&self, jti_hash: &str, now: i64) -> Result<Option<Model>, DbError> {
        let changed = Entity::update_many()
            .col_expr(Column::RedeemedAt, Expr::value(now))
            .filter(Column::JtiHash.eq(jti_hash))
            .filter(Column::RedeemedAt.is_null())
            .filter(Column::VoidedAt.is_null())
            .filter(Column::ExpiresAt.gt(now))
            .exec(&self.connection)
            .await?;
        if changed.rows_affected != 1 {
            return Ok(None);
        }
        Ok(Entity::find_by_id(jti_hash).one(&self.connection).await?)
    }

    /// Forgets tickets that expired before `then`.
    pub async fn forget_tickets(&self, then: i64) -> Result<(), DbError> {
        Entity::delete_many().filter(Column::ExpiresAt.lt(then)).exec(&self.connection).await?;
        Ok(())
    }
}
