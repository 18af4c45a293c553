//! Which keys the agent believes: the bastion's identity, pinned at first contact, and the ticket keys it vouches for.

use std::time::Duration;

use openapi::ticket::{self, IDENTITY_KID, Jwk, KEYS_TYP, KeyList, RelayClaims, TICKET_KID, TicketError};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    client::{Client, ClientError},
    identity::{Identity, IdentityError},
};

/// Where the signed list of keys is.
const LIST: &str = "/.well-known/jwks.jws";
/// How often an unknown key may make the agent ask for a new list.
const REFETCH: Duration = Duration::from_secs(5);

/// Why the bastion, or something it signed, is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The list of keys could not be fetched.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The pinned keys could not be read or kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The signature is not the pinned bastion's.
    #[error("not signed by the bastion this agent knows: {0}")]
    Signature(#[from] TicketError),
    /// The bastion's identity is not the demanded one.
    #[error("the bastion's identity key is {found}, not {wanted} as --pin demands")]
    Pin {
        /// Its thumbprint.
        found: String,
        /// The one that was demanded.
        wanted: String,
    },
}

/// The bastion's keys.
#[derive(Debug)]
pub struct Trust {
    // Held while a list is fetched, so that tasks that need it wait for one request.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    identity: Vec<Jwk>,
    tickets: Vec<Jwk>,
    fetched: Option<Instant>,
}

impl Trust {
    /// Knows the bastion again, or pins it at first contact.
    ///
    /// # Errors
    /// [`TrustError`]; [`TrustError::Client`] may pass, the others will not.
    pub async fn establish(
        client: &Client,
        identity: &Identity,
        pin: Option<&str>,
    ) -> Result<Self, TrustError> {
        let (list, fetched) = match identity.bastion()? {
            Some(list) => (list, None),
            None => (first_contact(client).await?, Some(Instant::now())),
        };
        let keys = identity_keys(&list);
        let found: Vec<String> = keys.iter().map(Jwk::thumbprint).collect();
        if let Some(wanted) = pin
            && !found.iter().any(|thumbprint| thumbprint == wanted)
        {
            return Err(TrustError::Pin { found: found.join(", "), wanted: wanted.to_owned() });
        }
        if fetched.is_some() {
            tracing::info!(thumbprint = found.join(", "), "first contact: this bastion is pinned");
            identity.pin_bastion(&KeyList { keys: keys.clone(), iat: None })?;
        }
        Ok(Self { known: Mutex::new(Known { identity: keys, tickets: ticket_keys(&list), fetched }) })
    }

    /// The bastion's identity keys.
    pub async fn identity(&self) -> Vec<Jwk> {
        self.known.lock().await.identity.clone()
    }

    /// Checks a relay's token; asks for a new list when its key is unknown, at most every five seconds.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn relay_claims(
        &self,
        client: &Client,
        identity: &Identity,
        token: &str,
    ) -> Result<RelayClaims, TrustError> {
        let mut known = self.known.lock().await;
        let kid = ticket::kid_of(token).unwrap_or_default();
        let stale = known.fetched.is_none_or(|at| at.elapsed() >= REFETCH);
        if stale && !known.tickets.iter().any(|key| key.kid == kid) {
            known.fetched = Some(Instant::now());
            let list: KeyList = ticket::verify(client.fetch(LIST).await?.trim(), KEYS_TYP, &known.identity)?;
            known.tickets = ticket_keys(&list);
            let keys = identity_keys(&list);
            if keys != known.identity && !keys.is_empty() {
                // A new identity key is introduced by the old one's signature, which was just checked.
                identity.pin_bastion(&KeyList { keys: keys.clone(), iat: None })?;
                known.identity = keys;
            }
        }
        Ok(ticket::verify_relay(token, &known.tickets, identity.client_id(), client.now())?)
    }
}

/// The list as it vouches for itself: whoever answers now is the bastion from now on.
async fn first_contact(client: &Client) -> Result<KeyList, TrustError> {
    let token = client.fetch(LIST).await?;
    let claims = token.trim().split('.').nth(1).and_then(decode);
    let claimed: KeyList = claims.ok_or(TicketError::Malformed)?;
    Ok(ticket::verify(token.trim(), KEYS_TYP, &identity_keys(&claimed))?)
}

fn decode(part: &str) -> Option<KeyList> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn identity_keys(list: &KeyList) -> Vec<Jwk> {
    list.keys.iter().filter(|key| key.kid.starts_with(IDENTITY_KID)).cloned().collect()
}

fn ticket_keys(list: &KeyList) -> Vec<Jwk> {
    list.keys.iter().filter(|key| key.kid.starts_with(TICKET_KID)).cloned().collect()
}
