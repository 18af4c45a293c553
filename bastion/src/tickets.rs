//! One-time tickets: minted as signed claims, kept as a hash, redeemed once.

use std::{net::IpAddr, sync::Arc};

use openapi::ticket::{
    BROWSER_TYP, BrowserClaims, MAX_LIFETIME, Mode, RELAY_TYP, RelayClaims, TicketError, browser_audience,
    relay_audience, verify_browser, verify_relay,
};

use crate::{
    clock::{self, Clock},
    db::{Db, DbError, tickets},
    signing::Signing,
};

/// Seconds in which a plain client's ticket must be used.
const PLAIN_LIFETIME: i64 = 60;

/// Why a ticket was not minted or not taken.
#[derive(Debug, thiserror::Error)]
pub enum TicketRefused {
    /// Forged, expired, spent, voided, or shown by somebody else.
    #[error("the ticket is not valid, or has been used")]
    Bad,
    /// It could not be signed.
    #[error("ticket: {0}")]
    Signing(TicketError),
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes and takes tickets.
#[derive(Clone, Debug)]
pub struct Tickets {
    db: Db,
    signing: Arc<Signing>,
    clock: Clock,
    issuer: Arc<str>,
}

/// What a browser's ticket is asked for.
#[derive(Debug)]
pub struct BrowserTicket<'a> {
    /// Whose.
    pub user: &'a str,
    /// On which host.
    pub asset: &'a str,
    /// The ruling behind it.
    pub decision: &'a str,
    /// The login or token that asks.
    pub credential: &'a str,
    /// Where from.
    pub address: IpAddr,
    /// For a plain client.
    pub plain: bool,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Instead of the login shell.
    pub command: Option<&'a str>,
    /// Back to this session, and to do what.
    pub back_to: Option<(&'a str, Mode)>,
}

/// What an agent's ticket is for.
#[derive(Clone, Debug)]
pub struct RelayTicket {
    /// Whose session.
    pub user: String,
    /// That user's name.
    pub username: String,
    /// On which host.
    pub asset: String,
    /// Which session.
    pub session: String,
    /// The host's user.
    pub run_as: Option<String>,
    /// Instead of the login shell.
    pub command: Option<String>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Whether what is typed is recorded.
    pub records_input: bool,
}

impl Tickets {
    /// `issuer` is the bastion's public origin.
    pub fn new(db: Db, signing: Arc<Signing>, clock: Clock, issuer: &str) -> Self {
        Self { db, signing, clock, issuer: issuer.into() }
    }

    /// A ticket for a browser or a plain client, and how many seconds it lasts.
    pub async fn mint_browser(&self, ask: BrowserTicket<'_>) -> Result<(String, i64), TicketRefused> {
        let lifetime = if ask.plain { PLAIN_LIFETIME } else { MAX_LIFETIME };
        let (jti, now) = (clock::random_secret(), self.clock.seconds());
        let claims = BrowserClaims {
            iss: self.issuer.to_string(),
            aud: browser_audience().to_owned(),
            sub: ask.user.to_owned(),
            asset: ask.asset.to_owned(),
            jti: jti.clone(),
            iat: now,
            nbf: now,
            exp: now + lifetime,
            dec: ask.decision.to_owned(),
            cols: ask.cols,
            rows: ask.rows,
            command: ask.command.map(str::to_owned),
            sid: ask.back_to.map(|(session, _)| session.to_owned()),
            mode: ask.back_to.map(|(_, mode)| mode),
            plain: ask.plain,
        };
        let row = tickets::Model {
            credential: (!ask.plain).then(|| ask.credential.to_owned()),
            address: ask.plain.then(|| ask.address.to_string()),
            ..self.row("browser", &jti, ask.user, ask.asset, lifetime)
        };
        self.db.add_ticket(row).await?;
        let token = self.signing.ticket.sign(BROWSER_TYP, &claims).map_err(TicketRefused::Signing)?;
        Ok((token, lifetime))
    }

    /// A ticket for an agent. Voids those minted for the session before.
    pub async fn mint_relay(&self, ask: &RelayTicket) -> Result<String, TicketRefused> {
        let (jti, now) = (clock::random_secret(), self.clock.seconds());
        let claims = RelayClaims {
            iss: self.issuer.to_string(),
            aud: relay_audience(&ask.asset),
            sub: ask.user.clone(),
            asset: ask.asset.clone(),
            jti: jti.clone(),
            iat: now,
            nbf: now,
            exp: now + PLAIN_LIFETIME,
            sid: ask.session.clone(),
            run_as: ask.run_as.clone(),
            command: ask.command.clone(),
            cols: ask.cols,
            rows: ask.rows,
            user: ask.username.clone(),
            records_input: ask.records_input,
        };
        let row = tickets::Model {
            session_id: Some(ask.session.clone()),
            ..self.row("relay", &jti, &ask.user, &ask.asset, PLAIN_LIFETIME)
        };
        self.db.add_ticket(row).await?;
        self.signing.ticket.sign(RELAY_TYP, &claims).map_err(TicketRefused::Signing)
    }

    /// Spends a browser's ticket. It must be shown by the credential that asked for it, a plain one by the
    /// address that did; a ticket shown by anybody else is spent all the same.
    pub async fn redeem_browser(
        &self,
        token: &str,
        credential: Option<&str>,
        address: IpAddr,
    ) -> Result<BrowserClaims, TicketRefused> {
        let now = self.clock.seconds();
        let claims =
            verify_browser(token, self.signing.keys(), &self.issuer, now).map_err(|_| TicketRefused::Bad)?;
        let row = self.spend("browser", &claims.jti).await?;
        let same_shower = if claims.plain {
            row.address.as_deref() == Some(&address.to_string())
        } else {
            credential.is_some() && row.credential.as_deref() == credential
        };
        if same_shower && row.user_id == claims.sub && row.asset_id == claims.asset {
            Ok(claims)
        } else {
            Err(TicketRefused::Bad)
        }
    }

    /// Spends an agent's ticket for one of its sessions.
    pub async fn redeem_relay(&self, token: &str, asset: &str, session: &str) -> Result<(), TicketRefused> {
        let now = self.clock.seconds();
        let claims = verify_relay(token, self.signing.keys(), asset, now).map_err(|_| TicketRefused::Bad)?;
        if claims.sid != session {
            return Err(TicketRefused::Bad);
        }
        let row = self.spend("relay", &claims.jti).await?;
        if row.session_id.as_deref() == Some(session) { Ok(()) } else { Err(TicketRefused::Bad) }
    }

    async fn spend(&self, kind: &str, jti: &str) -> Result<tickets::Model, TicketRefused> {
        let spent = self.db.redeem_ticket(&clock::sha256_hex(jti), self.clock.millis()).await?;
        spent.filter(|row| row.kind == kind).ok_or(TicketRefused::Bad)
    }

    fn row(&self, kind: &str, jti: &str, user: &str, asset: &str, lifetime: i64) -> tickets::Model {
        let now = self.clock.millis();
        tickets::Model {
            jti_hash: clock::sha256_hex(jti),
            kind: kind.to_owned(),
            user_id: user.to_owned(),
            asset_id: asset.to_owned(),
            session_id: None,
            credential: None,
            address: None,
            created_at: now,
            expires_at: now + lifetime * 1000,
            redeemed_at: None,
            voided_at: None,
        }
    }
}
