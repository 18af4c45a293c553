//! Enrolment: ask to be let in, wait for an admin, and believe the secret only with the bastion's proof.

use std::{collections::BTreeMap, time::Duration};

use openapi::{
    agents::{
        ApplicationStatus, RegisterRequest, RegisterResponse, RegistrationStatus, StaticInfo, WAIT_MAX, clean,
    },
    keys::{KeyError, Secret, open_secret},
    signature::SigningKey,
    ticket::{APPROVAL_TYP, ApprovalClaims, Jwk, TicketError, verify},
};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use crate::{
    backoff::Backoff,
    client::{Client, ClientError},
    identity::{Identity, IdentityError},
};

/// How long a bastion that does not wait is left alone.
const POLL: Duration = Duration::from_secs(10);
/// An answer faster than this was not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const CAP: Duration = Duration::from_secs(60);

/// Why the agent was not let in.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// An admin said no.
    #[error("the application was rejected: {0}")]
    Rejected(String),
    /// The bastion refuses the application itself.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The proof is missing or not the pinned bastion's.
    #[error("the approval is not proven to be the bastion's: {0}")]
    Proof(String),
    /// The sealed secret cannot be opened.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// The secret cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What the agent says about its host.
#[derive(Debug)]
pub struct Introduction {
    /// The host's name.
    pub hostname: String,
    /// Proposed labels.
    pub labels: BTreeMap<String, String>,
    /// What the host is.
    pub static_info: StaticInfo,
}

/// Applies until an admin has decided, and keeps the secret. Only failures that will not pass end it.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(
    client: &Client,
    identity: &Identity,
    bastion: &[Jwk],
    introduction: &Introduction,
) -> Result<Secret, EnrolError> {
    let key = SigningKey::Rsa(Box::new(identity.key().clone()));
    let body = RegisterRequest {
        client_id: identity.client_id().to_owned(),
        hostname: introduction.hostname.clone(),
        client_public_key: identity.public_pem().to_owned(),
        labels: introduction.labels.clone(),
        static_info: introduction.static_info.clone(),
        version: crate::VERSION.to_owned(),
    };
    let mut backoff = Backoff::default();
    loop {
        match client.post::<RegisterResponse>(&key, identity.client_id(), "register", &body).await {
            Ok(taken) => {
                tracing::info!(fingerprint = identity.fingerprint(), "waiting for an admin's approval");
                if taken.fingerprint != identity.fingerprint() {
                    tracing::warn!("the bastion shows another fingerprint than this agent's");
                }
                if let Some(status) = decision(client, identity, &key, &taken.apply_id).await? {
                    let secret = accept(identity, bastion, &taken.apply_id, &status)?;
                    identity.keep_secret(&secret)?;
                    tracing::info!("approved");
                    return Ok(secret);
                }
                sleep(POLL).await;
            }
            Err(error) => pause(error, &mut backoff).await?,
        }
    }
}

/// Waits for the decision; none: the application is over (lapsed, or its secret was given out before), apply anew.
async fn decision(
    client: &Client,
    identity: &Identity,
    key: &SigningKey,
    apply_id: &str,
) -> Result<Option<RegistrationStatus>, EnrolError> {
    let mut backoff = Backoff::default();
    loop {
        let asked = Instant::now();
        let answer = client
            .wait_for::<RegistrationStatus>(
                key,
                identity.client_id(),
                "register/status",
                &[("apply_id", apply_id)],
                WAIT_MAX,
            )
            .await;
        match answer {
            Ok(status) => match status.status {
                ApplicationStatus::Pending if asked.elapsed() < AT_ONCE => sleep(POLL).await,
                ApplicationStatus::Pending => {}
                ApplicationStatus::Rejected => {
                    let reason = clean(&status.reason.unwrap_or_default(), 500);
                    let reason = if reason.is_empty() { "no reason was given".to_owned() } else { reason };
                    return Err(EnrolError::Rejected(reason));
                }
                ApplicationStatus::Approved if status.encrypted_secret.is_none() => return Ok(None),
                ApplicationStatus::Approved => return Ok(Some(status)),
            },
            Err(ClientError::Refused(problem)) if problem.http == 404 => return Ok(None),
            Err(error) => pause(error, &mut backoff).await?,
        }
    }
}

/// Waits after a failure that may pass; hands back one that will not.
async fn pause(error: ClientError, backoff: &mut Backoff) -> Result<(), ClientError> {
    let least = match &error {
        ClientError::Refused(problem) if problem.code == "clock_skew" => Duration::ZERO,
        ClientError::Refused(problem) if matches!(problem.http, 401 | 408 | 429 | 500..) => {
            Duration::from_secs(problem.retry_after.unwrap_or(1).min(300))
        }
        ClientError::Network(_) | ClientError::Answer(_) => Duration::ZERO,
        ClientError::Refused(_)
        | ClientError::Address { .. }
        | ClientError::Authority { .. }
        | ClientError::Sign(_) => return Err(error),
    };
    tracing::warn!(%error, "enrolment: trying again");
    let wait = backoff.next(CAP, &mut crate::backoff::dice());
    sleep(least + wait).await;
    Ok(())
}

/// Opens the secret, once the proof says that the pinned bastion made it for this application and this key.
fn accept(
    identity: &Identity,
    bastion: &[Jwk],
    apply_id: &str,
    status: &RegistrationStatus,
) -> Result<Secret, EnrolError> {
    let sealed = status.encrypted_secret.as_deref().unwrap_or_default();
    let proof = status.proof.as_deref().ok_or_else(|| EnrolError::Proof("there is none".to_owned()))?;
    let failed = |error: TicketError| EnrolError::Proof(error.to_string());
    let claims: ApprovalClaims = verify(proof, APPROVAL_TYP, bastion).map_err(failed)?;
    let proven = claims.apply_id == apply_id
        && claims.client_id == identity.client_id()
        && claims.fingerprint == identity.fingerprint()
        && claims.secret_sha256.eq_ignore_ascii_case(&hex::encode(Sha256::digest(sealed)));
    if !proven {
        return Err(EnrolError::Proof("it is for another application, key or secret".to_owned()));
    }
    Ok(open_secret(identity.key(), sealed)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use openapi::{
        keys::{parse_public_key, seal_secret},
        ticket::Signer,
    };

    use super::*;

    const PUBLIC: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
        0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];

    /// RFC 8037 appendix A.1, or another seed.
    fn signer(seed: &str) -> Signer {
        let der = hex::decode(format!("302e020100300506032b657004220420{seed}")).unwrap();
        Signer::from_pkcs8("id-1", &der).unwrap()
    }

    const BASTION: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    #[test]
    fn a_secret_is_believed_only_with_the_bastions_proof_of_it() {
        let home = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(&home.path().join("state")).unwrap();
        let bastion = [Jwk::from_public("id-1", &PUBLIC)];
        let public = parse_public_key(identity.public_pem()).unwrap();
        let sealed = seal_secret(&public, &Secret::new([4; 32])).unwrap();
        let claims = ApprovalClaims {
            apply_id: "ap".into(),
            client_id: identity.client_id().into(),
            fingerprint: identity.fingerprint().into(),
            secret_sha256: hex::encode(Sha256::digest(&sealed)),
            iat: 0,
        };
        let status = |proof: Option<String>| RegistrationStatus {
            status: ApplicationStatus::Approved,
            reason: None,
            encrypted_secret: Some(sealed.clone()),
            proof,
        };
        let good = signer(BASTION).sign(APPROVAL_TYP, &claims).unwrap();
        let secret = accept(&identity, &bastion, "ap", &status(Some(good.clone()))).unwrap();
        assert_eq!(secret.expose(), &[4; 32]);
        let refused = |proof: Option<String>, apply_id: &str| {
            matches!(accept(&identity, &bastion, apply_id, &status(proof)), Err(EnrolError::Proof(_)))
        };
        assert!(refused(None, "ap"));
        assert!(refused(Some(good), "another application"));
        assert!(refused(Some(signer(&"ab".repeat(32)).sign(APPROVAL_TYP, &claims).unwrap()), "ap"));
        let swapped = ApprovalClaims { secret_sha256: hex::encode([0; 32]), ..claims.clone() };
        assert!(refused(Some(signer(BASTION).sign(APPROVAL_TYP, &swapped).unwrap()), "ap"));
        assert!(refused(Some(signer(BASTION).sign("JWT", &claims).unwrap()), "ap"));
    }
}
