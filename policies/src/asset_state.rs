//! `asset_state`: the host must be up and not withdrawn. It speaks of availability, not of authority.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use crate::document::rfc3339;
use crate::{
    AssetFacts, AssetStatus, Class, Concern, ConfigError, Cost, EvalCtx, EventMask, Level, ModuleError,
    Outcome, PolicyFactory, PolicyModule, Purpose, Reason, configured,
};

/// The kind `asset_state`.
#[derive(Clone, Copy, Debug)]
pub struct AssetState;

/// It has nothing to set.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Module;

impl PolicyFactory for AssetState {
    fn kind(&self) -> &'static str {
        "asset_state"
    }

    fn class(&self) -> Class {
        Class::Guard
    }

    fn cost(&self) -> Cost {
        Cost::Pure
    }

    fn concern(&self) -> Concern {
        Concern::AssetState
    }

    fn schema(&self) -> Schema {
        schema_for!(Config)
    }

    fn build(&self, config: Value) -> Result<Arc<dyn PolicyModule>, ConfigError> {
        let Config {} = configured(config)?;
        Ok(Arc::new(Module))
    }
}

#[async_trait]
impl PolicyModule for Module {
    async fn evaluate(&self, cx: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        Ok(state(cx.asset, cx.purpose))
    }

    fn watches(&self) -> EventMask {
        EventMask::ASSET_STATUS
    }
}

fn state(asset: &AssetFacts, purpose: Purpose) -> Outcome {
    if asset.status == Some(AssetStatus::Quarantined) {
        let reason = Reason::new("asset_quarantined", "an admin quarantined the host");
        return Outcome::deny(reason.told("This host is quarantined."));
    }
    // A live session whose host falls silent has its own grace; ending it here would defeat resuming.
    if !asset.online && purpose != Purpose::Continue {
        return Outcome::deny(offline(asset));
    }
    if asset.status == Some(AssetStatus::Maintenance) {
        let reason = Reason::new("asset_maintenance", "the host is in maintenance: admin level only");
        return Outcome::deny(reason.told("This host is in maintenance.")).sparing(Level::Admin);
    }
    Outcome::allow()
}

fn offline(asset: &AssetFacts) -> Reason {
    let reason = Reason::new("asset_offline", "its agent is not connected").told("This host is offline.");
    match asset.last_seen {
        Some(seen) => reason.with("last_seen", rfc3339(seen)),
        None => reason,
    }
}
