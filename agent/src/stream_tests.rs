//! What the streams keep and say, by themselves and against a bastion played by chance.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn fill(output: &mut Output) {
    while output.room() > 0 {
        output.push(&vec![0; output.room()]);
    }
}

fn pull_all(output: &mut Output) -> Vec<Frame> {
    std::iter::from_fn(|| output.pull()).collect()
}

fn data(offset: u64, bytes: &'static [u8]) -> Frame {
    Frame::Data { offset, bytes: Bytes::from_static(bytes) }
}

#[test]
fn a_spent_window_opens_again_at_half() {
    let mut output = Output::default();
    fill(&mut output);
    let sent: usize = pull_all(&mut output)
        .iter()
        .map(|frame| if let Frame::Data { bytes, .. } = frame { bytes.len() } else { 0 })
        .sum();
    assert_eq!(sent as u64, OUTPUT_WINDOW);
    output.ack(OUTPUT_WINDOW / 2 - 1).unwrap();
    assert_eq!(output.room(), 0);
    output.ack(OUTPUT_WINDOW / 2).unwrap();
    assert_eq!(output.room(), MAX_DATA);
}

#[test]
fn an_ack_of_the_future_is_refused_and_one_of_the_past_ignored() {
    let mut output = Output::default();
    output.push(b"abcdef");
    assert_eq!(output.ack(1), Err(StreamError::Ahead), "read, but not sent");
    assert_eq!(pull_all(&mut output), [data(0, b"abcdef")]);
    assert_eq!(output.ack(7), Err(StreamError::Ahead));
    output.ack(4).unwrap();
    output.ack(1).unwrap();
    assert_eq!(output.resume(7), Err(StreamError::Ahead));
    assert_eq!(output.resume(4), Ok(4));
    assert_eq!(pull_all(&mut output), [data(4, b"ef")]);
}

#[test]
fn a_trickle_is_kept_in_few_pieces() {
    let mut output = Output::default();
    while output.room() > 0 {
        output.push(b"x");
    }
    assert!(output.kept.len() <= 2 * usize::try_from(OUTPUT_WINDOW).unwrap() / PIECE);
    pull_all(&mut output);
    output.ack(OUTPUT_WINDOW / 2).unwrap();
    for cols in (1..=1000).cycle().take(10_000) {
        output.resize(cols, 24);
        output.push(b"x");
    }
    assert!(output.marks.len() <= MARKS_MAX);
}

#[test]
fn marks_stand_where_they_were_put_and_are_said_again() {
    let exit = Control::Exit { code: Some(0), signal: None };
    let mut output = Output::default();
    output.push(b"ab");
    output.resize(1, 1);
    output.resize(2, 2);
    output.push(b"cd");
    output.say(Control::Exiting);
    output.push(b"e");
    output.say(exit.clone());
    let size = Frame::Resized { offset: 2, cols: 2, rows: 2 };
    let rest = [data(2, b"cd"), Frame::Control(Control::Exiting), data(4, b"e"), Frame::Control(exit)];
    assert_eq!(pull_all(&mut output), [&[data(0, b"ab"), size.clone()], &rest[..]].concat());
    assert!(output.is_said());
    output.ack(2).unwrap();
    output.resume(1).unwrap();
    assert!(!output.is_said());
    assert_eq!(pull_all(&mut output), [&[size], &rest[..]].concat(), "it may not have come with the bytes");
    output.resume(5).unwrap();
    assert_eq!(pull_all(&mut output), [rest[1].clone(), rest[3].clone()]);
}

#[test]
fn a_size_lost_with_acknowledged_bytes_is_said_where_the_gap_ends() {
    let mut output = Output::default();
    output.resize(100, 50);
    output.push(b"abcd");
    pull_all(&mut output);
    output.ack(4).unwrap();
    assert_eq!(output.resume(1), Ok(4));
    assert_eq!(pull_all(&mut output), [Frame::Resized { offset: 4, cols: 100, rows: 50 }]);
}

#[test]
fn a_size_that_waits_is_replaced_and_one_that_went_is_followed() {
    let mut output = Output::default();
    output.resize(1, 1);
    assert!(output.pull().is_some());
    output.resize(2, 2);
    output.resize(3, 3);
    assert_eq!(pull_all(&mut output), [Frame::Resized { offset: 0, cols: 3, rows: 3 }]);
}

#[test]
fn input_continues_exactly_and_keeps_to_its_window() {
    let mut input = Input::default();
    input.push(0, Bytes::from_static(b"ab")).unwrap();
    assert_eq!(input.push(1, Bytes::from_static(b"b")), Err(StreamError::Gap));
    assert_eq!(input.push(3, Bytes::from_static(b"d")), Err(StreamError::Gap));
    input.push(2, Bytes::from(vec![0; 65_534])).unwrap();
    assert_eq!(input.push(65_536, Bytes::from_static(b"x")), Err(StreamError::Window));
    input.advance(1);
    assert_eq!((input.taken(), input.next().unwrap().as_ref()), (1, &b"b"[..]));
    input.push(65_536, Bytes::from_static(b"x")).unwrap();
}

#[test]
fn input_that_was_not_taken_comes_again() {
    let mut input = Input::default();
    input.push(0, Bytes::from_static(b"abc")).unwrap();
    input.advance(1);
    input.resume(0).unwrap();
    assert_eq!((input.taken(), input.next()), (1, None));
    input.push(1, Bytes::from_static(b"bc")).unwrap();
    assert_eq!(input.resume(2), Err(StreamError::Ahead));
}

/// What happens to a session and its sockets.
#[derive(Clone, Debug)]
enum Step {
    /// The terminal prints.
    Print(usize),
    /// The bastion's browser changes its size.
    Size(u16),
    /// The socket carries this many frames to the bastion.
    Carry(usize),
    /// The bastion acknowledges all but this many of its bytes, and the socket carries it.
    Ack(u64),
    /// The same, but the acknowledgement is repeated late: an old one.
    OldAck(u64),
    /// The user types, and the socket carries it.
    Type(usize),
    /// The terminal takes this many bytes of input, and the socket carries the acknowledgement or does not.
    Take(usize, bool),
    /// The socket is cut; the bastion comes back without this many of its newest bytes.
    Cut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let few = prop_oneof![Just(0u64), 0..5_000u64, 0..200_000u64];
    prop_oneof![
        4 => prop_oneof![1..40usize, 1..=MAX_DATA].prop_map(Step::Print),
        1 => (1..100u16).prop_map(Step::Size),
        4 => (1..12usize).prop_map(Step::Carry),
        3 => few.clone().prop_map(Step::Ack),
        1 => few.clone().prop_map(Step::OldAck),
        2 => (1..3_000usize).prop_map(Step::Type),
        2 => (1..4_000usize, any::<bool>()).prop_map(|(count, carried)| Step::Take(count, carried)),
        1 => few.prop_map(Step::Cut),
    ]
}

/// The bastion's side, and what really was printed and typed.
#[derive(Default)]
struct World {
    printed: Vec<u8>,
    sizes: Vec<(u64, u16)>,
    // What the bastion has, which begins anew at a gap; what it acknowledged; which sizes it was told.
    have: u64,
    acked: u64,
    lost: u64,
    told: Vec<(u64, u16)>,
    typed: Vec<u8>,
    input_sent: u64,
    input_acked: u64,
    written: Vec<u8>,
}

fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at % 251) as u8).collect()
}

impl World {
    fn receive(&mut self, frame: Frame) {
        match frame {
            Frame::Data { offset, bytes } => {
                assert_eq!(offset, self.have, "the stream continues exactly");
                let at = usize::try_from(offset).unwrap();
                assert_eq!(bytes, self.printed[at..at + bytes.len()]);
                self.have += bytes.len() as u64;
            }
            Frame::Resized { offset, cols, .. } => {
                assert_eq!(offset, self.have, "a size comes at its place");
                self.told.retain(|(at, _)| *at != offset);
                self.told.push((offset, cols));
            }
            other => panic!("{other:?}"),
        }
    }

    /// The size in force after `offset` bytes, and whether the bastion agrees.
    fn sizes_agree(&self, offset: u64) -> bool {
        let last = |sizes: &[(u64, u16)]| sizes.iter().rfind(|(at, _)| *at <= offset).map(|(_, cols)| *cols);
        last(&self.sizes) == last(&self.told)
    }
}

fn apply(step: &Step, world: &mut World, output: &mut Output, input: &mut Input) {
    match *step {
        Step::Print(count) => {
            let bytes = pattern(world.printed.len(), count.min(output.room()));
            if !bytes.is_empty() {
                output.push(&bytes);
                world.printed.extend(bytes);
            }
        }
        Step::Size(cols) => {
            output.resize(cols, 1);
            let here = world.printed.len() as u64;
            world.sizes.retain(|(at, _)| *at != here);
            world.sizes.push((here, cols));
        }
        Step::Carry(count) => {
            std::iter::from_fn(|| output.pull()).take(count).for_each(|frame| world.receive(frame));
        }
        Step::Ack(but) => {
            world.acked = world.acked.max(world.have.saturating_sub(but));
            output.ack(world.acked).unwrap();
        }
        Step::OldAck(but) => output.ack(world.acked.saturating_sub(but)).unwrap(),
        Step::Type(count) => {
            let room = usize::try_from(INPUT_WINDOW - (world.input_sent - world.input_acked)).unwrap();
            let bytes = pattern(world.typed.len(), count.min(room));
            world.typed.extend(&bytes);
            input.push(world.input_sent, Bytes::from(bytes)).unwrap();
            world.input_sent = world.typed.len() as u64;
        }
        Step::Take(count, carried) => {
            if let Some(next) = input.next() {
                let count = count.min(next.len());
                world.written.extend_from_slice(&next[..count]);
                input.advance(count);
            }
            if carried {
                world.input_acked = input.taken();
            }
        }
        Step::Cut(lost) => resume(lost, world, output, input),
    }
    let kept: usize = output.kept.iter().map(|piece| piece.bytes.len()).sum();
    assert_eq!(
        kept as u64,
        world.printed.len() as u64 - world.acked,
        "what is kept is what is not acknowledged"
    );
    assert!(kept as u64 <= OUTPUT_WINDOW);
}

/// What was on its way is lost; with a power cut, some of what was acknowledged as well.
fn resume(lost: u64, world: &mut World, output: &mut Output, input: &mut Input) {
    world.have = world.have.saturating_sub(lost);
    let have = world.have;
    world.told.retain(|(at, _)| *at <= have);
    input.resume(world.input_acked).unwrap();
    let next = output.resume(have).unwrap();
    assert_eq!(next, have.max(world.acked), "exactly what was acknowledged is not said again");
    world.lost += next - have;
    (world.have, world.acked) = (next, next);
    world.input_acked = input.taken();
    world.input_sent = input.taken();
    // The browser's unacknowledged input, which the bastion kept.
    let from = usize::try_from(input.taken()).unwrap();
    let again = Bytes::copy_from_slice(&world.typed[from..]);
    input.push(world.input_sent, again).unwrap();
    world.input_sent = world.typed.len() as u64;
}

proptest! {
    #[test]
    fn whatever_is_cut_the_bastion_ends_up_with_every_byte_and_size_and_the_host_with_every_key(
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let (mut world, mut output, mut input) = (World::default(), Output::default(), Input::default());
        for step in &steps {
            apply(step, &mut world, &mut output, &mut input);
        }
        std::iter::from_fn(|| output.pull()).for_each(|frame| world.receive(frame));
        prop_assert!(output.is_said());
        prop_assert_eq!(world.have, world.printed.len() as u64);
        // Whatever was lost before, the size in force now is known.
        prop_assert!(world.sizes_agree(world.have), "{:?} {:?}", world.sizes, world.told);
        if world.lost == 0 {
            prop_assert_eq!(&world.told, &world.sizes);
        }
        while let Some(next) = input.next().cloned() {
            world.written.extend_from_slice(&next);
            input.advance(next.len());
        }
        prop_assert_eq!(&world.written, &world.typed);
        output.ack(world.have).unwrap();
        prop_assert!(output.room() > 0, "an idle window is open");
    }
}
