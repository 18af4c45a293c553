//! What is known when a decision is made: looked up once by the caller, kept in the trail, and all a module may see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Demand;

/// How much a person may do in a terminal of one asset; later ones include earlier ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// May watch.
    #[default]
    Viewer,
    /// May type.
    User,
    /// Administers this machine; never a way round the guards, but some spare this level.
    Admin,
}

/// The person who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The user's id; modules compare ids, never names.
    pub id: String,
    /// Ids of the groups the user is in.
    pub groups: Vec<String>,
    /// The account's role, in the bastion's own words.
    pub role: String,
    /// Disabled, locked or deleted: denied before anything else.
    pub disabled: bool,
}

/// What an admin has declared about an asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetStatus {
    /// Being worked on: for the admin level only.
    Maintenance,
    /// Cut off: for nobody.
    Quarantined,
}

/// The host that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetFacts {
    /// The asset's id.
    pub id: String,
    /// Labels set by an admin. What an agent proposes must never be put here.
    pub labels: BTreeMap<String, String>,
    /// Ids of the users on the asset's own list.
    pub allowed_users: Vec<String>,
    /// Whether its agent is connected now.
    pub online: bool,
    /// What an admin declared, if anything.
    pub status: Option<AssetStatus>,
    /// When its agent was last heard, in UTC milliseconds.
    pub last_seen: Option<i64>,
    /// Retired: the same to the outside as one that never existed.
    pub deleted: bool,
}

/// How many sessions hold a slot, as looked up; a session that asks about itself is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSessions {
    /// Of this user, on any asset.
    pub user: u64,
    /// On this asset, by anyone.
    pub asset: u64,
    /// Of this user on this asset.
    pub user_asset: u64,
    /// On the whole bastion.
    pub global: u64,
}

/// Everything a decision depends on but the time; kept in the trail, so that the decision can be replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who asks.
    pub subject: Subject,
    /// For which host; `None` when there is none of that id.
    pub asset: Option<AssetFacts>,
    /// Slots in use.
    pub live: LiveSessions,
    /// The client's address, as the door established it.
    pub client: Option<IpAddr>,
}

/// Why the chain is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To show the host in a list.
    List,
    /// To hand out a ticket.
    Issue,
    /// To open a terminal with a ticket.
    Redeem,
    /// To let a live session go on.
    Continue,
    /// To learn what would happen; nothing is counted or consumed.
    Simulate,
}

/// The demands a session's handler can honour; an obligation outside of them denies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(pub BTreeSet<Demand>);

impl Capabilities {
    /// Those given.
    pub fn of(demands: impl IntoIterator<Item = Demand>) -> Self {
        Self(demands.into_iter().collect())
    }

    /// Every demand there is.
    #[must_use]
    pub fn all() -> Self {
        Self::of(Demand::ALL)
    }
}

/// One question to the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What is known.
    pub facts: Facts,
    /// The time of the decision, in UTC milliseconds.
    pub now: i64,
    /// The least level asked for: `Viewer` to list or watch, `User` to type.
    pub level: Level,
    /// What the session could honour.
    pub capabilities: Capabilities,
}
