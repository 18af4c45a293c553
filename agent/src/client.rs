//! Signed requests to the bastion, and the bastion's clock; it knows no endpoint.

use std::{
    fmt,
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use openapi::signature::{SignatureHeaders, SigningKey, Target, authority_of, sign};
use reqwest::{Method, Url};
use serde::{Deserialize, de::DeserializeOwned};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take beyond what it was asked to wait.
const ANSWER: Duration = Duration::from_secs(20);
/// Below this many seconds a difference of clocks is left alone.
const CLOCK_TOLERANCE: i64 = 5;

/// Why a request had no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none an agent may use.
    #[error("{url}: {reason}")]
    Address {
        /// Which address.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The CA file cannot be used.
    #[error("the CA file {path}: {reason}")]
    Authority {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bastion was not reached, or broke off.
    #[error("the bastion cannot be reached: {0}")]
    Network(String),
    /// The request could not be signed.
    #[error("the request cannot be signed: {0}")]
    Sign(#[from] openapi::signature::SignatureError),
    /// The bastion said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is not what the contract says.
    #[error("the bastion's answer cannot be read: {0}")]
    Answer(String),
}

/// What a bastion's refusal says (RFC 9457).
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The HTTP status.
    #[serde(skip)]
    pub http: u16,
    /// What to do about it, for programs.
    pub code: String,
    /// What to do about it, for people.
    pub detail: String,
    /// The bastion's clock, when ours is off.
    pub server_time: Option<String>,
    /// Seconds to wait, when we ask too often.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is the bastion's; it goes into a log, so nothing in it may act there.
        let detail = openapi::agents::clean(&self.detail, 300);
        let code = openapi::agents::clean(&self.code, 60);
        write!(f, "the bastion answered {} {code} {detail}", self.http)
    }
}

/// The way to one bastion.
pub struct Client {
    http: reqwest::Client,
    root: Url,
    connector: Option<tokio_tungstenite::Connector>,
    clock_offset: AtomicI64,
}

impl Client {
    /// Prepares to talk to a bastion; nothing is sent yet. With `ca`, only that authority is trusted.
    ///
    /// # Errors
    /// [`ClientError::Address`] for anything but `https://`, or `http://` to loopback; [`ClientError::Authority`].
    pub fn new(server: &str, ca: Option<&Path>) -> Result<Self, ClientError> {
        let root = check_address(server)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("castellan-agent/", env!("CARGO_PKG_VERSION")));
        let mut connector = None;
        if let Some(path) = ca {
            let failed = |reason: String| ClientError::Authority { path: path.display().to_string(), reason };
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let certs =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
            builder = builder.tls_certs_only(certs);
            connector = Some(trust_only(&pem).map_err(failed)?);
        }
        let http = builder.build().map_err(|error| ClientError::Network(error.to_string()))?;
        Ok(Self { http, root, connector, clock_offset: AtomicI64::new(0) })
    }

    /// The time at the bastion, unix seconds, as far as it is known.
    #[must_use]
    pub fn now(&self) -> i64 {
        local_now() + self.clock_offset.load(Ordering::Relaxed)
    }

    /// Takes the bastion's word for what time it is (RFC 3339).
    pub fn set_clock(&self, server_time: &str) {
        let Ok(theirs) = OffsetDateTime::parse(server_time, &Rfc3339) else { return };
        let offset = theirs.unix_timestamp().saturating_sub(local_now());
        let known = self.clock_offset.load(Ordering::Relaxed);
        if offset.abs_diff(known) > CLOCK_TOLERANCE.unsigned_abs() {
            tracing::warn!(offset, "this host's clock is off by so many seconds; the bastion's is used");
            self.clock_offset.store(offset, Ordering::Relaxed);
        }
    }

    /// Fetches a public text from the bastion's root, unsigned.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fetch(&self, path: &str) -> Result<String, ClientError> {
        let url = self.root.join(path).map_err(|error| ClientError::Answer(error.to_string()))?;
        let answer = read_answer(self.http.get(url).timeout(ANSWER)).await?;
        String::from_utf8(answer.to_vec()).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// Sends a signed POST with a JSON body, and reads a JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        key: &SigningKey,
        keyid: &str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Answer(error.to_string()))?;
        let url = self.api(path, &[])?;
        let request = self.http.post(url.clone()).timeout(ANSWER).header("content-type", "application/json");
        let headers = self.sign(key, keyid, &Method::POST, &url, Some(&body))?;
        self.answer(add_headers(request, &headers).body(body)).await
    }

    /// Sends a signed GET that may wait for `wait` seconds, and reads a JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait_for<T: DeserializeOwned>(
        &self,
        key: &SigningKey,
        keyid: &str,
        path: &str,
        query: &[(&str, &str)],
        wait: u64,
    ) -> Result<T, ClientError> {
        let wait_text = wait.to_string();
        let url = self.api(path, &[query, &[("wait", wait_text.as_str())]].concat())?;
        let request = self.http.get(url.clone()).timeout(ANSWER + Duration::from_secs(wait));
        let headers = self.sign(key, keyid, &Method::GET, &url, None)?;
        self.answer(add_headers(request, &headers)).await
    }

    /// Signs a request with a fresh nonce and the bastion's time.
    ///
    /// # Errors
    /// [`ClientError::Sign`].
    pub fn sign(
        &self,
        key: &SigningKey,
        keyid: &str,
        method: &Method,
        url: &Url,
        body: Option<&[u8]>,
    ) -> Result<SignatureHeaders, ClientError> {
        let authority = authority(url);
        let target = Target {
            method: method.as_str(),
            authority: &authority,
            path: url.path(),
            query: url.query(),
            body,
        };
        let nonce: [u8; 16] = rand::random();
        Ok(sign(key, keyid, &target, self.now(), &nonce)?)
    }

    /// Checks that a relay's address is as safe as the bastion's own.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn relay_address(&self, url: &str) -> Result<Url, ClientError> {
        let refuse = |reason| ClientError::Address { url: openapi::agents::clean(url, 200), reason };
        let address = Url::parse(url).map_err(|_| refuse("not an address"))?;
        match address.scheme() {
            "wss" => Ok(address),
            "ws" if self.root.scheme() == "http" && is_loopback(&address) => Ok(address),
            "ws" => Err(refuse("an unencrypted relay is for loopback only")),
            _ => Err(refuse("not a WebSocket's address")),
        }
    }

    /// What a WebSocket trusts: the given authority, or none for the host's own.
    #[must_use]
    pub fn connector(&self) -> Option<tokio_tungstenite::Connector> {
        self.connector.clone()
    }

    fn api(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, ClientError> {
        let mut url = self.root.join("/api/v1/").and_then(|api| api.join(path));
        if let Ok(url) = &mut url
            && !query.is_empty()
        {
            url.query_pairs_mut().extend_pairs(query);
        }
        url.map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let answer = read_answer(request).await;
        if let Err(ClientError::Refused(problem)) = &answer
            && let Some(time) = &problem.server_time
        {
            self.set_clock(time);
        }
        serde_json::from_slice(&answer?).map_err(|error| ClientError::Answer(error.to_string()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("root", &self.root.as_str()).finish_non_exhaustive()
    }
}

fn add_headers(mut request: reqwest::RequestBuilder, headers: &SignatureHeaders) -> reqwest::RequestBuilder {
    if let Some(digest) = &headers.content_digest {
        request = request.header("content-digest", digest);
    }
    request.header("signature-input", &headers.signature_input).header("signature", &headers.signature)
}

async fn read_answer(request: reqwest::RequestBuilder) -> Result<Bytes, ClientError> {
    let network = |error: reqwest::Error| ClientError::Network(innermost(&error));
    let mut response = request.send().await.map_err(network)?;
    let status = response.status();
    let retry_after =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(network)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(ClientError::Answer("it is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body.freeze());
    }
    let problem = serde_json::from_slice(&body).unwrap_or_default();
    Err(ClientError::Refused(Box::new(Problem { http: status.as_u16(), retry_after, ..problem })))
}

/// The cause that names what happened, such as "connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Host and port as they are signed.
#[must_use]
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    authority_of(&host, url.scheme())
}

fn check_address(server: &str) -> Result<Url, ClientError> {
    let refuse = |reason| ClientError::Address { url: server.to_owned(), reason };
    let url = Url::parse(server).map_err(|_| refuse("not an address such as https://bastion.example"))?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
        return Err(refuse("give the bastion's root only, such as https://bastion.example"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(refuse("unencrypted http is for loopback only; use https")),
        _ => Err(refuse("neither https nor http")),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

fn trust_only(pem: &[u8]) -> Result<tokio_tungstenite::Connector, String> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem) {
        let cert = cert.map_err(|error| error.to_string())?;
        roots.add(cert).map_err(|error| error.to_string())?;
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(tokio_tungstenite::Connector::Rustls(std::sync::Arc::new(config)))
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn local_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in [
            "https://bastion.example",
            "https://b:8443/",
            "http://127.0.0.1:8080",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(Client::new(good, None).is_ok(), "{good}");
        }
        for bad in [
            "http://bastion.example",
            "http://127.0.0.1.evil",
            "http://10.0.0.1",
            "ftp://localhost",
            "bastion",
            "https://b/path",
            "https://u@b",
        ] {
            assert!(matches!(Client::new(bad, None), Err(ClientError::Address { .. })), "{bad}");
        }
    }

    #[test]
    fn a_relay_is_as_safe_as_its_bastion() {
        let secure = Client::new("https://bastion.example", None).unwrap();
        assert!(secure.relay_address("wss://node-2.example/api/v1/agent/tty/relay?session_id=1").is_ok());
        for bad in ["ws://127.0.0.1/", "ws://node-2.example/", "https://node-2.example/", "x"] {
            assert!(secure.relay_address(bad).is_err(), "{bad}");
        }
        let local = Client::new("http://127.0.0.1:1", None).unwrap();
        assert!(local.relay_address("ws://127.0.0.1:2/").is_ok());
        assert!(local.relay_address("ws://node-2.example/").is_err());
    }

    #[test]
    fn the_bastions_clock_is_used_when_ours_is_off() {
        let client = Client::new("http://127.0.0.1:1", None).unwrap();
        client.set_clock("not a time");
        assert!(client.now().abs_diff(local_now()) <= 1);
        client.set_clock("2001-09-09T01:46:40Z");
        assert!(client.now().abs_diff(1_000_000_000) <= 1);
    }

    #[test]
    fn an_authority_is_signed_as_it_is_sent() {
        let of = |url: &str| authority(&Url::parse(url).unwrap());
        assert_eq!(of("https://Bastion.Example:443/x"), "bastion.example");
        assert_eq!(of("ws://127.0.0.1:8080/x"), "127.0.0.1:8080");
    }
}
