//! One pass over a cast that makes everything derived from it: segments, transcript, commands. Bytes in, bytes out.
//!
//! A terminal is by far the dearest thing here, so there is one, and everybody watches it.

use avt::observer::{ShellEvent, ShellTracker};
use avt::parser::Function;
use avt::{Observation, Observer, Operation};

use crate::asciicast::read::{CastError, Head, Lines, line};
use crate::commands::{Command, Commands};
use crate::screen::Played;
use crate::segments::{Cutter, Segment};
use crate::transcript::{Encoder, Writing};

/// What comes out on the way.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) segments: Vec<Segment>,
    /// The next bytes of the transcript's JSON.
    pub(crate) transcript: Vec<u8>,
}

/// What comes out at the end.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The segments' index, if there are segments.
    pub(crate) index: Option<Vec<u8>>,
    pub(crate) commands: Vec<Command>,
}

/// A pass under way; holds a screen, and two segments if it makes any.
pub(crate) struct Pass {
    lines: Lines,
    /// Bytes of a segment, if there are to be segments.
    segment_bytes: Option<usize>,
    run: Option<Run>,
}

impl Pass {
    pub(crate) fn new(segment_bytes: Option<usize>) -> Self {
        Self { lines: Lines::at(0), segment_bytes, run: None }
    }

    /// Takes the next bytes of the plain cast, cut anywhere.
    pub(crate) fn push(&mut self, plain: &[u8], made: &mut Made) -> Result<(), CastError> {
        self.lines.push(plain);
        while let Some((at, line)) = self.lines.next() {
            match &mut self.run {
                Some(run) => run.line(at, &line, made)?,
                None => self.run = Some(Run::new(&Head::parse(&line)?, self.segment_bytes)),
            }
        }
        Ok(())
    }

    /// Ends the pass.
    pub(crate) fn finish(self, made: &mut Made) -> Result<Finished, CastError> {
        if !self.lines.is_empty() {
            return Err(CastError::Line(self.lines.place()));
        }
        Ok(self.run.ok_or(CastError::Header)?.finish(made))
    }
}

struct Run {
    screen: Played,
    watch: Watch,
    cutter: Option<Cutter>,
    commands: Commands,
    transcript: Encoder,
    last: std::time::Duration,
}

impl Run {
    fn new(head: &Head, segment_bytes: Option<usize>) -> Self {
        let size = (head.width, head.height);
        Self {
            screen: Played::new(size.0, size.1),
            watch: Watch::default(),
            cutter: segment_bytes.map(|bytes| Cutter::new(size, bytes)),
            commands: Commands::default(),
            transcript: Encoder::default(),
            last: std::time::Duration::ZERO,
        }
    }

    fn line(&mut self, at: u64, bytes: &[u8], made: &mut Made) -> Result<(), CastError> {
        let event = line(bytes).filter(|event| event.at >= self.last).ok_or(CastError::Line(at))?;
        self.last = event.at;
        if let Some(cutter) = &mut self.cutter {
            made.segments.extend(cutter.event(event.at, bytes, at, &self.screen));
        }
        self.watch.lines.tick(event.at);
        match event.code {
            b'o' => self.screen.feed(&event.data, &mut self.watch),
            b'm' => self.cutter.iter_mut().for_each(|cutter| cutter.marker(&event.data)),
            _ => {
                if let Some((cols, rows)) = event.size() {
                    self.screen.resize(cols, rows, &mut self.watch);
                }
            }
        }
        for shell in self.watch.events.drain(..) {
            if let Some(n) = self.commands.event(shell, event.at)
                && let Some(cutter) = &mut self.cutter
            {
                cutter.command(n, &self.commands.all()[n]);
            }
        }
        self.write(made);
        Ok(())
    }

    fn finish(mut self, made: &mut Made) -> Finished {
        self.watch.lines.finish(self.screen.terminal());
        self.write(made);
        self.transcript.finish(&mut made.transcript);
        let index = self.cutter.map(|cutter| {
            let (segments, index) = cutter.finish(self.commands.all());
            made.segments.extend(segments);
            index
        });
        Finished { index, commands: self.commands.into_all() }
    }

    fn write(&mut self, made: &mut Made) {
        for (written, line) in self.watch.lines.drain() {
            self.transcript.line(written, line, &mut made.transcript);
        }
    }
}

/// Everybody who watches the terminal.
#[derive(Default)]
struct Watch {
    lines: Writing,
    shell: ShellTracker,
    events: Vec<ShellEvent>,
}

impl Observer for Watch {
    type Output = ();

    fn begin(&mut self, context: &mut Observation<'_>) {
        self.lines.begin(context);
    }

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        if matches!(operation, Operation::Function(Function::Ris)) {
            self.lines.before(context, operation);
        }
        self.shell.before(context, operation);
    }

    fn after(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        self.lines.after(context, operation);
    }

    fn evicted(&mut self, context: &mut Observation<'_>, line: &avt::Line) {
        self.lines.evicted(context, line);
    }

    fn end(&mut self, context: &mut Observation<'_>) {
        self.events.append(&mut self.shell.end(context));
    }
}

#[cfg(test)]
mod tests;
