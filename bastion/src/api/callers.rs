//! Who is calling: extractors that only a valid credential makes. An operation that takes none is public.

use std::{net::IpAddr, sync::Arc};

use poem::{FromRequest, Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use super::error::ApiError;
use crate::{
    app::App,
    clock,
    db::{logins, tokens, users},
    door::Peer,
};

/// What a person may do, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Opens terminals where granted.
    User,
    /// Reads sessions, recordings and the audit log as well.
    Auditor,
    /// Everything but terminals, which take a grant like anybody's.
    Admin,
}

impl Role {
    /// As stored and published.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }

    /// The inverse of [`Role::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Role::User, Role::Auditor, Role::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// What the caller showed.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A cookie.
    Login(logins::Model),
    /// An API token.
    Token(tokens::Model),
}

impl Credential {
    /// How tickets and sessions refer to it.
    pub fn reference(&self) -> String {
        match self {
            Credential::Login(login) => format!("login:{}", login.id),
            Credential::Token(token) => format!("token:{}", token.id),
        }
    }
}

/// A person, or a program with a person's token.
#[derive(Clone, Debug)]
pub struct User {
    /// The user's row.
    pub row: users::Model,
    /// The user's role, or the token's if that is lower.
    pub role: Role,
    /// By what it was shown.
    pub credential: Credential,
    /// The client's address.
    pub address: IpAddr,
    same_site: bool,
}

/// An administrator.
#[derive(Debug)]
pub struct Admin(pub User);

/// An auditor or administrator.
#[derive(Debug)]
pub struct Auditor;

impl User {
    /// The user's id.
    pub fn id(&self) -> &str {
        &self.row.id
    }

    /// Refuses a cookie that another site made the browser send. Unsafe methods are checked when the
    /// caller is extracted; this is for the safe ones that mint a ticket.
    pub fn require_same_site(&self) -> Result<(), ApiError> {
        if self.same_site || matches!(self.credential, Credential::Token(_)) {
            Ok(())
        } else {
            Err(cross_site())
        }
    }

    /// Whether the user may see what belongs to `owner`.
    pub fn sees(&self, owner: &str) -> bool {
        self.id() == owner || self.role >= Role::Auditor
    }
}

/// The `user` of an audit row about this request.
pub fn actor(user: &User) -> crate::db::audit::Actor {
    crate::db::audit::Actor::User(user.row.id.clone())
}

/// Finds out who is calling, or refuses.
pub async fn identify(request: &Request, app: &App) -> Result<User, ApiError> {
    let peer = peer(request)?;
    let same_site = is_same_site(request, app);
    let found = match bearer(request) {
        Some(token) => by_token(app, token).await?,
        None => match cookie(request, app) {
            Some(secret) => by_login(app, &secret).await?,
            // No credential at all is no failed try.
            None => return Err(ApiError::unauthenticated()),
        },
    };
    let Some((row, role, credential)) = found else {
        return Err(failed(app, &peer, ApiError::unauthenticated()));
    };
    let user = User { row, role, credential, address: peer.addr, same_site };
    if !request.method().is_safe() {
        user.require_same_site()?;
    }
    Ok(user)
}

/// Counts a failed authentication; an address with too many is told to wait instead. Those who share the
/// address and fail at nothing are not.
pub fn failed(app: &App, peer: &Peer, error: ApiError) -> ApiError {
    if let Some(wait) = app.limits.anonymous.blocked(&peer.bucket()) {
        return ApiError::rate_limited(wait);
    }
    app.limits.anonymous.failed(&peer.bucket());
    error
}

type Found = Option<(users::Model, Role, Credential)>;

async fn by_login(app: &App, secret: &str) -> Result<Found, ApiError> {
    let now = app.clock.millis();
    let idle = app.config.auth.login_idle.0.as_millis();
    let Some((login, user)) = app.db.login_by_hash(&clock::sha256_hex(secret)).await? else {
        return Ok(None);
    };
    let unused = u128::try_from(now - login.last_seen_at).unwrap_or(0);
    if user.disabled || login.expires_at <= now || unused > idle {
        return Ok(None);
    }
    if unused > 60_000 {
        app.db.touch_login(&login.id, now).await?;
    }
    let Some(role) = Role::parse(&user.role) else { return Ok(None) };
    Ok(Some((user, role, Credential::Login(login))))
}

async fn by_token(app: &App, token: &str) -> Result<Found, ApiError> {
    let now = app.clock.millis();
    let Some((token, user)) = app.db.token_by_hash(&clock::sha256_hex(token)).await? else {
        return Ok(None);
    };
    if user.disabled || token.expires_at.is_some_and(|at| at <= now) {
        return Ok(None);
    }
    if token.last_used_at.is_none_or(|at| now - at > 60_000) {
        app.db.touch_token(&token.id, now).await?;
    }
    let (Some(own), Some(lent)) = (Role::parse(&user.role), Role::parse(&token.role)) else {
        return Ok(None);
    };
    Ok(Some((user, own.min(lent), Credential::Token(token))))
}

/// The name of the login cookie. `__Host-` makes browsers refuse it without Secure and Path=/.
pub fn cookie_name(app: &App) -> &'static str {
    if app.config.is_secure() { "__Host-castellan_login" } else { "castellan_login" }
}

fn cookie(request: &Request, app: &App) -> Option<String> {
    let name = cookie_name(app);
    request.headers().get_all("cookie").iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
        value.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    })
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.header("authorization")?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the request's page is ours: what the browser says of itself, or its origin.
fn is_same_site(request: &Request, app: &App) -> bool {
    match request.header("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => is_allowed_origin(request, app),
    }
}

/// Whether the request names an origin that may act with a login.
pub fn is_allowed_origin(request: &Request, app: &App) -> bool {
    request.header("origin").is_some_and(|origin| app.origins.iter().any(|allowed| allowed == origin))
}

fn cross_site() -> ApiError {
    let detail = "A login may only be used from the bastion's own pages; programs use API tokens.";
    ApiError::new(StatusCode::FORBIDDEN, "cross_site", detail)
}

/// The client, as the door saw it.
pub fn peer(request: &Request) -> Result<Peer, ApiError> {
    request.data::<Peer>().copied().ok_or_else(|| ApiError::internal(&"a request without a peer"))
}

/// What every handler may reach.
pub fn app(request: &Request) -> Result<Arc<App>, ApiError> {
    request.data::<Arc<App>>().cloned().ok_or_else(|| ApiError::internal(&"a request without the app"))
}

const COOKIE: &str = "login";
const BEARER: &str = "token";

fn register(registry: &mut Registry) {
    let scheme = |ty, description| MetaSecurityScheme {
        ty,
        description: Some(description),
        name: None,
        key_in: None,
        scheme: None,
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    registry.create_security_scheme(
        COOKIE,
        MetaSecurityScheme {
            name: Some("__Host-castellan_login"),
            key_in: Some("cookie"),
            ..scheme("apiKey", "The cookie that POST /login sets (`castellan_login` over plain HTTP)")
        },
    );
    registry.create_security_scheme(
        BEARER,
        MetaSecurityScheme { scheme: Some("bearer"), ..scheme("http", "An API token, made at POST /tokens") },
    );
}

macro_rules! caller {
    ($type:ty, $least:expr, $make:expr) => {
        impl<'a> ApiExtractor<'a> for $type {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                register(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![COOKIE, BEARER]
            }

            async fn from_request(
                request: &'a Request,
                _: &mut RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let app = app(request)?;
                let user = identify(request, &app).await?;
                if user.role < $least {
                    return Err(ApiError::forbidden().into());
                }
                Ok($make(user))
            }
        }
    };
}

caller!(User, Role::User, std::convert::identity);
caller!(Auditor, Role::Auditor, |_| Auditor);
caller!(Admin, Role::Admin, Admin);

/// The client's address, for operations that anybody may call.
#[derive(Debug)]
pub struct Client(pub Peer);

impl<'a> FromRequest<'a> for Client {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(peer(request)?))
    }
}
