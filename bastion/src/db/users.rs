//! People: who they are, their role and groups.

use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue::Set, Condition, QueryOrder as _, QuerySelect as _};

use super::audit::Entry;
use super::{Db, DbError, Page, paged};

/// A person's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Unique, compared bytewise.
    pub username: String,
    /// PHC string of argon2id, sealed.
    pub password_hash: String,
    /// `admin`, `auditor` or `user`.
    pub role: String,
    /// May not log in nor use a token.
    pub disabled: bool,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds.
    pub updated_at: i64,
    /// UTC milliseconds.
    pub last_login_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

mod membership {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "user_groups")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub user_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// What an administrator may change of a user; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The new name.
    pub username: Option<String>,
    /// The new sealed hash; ends the user's logins.
    pub password_hash: Option<String>,
    /// The new role.
    pub role: Option<String>,
    /// All the groups.
    pub groups: Option<Vec<String>>,
    /// Disabling ends the user's logins.
    pub disabled: Option<bool>,
}

impl Db {
    /// Adds a user; [`DbError::Duplicate`] when the name is taken.
    pub async fn add_user(&self, user: Model, groups: &[String], entry: Entry) -> Result<(), DbError> {
        let tx = self.begin().await?;
        let id = user.id.clone();
        Entity::insert(ActiveModel::from(user)).exec_without_returning(&tx).await?;
        write_groups(&tx, &id, groups).await?;
        entry.write(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// The user with this id.
    pub async fn user(&self, id: &str) -> Result<Option<Model>, DbError> {
        Ok(Entity::find_by_id(id).one(&self.connection).await?)
    }

    /// The user with exactly this name.
    pub async fn user_named(&self, name: &str) -> Result<Option<Model>, DbError> {
        Ok(Entity::find().filter(Column::Username.eq(name)).one(&self.connection).await?)
    }

    /// Names of some users, by id.
    pub async fn users_by_id(&self, ids: Vec<String>) -> Result<Vec<Model>, DbError> {
        Ok(Entity::find().filter(Column::Id.is_in(ids)).all(&self.connection).await?)
    }

    /// Whether any user exists yet.
    pub async fn has_users(&self) -> Result<bool, DbError> {
        Ok(Entity::find().limit(1).one(&self.connection).await?.is_some())
    }

    /// A page of users, oldest first.
    pub async fn users(&self, page: &Page) -> Result<(Vec<Model>, Option<String>), DbError> {
        let after = page.cursor.clone().map(|cursor| Column::Id.gt(cursor));
        let rows = Entity::find()
            .filter(Condition::all().add_option(after))
            .order_by_asc(Column::Id)
            .limit(page.limit + 1)
            .all(&self.connection)
            .await?;
        Ok(paged(rows, page, |user| user.id.clone()))
    }

    /// The groups of one user, sorted.
    pub async fn groups_of(&self, user: &str) -> Result<Vec<String>, DbError> {
        let rows = membership::Entity::find()
            .filter(membership::Column::UserId.eq(user))
            .order_by_asc(membership::Column::GroupName)
            .all(&self.connection)
            .await?;
        Ok(rows.into_iter().map(|row| row.group_name).collect())
    }

    /// Changes a user; false when there is none. Ends the logins of a user whose password changed or
    /// who was disabled, but for `keep`.
    pub async fn change_user(
        &self,
        id: &str,
        change: Change,
        keep: Option<&str>,
        now: i64,
        entry: Entry,
    ) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        let Some(row) = Entity::find_by_id(id).one(&tx).await? else { return Ok(false) };
        let ends_logins = change.password_hash.is_some() || change.disabled == Some(true);
        let mut user = ActiveModel::from(row);
        user.updated_at = Set(now);
        if let Some(username) = change.username {
            user.username = Set(username);
        }
        if let Some(hash) = change.password_hash {
            user.password_hash = Set(hash);
        }
        if let Some(role) = change.role {
            user.role = Set(role);
        }
        if let Some(disabled) = change.disabled {
            user.disabled = Set(disabled);
        }
        user.update(&tx).await?;
        if let Some(groups) = change.groups {
            write_groups(&tx, id, &groups).await?;
        }
        if ends_logins {
            super::logins::end_all(&tx, id, keep, now).await?;
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// How many users that are not disabled hold `role`.
    pub async fn count_role(&self, role: &str) -> Result<u64, DbError> {
        Ok(Entity::find()
            .filter(Column::Role.eq(role))
            .filter(Column::Disabled.eq(false))
            .count(&self.connection)
            .await?)
    }
}

async fn write_groups(
    tx: &sea_orm::DatabaseTransaction,
    user: &str,
    groups: &[String],
) -> Result<(), DbError> {
    membership::Entity::delete_many().filter(membership::Column::UserId.eq(user)).exec(tx).await?;
    let rows = groups.iter().map(|group| membership::ActiveModel {
        user_id: Set(user.to_owned()),
        group_name: Set(group.clone()),
    });
    if !groups.is_empty() {
        membership::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Where a user's password hash is sealed to.
pub fn hash_place(user: &str) -> crate::vault::Place<'_> {
    crate::vault::Place { column: "users.password_hash", row: user }
}
