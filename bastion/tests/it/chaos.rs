//! A bad network between two ends: a TCP proxy that delays, throttles, stalls, cuts, resets and refuses while it runs.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The most bytes taken from a socket at once.
const PIECE: usize = 16 * 1024;
/// Pieces under way in one direction of one connection, 4 MiB at most. When they are that many, the proxy reads
/// no further and the sender waits in its own socket.
const UNDER_WAY: usize = 256;
/// A throttled direction passes this much time's worth of bytes at once.
const BURST: Duration = Duration::from_millis(10);
/// How long the ends of a connection that was cut have to close too.
const PARTING: Duration = Duration::from_secs(5);

/// What one direction is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// How long every byte is under way.
    pub delay: Duration,
    /// How many bytes a second pass; none: as many as can.
    pub bytes_per_second: Option<u64>,
}

/// From whoever dials to the upstream, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever dialled.
    There,
    /// To whoever dialled.
    Back,
}

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    there: Way,
    back: Way,
    stalled: bool,
    refusing: bool,
}

/// What ends the connections of a moment: taken and replaced together.
#[derive(Default)]
struct Ends {
    cut: CancellationToken,
    reset: CancellationToken,
}

#[derive(Default)]
struct Counters {
    there: AtomicU64,
    back: AtomicU64,
    connections: AtomicU64,
}

/// The proxy; gone, with every connection, when dropped.
pub struct Chaos {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    ends: Arc<Mutex<Ends>>,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Chaos {
    /// A proxy on a free port of loopback that passes everything on to `upstream`, which need not be there yet.
    pub fn before(upstream: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (settings, watched) = watch::channel(Settings::default());
        let chaos = Self {
            address: listener.local_addr().unwrap(),
            settings,
            ends: Arc::default(),
            counters: Arc::default(),
            shutdown: CancellationToken::new(),
        };
        let door = Door {
            upstream,
            settings: watched,
            ends: chaos.ends.clone(),
            counters: chaos.counters.clone(),
            tasks: TaskTracker::new(),
        };
        let tasks = door.tasks.clone();
        tasks.spawn(
            chaos.shutdown.clone().run_until_cancelled_owned(door.open(listener, chaos.shutdown.clone())),
        );
        chaos
    }

    /// Where to dial instead of the upstream.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes a direction; what is under way already keeps its delay.
    pub fn set(&self, direction: Direction, way: Way) {
        self.settings.send_modify(|settings| match direction {
            Direction::There => settings.there = way,
            Direction::Back => settings.back = way,
        });
    }

    /// Changes both directions.
    pub fn set_both(&self, way: Way) {
        self.set(Direction::There, way);
        self.set(Direction::Back, way);
    }

    /// From now on nothing passes, and nothing more is read; connections stay.
    pub fn stall(&self) {
        self.settings.send_modify(|settings| settings.stalled = true);
    }

    /// What was held passes, in order.
    pub fn go_on(&self) {
        self.settings.send_modify(|settings| settings.stalled = false);
    }

    /// Closes every connection in order (FIN to both ends); what was under way is lost.
    pub fn cut(&self) {
        self.parted().cut.cancel();
    }

    /// Resets every connection (RST to both ends); what was under way is lost.
    pub fn reset(&self) {
        self.parted().reset.cancel();
    }

    /// From now on new connections are closed at once; those there stay.
    pub fn refuse(&self) {
        self.settings.send_modify(|settings| settings.refusing = true);
    }

    /// New connections are welcome again.
    pub fn accept(&self) {
        self.settings.send_modify(|settings| settings.refusing = false);
    }

    /// Bytes passed on in a direction so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.counters.of(direction).load(Ordering::Relaxed)
    }

    /// Connections passed on so far.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    fn parted(&self) -> Ends {
        std::mem::take(&mut *self.ends.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counters {
    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::There => &self.there,
            Direction::Back => &self.back,
        }
    }
}

struct Door {
    upstream: SocketAddr,
    settings: watch::Receiver<Settings>,
    ends: Arc<Mutex<Ends>>,
    counters: Arc<Counters>,
    tasks: TaskTracker,
}

impl Door {
    async fn open(self, listener: TcpListener, shutdown: CancellationToken) {
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            if self.settings.borrow().refusing {
                continue;
            }
            let (cut, reset) = {
                let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                (ends.cut.clone(), ends.reset.clone())
            };
            self.counters.connections.fetch_add(1, Ordering::Relaxed);
            let (upstream, settings, counters) =
                (self.upstream, self.settings.clone(), self.counters.clone());
            let connection = async move {
                let _ = serve(client, upstream, &settings, &counters, &cut, &reset).await;
            };
            self.tasks.spawn(shutdown.clone().run_until_cancelled_owned(connection));
        }
    }
}

/// One connection, from its two sockets to its end.
async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    settings: &watch::Receiver<Settings>,
    counters: &Counters,
    cut: &CancellationToken,
    reset: &CancellationToken,
) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let carried = async {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = carry(from_client, to_server, Direction::There, settings, counters);
        let back = carry(from_server, to_client, Direction::Back, settings, counters);
        tokio::try_join!(there, back).map(|_| ())
    };
    let ended = tokio::select! {
        carried = carried => carried,
        () = cut.cancelled() => return part(client, server).await,
        () = reset.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if ended.is_err() {
        // Whoever is still there hears of it in the same way.
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    ended
}

/// Ends both sides in order. They are read until they end too: a socket dropped with something unread is reset.
async fn part(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    client.shutdown().await?;
    server.shutdown().await?;
    let (mut here, mut there) = (tokio::io::sink(), tokio::io::sink());
    let heard_out = async {
        tokio::join!(tokio::io::copy(&mut client, &mut here), tokio::io::copy(&mut server, &mut there))
    };
    let _ = timeout(PARTING, heard_out).await;
    Ok(())
}

/// A direction: pieces are stamped with their time of arrival as they are read, so that a delay costs no throughput.
async fn carry(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    settings: &watch::Receiver<Settings>,
    counters: &Counters,
) -> io::Result<()> {
    let way = Road { direction, settings: settings.clone() };
    // The reader waits when it is full.
    let (sender, pieces) = mpsc::channel(UNDER_WAY);
    tokio::try_join!(read(from, sender, way.clone()), write(to, pieces, way, counters.of(direction)))
        .map(|_| ())
}

#[derive(Clone)]
struct Road {
    direction: Direction,
    settings: watch::Receiver<Settings>,
}

impl Road {
    fn way(&self) -> Way {
        let settings = self.settings.borrow();
        match self.direction {
            Direction::There => settings.there,
            Direction::Back => settings.back,
        }
    }

    async fn is_open(&mut self) {
        // An error means that the proxy is being dropped, and this task with it.
        let _ = self.settings.wait_for(|settings| !settings.stalled).await;
    }
}

async fn read(mut from: ReadHalf<'_>, to: mpsc::Sender<(Instant, Bytes)>, mut road: Road) -> io::Result<()> {
    loop {
        road.is_open().await;
        let mut piece = BytesMut::with_capacity(PIECE);
        if from.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        let due = Instant::now() + road.way().delay;
        if to.send((due, piece.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut pieces: mpsc::Receiver<(Instant, Bytes)>,
    mut road: Road,
    counter: &AtomicU64,
) -> io::Result<()> {
    let mut free_at = Instant::now();
    while let Some((due, mut piece)) = pieces.recv().await {
        sleep_until(due).await;
        while !piece.is_empty() {
            road.is_open().await;
            let part = piece.split_to(paced(road.way(), piece.len(), &mut free_at).await);
            to.write_all(&part).await?;
            counter.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
    }
    to.shutdown().await
}

/// Waits for the link; returns how many of `length` bytes may pass now. `free_at` is when all that has passed is
/// paid for; at most [`BURST`] is paid later.
async fn paced(way: Way, length: usize, free_at: &mut Instant) -> usize {
    let Some(rate) = way.bytes_per_second.map(|rate| rate.max(1)) else { return length };
    let count = length.min(((rate as f64 * BURST.as_secs_f64()) as usize).max(1));
    sleep_until(*free_at).await;
    let cost = Duration::from_secs_f64(count as f64 / rate as f64);
    let now = Instant::now();
    *free_at = (*free_at).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::within;

    /// Nothing comes for this long where nothing must come.
    const QUIET: Duration = Duration::from_millis(150);

    /// The proxy, its upstream, and a connection through it: whoever dialled first.
    async fn pair() -> (Chaos, TcpListener, TcpStream, TcpStream) {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let chaos = Chaos::before(upstream.local_addr().unwrap());
        let (near, far) = another(&chaos, &upstream).await;
        (chaos, upstream, near, far)
    }

    async fn another(chaos: &Chaos, upstream: &TcpListener) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(chaos.address()).await.unwrap();
        let (far, _) = within("the upstream is dialled", upstream.accept()).await.unwrap();
        (near, far)
    }

    async fn take(from: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("the bytes come", from.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// What a read says of a connection that is over.
    async fn end_of(stream: &mut TcpStream) -> io::Result<usize> {
        within("the end is heard", stream.read(&mut [0; 16])).await
    }

    fn numbered(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_are_counted() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        near.write_all(b"there").await.unwrap();
        assert_eq!(take(&mut far, 5).await, b"there");
        far.write_all(b"and back").await.unwrap();
        assert_eq!(take(&mut near, 8).await, b"and back");
        // The end of one direction leaves the other.
        near.shutdown().await.unwrap();
        assert_eq!(end_of(&mut far).await.unwrap(), 0);
        far.write_all(b"!").await.unwrap();
        assert_eq!(take(&mut near, 1).await, b"!");
        crate::harness::eventually("all is counted", async || {
            (chaos.bytes(Direction::There) == 5 && chaos.bytes(Direction::Back) == 9).then_some(())
        })
        .await;
        assert_eq!(chaos.connections(), 1);
    }

    #[tokio::test]
    async fn a_delay_is_kept_in_its_direction_and_costs_no_throughput() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        let delay = Duration::from_millis(100);
        chaos.set(Direction::There, Way { delay, ..Way::default() });
        let sent = numbered(8 << 20);
        let began = Instant::now();
        let (written, got) = tokio::join!(near.write_all(&sent), async {
            let first = take(&mut far, 1).await;
            assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
            [first, take(&mut far, sent.len() - 1).await].concat()
        });
        written.unwrap();
        assert!(got == sent, "all of it, in order");
        // One piece a delay would take 51 s.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_round_trip_takes_the_delay_of_both_directions() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        let delay = Duration::from_millis(60);
        chaos.set_both(Way { delay, ..Way::default() });
        let began = Instant::now();
        near.write_all(b"x").await.unwrap();
        let key = take(&mut far, 1).await;
        far.write_all(&key).await.unwrap();
        take(&mut near, 1).await;
        assert!(began.elapsed() >= delay * 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_bandwidth_is_kept_and_can_be_lifted() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        chaos.set(Direction::Back, Way { bytes_per_second: Some(1_000_000), ..Way::default() });
        let sent = numbered(500_000);
        let began = Instant::now();
        let (written, got) = tokio::join!(far.write_all(&sent), take(&mut near, sent.len()));
        written.unwrap();
        let took = began.elapsed();
        assert!(got == sent, "all of it, in order");
        assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
        chaos.set(Direction::Back, Way::default());
        let sent = numbered(20_000_000);
        let began = Instant::now();
        let (written, _) = tokio::join!(far.write_all(&sent), take(&mut near, sent.len()));
        written.unwrap();
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_stall_holds_bytes_and_going_on_delivers_them_in_order() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        near.write_all(b"a").await.unwrap();
        assert_eq!(take(&mut far, 1).await, b"a");
        chaos.stall();
        let sent = numbered(10_000);
        near.write_all(&sent).await.unwrap();
        assert!(timeout(QUIET, far.read(&mut [0; 1])).await.is_err(), "nothing passes");
        chaos.go_on();
        assert_eq!(take(&mut far, sent.len()).await, sent);
    }

    #[tokio::test]
    async fn a_stall_holds_the_sender_back_in_the_end() {
        let (chaos, _upstream, mut near, _far) = pair().await;
        chaos.stall();
        let much = vec![0; 64 << 20];
        assert!(timeout(QUIET * 4, near.write_all(&much)).await.is_err(), "64 MiB were taken");
    }

    #[tokio::test]
    async fn a_cut_ends_both_sides_in_order_even_with_bytes_held() {
        let (chaos, upstream, mut near, mut far) = pair().await;
        chaos.stall();
        near.write_all(b"lost").await.unwrap();
        far.write_all(b"lost too").await.unwrap();
        chaos.cut();
        assert_eq!(end_of(&mut far).await.unwrap(), 0);
        assert_eq!(end_of(&mut near).await.unwrap(), 0);
        // Who comes afterwards is not cut.
        chaos.go_on();
        let (mut near, mut far) = another(&chaos, &upstream).await;
        near.write_all(b"x").await.unwrap();
        assert_eq!(take(&mut far, 1).await, b"x");
    }

    #[tokio::test]
    async fn a_reset_is_a_reset_to_both_sides() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        near.write_all(b"x").await.unwrap();
        take(&mut far, 1).await;
        chaos.reset();
        assert_eq!(end_of(&mut far).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(end_of(&mut near).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_reset_of_one_side_is_passed_on() {
        let (_chaos, _upstream, near, mut far) = pair().await;
        near.set_zero_linger().unwrap();
        drop(near);
        assert_eq!(end_of(&mut far).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_is_refused_hears_the_end_at_once_and_the_others_stay() {
        let (chaos, upstream, mut near, mut far) = pair().await;
        chaos.refuse();
        let mut refused = TcpStream::connect(chaos.address()).await.unwrap();
        assert_eq!(end_of(&mut refused).await.unwrap(), 0);
        near.write_all(b"still here").await.unwrap();
        take(&mut far, 10).await;
        chaos.accept();
        another(&chaos, &upstream).await;
        assert_eq!(chaos.connections(), 2);
    }

    #[tokio::test]
    async fn dropped_it_takes_its_connections_and_its_port_along() {
        let (chaos, _upstream, mut near, mut far) = pair().await;
        let address = chaos.address();
        chaos.stall();
        drop(chaos);
        for stream in [&mut near, &mut far] {
            assert!(matches!(end_of(stream).await, Ok(0) | Err(_)));
        }
        crate::harness::eventually("the port is closed", async || {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }
}
