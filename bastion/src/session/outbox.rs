//! What waits for one socket: control first, then data in order, then the close.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use openapi::frames::{Control, Frame, OUTPUT_WINDOW};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Data that may wait while a shell is ending and nobody holds the agent back, in bytes. Before that the
/// agent's window bounds it.
const ENDING_LIMIT: usize = 1 << 20;

/// Pieces of data that are joined while they wait, in bytes: a window of single bytes must not cost a frame each.
const JOINED: usize = 4 * 1024;

/// How long an exit waits for a browser to acknowledge more of the output that it was sent. A client whose
/// library gives up sending once it has heard the close would otherwise lose what it has yet to read.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

/// How a socket is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// WebSocket close code.
    pub code: u16,
    /// A sentence for the user.
    pub reason: String,
}

impl Close {
    /// A close with its reason, cut to what a close frame holds.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        while reason.len() > 120 {
            reason.pop();
        }
        Self { code, reason }
    }
}

/// What the socket sends next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame.
    Frame(Frame),
    /// Nothing more after this.
    Close(Close),
}

#[derive(Debug, Default)]
struct Queue {
    control: VecDeque<Frame>,
    data: VecDeque<Frame>,
    data_bytes: usize,
    /// Where the data queued so far ends, the data sent so far, and how much of that is acknowledged.
    queued: u64,
    sent: u64,
    acked: u64,
    /// A screen is sent in part; its other parts must follow.
    in_screen: bool,
    /// Data is paced by acknowledgements: a browser that comes back is not sent all it lacks at once.
    paced: bool,
    /// Until when the farewell waits for acknowledgements.
    hold_until: Option<Instant>,
    /// Data waits until the browser has been told that the session is ready.
    held: bool,
    /// Data is dropped and counted from here on.
    skipping: bool,
    skipped: u64,
    ending: bool,
    farewell: VecDeque<Frame>,
    close: Option<(Close, Instant)>,
}

impl Queue {
    /// Puts data or a size last, joined to what is there if it can be.
    fn wait_in_order(&mut self, frame: Frame) {
        match &frame {
            Frame::Data { offset, bytes } => self.queued = offset + bytes.len() as u64,
            Frame::Screen { offset, .. } => {
                self.begin_screen(*offset);
                self.queued = *offset;
            }
            _ => {}
        }
        match (self.data.back_mut(), &frame) {
            (Some(Frame::Data { bytes, .. }), Frame::Data { bytes: more, .. })
                if bytes.len() + more.len() <= JOINED =>
            {
                *bytes = joined(bytes, more);
            }
            (Some(Frame::Resized { offset, .. }), Frame::Resized { offset: same, .. }) if offset == same => {
                self.data.pop_back();
                self.data.push_back(frame);
            }
            _ => self.data.push_back(frame),
        }
    }

    /// A screen replaces what waits before it, but for the rest of one that is sent in part and the size before it.
    fn begin_screen(&mut self, offset: u64) {
        if matches!(self.data.back(), Some(Frame::Screen { offset: same, last: false, .. }) if *same == offset)
        {
            return;
        }
        let size = self.data.pop_back_if(|frame| matches!(frame, Frame::Resized { .. }));
        let is_last = |frame: &Frame| matches!(frame, Frame::Screen { last: true, .. });
        let rest = self.data.iter().position(is_last).filter(|_| self.in_screen).map_or(0, |last| last + 1);
        self.data.truncate(rest);
        self.data.extend(size);
        self.data_bytes = 0;
    }
}

impl Queue {
    /// There is progress: the farewell waits on.
    fn put_off(&mut self) {
        if self.hold_until.is_some() {
            self.hold_until = Some(Instant::now() + ACKNOWLEDGED_WITHIN);
        }
    }

    /// Until when the farewell waits; none: it does not.
    fn look_again(&self) -> Option<Instant> {
        let (_, deadline) = self.close.as_ref()?;
        let waits = self.data.is_empty() && self.acked < self.sent;
        self.hold_until.filter(|_| waits).map(|until| until.min(*deadline))
    }

    /// The next data or size, if the browser's window has room for it.
    fn next_in_order(&mut self) -> Option<Frame> {
        let next = data_length(self.data.front()?) as u64;
        let outstanding = self.sent.saturating_sub(self.acked);
        // What is to be closed is paced by its deadline.
        if self.paced && self.close.is_none() && outstanding > 0 && outstanding + next > OUTPUT_WINDOW {
            return None;
        }
        let frame = self.data.pop_front()?;
        match &frame {
            Frame::Data { offset, bytes } => {
                // The first shows where the stream goes on.
                self.acked = self.acked.max(if self.sent == 0 { *offset } else { 0 });
                self.sent = offset + bytes.len() as u64;
                self.data_bytes -= bytes.len();
                self.put_off();
            }
            Frame::Screen { offset, last, .. } => {
                (self.sent, self.acked, self.in_screen) = (*offset, *offset, !last);
            }
            _ => {}
        }
        Some(frame)
    }
}

fn joined(one: &Bytes, other: &Bytes) -> Bytes {
    let mut all = BytesMut::with_capacity(one.len() + other.len());
    all.extend_from_slice(one);
    all.extend_from_slice(other);
    all.freeze()
}

fn is_overtaken(waiting: &Frame, newer: &Frame) -> bool {
    matches!(
        (waiting, newer),
        (Frame::Ack(_), Frame::Ack(_))
            | (Frame::Resize { .. }, Frame::Resize { .. })
            | (Frame::Control(Control::Ping), Frame::Control(Control::Ping))
            | (Frame::Control(Control::Pong), Frame::Control(Control::Pong))
    )
}

/// The queue between a session and one of its sockets. The session never waits for it: credit bounds it.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    /// One permit is enough: the socket empties the queue before it waits again.
    ready: Notify,
}

impl Outbox {
    /// For a browser: `ready` is the first it hears.
    pub fn for_browser() -> Self {
        Self { queue: Mutex::new(Queue { held: true, paced: true, ..Queue::default() }), ..Self::default() }
    }

    /// Queues a frame: data and sizes in order, everything else ahead of them.
    pub fn push(&self, frame: Frame) {
        let mut queue = self.lock();
        if queue.close.is_some() {
            return;
        }
        match frame {
            Frame::Data { ref bytes, .. } => {
                let length = bytes.len();
                if queue.ending && queue.data_bytes + length > ENDING_LIMIT {
                    queue.skipping = true;
                }
                if queue.skipping {
                    queue.skipped += length as u64;
                } else {
                    queue.data_bytes += length;
                    queue.wait_in_order(frame);
                }
            }
            Frame::Resized { .. } | Frame::Screen { .. } => queue.wait_in_order(frame),
            Frame::Ack(_) | Frame::Resize { .. } | Frame::Control(_) | Frame::Echo { .. } => {
                // Of what is overtaken by its successor only the newest waits: a socket that takes nothing
                // must not grow the queue.
                queue.held &= !matches!(frame, Frame::Control(Control::Ready { .. }));
                queue.control.retain(|waiting| !is_overtaken(waiting, &frame));
                queue.control.push_back(frame);
            }
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// From now on the agent is not held back by this socket: what it does not take in time is skipped.
    pub fn ending(&self) {
        self.lock().ending = true;
    }

    /// Sends what waits until `deadline`, says how much was skipped, then `farewell`, then closes.
    pub fn close(&self, farewell: impl IntoIterator<Item = Frame>, close: Close, deadline: Instant) {
        let mut queue = self.lock();
        if queue.close.is_none() {
            queue.farewell.extend(farewell);
            queue.close = Some((close, deadline));
            queue.hold_until = (!queue.farewell.is_empty()).then(|| Instant::now() + ACKNOWLEDGED_WITHIN);
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Closes at once; what waits is not sent, and not said to be skipped: who comes back gets it then.
    pub fn dismiss(&self, close: Close) {
        let mut queue = self.lock();
        if queue.close.is_none() {
            queue.data.clear();
            queue.data_bytes = 0;
            queue.close = Some((close, Instant::now()));
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// The other end says that it has taken data up to `offset`. What it can have taken, by what it was sent; a
    /// claim beyond all that there is comes back as it is, for the session to judge.
    pub fn acknowledged(&self, offset: u64) -> u64 {
        let mut queue = self.lock();
        if offset > queue.queued {
            return offset;
        }
        let offset = offset.min(queue.sent);
        if offset > queue.acked {
            queue.acked = offset;
            queue.put_off();
        }
        drop(queue);
        self.ready.notify_one();
        offset
    }

    /// When the socket must have closed, once it is closing.
    pub fn deadline(&self) -> Option<Instant> {
        self.lock().close.as_ref().map(|(_, deadline)| *deadline)
    }

    /// The next thing to send; waits for one.
    pub async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            let look_again = self.lock().look_again();
            match look_again {
                // Woken or not, look again.
                Some(at) => drop(timeout_at(at, self.ready.notified()).await),
                None => self.ready.notified().await,
            }
        }
    }

    /// The next thing to send, if anything waits.
    pub fn try_next(&self) -> Option<Next> {
        let mut queue = self.lock();
        if let Some(frame) = queue.control.pop_front() {
            return Some(Next::Frame(frame));
        }
        let closing = queue.close.as_ref().map(|(_, deadline)| Instant::now() >= *deadline);
        if queue.held && closing.is_none() {
            return None;
        }
        if queue.held || closing == Some(true) {
            let rest: usize = queue.data.drain(..).map(|frame| data_length(&frame)).sum();
            queue.skipped += rest as u64;
        }
        if let Some(frame) = queue.next_in_order() {
            return Some(Next::Frame(frame));
        }
        queue.close.as_ref()?;
        if queue.look_again().is_some_and(|at| Instant::now() < at) {
            return None;
        }
        if queue.skipped > 0 {
            let bytes = std::mem::take(&mut queue.skipped);
            return Some(Next::Frame(Frame::Control(Control::Skipped { bytes })));
        }
        if let Some(frame) = queue.farewell.pop_front() {
            return Some(Next::Frame(frame));
        }
        queue.close.as_ref().map(|(close, _)| Next::Close(close.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn data_length(frame: &Frame) -> usize {
    if let Frame::Data { bytes, .. } = frame { bytes.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const FAR: Duration = Duration::from_secs(9);

    fn data(offset: u64, length: usize) -> Frame {
        Frame::Data { offset, bytes: Bytes::from(vec![b'x'; length]) }
    }

    #[tokio::test]
    async fn control_overtakes_data_and_data_keeps_its_order() {
        let outbox = Outbox::default();
        outbox.push(data(0, 3));
        outbox.push(Frame::Resized { offset: 3, cols: 80, rows: 24 });
        outbox.push(data(3, 1));
        outbox.push(Frame::Ack(7));
        assert_eq!(outbox.next().await, Next::Frame(Frame::Ack(7)));
        assert_eq!(outbox.next().await, Next::Frame(data(0, 3)));
        assert_eq!(outbox.next().await, Next::Frame(Frame::Resized { offset: 3, cols: 80, rows: 24 }));
        assert_eq!(outbox.next().await, Next::Frame(data(3, 1)));
        assert_eq!(outbox.try_next(), None);
    }

    #[tokio::test]
    async fn what_a_stalled_browser_does_not_take_is_skipped_and_said() {
        let outbox = Outbox::default();
        outbox.ending();
        for index in 0..40 {
            outbox.push(data(index * 32_768, 32_768));
        }
        let close = Close::new(1000, "exit");
        outbox.close(
            [Frame::Control(Control::Exiting)],
            close.clone(),
            Instant::now() + Duration::from_secs(9),
        );
        let mut taken = 0;
        let skipped = loop {
            match outbox.next().await {
                Next::Frame(Frame::Data { bytes, .. }) => taken += bytes.len() as u64,
                Next::Frame(Frame::Control(Control::Skipped { bytes })) => break bytes,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(taken, 1 << 20);
        assert_eq!(taken + skipped, 40 * 32_768);
        assert_eq!(outbox.next().await, Next::Frame(Frame::Control(Control::Exiting)));
        assert_eq!(outbox.next().await, Next::Close(close));
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_does_not_grow_the_queue() {
        let outbox = Outbox::default();
        for round in 0..10_000 {
            outbox.push(Frame::Control(Control::Pong));
            outbox.push(Frame::Ack(round));
            outbox.push(Frame::Resize { cols: 80, rows: 24 });
            outbox.push(Frame::Resized { offset: 0, cols: 80, rows: 24 });
        }
        for offset in 0..10_000 {
            outbox.push(data(offset, 1));
        }
        let (mut frames, mut bytes) = (0, 0);
        while let Some(Next::Frame(frame)) = outbox.try_next() {
            frames += 1;
            bytes += data_length(&frame);
        }
        assert_eq!(bytes, 10_000);
        assert_eq!(frames, 3 + 1 + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exit_waits_for_a_browser_that_is_still_taking() {
        let outbox = Outbox::default();
        outbox.push(data(0, 8));
        outbox.close([Frame::Control(Control::Exiting)], Close::new(1000, "exit"), Instant::now() + FAR);
        assert_eq!(outbox.next().await, Next::Frame(data(0, 8)));
        assert_eq!(outbox.try_next(), None);
        outbox.acknowledged(4);
        assert_eq!(outbox.try_next(), None);
        outbox.acknowledged(8);
        assert_eq!(outbox.try_next(), Some(Next::Frame(Frame::Control(Control::Exiting))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exit_does_not_wait_for_a_browser_that_acknowledges_nothing() {
        let outbox = Outbox::default();
        outbox.push(data(0, 8));
        outbox.close([Frame::Control(Control::Exiting)], Close::new(1000, "exit"), Instant::now() + FAR);
        assert_eq!(outbox.next().await, Next::Frame(data(0, 8)));
        let began = Instant::now();
        assert_eq!(outbox.next().await, Next::Frame(Frame::Control(Control::Exiting)));
        assert_eq!(began.elapsed().as_secs(), ACKNOWLEDGED_WITHIN.as_secs());
    }

    #[tokio::test]
    async fn a_browser_hears_ready_before_any_output() {
        let outbox = Outbox::for_browser();
        outbox.push(data(0, 3));
        assert_eq!(outbox.try_next(), None);
        let ready = Control::Ready { session_id: "s".into(), cols: 80, rows: 24, input: 0, output: 0 };
        outbox.push(Frame::Control(ready.clone()));
        assert_eq!(outbox.next().await, Next::Frame(Frame::Control(ready)));
        assert_eq!(outbox.next().await, Next::Frame(data(0, 3)));
    }

    #[tokio::test]
    async fn what_was_not_sent_cannot_be_acknowledged() {
        let outbox = Outbox::default();
        outbox.push(data(0, 10));
        outbox.push(data(10, 8192));
        assert_eq!(outbox.acknowledged(5000), 0, "nothing was sent yet");
        outbox.next().await;
        assert_eq!(outbox.acknowledged(5000), 10);
        assert_eq!(outbox.acknowledged(u64::MAX), u64::MAX, "for the session to judge");
    }

    #[tokio::test]
    async fn a_newer_screen_replaces_what_waits_but_not_the_rest_of_one_begun() {
        let outbox = Outbox::default();
        let part = |offset, last| Frame::Screen { offset, last, bytes: Bytes::from_static(b"s") };
        let size = |offset| Frame::Resized { offset, cols: 80, rows: 24 };
        for frame in [size(10), part(10, false), part(10, true), data(10, 5)] {
            outbox.push(frame);
        }
        assert_eq!(outbox.next().await, Next::Frame(size(10)));
        assert_eq!(outbox.next().await, Next::Frame(part(10, false)));
        for frame in [size(20), part(20, false), part(20, true), data(20, 5)] {
            outbox.push(frame);
        }
        for frame in [part(10, true), size(20), part(20, false), part(20, true), data(20, 5)] {
            assert_eq!(outbox.next().await, Next::Frame(frame));
        }
        assert_eq!(outbox.try_next(), None);
    }

    #[tokio::test]
    async fn a_browser_that_may_come_back_is_told_of_nothing_skipped() {
        let outbox = Outbox::default();
        outbox.push(data(0, 10));
        outbox.dismiss(Close::new(1012, "restarting"));
        assert_eq!(outbox.next().await, Next::Close(Close::new(1012, "restarting")));
    }

    #[tokio::test]
    async fn a_browser_is_sent_no_more_than_its_window_until_it_acknowledges() {
        let outbox = Outbox::for_browser();
        let ready = Control::Ready { session_id: "s".into(), cols: 80, rows: 24, input: 0, output: 0 };
        outbox.push(Frame::Control(ready.clone()));
        for nth in 0..20 {
            outbox.push(data((1 << 30) + nth * 32_768, 32_768));
        }
        assert_eq!(outbox.try_next(), Some(Next::Frame(Frame::Control(ready))));
        let sent = || std::iter::from_fn(|| outbox.try_next()).count();
        assert_eq!(sent(), 8);
        outbox.acknowledged((1 << 30) + 32_768);
        assert_eq!(sent(), 1);
    }

    #[tokio::test]
    async fn after_the_deadline_only_the_farewell_is_sent() {
        let outbox = Outbox::default();
        outbox.push(data(0, 10));
        outbox.close([], Close::new(4411, "gone"), Instant::now());
        assert_eq!(outbox.next().await, Next::Frame(Frame::Control(Control::Skipped { bytes: 10 })));
        assert_eq!(outbox.next().await, Next::Close(Close::new(4411, "gone")));
    }
}
