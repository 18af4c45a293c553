//! What approved agents call: heartbeat, and the sessions that wait for them.

use std::sync::Arc;

use openapi::agents::{HeartbeatRequest, HeartbeatResponse, PendingSession, VERSION_MAX};
use poem::web::Data;
use poem_openapi::{OpenApi, param::Query, payload::Json};

use super::{
    Chapter,
    body::{Checked, Faults},
    error::ApiError,
    registrations::wait_of,
    signed::{Agent, Signed, counted},
};
use crate::{app::App, clock::rfc3339, enrolment::AgentRefused, tickets::TicketRefused};

/// Seconds between heartbeats.
const INTERVAL: u32 = 30;

impl Checked for HeartbeatRequest {
    fn check(&self, faults: &mut Faults) {
        faults.line("id", &self.id, 64);
        faults.line("version", &self.version, VERSION_MAX);
        for (index, session) in self.tty_status.sessions.iter().enumerate() {
            faults.line(&format!("tty_status.sessions[{index}]"), session, 64);
        }
    }
}

/// Approved agents.
pub struct Heartbeats;

#[OpenApi(tag = "Chapter::Agents")]
impl Heartbeats {
    /// Be alive
    ///
    /// Every `interval` seconds, signed with the agent's secret. The first one shows that the secret has
    /// arrived: it is never given again.
    #[oai(path = "/heartbeat", method = "post")]
    async fn heartbeat(
        &self,
        Data(app): Data<&Arc<App>>,
        signed: Signed<HeartbeatRequest>,
    ) -> Result<Json<HeartbeatResponse>, ApiError> {
        let asset = counted(app, &signed.peer, app.enrolment.identify(&signed.request).await)?;
        let body = signed.parse()?;
        if body.id != asset.id {
            return counted(app, &signed.peer, Err(AgentRefused::NotYours));
        }
        let terminate = app.hub.reconcile(&asset.id, &body.tty_status.sessions, asset.last_heartbeat_at);
        counted(app, &signed.peer, app.enrolment.heartbeat(asset, body).await)?;
        Ok(Json(HeartbeatResponse {
            status: "ok".to_owned(),
            server_time: rfc3339(app.clock.millis()),
            interval: INTERVAL,
            terminate,
            resume_grace: Some(app.config.sessions.resume_grace.0.as_secs()),
        }))
    }

    /// Ask for sessions to serve
    ///
    /// Answers at once when one waits, else after `wait` seconds (0 to 30) with an empty list.
    #[oai(path = "/agent/tty/pending-sessions", method = "get")]
    async fn pending(
        &self,
        Data(app): Data<&Arc<App>>,
        Agent(asset): Agent,
        agent_id: Query<Option<String>>,
        wait: Query<Option<u64>>,
    ) -> Result<Json<Vec<PendingSession>>, ApiError> {
        let wait = wait_of(wait.0)?;
        let Some(agent_id) = agent_id.0 else {
            return Err(ApiError::invalid_field("agent_id", "is required"));
        };
        if agent_id != asset.id {
            let detail = AgentRefused::NotYours.to_string();
            return Err(ApiError::new(poem::http::StatusCode::FORBIDDEN, "not_yours", detail));
        }
        match app.hub.pending(&asset.id, wait).await {
            Ok(sessions) => Ok(Json(sessions)),
            Err(TicketRefused::Db(error)) => Err(error.into()),
            Err(error @ (TicketRefused::Bad | TicketRefused::Signing(_))) => Err(ApiError::internal(&error)),
        }
    }
}
