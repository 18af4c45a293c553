//! How a session and its socket part, and which partings end the session.

use openapi::frames::close;

/// How a session and its socket parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The bastion closed with this code.
    Closed(u16),
    /// The socket is gone, or silent for too long.
    Lost,
    /// The bastion broke the protocol.
    Broken,
    /// The terminal failed.
    Fault,
    /// The agent stops, or the bastion took too long to close.
    Over,
    /// The bastion says that the session is over, when asked to resume it.
    Gone,
    /// The bastion did not come back in time.
    Abandoned,
}

impl Parting {
    /// Whether the session goes on, on another socket.
    #[must_use]
    pub fn resumes(self) -> bool {
        match self {
            Self::Lost => true,
            Self::Closed(code) => !matches!(
                code,
                close::EXIT
                    | close::PROTOCOL
                    | close::TICKET
                    | close::POLICY
                    | close::TIMEOUT
                    | close::ENDED_BY_ADMIN
                    | close::HOST_GONE
                    | close::RECORDING_FAILED
                    | close::FAULT
            ),
            Self::Broken | Self::Fault | Self::Over | Self::Gone | Self::Abandoned => false,
        }
    }

    /// What the bastion is told.
    #[must_use]
    pub fn farewell(self) -> (u16, &'static str) {
        match self {
            Self::Closed(_) | Self::Lost | Self::Over | Self::Gone | Self::Abandoned => {
                (close::EXIT, "the session is over")
            }
            Self::Broken => (close::PROTOCOL, "the bastion broke the protocol"),
            Self::Fault => (close::FAULT, "the host's terminal failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_the_word_of_the_contract_and_by_nothing_else() {
        let end = [1000, 4400, 4401, 4403, 4408, 4410, 4411, 4423, 4500];
        assert!(end.iter().all(|code| !Parting::Closed(*code).resumes()));
        let go_on = [1001, 1002, 1005, 1006, 1009, 1011, 1012, 1013, 3000, 4000, 4409, 4999];
        assert!(go_on.iter().all(|code| Parting::Closed(*code).resumes()));
        assert!(Parting::Lost.resumes());
    }
}
