//! Logging in and out, and what one may do about oneself.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use serde::Deserialize;
use serde_json::json;

use super::{
    Chapter,
    body::{Body, Checked, Faults},
    callers::{Client, Credential, User, actor, cookie_name, failed},
    error::ApiError,
    nullable::Nullable,
};
use crate::{
    app::App,
    clock::{self, rfc3339},
    db::{
        audit::{Actor, Entry},
        logins, users,
    },
    passwords,
};

/// A name and a password.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// At most 64 characters.
    username: String,
    /// At most 256 bytes.
    password: String,
}

impl Checked for LoginRequest {
    fn check(&self, faults: &mut Faults) {
        faults.line("username", &self.username, 64);
        if self.password.is_empty() || self.password.len() > *passwords::LENGTH.end() {
            faults.add("password", "must be 1 to 256 bytes");
        }
    }
}

/// A change of one's own password.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The one until now.
    current_password: String,
    /// 12 to 256 bytes.
    new_password: String,
}

impl Checked for PasswordChange {
    fn check(&self, faults: &mut Faults) {
        check_password("new_password", &self.new_password, faults);
        if self.current_password.len() > *passwords::LENGTH.end() {
            faults.add("current_password", "must be at most 256 bytes");
        }
    }
}

/// Checks the length of a new password.
pub fn check_password(path: &str, password: &str, faults: &mut Faults) {
    if !passwords::LENGTH.contains(&password.len()) {
        faults.add(path, "must be 12 to 256 bytes");
    }
}

/// The caller's login.
#[derive(Debug, Object)]
pub struct OwnLogin {
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC: whatever happens.
    expires_at: String,
}

/// The caller.
#[derive(Debug, Object)]
pub struct Me {
    /// The user's id.
    id: String,
    /// The user's name.
    username: String,
    /// `admin`, `auditor` or `user`; with an API token, the token's if that is lower.
    role: String,
    /// The user's groups.
    groups: Vec<String>,
    /// Null with an API token.
    login: Nullable<OwnLogin>,
}

/// The caller, logged in.
#[derive(ApiResponse)]
pub enum LoggedIn {
    /// Logged in: the cookie is set.
    #[oai(status = 200)]
    Ok(
        Json<Me>,
        /// The login.
        #[oai(header = "Set-Cookie")]
        String,
    ),
}

/// The caller, logged out.
#[derive(ApiResponse)]
pub enum LoggedOut {
    /// Logged out: the cookie is cleared.
    #[oai(status = 204)]
    Done(
        /// Cleared.
        #[oai(header = "Set-Cookie")]
        String,
    ),
}

/// The password is changed.
#[derive(ApiResponse)]
pub enum PasswordChanged {
    /// Changed; the other logins of the user have ended.
    #[oai(status = 204)]
    Done,
}

/// Logging in and out, and oneself.
pub struct People;

#[OpenApi(tag = "Chapter::People")]
impl People {
    /// Log in
    ///
    /// Public. Unknown names and wrong passwords get the same answer.
    #[oai(path = "/login", method = "post")]
    async fn login(
        &self,
        Data(app): Data<&Arc<App>>,
        Client(peer): Client,
        Body(body): Body<LoginRequest>,
    ) -> Result<LoggedIn, ApiError> {
        app.limits.logins.check(&peer.bucket()).map_err(|wait| ApiError::rate_limited(wait.0))?;
        let user = app.db.user_named(&body.username).await?;
        let phc = user.as_ref().map(|user| stored_hash(app, user)).transpose()?;
        let right = app.passwords.verify(body.password, phc).await?;
        let now = app.clock.millis();
        let address = peer.addr.to_string();
        let Some(user) = user.filter(|user| right && !user.disabled) else {
            let entry = Entry::new(now, Actor::Stranger, "login.fail").at_address(&address);
            app.db.note(entry).await?;
            let detail = "The name or the password is wrong.";
            let error = ApiError::new(poem::http::StatusCode::UNAUTHORIZED, "bad_credentials", detail);
            return Err(failed(app, &peer, error));
        };
        let secret = clock::random_secret();
        let login = logins::Model {
            id: clock::new_id(),
            user_id: user.id.clone(),
            secret_hash: clock::sha256_hex(&secret),
            address: address.clone(),
            created_at: now,
            last_seen_at: now,
            expires_at: now + i64::try_from(app.config.auth.login_max.0.as_millis()).unwrap_or(i64::MAX),
            ended_at: None,
        };
        let entry = Entry::new(now, Actor::User(user.id.clone()), "login.create")
            .on("login", &login.id)
            .at_address(&address);
        app.db.add_login(login.clone(), entry).await?;
        let me = me(app, &user, &user.role, Some(&login)).await?;
        let longest = app.config.auth.login_max.0.as_secs();
        Ok(LoggedIn::Ok(Json(me), cookie(app, &secret, longest)))
    }

    /// Log out
    #[oai(path = "/logout", method = "post")]
    async fn logout(&self, Data(app): Data<&Arc<App>>, user: User) -> Result<LoggedOut, ApiError> {
        if let Credential::Login(login) = &user.credential {
            let now = app.clock.millis();
            let entry = Entry::new(now, actor(&user), "login.end").on("login", &login.id);
            app.db.end_login(&login.id, now, entry).await?;
        }
        Ok(LoggedOut::Done(cookie(app, "", 0)))
    }

    /// Who am I?
    #[oai(path = "/me", method = "get")]
    async fn me(&self, Data(app): Data<&Arc<App>>, user: User) -> Result<Json<Me>, ApiError> {
        let login = match &user.credential {
            Credential::Login(login) => Some(login),
            Credential::Token(_) => None,
        };
        Ok(Json(me(app, &user.row, user.role.as_str(), login).await?))
    }

    /// Change my password
    ///
    /// Ends the user's other logins; API tokens and live sessions stay.
    #[oai(path = "/me/password", method = "post")]
    async fn password(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        Body(body): Body<PasswordChange>,
    ) -> Result<PasswordChanged, ApiError> {
        app.limits.logins.check(user.id()).map_err(|wait| ApiError::rate_limited(wait.0))?;
        let phc = stored_hash(app, &user.row)?;
        if !app.passwords.verify(body.current_password, Some(phc)).await? {
            return Err(ApiError::invalid_field("current_password", "is not your password"));
        }
        let now = app.clock.millis();
        let hash = sealed_hash(app, user.id(), body.new_password).await?;
        let keep = match &user.credential {
            Credential::Login(login) => Some(login.id.as_str()),
            Credential::Token(_) => None,
        };
        let entry = Entry::new(now, actor(&user), "user.password")
            .on("user", user.id())
            .at_address(&user.address.to_string())
            .with(json!({"own": true}));
        let change = users::Change { password_hash: Some(hash), ..Default::default() };
        app.db.change_user(user.id(), change, keep, now, entry).await?;
        Ok(PasswordChanged::Done)
    }
}

async fn me(
    app: &App,
    user: &users::Model,
    role: &str,
    login: Option<&logins::Model>,
) -> Result<Me, ApiError> {
    Ok(Me {
        id: user.id.clone(),
        username: user.username.clone(),
        role: role.to_owned(),
        groups: app.db.groups_of(&user.id).await?,
        login: login
            .map(|login| OwnLogin {
                created_at: rfc3339(login.created_at),
                expires_at: rfc3339(login.expires_at),
            })
            .into(),
    })
}

fn cookie(app: &App, secret: &str, max_age: u64) -> String {
    let secure = if app.config.is_secure() { "; Secure" } else { "" };
    let name = cookie_name(app);
    format!("{name}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age}{secure}")
}

fn stored_hash(app: &App, user: &users::Model) -> Result<String, ApiError> {
    let plain = app.vault.unseal(users::hash_place(&user.id), &user.password_hash)?;
    String::from_utf8(plain.to_vec()).map_err(|error| ApiError::internal(&error))
}

/// The hash of a new password, sealed to its user's row.
pub async fn sealed_hash(app: &App, user: &str, password: String) -> Result<String, ApiError> {
    let phc = app.passwords.hash(password).await?;
    Ok(app.vault.seal(users::hash_place(user), phc.as_bytes())?)
}
