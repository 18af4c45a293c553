//! An agent made by hand, so that a test can sign what no real agent would.

use openapi::{
    keys::Secret,
    signature::{SigningKey, Target, sign},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Actor, Answer, Bastion, Key, now, rsa_key};

/// With what, as whom and when a request is signed.
#[derive(Clone)]
pub struct Hand {
    /// The key.
    pub key: SigningKey,
    /// Whose, as it claims.
    pub keyid: String,
    /// Seconds off the clock.
    pub skew: i64,
    /// None: a fresh one.
    pub nonce: Option<[u8; 16]>,
}

/// An agent made by hand.
#[derive(Clone)]
pub struct Applicant {
    bastion: Bastion,
    /// Its id.
    pub client_id: String,
    /// Its key.
    pub key: &'static Key,
}

impl Applicant {
    /// With a new id and the first of the two keys.
    pub fn new(bastion: &Bastion) -> Self {
        let client_id = uuid::Uuid::new_v4().to_string();
        Self { bastion: bastion.clone(), client_id, key: rsa_key(0) }
    }

    /// The same id with the other key.
    pub fn with_other_key(&self) -> Self {
        Self { key: rsa_key(1), ..self.clone() }
    }

    /// How it signs before it is approved.
    pub fn rsa(&self) -> Hand {
        let key = SigningKey::Rsa(Box::new(self.key.private.clone()));
        Hand { key, keyid: self.client_id.clone(), skew: 0, nonce: None }
    }

    /// How it signs after that.
    pub fn hmac(&self, secret: &Secret) -> Hand {
        let secret = Secret::new(*secret.expose());
        Hand { key: SigningKey::Hmac(secret), keyid: self.client_id.clone(), skew: 0, nonce: None }
    }

    /// What it applies with.
    pub fn application(&self) -> Value {
        json!({"client_id": self.client_id, "hostname": "hand-made", "client_public_key": self.key.public_pem,
            "labels": {"env": "test"}, "static_info": {"os": "none"}, "version": "0"})
    }

    /// Applies.
    pub async fn register(&self) -> Answer {
        self.send(&self.rsa(), Method::POST, "/register", Some(self.application())).await
    }

    /// Applies and must be taken; the application's id.
    pub async fn applied(&self) -> String {
        self.register().await.expect(202)["apply_id"].as_str().unwrap().to_owned()
    }

    /// Asks for the decision.
    pub async fn status(&self, apply_id: &str) -> Answer {
        self.send(&self.rsa(), Method::GET, &format!("/register/status?apply_id={apply_id}"), None).await
    }

    /// Applies, is approved by `root` for `users`, and takes its secret.
    pub async fn enrol(&self, root: &Actor, users: &[&Actor]) -> Secret {
        let apply_id = self.applied().await;
        let users: Vec<_> = users.iter().map(|user| user.id.clone()).collect();
        root.post("/approve", json!({"id": apply_id, "allowed_users": users})).await.expect(200);
        let answer = self.status(&apply_id).await.expect(200);
        openapi::keys::open_secret(&self.key.private, answer["encrypted_secret"].as_str().unwrap()).unwrap()
    }

    /// A heartbeat's body.
    pub fn beat(&self) -> Value {
        json!({"id": self.client_id, "metrics": {"cpu": 1}, "version": "0",
            "tty_status": {"active_sessions": 0, "sessions": []}})
    }

    /// Sends a heartbeat.
    pub async fn heartbeat(&self, secret: &Secret) -> Answer {
        self.send(&self.hmac(secret), Method::POST, "/heartbeat", Some(self.beat())).await
    }

    /// Sends a signed request.
    pub async fn send(&self, hand: &Hand, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        let mut request =
            self.bastion.http().request(method.clone(), format!("{}/api/v1{path}", self.bastion.url()));
        for (name, value) in self.headers(hand, method.as_str(), path, body.as_deref()) {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        Answer::of(request).await
    }

    /// The headers of a signed request to `/api/v1` and `path`.
    pub fn headers(
        &self,
        hand: &Hand,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        let full = format!("/api/v1{path}");
        let (path, query) =
            full.split_once('?').map_or((full.as_str(), None), |(path, query)| (path, Some(query)));
        let authority = self.bastion.config().authority();
        let target = Target { method, authority: &authority, path, query, body: body.map(str::as_bytes) };
        let nonce = hand.nonce.unwrap_or_else(|| *uuid::Uuid::new_v4().as_bytes());
        let signed = sign(&hand.key, &hand.keyid, &target, now() + hand.skew, &nonce).unwrap();
        let digest = signed.content_digest.map(|digest| ("content-digest", digest));
        [("signature-input", signed.signature_input), ("signature", signed.signature)]
            .into_iter()
            .chain(digest)
            .collect()
    }
}
