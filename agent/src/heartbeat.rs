//! Heartbeats: the host is there, how it is doing, which sessions it holds, and which the bastion wants ended.

use std::time::Duration;

use openapi::agents::{HeartbeatRequest, HeartbeatResponse, StaticInfo, TtyStatus};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use crate::{Agent, backoff::Backoff, client::ClientError, metrics::Host};

/// The bounds of the interval a bastion may name, in seconds.
const BOUNDS: (u32, u32) = (1, 60);
/// The longest pause after a failure, while no session is held.
const CAP: Duration = Duration::from_secs(60);

/// Sends heartbeats until it is cancelled; the first at once, since it is also the receipt for the secret.
pub(crate) async fn run(agent: &Agent, shutdown: &CancellationToken) {
    let mut host = Host::new();
    let mut told: Option<StaticInfo> = None;
    let mut backoff = Backoff::default();
    loop {
        let (measured, request, info) = measure(agent, host, told.as_ref()).await;
        host = measured;
        let answer = shutdown.run_until_cancelled(send(agent, &request)).await;
        let wait = match answer {
            None => return,
            Some(Ok(answer)) => {
                backoff.reset();
                told = info.or(told);
                agent.client.set_clock(&answer.server_time);
                agent.sessions.end(&answer.terminate);
                agent.set_resume_grace(answer.resume_grace);
                jittered(answer.interval.clamp(BOUNDS.0, BOUNDS.1))
            }
            Some(Err(error)) => {
                report(&error);
                let cap = if agent.sessions.ids().is_empty() { CAP } else { crate::relay::CAP };
                backoff.next(cap, &mut crate::backoff::dice())
            }
        };
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

async fn send(agent: &Agent, request: &HeartbeatRequest) -> Result<HeartbeatResponse, ClientError> {
    agent.client.post(&agent.key, agent.identity.client_id(), "heartbeat", request).await
}

/// Measures the host off the async threads; what it is goes along only when it changed.
async fn measure(
    agent: &Agent,
    mut host: Host,
    told: Option<&StaticInfo>,
) -> (Host, HeartbeatRequest, Option<StaticInfo>) {
    let measured = tokio::task::spawn_blocking(move || {
        let (info, metrics) = (host.static_info(), host.metrics());
        (host, info, metrics)
    });
    let (host, info, metrics) = measured.await.unwrap_or_default();
    let info = (told != Some(&info)).then_some(info);
    let sessions = agent.sessions.ids();
    let request = HeartbeatRequest {
        id: agent.identity.client_id().to_owned(),
        metrics,
        static_info: info.clone(),
        version: crate::VERSION.to_owned(),
        tty_status: TtyStatus {
            active_sessions: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
            sessions,
        },
    };
    (host, request, info)
}

/// The interval, a tenth more or less.
fn jittered(interval: u32) -> Duration {
    Duration::from_secs(interval.into()).mul_f64(crate::backoff::dice().random_range(0.9..=1.1))
}

/// Says once, where it is handled, what went wrong and what to do about it.
pub(crate) fn report(error: &ClientError) {
    match error {
        ClientError::Refused(problem) if problem.code == "bad_signature" => tracing::error!(
            "the bastion no longer accepts this agent's secret: its asset was deleted, or the secret replaced. \
             To apply again, stop the agent and remove agent_secret_key from its state folder"
        ),
        ClientError::Refused(problem) if problem.code == "clock_skew" => {
            tracing::warn!("the bastion refused this host's clock; its own is used from now on");
        }
        other => tracing::warn!(error = %other, "trying again"),
    }
}
