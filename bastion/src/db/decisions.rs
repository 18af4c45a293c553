//! Rulings of the policy chain, each with its whole trail.

use sea_orm::entity::prelude::*;

use super::{Db, DbError};

/// A ruling's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "decisions")]
pub struct Model {
    /// UUIDv7: the `decision_id`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// UTC milliseconds.
    pub at: i64,
    /// Who asked.
    pub user_id: String,
    /// For what; need not exist.
    pub asset_id: String,
    /// `issue` or `redeem`.
    pub purpose: String,
    /// `allow`, `deny` or `challenge`.
    pub effect: String,
    /// The code of a refusal.
    pub code: Option<String>,
    /// The client's.
    pub address: String,
    /// Which document ruled.
    pub policy_version: i64,
    /// JSON: facts and every module's verdict.
    pub trail: String,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Db {
    /// Keeps a ruling.
    pub async fn add_decision(&self, decision: Model) -> Result<(), DbError> {
        Entity::insert(ActiveModel::from(decision)).exec_without_returning(&self.connection).await?;
        Ok(())
    }
}
