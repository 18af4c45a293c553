//! API tokens of the caller.

use std::sync::Arc;

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
    assets::Gone,
    body::{Body, Checked, Faults},
    callers::{Credential, Role, User, actor},
    error::ApiError,
    lists::{list_of, page},
    nullable::Nullable,
};
use crate::{
    app::App,
    clock::{self, rfc3339},
    db::{audit::Entry, tokens},
};

/// The longest life of a token, in days.
const LONGEST: u32 = 3660;

/// An API token, without its secret.
#[derive(Debug, Object)]
pub struct Token {
    /// The token's id; not the secret.
    id: String,
    /// The maker's name for it.
    name: String,
    /// What it may do at most.
    role: String,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC; null: until revoked.
    expires_at: Nullable<String>,
    /// RFC 3339, UTC.
    last_used_at: Nullable<String>,
}

list_of!(/// The caller's tokens, newest first.
    TokenList, Token);

/// A new API token: the one time that its secret is shown.
#[derive(Debug, Object)]
pub struct TokenMade {
    /// The token's id.
    id: String,
    /// The maker's name for it.
    name: String,
    /// What it may do at most.
    role: String,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC; null: until revoked.
    expires_at: Nullable<String>,
    /// Null.
    last_used_at: Nullable<String>,
    /// The secret; send it as `Authorization: Bearer …`.
    token: String,
}

/// A token to make.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// At most 64 characters.
    name: String,
    /// Not above the caller's; left out: the caller's.
    #[serde(default)]
    role: Option<String>,
    /// 1 to 3660 days; left out: until revoked.
    #[serde(default)]
    expires_in_days: Option<u32>,
}

impl Checked for NewToken {
    fn check(&self, faults: &mut Faults) {
        faults.line("name", &self.name, 64);
        if self.role.as_deref().is_some_and(|role| Role::parse(role).is_none()) {
            faults.add("role", "must be admin, auditor or user");
        }
        if self.expires_in_days.is_some_and(|days| !(1..=LONGEST).contains(&days)) {
            faults.add("expires_in_days", format!("must be 1 to {LONGEST}"));
        }
    }
}

/// A token was made.
#[derive(ApiResponse)]
pub enum Made {
    /// Made; its secret is shown this once.
    #[oai(status = 201)]
    Done(Json<TokenMade>),
}

/// API tokens.
pub struct Tokens;

#[OpenApi(tag = "Chapter::Administration")]
impl Tokens {
    /// List my tokens
    #[oai(path = "/tokens", method = "get")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<TokenList>, ApiError> {
        let (rows, next_cursor) = app.db.tokens_of(user.id(), &page(limit.0, cursor.0)?).await?;
        let items = rows.into_iter().map(show).collect();
        Ok(Json(TokenList { items, next_cursor: next_cursor.into() }))
    }

    /// Make a token
    #[oai(path = "/tokens", method = "post")]
    async fn make(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        Body(body): Body<NewToken>,
    ) -> Result<Made, ApiError> {
        let role = body.role.as_deref().and_then(Role::parse).unwrap_or(user.role);
        if role > user.role {
            return Err(ApiError::forbidden());
        }
        let secret = format!("cst_{}", clock::random_secret());
        let now = app.clock.millis();
        let days = |days: u32| now + i64::from(days) * 24 * 3600 * 1000;
        let row = tokens::Model {
            id: clock::new_id(),
            user_id: user.id().to_owned(),
            name: body.name,
            role: role.as_str().to_owned(),
            secret_hash: clock::sha256_hex(&secret),
            created_at: now,
            expires_at: [body.expires_in_days.map(days), own_end(&user)].into_iter().flatten().min(),
            last_used_at: None,
            revoked_at: None,
        };
        let entry = Entry::new(now, actor(&user), "token.create")
            .on("token", &row.id)
            .at_address(&user.address.to_string())
            .with(json!({"name": row.name, "role": row.role}));
        app.db.add_token(row.clone(), entry).await?;
        let Token { id, name, role, created_at, expires_at, last_used_at } = show(row);
        let made = TokenMade { id, name, role, created_at, expires_at, last_used_at, token: secret };
        Ok(Made::Done(Json(made)))
    }

    /// Revoke one of my tokens
    #[oai(path = "/tokens/:id", method = "delete")]
    async fn revoke(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        id: Path<String>,
    ) -> Result<Gone, ApiError> {
        let now = app.clock.millis();
        let entry = Entry::new(now, actor(&user), "token.revoke")
            .on("token", &id.0)
            .at_address(&user.address.to_string());
        if app.db.revoke_token(user.id(), &id.0, now, entry).await? {
            Ok(Gone::Done)
        } else {
            Err(ApiError::not_found())
        }
    }
}

/// When the caller's own token ends: what it makes does not outlive it.
fn own_end(user: &User) -> Option<i64> {
    match &user.credential {
        Credential::Token(token) => token.expires_at,
        Credential::Login(_) => None,
    }
}

fn show(row: tokens::Model) -> Token {
    Token {
        id: row.id,
        name: row.name,
        role: row.role,
        created_at: rfc3339(row.created_at),
        expires_at: row.expires_at.map(rfc3339).into(),
        last_used_at: row.last_used_at.map(rfc3339).into(),
    }
}
