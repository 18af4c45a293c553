//! API tokens: a program's credential, kept as a hash.

use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _, sea_query::Expr};

use super::audit::Entry;
use super::{Db, DbError, Page, paged, users};

/// A token's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_tokens")]
pub struct Model {
    /// UUIDv7; not the secret.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// The maker's name for it.
    pub name: String,
    /// Never above the user's own at the time of use.
    pub role: String,
    /// Hex SHA-256 of the token.
    pub secret_hash: String,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds; none: until revoked.
    pub expires_at: Option<i64>,
    /// UTC milliseconds; written at most once a minute.
    pub last_used_at: Option<i64>,
    /// UTC milliseconds.
    pub revoked_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Db {
    /// Adds a token.
    pub async fn add_token(&self, token: Model, entry: Entry) -> Result<(), DbError> {
        let tx = self.begin().await?;
        Entity::insert(ActiveModel::from(token)).exec_without_returning(&tx).await?;
        entry.write(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// The token with this secret that is not revoked, and its user.
    pub async fn token_by_hash(&self, hash: &str) -> Result<Option<(Model, users::Model)>, DbError> {
        let token = Entity::find()
            .filter(Column::SecretHash.eq(hash))
            .filter(Column::RevokedAt.is_null())
            .one(&self.connection)
            .await?;
        let Some(token) = token else { return Ok(None) };
        Ok(self.user(&token.user_id).await?.map(|user| (token, user)))
    }

    /// Notes that the token is in use.
    pub async fn touch_token(&self, id: &str, now: i64) -> Result<(), DbError> {
        Entity::update_many()
            .col_expr(Column::LastUsedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .exec(&self.connection)
            .await?;
        Ok(())
    }

    /// A page of one user's tokens that are not revoked, newest first.
    pub async fn tokens_of(&self, user: &str, page: &Page) -> Result<(Vec<Model>, Option<String>), DbError> {
        let before = page.cursor.clone().map(|cursor| Column::Id.lt(cursor));
        let rows = Entity::find()
            .filter(Column::UserId.eq(user))
            .filter(Column::RevokedAt.is_null())
            .filter(Condition::all().add_option(before))
            .order_by_desc(Column::Id)
            .limit(page.limit + 1)
            .all(&self.connection)
            .await?;
        Ok(paged(rows, page, |token| token.id.clone()))
    }

    /// Revokes one of the user's tokens; false when there is none such.
    pub async fn revoke_token(&self, user: &str, id: &str, now: i64, entry: Entry) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        let changed = Entity::update_many()
            .col_expr(Column::RevokedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::UserId.eq(user))
            .filter(Column::RevokedAt.is_null())
            .exec(&tx)
            .await?;
        if changed.rows_affected != 1 {
            return Ok(false);
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}
