//! Signed requests of agents: the signature's headers, the address and the raw body as they came.

use bytes::Bytes;
use openapi::signature::{Claim, authority_of};
use poem::{Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaRequest, MetaSecurityScheme, Registry},
    types::Type,
};
use serde::de::DeserializeOwned;

use super::{
    body::{self, Checked},
    callers::{app, failed, peer},
    error::ApiError,
};
use crate::{
    app::App,
    clock::rfc3339,
    db::assets,
    door::Peer,
    enrolment::{AgentRefused, SignedRequest},
};

/// The request as the agent signed it.
pub fn signed_request(request: &Request, app: &App, body: Bytes) -> SignedRequest {
    let header = |name: &str| {
        let mut values = request.headers().get_all(name).iter();
        // Two headers of a name are one too many.
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let claim = header("signature-input")
        .zip(header("signature"))
        .and_then(|(input, signature)| Claim::parse(input, signature, header("content-digest")).ok());
    let scheme = if app.config.is_secure() { "https" } else { "http" };
    let uri = request.original_uri();
    SignedRequest {
        claim,
        method: request.method().to_string(),
        authority: authority_of(header("host").unwrap_or_default(), scheme),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        body,
    }
}

/// Counts a failure; an address with too many is told to wait instead.
pub fn counted<T>(app: &App, peer: &Peer, outcome: Result<T, AgentRefused>) -> Result<T, ApiError> {
    outcome.map_err(|error| {
        let counts = matches!(error, AgentRefused::BadSignature | AgentRefused::NotFound);
        let error = refusal(app, error);
        if counts { failed(app, peer, error) } else { error }
    })
}

fn refusal(app: &App, error: AgentRefused) -> ApiError {
    let unauthorized = |code: &str| ApiError::new(StatusCode::UNAUTHORIZED, code, error.to_string());
    match error {
        AgentRefused::BadSignature => unauthorized("bad_signature"),
        AgentRefused::ClockSkew => {
            unauthorized("clock_skew").with("server_time", rfc3339(app.clock.millis()))
        }
        AgentRefused::Replayed => unauthorized("replayed"),
        AgentRefused::NotYours => ApiError::new(StatusCode::FORBIDDEN, "not_yours", error.to_string()),
        AgentRefused::NotFound => ApiError::not_found(),
        AgentRefused::TooMany => {
            let detail = "Too many applications wait for a decision; try again later.";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_pending", detail)
                .with_all([("retry_after".to_owned(), 60.into())].into_iter().collect())
        }
        AgentRefused::Key(ref key) => ApiError::invalid_field("client_public_key", key.to_string()),
        AgentRefused::Vault(_) | AgentRefused::Signing(_) => ApiError::internal(&error),
        AgentRefused::Db(error) => error.into(),
    }
}

/// A signed request whose key is for its operation to find. With a body, `T`.
#[derive(Debug)]
pub struct Signed<T> {
    /// As it was signed.
    pub request: SignedRequest,
    /// The client.
    pub peer: Peer,
    content_type: Option<String>,
    body: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned + Checked> Signed<T> {
    /// The body; call it when the signature has been found good, or the body itself brings the key.
    pub fn parse(&self) -> Result<T, ApiError> {
        body::parse(self.content_type.as_deref(), &self.request.body)
    }
}

/// An approved agent, by a signature with its secret.
#[derive(Debug)]
pub struct Agent(pub assets::Model);

const SCHEME: &str = "signature";

fn register(registry: &mut Registry) {
    registry.create_security_scheme(
        SCHEME,
        MetaSecurityScheme {
            ty: "http",
            description: Some(
                "RFC 9421 signature, label `agent`, over `@method @authority @path @query` and, with a \
                 body, `content-digest`; `rsa-pss-sha512` before approval, `hmac-sha256` after",
            ),
            name: None,
            key_in: None,
            scheme: Some("signature"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    );
}

async fn read<T>(request: &Request, app: &App, body: &mut RequestBody) -> Result<Signed<T>, ApiError> {
    let peer = peer(request)?;
    let bytes = body::raw(request, body).await?;
    Ok(Signed {
        request: signed_request(request, app, bytes),
        peer,
        content_type: request.content_type().map(str::to_owned),
        body: std::marker::PhantomData,
    })
}

impl<'a, T: Type> ApiExtractor<'a> for Signed<T> {
    const TYPES: &'static [ApiExtractorType] =
        &[ApiExtractorType::RequestObject, ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
        T::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(body::json_request::<T>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(read(request, &*app(request)?, body).await?)
    }
}

/// A signed request without a body.
#[derive(Debug)]
pub struct SignedGet(pub Signed<()>);

impl<'a> ApiExtractor<'a> for SignedGet {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(read(request, &*app(request)?, body).await?))
    }
}

impl<'a> ApiExtractor<'a> for Agent {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let app = app(request)?;
        let signed: Signed<()> = read(request, &app, body).await?;
        let asset = app.enrolment.identify(&signed.request).await;
        Ok(Self(counted(&app, &signed.peer, asset)?))
    }
}
