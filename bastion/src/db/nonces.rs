//! Nonces of signed requests: each counts once a key, also after a restart and on any node.

use sea_orm::entity::prelude::*;

use super::{Db, DbError};

mod entity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "signature_nonces")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub keyid: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub nonce: String,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

impl Db {
    /// Burns a nonce; false when it was burnt before.
    pub async fn burn_nonce(&self, keyid: &str, nonce: &str, expires_at: i64) -> Result<bool, DbError> {
        let row = entity::Model { keyid: keyid.to_owned(), nonce: nonce.to_owned(), expires_at };
        let inserted = entity::Entity::insert(entity::ActiveModel::from(row))
            .exec_without_returning(&self.connection)
            .await;
        match inserted.map_err(DbError::from) {
            Ok(_) => Ok(true),
            Err(DbError::Duplicate) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets nonces whose requests would be too old anyhow.
    pub async fn forget_nonces(&self, now: i64) -> Result<(), DbError> {
        entity::Entity::delete_many()
            .filter(entity::Column::ExpiresAt.lt(now))
            .exec(&self.connection)
            .await?;
        Ok(())
    }
}
