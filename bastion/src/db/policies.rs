//! Versions of the policy document; one of them rules.

use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue::Set, QueryOrder as _};

use super::audit::Entry;
use super::{Db, DbError};

/// A version's row. Versions never change.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "policy_versions")]
pub struct Model {
    /// 1, 2, 3, …
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    /// JSON.
    pub document: String,
    /// Why.
    pub comment: String,
    /// Which admin; none: the bastion's first start.
    pub created_by: Option<String>,
    /// UTC milliseconds.
    pub created_at: i64,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

mod active {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "active_policy")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub version: i64,
        pub activated_by: Option<String>,
        pub activated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The one row of `active_policy`.
const POINTER: &str = "active";

impl Db {
    /// The version that rules and since when (UTC milliseconds); none before the first start.
    pub async fn active_policy(&self) -> Result<Option<(Model, i64)>, DbError> {
        let Some(pointer) = active::Entity::find_by_id(POINTER).one(&self.connection).await? else {
            return Ok(None);
        };
        let version = Entity::find_by_id(pointer.version).one(&self.connection).await?;
        Ok(version.map(|version| (version, pointer.activated_at)))
    }

    /// A version.
    pub async fn policy(&self, version: i64) -> Result<Option<Model>, DbError> {
        Ok(Entity::find_by_id(version).one(&self.connection).await?)
    }

    /// Adds the next version.
    pub async fn add_policy(
        &self,
        document: String,
        comment: String,
        by: Option<String>,
        now: i64,
        entry: Entry,
    ) -> Result<i64, DbError> {
        let tx = self.begin().await?;
        let newest = Entity::find().order_by_desc(Column::Version).one(&tx).await?;
        let version = newest.map_or(1, |row| row.version + 1);
        let row = Model { version, document, comment, created_by: by, created_at: now };
        Entity::insert(ActiveModel::from(row)).exec_without_returning(&tx).await?;
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Makes a version rule; none when there is no such version.
    pub async fn activate_policy(
        &self,
        version: i64,
        by: Option<String>,
        now: i64,
        entry: Entry,
    ) -> Result<Option<Model>, DbError> {
        let tx = self.begin().await?;
        let Some(row) = Entity::find_by_id(version).one(&tx).await? else { return Ok(None) };
        let pointer = active::ActiveModel {
            id: Set(POINTER.to_owned()),
            version: Set(version),
            activated_by: Set(by),
            activated_at: Set(now),
        };
        active::Entity::delete_by_id(POINTER).exec(&tx).await?;
        active::Entity::insert(pointer).exec_without_returning(&tx).await?;
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(Some(row))
    }
}
