//! Users, for admins.

use std::sync::Arc;

use openapi::agents::clean;
use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Chapter,
    body::{Body, Checked, Faults},
    callers::{Admin, Role, actor},
    error::ApiError,
    lists::{list_of, page},
    nullable::Nullable,
    people::{check_password, sealed_hash},
};
use crate::{
    app::App,
    clock::{self, rfc3339},
    db::{DbError, audit::Entry, users},
    session::Reason,
};

/// A user.
#[derive(Debug, Object)]
#[oai(rename = "User")]
pub struct UserItem {
    /// The user's id.
    id: String,
    /// Unique, compared bytewise.
    username: String,
    /// `admin`, `auditor` or `user`.
    role: String,
    /// Sorted.
    groups: Vec<String>,
    /// May not log in nor use a token.
    disabled: bool,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    last_login_at: Nullable<String>,
}

list_of!(/// Users, oldest first.
    UserList, UserItem);

/// A new user.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// At most 64 characters.
    username: String,
    /// 12 to 256 bytes.
    password: String,
    /// `admin`, `auditor` or `user`.
    role: String,
    /// Names of groups.
    #[serde(default)]
    groups: Option<Vec<String>>,
    /// Whether the user may not log in yet.
    #[serde(default)]
    disabled: Option<bool>,
}

impl Checked for NewUser {
    fn check(&self, faults: &mut Faults) {
        check_username(&self.username, faults);
        check_password("password", &self.password, faults);
        check_role(Some(&self.role), faults);
        check_groups(self.groups.as_deref(), faults);
    }
}

/// A change of a user; what is left out stays.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// At most 64 characters.
    #[serde(default)]
    username: Option<String>,
    /// 12 to 256 bytes; ends the user's logins.
    #[serde(default)]
    password: Option<String>,
    /// `admin`, `auditor` or `user`.
    #[serde(default)]
    role: Option<String>,
    /// Names of all the groups.
    #[serde(default)]
    groups: Option<Vec<String>>,
    /// Disabling ends the user's logins and sessions.
    #[serde(default)]
    disabled: Option<bool>,
}

impl Checked for UserChange {
    fn check(&self, faults: &mut Faults) {
        if let Some(username) = &self.username {
            check_username(username, faults);
        }
        if let Some(password) = &self.password {
            check_password("password", password, faults);
        }
        check_role(self.role.as_deref(), faults);
        check_groups(self.groups.as_deref(), faults);
    }
}

/// Checks a user's name.
pub fn check_username(username: &str, faults: &mut Faults) {
    faults.line("username", username, 64);
    if clean(username, usize::MAX) != username {
        faults.add("username", "must not hold characters that do not show");
    }
    if username.trim() != username {
        faults.add("username", "must not begin or end with a space");
    }
}

fn check_role(role: Option<&str>, faults: &mut Faults) {
    if role.is_some_and(|role| Role::parse(role).is_none()) {
        faults.add("role", "must be admin, auditor or user");
    }
}

fn check_groups(groups: Option<&[String]>, faults: &mut Faults) {
    let groups = groups.unwrap_or_default();
    if groups.len() > 64 {
        faults.add("groups", "at most 64 groups");
    }
    for (index, group) in groups.iter().enumerate() {
        faults.line(&format!("groups[{index}]"), group, 64);
        if groups[..index].contains(group) {
            faults.add(format!("groups[{index}]"), "is there twice");
        }
    }
}

/// A user was made.
#[derive(ApiResponse)]
pub enum Created {
    /// Made.
    #[oai(status = 201)]
    Done(Json<UserItem>),
}

/// Users.
pub struct Users;

#[OpenApi(tag = "Chapter::Administration")]
impl Users {
    /// List users
    #[oai(path = "/users", method = "get")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        _admin: Admin,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<UserList>, ApiError> {
        let (rows, next_cursor) = app.db.users(&page(limit.0, cursor.0)?).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            items.push(show(app, row).await?);
        }
        Ok(Json(UserList { items, next_cursor: next_cursor.into() }))
    }

    /// Add a user
    #[oai(path = "/users", method = "post")]
    async fn add(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        Body(body): Body<NewUser>,
    ) -> Result<Created, ApiError> {
        let (id, now) = (clock::new_id(), app.clock.millis());
        let row = users::Model {
            password_hash: sealed_hash(app, &id, body.password).await?,
            username: body.username,
            role: body.role,
            disabled: body.disabled.unwrap_or(false),
            created_at: now,
            updated_at: now,
            last_login_at: None,
            id,
        };
        let entry = Entry::new(now, actor(&admin), "user.create")
            .on("user", &row.id)
            .at_address(&admin.address.to_string())
            .with(json!({"username": row.username, "role": row.role, "groups": body.groups}));
        let groups = body.groups.unwrap_or_default();
        app.db.add_user(row.clone(), &groups, entry).await.map_err(taken)?;
        Ok(Created::Done(Json(show(app, row).await?)))
    }

    /// Change a user
    #[oai(path = "/users/:id", method = "patch")]
    async fn change(
        &self,
        Data(app): Data<&Arc<App>>,
        Admin(admin): Admin,
        id: Path<String>,
        Body(body): Body<UserChange>,
    ) -> Result<Json<UserItem>, ApiError> {
        let user = app.db.user(&id.0).await?.ok_or_else(ApiError::not_found)?;
        keep_an_admin(app, &user, &body).await?;
        let now = app.clock.millis();
        let entry = Entry::new(now, actor(&admin), "user.change")
            .on("user", &id.0)
            .at_address(&admin.address.to_string())
            .with(json!({"username": body.username, "role": body.role, "groups": body.groups,
                "disabled": body.disabled, "password": body.password.is_some()}));
        let password_hash = match body.password {
            Some(password) => Some(sealed_hash(app, &id.0, password).await?),
            None => None,
        };
        let change = users::Change {
            username: body.username,
            password_hash,
            role: body.role,
            groups: body.groups,
            disabled: body.disabled,
        };
        if !app.db.change_user(&id.0, change, None, now, entry).await.map_err(taken)? {
            return Err(ApiError::not_found());
        }
        if body.disabled == Some(true) {
            app.hub.end_of_user(&id.0, Reason::Policy);
        }
        let user = app.db.user(&id.0).await?.ok_or_else(ApiError::not_found)?;
        Ok(Json(show(app, user).await?))
    }
}

/// Refuses to take away the last admin: nobody could undo it from here.
async fn keep_an_admin(app: &App, user: &users::Model, change: &UserChange) -> Result<(), ApiError> {
    let loses = change.disabled == Some(true) || change.role.as_deref().is_some_and(|role| role != "admin");
    let is_admin = user.role == "admin" && !user.disabled;
    if loses && is_admin && app.db.count_role("admin").await? <= 1 {
        return Err(ApiError::conflict("last_admin", "This is the last admin; make another one first."));
    }
    Ok(())
}

fn taken(error: DbError) -> ApiError {
    match error {
        DbError::Duplicate => ApiError::conflict("username_taken", "There is a user of this name already."),
        DbError::Damaged { .. } | DbError::Unavailable(_) => error.into(),
    }
}

async fn show(app: &App, row: users::Model) -> Result<UserItem, ApiError> {
    Ok(UserItem {
        groups: app.db.groups_of(&row.id).await?,
        created_at: rfc3339(row.created_at),
        last_login_at: row.last_login_at.map(rfc3339).into(),
        id: row.id,
        username: row.username,
        role: row.role,
        disabled: row.disabled,
    })
}
