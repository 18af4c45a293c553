//! What the machine does with every event, and when.

use openapi::frames::OUTPUT_WINDOW;
use proptest::prelude::*;

use super::*;

/// The browser's socket, and the agent's.
const B: u32 = 1;
const R: u32 = 2;

fn terms() -> Terms {
    Terms {
        id: "s".into(),
        cols: 80,
        rows: 24,
        read_only: false,
        records_input: false,
        idle_timeout: None,
        max_duration: None,
        detach_grace: Duration::from_secs(300),
        resume_grace: Duration::from_secs(60),
    }
}

fn recorded(output: u64) -> Recorded {
    Recorded { output, input: 0 }
}

fn opened(terms: Terms) -> Machine {
    let mut machine = Machine::new(terms);
    machine.on(Event::BrowserHere { socket: B, plain: false, read_only: false }, Duration::ZERO);
    machine.on(Event::RelayHere { socket: R, resumes: false }, Duration::ZERO);
    machine
}

fn hello() -> Frame {
    Frame::Control(Control::Hello { have: 0 })
}

fn data(offset: u64, bytes: &'static [u8]) -> Frame {
    Frame::Data { offset, bytes: Bytes::from_static(bytes) }
}

fn active(terms: Terms) -> Machine {
    let mut machine = opened(terms);
    machine.on(Event::Browser(B, hello()), Duration::ZERO);
    machine.on(Event::Relay(R, hello()), Duration::ZERO);
    machine
}

fn ended(actions: &[Action]) -> Option<(Reason, u16, u16)> {
    actions.iter().find_map(|action| match action {
        Action::Finish { reason, browser, relay, .. } => Some((*reason, browser.code, relay.code)),
        _ => None,
    })
}

#[test]
fn input_is_recorded_when_the_host_has_taken_it_and_before_its_browser_hears_so() {
    let mut machine = active(Terms { records_input: true, ..terms() });
    machine.on(Event::Browser(B, data(0, b"ls")), Duration::ZERO);
    machine.on(Event::Relay(R, Frame::Echo { offset: 0, on: true }), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, Frame::Ack(2)), Duration::ZERO);
    let bytes = Bytes::from_static(b"ls");
    assert_eq!(actions, [Action::RecordInput { offset: 0, bytes }, Action::ToBrowser(Frame::Ack(2))]);
    machine.on(Event::Relay(R, Frame::Echo { offset: 2, on: false }), Duration::ZERO);
    machine.on(Event::Browser(B, data(2, b"secret")), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, Frame::Ack(8)), Duration::ZERO);
    assert_eq!(actions, [Action::RecordMasked { end: 8 }, Action::ToBrowser(Frame::Ack(8))]);
}

#[test]
fn input_whose_echo_was_lost_with_a_socket_is_masked() {
    let mut machine = active(Terms { records_input: true, ..terms() });
    machine.on(Event::Relay(R, Frame::Echo { offset: 0, on: true }), Duration::ZERO);
    machine.on(Event::Browser(B, data(0, b"secret")), Duration::ZERO);
    machine.on(Event::RelayGone(R, None), Duration::ZERO);
    machine.on(Event::RelayHere { socket: 3, resumes: true }, Duration::ZERO);
    machine.on(Event::Relay(3, hello()), Duration::ZERO);
    let actions = machine.on(Event::Relay(3, Frame::Ack(6)), Duration::ZERO);
    assert_eq!(actions[0], Action::RecordMasked { end: 6 });
}

#[test]
fn a_session_that_records_no_input_records_none_whatever_its_agent_says() {
    let mut machine = active(terms());
    machine.on(Event::Relay(R, Frame::Echo { offset: 0, on: true }), Duration::ZERO);
    machine.on(Event::Browser(B, data(0, b"ls")), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, Frame::Ack(2)), Duration::ZERO);
    assert_eq!(actions, [Action::ToBrowser(Frame::Ack(2))]);
}

#[test]
fn a_browser_is_ready_when_the_agent_has_come() {
    let mut machine = opened(terms());
    assert_eq!(machine.on(Event::Browser(B, hello()), Duration::ZERO), []);
    let actions = machine.on(Event::Relay(R, hello()), Duration::ZERO);
    assert_eq!(actions[0], Action::Begin);
    assert!(matches!(&actions[1], Action::ToBrowser(Frame::Control(Control::Ready { input: 0, .. }))));
}

#[test]
fn output_is_recorded_before_it_is_shown_and_acknowledged_when_parsed() {
    let mut machine = active(terms());
    let actions = machine.on(Event::Relay(R, data(0, b"abc")), Duration::ZERO);
    let bytes = Bytes::from_static(b"abc");
    assert_eq!(actions, [Action::RecordOutput { offset: 0, bytes }, Action::ToBrowser(data(0, b"abc"))]);
    assert_eq!(
        machine.on(Event::Browser(B, Frame::Ack(3)), Duration::ZERO),
        [Action::ToRelay(Frame::Ack(3))]
    );
    assert_eq!(machine.on(Event::Browser(B, Frame::Ack(2)), Duration::ZERO), []);
}

#[test]
fn an_agent_that_exceeds_its_window_is_closed_and_the_browser_told() {
    let mut machine = active(terms());
    let piece = Bytes::from(vec![0; 32_768]);
    for index in 0..8 {
        let frame = Frame::Data { offset: index * 32_768, bytes: piece.clone() };
        assert_eq!(ended(&machine.on(Event::Relay(R, frame), Duration::ZERO)), None);
    }
    let actions = machine.on(Event::Relay(R, data(OUTPUT_WINDOW, b"x")), Duration::ZERO);
    assert_eq!(ended(&actions), Some((Reason::Error, 4500, 4400)));
}

#[test]
fn every_breach_by_the_browser_is_closed_with_4400() {
    let big = || Frame::Data { offset: 0, bytes: Bytes::from(vec![0; 65_537]) };
    let breaches: [fn() -> Frame; 5] = [
        || data(1, b"gap"),
        || Frame::Ack(1),
        || Frame::Control(Control::Hello { have: 0 }),
        || Frame::Echo { offset: 0, on: true },
        || Frame::Resized { offset: 0, cols: 1, rows: 1 },
    ];
    for breach in breaches.into_iter().chain([big as fn() -> Frame]) {
        let mut machine = active(terms());
        let actions = machine.on(Event::Browser(B, breach()), Duration::ZERO);
        assert_eq!(
            ended(&actions).map(|(reason, browser, _)| (reason, browser)),
            Some((Reason::Error, 4400))
        );
        assert!(machine.is_over());
    }
    let mut machine = opened(terms());
    let actions = machine.on(Event::Browser(B, data(0, b"early")), Duration::ZERO);
    assert_eq!(ended(&actions).map(|ended| ended.1), Some(4400));
}

#[test]
fn an_agent_that_does_not_come_is_given_up_after_twenty_seconds() {
    let mut machine = Machine::new(terms());
    assert_eq!(machine.next_deadline(), Some(Duration::from_secs(20)));
    assert_eq!(machine.on(Event::Tick, Duration::from_secs(19)), []);
    assert_eq!(ended(&machine.on(Event::Tick, Duration::from_secs(20))).unwrap().1, 4411);
}

#[test]
fn idleness_is_measured_by_keys_not_output_and_warned_of() {
    let idle = Some(Duration::from_secs(600));
    let mut machine = active(Terms { idle_timeout: idle, ..terms() });
    let at = Duration::from_secs;
    machine.on(Event::Relay(R, data(0, b"tick")), at(500));
    assert_eq!(machine.next_deadline(), Some(at(540)));
    let warning = control(Control::Closing { reason: "idle".into(), in_seconds: 60 });
    let mark = Action::Mark("warned: ends in 60 s, idle".into());
    assert_eq!(machine.on(Event::Tick, at(540)), [mark, Action::ToBrowser(warning)]);
    machine.on(Event::Browser(B, data(0, b"k")), at(550));
    assert_eq!(machine.on(Event::Tick, at(600)), []);
    assert_eq!(machine.next_deadline(), Some(at(1090)));
    machine.on(Event::Tick, at(1090));
    assert_eq!(ended(&machine.on(Event::Tick, at(1150))), Some((Reason::Idle, 4408, 4408)));
}

#[test]
fn a_short_idle_time_warns_at_its_half_and_again_after_every_key() {
    let at = Duration::from_secs;
    let mut machine = active(Terms { idle_timeout: Some(at(20)), ..terms() });
    let warned = |actions: &[Action]| {
        let warning = control(Control::Closing { reason: "idle".into(), in_seconds: 10 });
        actions.contains(&Action::ToBrowser(warning))
    };
    assert_eq!(machine.next_deadline(), Some(at(10)));
    assert!(warned(&machine.on(Event::Tick, at(10))));
    assert!(!warned(&machine.on(Event::Tick, at(11))), "once");
    machine.on(Event::Browser(B, data(0, b"k")), at(15));
    assert!(warned(&machine.on(Event::Tick, at(25))));
    assert_eq!(ended(&machine.on(Event::Tick, at(35))).unwrap().0, Reason::Idle);
}

#[test]
fn a_session_ends_at_its_longest_whatever_is_typed() {
    let mut machine = active(Terms { max_duration: Some(Duration::from_secs(100)), ..terms() });
    machine.on(Event::Browser(B, data(0, b"k")), Duration::from_secs(99));
    let actions = machine.on(Event::Tick, Duration::from_secs(100));
    assert_eq!(ended(&actions), Some((Reason::MaxTime, 4408, 4408)));
}

#[test]
fn read_only_input_is_taken_and_goes_nowhere() {
    let mut machine = active(Terms { read_only: true, ..terms() });
    let actions = machine.on(Event::Browser(B, data(0, b"rm")), Duration::ZERO);
    assert_eq!(actions, [Action::ToBrowser(Frame::Ack(2))]);
}

#[test]
fn while_the_shell_ends_the_recorder_alone_holds_the_agent_back() {
    let mut machine = active(terms());
    machine.on(Event::Relay(R, data(0, b"ab")), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, Frame::Control(Control::Exiting)), Duration::ZERO);
    assert_eq!(actions, [Action::BrowserEnding, Action::ToRelay(Frame::Ack(2))]);
    let actions = machine.on(Event::Relay(R, data(2, b"c")), Duration::ZERO);
    assert_eq!(actions.last(), Some(&Action::ToRelay(Frame::Ack(3))));
    let exit = Frame::Control(Control::Exit { code: Some(3), signal: None });
    let actions = machine.on(Event::Relay(R, exit), Duration::ZERO);
    assert_eq!(ended(&actions), Some((Reason::Exit, 1000, 1000)));
    assert_eq!(machine.on(Event::Relay(R, data(3, b"late")), Duration::ZERO), []);
}

#[test]
fn a_browser_that_leaves_while_the_shell_ends_costs_the_recording_nothing() {
    let mut machine = active(terms());
    machine.on(Event::Relay(R, Frame::Control(Control::Exiting)), Duration::ZERO);
    let actions = machine.on(Event::BrowserGone(B, None), Duration::ZERO);
    assert_eq!(ended(&actions), None);
    assert_eq!(machine.next_deadline(), Some(Duration::from_secs(15)), "it is not waited for");
    let exit = Frame::Control(Control::Exit { code: Some(0), signal: None });
    assert_eq!(ended(&machine.on(Event::Relay(R, exit), Duration::ZERO)).unwrap().0, Reason::Exit);
}

#[test]
fn a_shell_that_never_says_how_it_ended_is_given_up() {
    let mut machine = active(terms());
    let at = Duration::from_secs;
    machine.on(Event::Relay(R, Frame::Control(Control::Exiting)), at(5));
    machine.on(Event::Relay(R, Frame::Control(Control::Exiting)), at(19));
    assert_eq!(machine.next_deadline(), Some(at(20)));
    assert_eq!(ended(&machine.on(Event::Tick, at(20))), Some((Reason::Error, 4500, 4500)));
}

#[test]
fn what_an_agent_says_of_a_signal_is_cut_and_cleaned() {
    let mut machine = active(terms());
    let signal = Some(format!("SIG\0\u{202e}{}", "X".repeat(4000)));
    let actions =
        machine.on(Event::Relay(R, Frame::Control(Control::Exit { code: None, signal })), Duration::ZERO);
    let Some(Action::Finish { exit: Some(exit), .. }) = actions.last() else { panic!("{actions:?}") };
    assert_eq!(exit.signal.as_deref(), Some(format!("SIG{}", "X".repeat(29)).as_str()));
}

#[test]
fn a_browser_that_claims_what_never_was_starts_over_after_ready() {
    let mut machine = opened(terms());
    machine.on(Event::Browser(B, Frame::Control(Control::Hello { have: 9 })), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, hello()), Duration::ZERO);
    assert!(matches!(&actions[1], Action::ToBrowser(Frame::Control(Control::Ready { .. }))));
    assert_eq!(actions[2], Action::Draw(B));
    let screen = Screen { offset: 0, cols: 80, rows: 24, bytes: Bytes::new() };
    let actions = machine.on(Event::Drawn(B, screen), Duration::ZERO);
    assert_eq!(actions[0], Action::ToBrowser(Frame::Resized { offset: 0, cols: 80, rows: 24 }));
    assert!(matches!(&actions[1], Action::ToBrowser(Frame::Screen { offset: 0, last: true, .. })));
}

#[test]
fn a_size_asked_for_early_reaches_the_agent() {
    let mut machine = opened(terms());
    machine.on(Event::Browser(B, hello()), Duration::ZERO);
    machine.on(Event::Browser(B, Frame::Resize { cols: 100, rows: 30 }), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, hello()), Duration::ZERO);
    assert!(actions.contains(&Action::ToRelay(Frame::Resize { cols: 100, rows: 30 })));
}

proptest! {
    /// Whatever acknowledgements come in whatever order, the agent hears a count that never goes back and
    /// never runs ahead of what the browser parsed.
    #[test]
    fn acknowledgements_to_the_agent_never_go_back(acks in proptest::collection::vec(0u64..=100, 0..50)) {
        let mut machine = active(terms());
        machine.on(Event::Relay(R, Frame::Data { offset: 0, bytes: Bytes::from(vec![0; 100]) }), Duration::ZERO);
        let (mut last, mut parsed) = (0, 0);
        for ack in acks {
            parsed = parsed.max(ack);
            for action in machine.on(Event::Browser(B, Frame::Ack(ack)), Duration::ZERO) {
                let Action::ToRelay(Frame::Ack(told)) = action else { panic!("{action:?}") };
                prop_assert!(told > last && told == parsed);
                last = told;
            }
        }
    }
}

#[test]
fn a_browser_that_goes_leaves_its_shell_for_a_while_and_the_recorder_alone_holds_the_agent_back() {
    let at = Duration::from_secs;
    let mut machine = active(terms());
    machine.on(Event::Relay(R, data(0, b"ab")), at(1));
    let actions = machine.on(Event::BrowserGone(B, None), at(10));
    assert!(
        actions.contains(&Action::ToRelay(Frame::Ack(2)))
            && actions.contains(&Action::Tell(Status::Detached))
    );
    let actions = machine.on(Event::Relay(R, data(2, b"c")), at(11));
    let bytes = Bytes::from_static(b"c");
    assert_eq!(actions, [Action::RecordOutput { offset: 2, bytes }, Action::ToRelay(Frame::Ack(3))]);
    assert_eq!(machine.next_deadline(), Some(at(310)));
    assert_eq!(ended(&machine.on(Event::Tick, at(310))), Some((Reason::Detached, 1000, 1000)));
}

#[test]
fn a_plain_client_that_goes_ends_its_session() {
    let mut machine = Machine::new(terms());
    machine.on(Event::BrowserHere { socket: B, plain: true, read_only: false }, Duration::ZERO);
    let actions = machine.on(Event::BrowserGone(B, None), Duration::ZERO);
    assert_eq!(ended(&actions).unwrap().0, Reason::Closed);
}

#[test]
fn a_browser_that_takes_over_closes_the_one_before_which_is_not_heard_any_more() {
    let mut machine = active(terms());
    machine.on(Event::Relay(R, data(0, b"abc")), Duration::ZERO);
    let here = Event::BrowserHere { socket: 7, plain: false, read_only: false };
    let actions = machine.on(here, Duration::ZERO);
    assert!(matches!(&actions[0], Action::DropBrowser(close) if close.code == 4409));
    assert_eq!(machine.on(Event::Browser(B, data(0, b"old")), Duration::ZERO), []);
    assert_eq!(machine.on(Event::BrowserGone(B, None), Duration::ZERO), []);
    let hello = control(Control::Hello { have: 1 });
    let actions = machine.on(Event::Browser(7, hello), Duration::ZERO);
    assert!(matches!(&actions[0], Action::ToBrowser(Frame::Control(Control::Ready { .. }))));
    assert_eq!(actions[1], Action::Replay { socket: 7, from: 1, to: 3 });
}

#[test]
fn an_agent_that_is_lost_is_waited_for_as_long_as_its_grace() {
    let at = Duration::from_secs;
    let mut machine = active(terms());
    let actions = machine.on(Event::RelayGone(R, None), at(5));
    assert_eq!(actions.last(), Some(&Action::Tell(Status::Resuming)));
    assert_eq!(machine.next_deadline(), Some(at(65)));
    assert_eq!(ended(&machine.on(Event::Tick, at(65))), Some((Reason::HostGone, 4411, 4411)));
}

#[test]
fn what_was_typed_while_the_agent_was_away_reaches_it_once() {
    let mut machine = active(terms());
    machine.on(Event::Browser(B, data(0, b"abc")), Duration::ZERO);
    machine.on(Event::RelayGone(R, None), Duration::ZERO);
    assert_eq!(machine.on(Event::Browser(B, data(3, b"def")), Duration::ZERO), []);
    let actions = machine.on(Event::RelayHere { socket: 5, resumes: true }, Duration::ZERO);
    assert_eq!(actions[0], Action::ToRelay(control(Control::Resume { have: 0, input: 0 })));
    machine.on(Event::Relay(5, hello()), Duration::ZERO);
    let actions = machine.on(Event::Relay(5, Frame::Ack(2)), Duration::ZERO);
    assert!(actions.contains(&Action::ToRelay(data(2, b"cdef"))), "{actions:?}");
}

#[test]
fn output_lost_to_a_power_cut_is_marked_and_the_browser_gets_a_screen() {
    let mut machine = Machine::resumed(terms(), (80, 24), recorded(100), Duration::ZERO);
    machine.on(Event::BrowserHere { socket: B, plain: false, read_only: false }, Duration::ZERO);
    machine.on(Event::Browser(B, control(Control::Hello { have: 100 })), Duration::ZERO);
    let actions = machine.on(Event::RelayHere { socket: R, resumes: true }, Duration::ZERO);
    assert_eq!(actions[0], Action::ToRelay(control(Control::Resume { have: 100, input: 0 })));
    let actions = machine.on(Event::Relay(R, control(Control::Hello { have: 130 })), Duration::ZERO);
    assert!(actions.contains(&Action::RecordGap { lost: 30 }));
    let actions = machine.on(Event::Relay(R, Frame::Ack(4)), Duration::ZERO);
    assert!(
        matches!(
            &actions[..],
            [.., Action::ToBrowser(Frame::Control(Control::Ready { input: 4, .. })), Action::Draw(B)]
                | [
                    ..,
                    Action::ToBrowser(Frame::Control(Control::Ready { input: 4, .. })),
                    Action::Draw(B),
                    Action::Tell(_)
                ]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_browser_that_waits_for_its_screen_holds_the_agent_back() {
    let mut machine = active(terms());
    machine.on(Event::Relay(R, data(0, b"abc")), Duration::ZERO);
    machine.on(Event::BrowserHere { socket: 7, plain: false, read_only: false }, Duration::ZERO);
    machine.on(Event::Browser(7, control(Control::Hello { have: 99 })), Duration::ZERO);
    let actions = machine.on(Event::Relay(R, data(3, b"def")), Duration::ZERO);
    assert!(
        matches!(&actions[..], [Action::RecordOutput { .. }]),
        "neither shown nor acknowledged: {actions:?}"
    );
    let screen = Screen { offset: 3, cols: 80, rows: 24, bytes: Bytes::new() };
    let actions = machine.on(Event::Drawn(7, screen), Duration::ZERO);
    assert_eq!(actions.last(), Some(&Action::Replay { socket: 7, from: 3, to: 6 }));
}

#[test]
fn an_agent_that_comes_back_hears_of_input_only_what_it_had_itself() {
    let mut machine = active(Terms { read_only: true, ..terms() });
    machine.on(Event::Browser(B, data(0, b"k")), Duration::ZERO);
    let actions = machine.on(Event::RelayHere { socket: 5, resumes: true }, Duration::ZERO);
    assert!(
        actions.contains(&Action::ToRelay(control(Control::Resume { have: 0, input: 0 }))),
        "{actions:?}"
    );
    machine.on(Event::Relay(5, hello()), Duration::ZERO);
    assert_eq!(ended(&machine.on(Event::Relay(5, Frame::Ack(0)), Duration::ZERO)), None);
}

#[test]
fn a_shell_that_prints_on_while_it_ends_has_time_but_not_for_ever() {
    let at = Duration::from_secs;
    let mut machine = active(terms());
    machine.on(Event::Relay(R, control(Control::Exiting)), at(0));
    for second in (10..120).step_by(10) {
        machine.on(Event::Relay(R, data(second / 10 - 1, b"x")), at(second));
    }
    assert_eq!(machine.next_deadline(), Some(at(120)));
    assert_eq!(ended(&machine.on(Event::Tick, at(120))).unwrap().0, Reason::Error);
}

#[test]
fn an_acknowledgement_that_crossed_a_screen_is_no_breach() {
    let mut machine = Machine::resumed(terms(), (80, 24), recorded(10), Duration::ZERO);
    machine.on(Event::BrowserHere { socket: B, plain: false, read_only: false }, Duration::ZERO);
    machine.on(Event::RelayHere { socket: R, resumes: true }, Duration::ZERO);
    machine.on(Event::Relay(R, control(Control::Hello { have: 10 })), Duration::ZERO);
    machine.on(Event::Relay(R, Frame::Ack(0)), Duration::ZERO);
    machine.on(Event::Browser(B, control(Control::Hello { have: 12 })), Duration::ZERO);
    let screen = Screen { offset: 10, cols: 80, rows: 24, bytes: Bytes::new() };
    machine.on(Event::Drawn(B, screen), Duration::ZERO);
    assert_eq!(ended(&machine.on(Event::Browser(B, Frame::Ack(12)), Duration::ZERO)), None);
    assert_eq!(ended(&machine.on(Event::Browser(B, Frame::Ack(13)), Duration::ZERO)).unwrap().1, 4400);
}

#[test]
fn a_newer_relay_replaces_the_one_before() {
    let mut machine = active(terms());
    let actions = machine.on(Event::RelayHere { socket: 9, resumes: true }, Duration::ZERO);
    assert!(matches!(&actions[0], Action::DropRelay(close) if close.code == 4409));
    assert_eq!(machine.on(Event::RelayGone(R, None), Duration::ZERO), []);
    machine.on(Event::Relay(9, hello()), Duration::ZERO);
    machine.on(Event::Relay(9, Frame::Ack(0)), Duration::ZERO);
    let actions = machine.on(Event::Relay(9, data(0, b"x")), Duration::ZERO);
    assert!(matches!(actions[0], Action::RecordOutput { offset: 0, .. }), "{actions:?}");
}

#[test]
fn a_hello_before_what_is_recorded_or_beyond_belief_breaks_the_protocol() {
    for have in [99, 100 + (1 << 40) + 1, u64::MAX] {
        let mut machine = Machine::resumed(terms(), (80, 24), recorded(100), Duration::ZERO);
        machine.on(Event::RelayHere { socket: R, resumes: true }, Duration::ZERO);
        let actions = machine.on(Event::Relay(R, control(Control::Hello { have })), Duration::ZERO);
        assert_eq!(ended(&actions).map(|ended| (ended.0, ended.2)), Some((Reason::Error, 4400)));
    }
}

#[test]
fn a_bastion_that_stops_hands_over_what_is_recorded_and_ends_what_is_not() {
    let mut machine = active(terms());
    assert_eq!(machine.on(Event::HandOver, Duration::ZERO), [Action::HandOver]);
    assert!(machine.is_over());
    let mut machine = opened(terms());
    assert_eq!(ended(&machine.on(Event::HandOver, Duration::ZERO)).unwrap().0, Reason::Error);
}

#[test]
fn a_plain_clients_session_ends_with_the_bastion() {
    let mut machine = Machine::new(terms());
    machine.on(Event::BrowserHere { socket: B, plain: true, read_only: false }, Duration::ZERO);
    machine.on(Event::RelayHere { socket: R, resumes: false }, Duration::ZERO);
    machine.on(Event::Browser(B, hello()), Duration::ZERO);
    machine.on(Event::Relay(R, hello()), Duration::ZERO);
    assert_eq!(ended(&machine.on(Event::HandOver, Duration::ZERO)).unwrap().0, Reason::Closed);
}

#[test]
fn a_session_that_is_taken_up_keeps_its_longest_time() {
    let longest = Some(Duration::from_secs(100));
    let machine = Machine::resumed(
        Terms { max_duration: longest, ..terms() },
        (80, 24),
        recorded(0),
        Duration::from_secs(70),
    );
    assert_eq!(machine.next_deadline(), Some(Duration::from_secs(40)), "the warning is due");
}

#[path = "machine_interleavings.rs"]
mod interleavings;
