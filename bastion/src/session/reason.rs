//! Why sessions end, and what each side is told.

use openapi::frames::close;

use super::outbox::Close;

/// Why a session ended: the contract's `end_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The shell exited.
    Exit,
    /// Its user closed it.
    Closed,
    /// No browser came back in time.
    Detached,
    /// No key was typed for too long.
    Idle,
    /// It lived as long as it may.
    MaxTime,
    /// An admin ended it.
    EndedByAdmin,
    /// Its user may no longer have it.
    Policy,
    /// The agent's socket went, and no other came in time.
    HostGone,
    /// The agent never came.
    NoAgent,
    /// The recorder failed.
    RecordingFailed,
    /// Somebody broke the protocol, or the bastion failed.
    Error,
}

const ALL: [Reason; 11] = [
    Reason::Exit,
    Reason::Closed,
    Reason::Detached,
    Reason::Idle,
    Reason::MaxTime,
    Reason::EndedByAdmin,
    Reason::Policy,
    Reason::HostGone,
    Reason::NoAgent,
    Reason::RecordingFailed,
    Reason::Error,
];

impl Reason {
    /// As stored and published.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Exit => "exit",
            Reason::Closed => "closed",
            Reason::Detached => "detached",
            Reason::Idle => "idle",
            Reason::MaxTime => "max_time",
            Reason::EndedByAdmin => "ended_by_admin",
            Reason::Policy => "policy",
            Reason::HostGone => "host_gone",
            Reason::NoAgent => "no_agent",
            Reason::RecordingFailed => "recording_failed",
            Reason::Error => "error",
        }
    }

    /// From what is stored.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The status the session's row ends with.
    pub fn status(self) -> &'static str {
        match self {
            Reason::Exit
            | Reason::Closed
            | Reason::Detached
            | Reason::Idle
            | Reason::MaxTime
            | Reason::EndedByAdmin
            | Reason::Policy => "closed",
            Reason::HostGone | Reason::NoAgent | Reason::RecordingFailed | Reason::Error => "error",
        }
    }

    /// How the sockets of a session that ended for this are closed.
    pub fn close(self) -> Close {
        let (code, sentence) = match self {
            Reason::Exit => (close::EXIT, "The shell has ended."),
            Reason::Closed => (close::EXIT, "You closed this session."),
            Reason::Detached => (close::EXIT, "No browser came back to this session in time."),
            Reason::Idle => (close::TIMEOUT, "No key was typed for too long."),
            Reason::MaxTime => (close::TIMEOUT, "The session has lived as long as it may."),
            Reason::EndedByAdmin => (close::ENDED_BY_ADMIN, "An administrator ended this session."),
            Reason::Policy => (close::POLICY, "You may no longer use this host."),
            Reason::HostGone => (close::HOST_GONE, "The connection to the host is gone."),
            Reason::NoAgent => (close::HOST_GONE, "The host did not answer in time."),
            Reason::RecordingFailed => (close::RECORDING_FAILED, "The session can no longer be recorded."),
            Reason::Error => (close::FAULT, "Something went wrong; the session had to end."),
        };
        Close::new(code, sentence)
    }
}

/// How a shell ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit status.
    pub code: Option<i32>,
    /// As in `SIGHUP`.
    pub signal: Option<String>,
}
