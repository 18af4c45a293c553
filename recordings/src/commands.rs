//! Commands as a shell with OSC 133 marks them: what was typed, as it stood on the screen, when, and how it ended.
//!
//! Marks are output like any other: a program can forge them. They are a table of contents, not evidence.

use std::time::Duration;

use avt::observer::{CommandId, ShellEvent};
use serde::{Deserialize, Serialize};

use crate::asciicast::{MAX_LABEL, printable};
use crate::chunks::seconds;

/// Commands kept of one recording; more are left out.
const MOST: usize = 10_000;
/// Characters kept of a command.
const MAX_TEXT: usize = 1000;

/// One command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Seconds from the start: when it was submitted.
    pub t: f64,
    /// As it stood on the screen, 1,000 characters at most; none if that could not be told (more than one line).
    pub text: Option<String>,
    /// Its exit status, if the shell told.
    pub exit: Option<u8>,
}

impl Command {
    /// Below 100 characters; with the status if that is not 0.
    pub fn label(&self) -> String {
        let exit = self.exit.filter(|exit| *exit != 0).map(|exit| format!(" (exit {exit})"));
        let exit = exit.unwrap_or_default();
        let text = self.text.as_deref().unwrap_or("command");
        let room = MAX_LABEL - exit.len();
        if text.chars().count() <= room {
            return format!("{text}{exit}");
        }
        format!("{}…{exit}", printable(text, room - 1))
    }
}

/// Collects commands from what a shell tells.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    all: Vec<Command>,
    running: Option<(CommandId, usize)>,
}

impl Commands {
    /// The number of the command that `event` at `at` begins, if it does.
    pub(crate) fn event(&mut self, event: ShellEvent, at: Duration) -> Option<usize> {
        match event {
            ShellEvent::CommandSubmitted(command) => {
                self.running = None;
                let text = command.text.map(|text| printable(&text, MAX_TEXT));
                if self.all.len() == MOST || text.as_deref().is_some_and(str::is_empty) {
                    return None;
                }
                let n = self.all.len();
                self.running = Some((command.id, n));
                self.all.push(Command { t: seconds(at), text, exit: None });
                Some(n)
            }
            ShellEvent::CommandFinished { id, exit_status } => {
                let (_, n) = self.running.take().filter(|(running, _)| *running == id)?;
                self.all[n].exit = exit_status;
                None
            }
            ShellEvent::PromptStarted(_) | ShellEvent::CommandCancelled { .. } => None,
        }
    }

    pub(crate) fn all(&self) -> &[Command] {
        &self.all
    }

    pub(crate) fn into_all(self) -> Vec<Command> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_short_and_tells_of_failure() {
        let label = |text: Option<&str>, exit| Command { t: 0.0, text: text.map(Into::into), exit }.label();
        assert_eq!(label(Some("make test"), Some(0)), "make test");
        assert_eq!(label(Some("make test"), Some(2)), "make test (exit 2)");
        assert_eq!(label(None, None), "command");
        let long = label(Some(&"é".repeat(200)), Some(130));
        assert_eq!(long.chars().count(), 99);
        assert!(long.ends_with("é… (exit 130)"), "{long}");
    }
}
