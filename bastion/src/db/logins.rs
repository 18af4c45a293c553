//! Logins: a person's, by cookie. The secret is kept as a hash.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, sea_query::Expr};

use super::audit::Entry;
use super::{Db, DbError, users};

/// A login's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "logins")]
pub struct Model {
    /// UUIDv7; not the secret.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// Hex SHA-256 of the cookie.
    pub secret_hash: String,
    /// Where from.
    pub address: String,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds; written at most once a minute.
    pub last_seen_at: i64,
    /// UTC milliseconds; whatever happens.
    pub expires_at: i64,
    /// UTC milliseconds.
    pub ended_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Db {
    /// Adds a login and notes it on the user.
    pub async fn add_login(&self, login: Model, entry: Entry) -> Result<(), DbError> {
        let tx = self.begin().await?;
        users::Entity::update_many()
            .col_expr(users::Column::LastLoginAt, Expr::value(login.created_at))
            .filter(users::Column::Id.eq(&login.user_id))
            .exec(&tx)
            .await?;
        Entity::insert(ActiveModel::from(login)).exec_without_returning(&tx).await?;
        entry.write(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// The login with this secret that has not ended, and its user.
    pub async fn login_by_hash(&self, hash: &str) -> Result<Option<(Model, users::Model)>, DbError> {
        let login = Entity::find()
            .filter(Column::SecretHash.eq(hash))
            .filter(Column::EndedAt.is_null())
            .one(&self.connection)
            .await?;
        let Some(login) = login else { return Ok(None) };
        Ok(self.user(&login.user_id).await?.map(|user| (login, user)))
    }

    /// Notes that the login is in use.
    pub async fn touch_login(&self, id: &str, now: i64) -> Result<(), DbError> {
        Entity::update_many()
            .col_expr(Column::LastSeenAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .exec(&self.connection)
            .await?;
        Ok(())
    }

    /// Forgets logins that expired before `then`.
    pub async fn forget_logins(&self, then: i64) -> Result<(), DbError> {
        Entity::delete_many().filter(Column::ExpiresAt.lt(then)).exec(&self.connection).await?;
        Ok(())
    }

    /// Ends one login.
    pub async fn end_login(&self, id: &str, now: i64, entry: Entry) -> Result<(), DbError> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::EndedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::EndedAt.is_null())
            .exec(&tx)
            .await?;
        entry.write(&tx).await?;
        Ok(tx.commit().await?)
    }
}

/// Ends all logins of a user but `keep`.
pub(super) async fn end_all(
    connection: &impl ConnectionTrait,
    user: &str,
    keep: Option<&str>,
    now: i64,
) -> Result<(), DbError> {
    let mut update = Entity::update_many()
        .col_expr(Column::EndedAt, Expr::value(now))
        .filter(Column::UserId.eq(user))
        .filter(Column::EndedAt.is_null());
    if let Some(keep) = keep {
        update = update.filter(Column::Id.ne(keep));
    }
    update.exec(connection).await?;
    Ok(())
}
