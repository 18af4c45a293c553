//! The bastion's own signing keys, sealed, and the canary that shows a wrong key file.

use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue::Set, QueryOrder as _};

use super::{Db, DbError};

/// A key's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_keys")]
pub struct Model {
    /// Begins `id-`, `tk-` or `rec-`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    /// `identity`, `ticket` or `recording`.
    pub purpose: String,
    /// Base64url of the 32 bytes.
    pub public_key: String,
    /// PKCS#8, sealed to this row.
    pub private_key_sealed: String,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds: signs no more, still verifies.
    pub retired_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

mod canary {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "key_canary")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub sealed: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

impl Db {
    /// All signing keys, oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<Model>, DbError> {
        Ok(Entity::find().order_by_asc(Column::CreatedAt).all(&self.connection).await?)
    }

    /// Adds a signing key.
    pub async fn add_signing_key(&self, key: Model) -> Result<(), DbError> {
        Entity::insert(ActiveModel::from(key)).exec_without_returning(&self.connection).await?;
        Ok(())
    }

    /// The sealed canary, once there is one.
    pub async fn canary(&self) -> Result<Option<String>, DbError> {
        Ok(canary::Entity::find_by_id("canary").one(&self.connection).await?.map(|row| row.sealed))
    }

    /// Keeps the first canary.
    pub async fn add_canary(&self, sealed: String) -> Result<(), DbError> {
        let row = canary::ActiveModel { id: Set("canary".to_owned()), sealed: Set(sealed) };
        canary::Entity::insert(row).exec_without_returning(&self.connection).await?;
        Ok(())
    }
}
