//! Any interleaving of disconnects, restarts, power cuts, lost and repeated acknowledgements: every byte of output
//! is shown once and recorded once (or declared lost), every byte of input reaches the shell once, and is recorded
//! once where the terminal showed it, and nowhere where it did not.

use std::collections::VecDeque;

use openapi::frames::{INPUT_WINDOW, OUTPUT_WINDOW};

use super::*;

/// The byte at an offset of either stream.
fn byte(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn bytes(from: u64, to: u64) -> Bytes {
    (from..to).map(byte).collect()
}

fn check(offset: u64, bytes: &Bytes) {
    assert!(bytes.iter().enumerate().all(|(at, it)| *it == byte(offset + at as u64)), "a wrong byte");
}

/// The agent: what it printed, what is acknowledged, what it has of the input.
#[derive(Default)]
struct Agent {
    link: Option<u32>,
    /// A link that waits for `resume` passes nothing on.
    greeted: bool,
    printed: u64,
    acked: u64,
    received: u64,
    taken: u64,
    /// Whether the terminal echoes now, and did for each byte that it took.
    echoes: bool,
    echoed: Vec<bool>,
    /// What it said of that; one that is forgetful says only the last word again.
    changes: Vec<(u64, bool)>,
    forgetful: bool,
    /// The bastion was restarted, so it cannot know what was typed from here to there.
    restarted: bool,
    unknown: Vec<(u64, u64)>,
    outgoing: VecDeque<Frame>,
}

impl Agent {
    fn print(&mut self, count: u64) {
        let to = (self.printed + count).min(self.acked + OUTPUT_WINDOW);
        if self.greeted {
            self.send(self.printed, to);
        }
        self.printed = to;
    }

    fn send(&mut self, mut from: u64, to: u64) {
        while from < to {
            let end = (from + 3000).min(to);
            self.outgoing.push_back(Frame::Data { offset: from, bytes: bytes(from, end) });
            from = end;
        }
    }

    fn hear(&mut self, frame: Frame) {
        match frame {
            Frame::Control(Control::Resume { have, input }) => {
                assert!(have <= self.printed && input <= self.taken);
                self.acked = self.acked.max(have);
                (self.greeted, self.received) = (true, self.taken);
                if self.restarted {
                    self.unknown.push((input, self.taken));
                }
                self.outgoing.push_back(control(Control::Hello { have: self.acked }));
                let first = self.changes.iter().rposition(|(at, _)| *at <= input).unwrap_or(0);
                let first = if self.forgetful { self.changes.len().saturating_sub(1) } else { first };
                let changes =
                    self.changes[first..].iter().map(|(offset, on)| Frame::Echo { offset: *offset, on: *on });
                self.outgoing.extend(changes);
                self.outgoing.push_back(Frame::Ack(self.taken));
                self.send(self.acked, self.printed);
            }
            Frame::Ack(taken) => {
                assert!(taken <= self.printed);
                self.acked = self.acked.max(taken);
            }
            Frame::Data { offset, bytes } => {
                assert_eq!(offset, self.received, "input with a gap or an overlap");
                check(offset, &bytes);
                self.received += bytes.len() as u64;
                assert!(self.received - self.taken <= INPUT_WINDOW);
            }
            Frame::Resize { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, count: u64) {
        let (offset, on) = (self.taken, self.echoes);
        self.taken = (self.taken + count).min(self.received);
        self.echoed.resize(usize::try_from(self.taken).unwrap(), on);
        let news = offset < self.taken && self.changes.last().is_none_or(|(_, last)| *last != on);
        if news {
            self.changes.push((offset, on));
        }
        if self.greeted {
            // Only the latest acknowledgement is sent, after every word on echo before it.
            self.outgoing.retain(|frame| !matches!(frame, Frame::Ack(_)));
            self.outgoing.extend(news.then_some(Frame::Echo { offset, on }));
            self.outgoing.push_back(Frame::Ack(self.taken));
        }
    }
}

/// The browser: what it was shown, what it typed.
#[derive(Default)]
struct Browser {
    link: Option<u32>,
    ready: bool,
    shown: u64,
    typed: u64,
    sent: u64,
    acked: u64,
    outgoing: VecDeque<Frame>,
}

impl Browser {
    fn hear(&mut self, frame: Frame) {
        match frame {
            Frame::Control(Control::Ready { input, .. }) => {
                assert!(input <= self.typed, "more input than was typed");
                // A bastion that was restarted may have lost what it had taken and the host had not.
                (self.ready, self.acked, self.sent) = (true, input, input);
                self.pump();
            }
            Frame::Data { offset, bytes } => {
                assert_eq!(offset, self.shown, "output with a gap or an overlap");
                check(offset, &bytes);
                self.shown += bytes.len() as u64;
            }
            Frame::Screen { offset, bytes, .. } => {
                assert_eq!(bytes, Bytes::from(offset.to_be_bytes().to_vec()));
                self.shown = offset;
            }
            Frame::Ack(taken) => {
                assert!(taken <= self.sent, "input acknowledged that was not sent");
                self.acked = self.acked.max(taken);
                self.pump();
            }
            Frame::Resized { .. } | Frame::Control(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn pump(&mut self) {
        while self.ready && self.sent < self.typed.min(self.acked + INPUT_WINDOW) {
            let end = (self.sent + 1000).min(self.typed).min(self.acked + INPUT_WINDOW);
            self.outgoing.push_back(Frame::Data { offset: self.sent, bytes: bytes(self.sent, end) });
            self.sent = end;
        }
    }
}

/// What is recorded: ends of the whole records, and what is known to be lost.
#[derive(Default)]
struct Journal {
    output: u64,
    /// Input, byte by byte; none: masked.
    typed: Vec<Option<u8>>,
    gaps: Vec<(u64, u64)>,
}

fn recorded_terms() -> Terms {
    Terms { records_input: true, ..terms() }
}

struct World {
    machine: Machine,
    agent: Agent,
    browser: Browser,
    journal: Journal,
    to_agent: VecDeque<Frame>,
    to_browser: VecDeque<Frame>,
    /// A browser that waits for its screen.
    drawing: Option<(u32, u64)>,
    sockets: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Print(u64),
    Type(u64),
    Take(u64),
    Echo(bool),
    /// Keys that go straight to the host, which takes some; what it says of them is still under way.
    Keys {
        typed: u64,
        taken: u64,
        on: bool,
    },
    Acknowledge,
    AcknowledgeOld(u64),
    FromAgent(usize),
    ToAgent(usize),
    FromBrowser(usize),
    ToBrowser(usize),
    Draw,
    CutAgent,
    CutBrowser,
    AgentBack,
    BrowserBack,
    Reload,
    Restart,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..80_000).prop_map(Step::Print),
        2 => (1u64..20_000).prop_map(Step::Type),
        2 => (1u64..30_000).prop_map(Step::Take),
        2 => any::<bool>().prop_map(Step::Echo),
        12 => (1u64..2_000, 1u64..2_000, any::<bool>()).prop_map(|(typed, taken, on)| Step::Keys { typed, taken, on }),
        3 => Just(Step::Acknowledge),
        1 => (0u64..500_000).prop_map(Step::AcknowledgeOld),
        5 => (1usize..40).prop_map(Step::FromAgent),
        5 => (1usize..40).prop_map(Step::ToAgent),
        5 => (1usize..40).prop_map(Step::FromBrowser),
        5 => (1usize..40).prop_map(Step::ToBrowser),
        2 => Just(Step::Draw),
        1 => Just(Step::CutAgent),
        1 => Just(Step::CutBrowser),
        2 => Just(Step::AgentBack),
        2 => Just(Step::BrowserBack),
        1 => Just(Step::Reload),
        1 => Just(Step::Restart),
        1 => (0u64..100_000).prop_map(Step::PowerCut),
    ]
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            machine: Machine::new(recorded_terms()),
            agent: Agent { greeted: true, link: Some(1), ..Agent::default() },
            browser: Browser::default(),
            journal: Journal::default(),
            to_agent: VecDeque::new(),
            to_browser: VecDeque::new(),
            drawing: None,
            sockets: 1,
        };
        world.on(Event::RelayHere { socket: 1, resumes: false });
        world.agent.outgoing.push_back(hello());
        world.browser_back();
        world
    }

    fn on(&mut self, event: Event) {
        let actions = self.machine.on(event, Duration::ZERO);
        let mut actions: VecDeque<_> = actions.into();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::RecordOutput { offset, bytes } => {
                    assert_eq!(offset, self.journal.output);
                    check(offset, &bytes);
                    self.journal.output += bytes.len() as u64;
                }
                Action::RecordGap { lost } => {
                    self.journal.gaps.push((self.journal.output, self.journal.output + lost));
                    self.journal.output += lost;
                }
                Action::RecordInput { offset, bytes } => {
                    assert_eq!(
                        offset,
                        self.journal.typed.len() as u64,
                        "input recorded with a gap or an overlap"
                    );
                    check(offset, &bytes);
                    self.journal.typed.extend(bytes.iter().copied().map(Some));
                }
                Action::RecordMasked { end } => {
                    assert!(end > self.journal.typed.len() as u64, "a mask of nothing");
                    self.journal.typed.resize(usize::try_from(end).unwrap(), None);
                }
                Action::ToBrowser(Frame::Ack(taken)) => {
                    assert!(taken <= self.journal.typed.len() as u64, "acknowledged before it was recorded");
                    self.to_browser.push_back(Frame::Ack(taken));
                }
                Action::ToBrowser(frame) => self.to_browser.push_back(frame),
                Action::ToRelay(frame) => {
                    if let Frame::Ack(taken) = frame {
                        assert!(taken <= self.journal.output, "acknowledged before it was recorded");
                    }
                    self.to_agent.push_back(frame);
                }
                Action::Replay { socket, from, to } => {
                    if self.journal.gaps.iter().any(|(start, end)| from < *end && *start < to) {
                        actions.retain(|it| !matches!(it, Action::ToBrowser(Frame::Data { .. })));
                        actions.extend(self.machine.on(Event::NoReplay(socket), Duration::ZERO));
                    } else if from < to {
                        let frame = Frame::Data { offset: from, bytes: bytes(from, to) };
                        self.to_browser.push_back(frame);
                    }
                }
                // The stream goes on while it is drawn.
                Action::Draw(socket) => self.drawing = Some((socket, self.journal.output)),
                Action::DropBrowser(_) => self.lose_browser(),
                Action::DropRelay(_) => self.to_agent.clear(),
                Action::Finish { reason, browser, relay, .. } => {
                    panic!("ended: {reason:?} {browser:?} {relay:?}")
                }
                _ => {}
            }
        }
    }

    fn lose_browser(&mut self) {
        self.to_browser.clear();
        self.browser.outgoing.clear();
        (self.browser.link, self.browser.ready) = (None, false);
    }

    fn lose_agent(&mut self) {
        self.to_agent.clear();
        self.agent.outgoing.clear();
        (self.agent.link, self.agent.greeted) = (None, false);
    }

    fn browser_back(&mut self) {
        self.lose_browser();
        self.sockets += 1;
        self.on(Event::BrowserHere { socket: self.sockets, plain: false, read_only: false });
        self.browser.link = Some(self.sockets);
        self.browser.outgoing.push_back(control(Control::Hello { have: self.browser.shown }));
    }

    /// Half the time the bastion has not noticed that the socket before is gone.
    fn agent_back(&mut self) {
        self.lose_agent();
        self.sockets += 1;
        self.agent.link = Some(self.sockets);
        self.on(Event::RelayHere { socket: self.sockets, resumes: true });
    }

    /// A new start of the bastion; `lost` bytes at the journal's end were not on the disk yet.
    fn restart(&mut self, lost: u64) {
        self.lose_agent();
        self.lose_browser();
        self.drawing = None;
        let floor = self.journal.gaps.last().map_or(0, |(_, end)| *end);
        self.journal.output = self.journal.output.saturating_sub(lost).max(floor);
        let kept = self.journal.typed.len().saturating_sub(usize::try_from(lost).unwrap());
        self.journal.typed.truncate(kept);
        self.agent.restarted = true;
        let recorded = Recorded { output: self.journal.output, input: kept as u64 };
        self.machine = Machine::resumed(recorded_terms(), (80, 24), recorded, Duration::ZERO);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Print(count) => self.agent.print(count),
            Step::Type(count) => {
                self.browser.typed += count;
                self.browser.pump();
            }
            Step::Take(count) => self.agent.take(count),
            Step::Echo(on) => self.agent.echoes = on,
            Step::Keys { typed, taken, on } => {
                self.agent.echoes = on;
                for step in [Step::Type(typed), Step::FromBrowser(10), Step::ToAgent(10), Step::Take(taken)] {
                    self.take(&step);
                }
            }
            Step::Acknowledge if self.browser.ready => {
                self.browser.outgoing.push_back(Frame::Ack(self.browser.shown));
            }
            Step::AcknowledgeOld(count) if self.browser.ready => {
                self.browser.outgoing.push_back(Frame::Ack(count.min(self.browser.shown)));
            }
            Step::FromAgent(count) => self.agent_says(count),
            Step::ToAgent(count) => self.deliver_to_agent(count),
            Step::FromBrowser(count) => self.browser_says(count),
            Step::ToBrowser(count) => self.deliver_to_browser(count),
            Step::Draw => self.draw(),
            Step::CutAgent => {
                if let Some(link) = self.agent.link {
                    self.lose_agent();
                    self.on(Event::RelayGone(link, None));
                }
            }
            Step::CutBrowser => {
                if let Some(link) = self.browser.link {
                    self.lose_browser();
                    self.on(Event::BrowserGone(link, None));
                }
            }
            Step::AgentBack => self.agent_back(),
            Step::BrowserBack => self.browser_back(),
            Step::Reload => {
                self.browser.shown = 0;
                // What a page typed and lost with itself is typed again by its user, or not.
                self.browser_back();
            }
            Step::Restart => self.restart(0),
            Step::PowerCut(lost) => self.restart(lost),
            Step::Acknowledge | Step::AcknowledgeOld(_) => {}
        }
    }

    fn agent_says(&mut self, count: usize) {
        for _ in 0..count {
            let Some(link) = self.agent.link else { return };
            let Some(frame) = self.agent.outgoing.pop_front() else { return };
            self.on(Event::Relay(link, frame));
        }
    }

    fn deliver_to_agent(&mut self, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.to_agent.pop_front() else { return };
            self.agent.hear(frame);
        }
    }

    fn browser_says(&mut self, count: usize) {
        for _ in 0..count {
            let Some(link) = self.browser.link else { return };
            let Some(frame) = self.browser.outgoing.pop_front() else { return };
            self.on(Event::Browser(link, frame));
        }
    }

    fn deliver_to_browser(&mut self, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.to_browser.pop_front() else { return };
            self.browser.hear(frame);
        }
    }

    fn draw(&mut self) {
        if let Some((socket, offset)) = self.drawing.take() {
            let bytes = Bytes::from(offset.to_be_bytes().to_vec());
            self.on(Event::Drawn(socket, Screen { offset, cols: 80, rows: 24, bytes }));
        }
    }

    /// Of all that the host took, what it showed is recorded, but where nobody could know; the rest is masked.
    fn typed_is_recorded(&self) {
        let (typed, agent) = (&self.journal.typed, &self.agent);
        assert_eq!(typed.len() as u64, agent.taken);
        for (at, kept) in typed.iter().enumerate() {
            assert!(kept.is_none() || agent.echoed[at], "a hidden key is recorded at {at}");
            let known = !agent.unknown.iter().any(|(from, to)| (*from..*to).contains(&(at as u64)));
            assert!(
                kept.is_some() || !agent.echoed[at] || !known || agent.forgetful,
                "a shown key is masked at {at}"
            );
        }
    }

    /// Everything connects and all that waits arrives.
    fn settle(&mut self) {
        self.agent_back();
        self.browser_back();
        for _ in 0..2000 {
            for step in [
                Step::FromAgent(100),
                Step::ToAgent(100),
                Step::Take(u64::MAX / 2),
                Step::FromBrowser(100),
                Step::Draw,
                Step::ToBrowser(100),
                Step::Acknowledge,
            ] {
                self.take(&step);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_shows_and_records_every_byte_once(
        steps in proptest::collection::vec(step(), 0..120),
        forgetful: bool,
    ) {
        let mut world = World::new();
        world.agent.forgetful = forgetful;
        // The shell is there before anything is lost: what never began is not gone on with.
        world.agent_says(1);
        world.browser_says(1);
        world.deliver_to_browser(1);
        for step in &steps {
            world.take(step);
        }
        world.settle();
        prop_assert_eq!(world.journal.output, world.agent.printed);
        prop_assert_eq!(world.browser.shown, world.agent.printed);
        prop_assert_eq!(world.agent.acked, world.agent.printed);
        prop_assert_eq!(world.agent.taken, world.browser.typed);
        world.typed_is_recorded();
    }
}
