//! Recordings read while they are written: screens, replays, followers.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use recordings::{
    Durability, Event, Exit, Follow, Followed, Kind, LAG, Live, REPLAY, Recorder, Redraw, Screen,
};

use crate::world::{World, header, ms, say, within};

/// What a session did, and the screen that makes.
struct Script {
    output: Vec<u8>,
    /// With the output offset from which each holds.
    sizes: Vec<(u64, u16, u16)>,
    screen: Screen,
    clock: u64,
}

impl Script {
    fn new() -> Self {
        Self { output: Vec::new(), sizes: Vec::new(), screen: Screen::new(80, 24), clock: 0 }
    }

    fn says(&mut self, bytes: &[u8]) -> Event {
        let kind = Kind::Output { offset: self.output.len() as u64, bytes: Bytes::copy_from_slice(bytes) };
        self.output.extend_from_slice(bytes);
        self.screen.feed(bytes);
        self.event(kind)
    }

    fn resizes(&mut self, cols: u16, rows: u16) -> Event {
        let offset = self.output.len() as u64;
        self.sizes.push((offset, cols, rows));
        self.screen.resize(cols, rows);
        self.event(Kind::Resize { offset, cols, rows })
    }

    fn event(&mut self, kind: Kind) -> Event {
        self.clock += 1;
        Event { at: ms(self.clock), kind }
    }

    /// Coloured lines, often cut in the middle of a character or sequence.
    fn colours(&mut self, len: usize) -> Event {
        const PATTERN: &str =
            "\x1b[1;34mcastellan\x1b[0m 中文 żółć \x1b[48;5;22m~/src\x1b[m drwxr-xr-x 4096\r\n";
        let start = self.output.len() % PATTERN.len();
        let bytes: Vec<u8> = PATTERN.bytes().cycle().skip(start).take(len).collect();
        self.says(&bytes)
    }

    fn shown(&self) -> String {
        text(&self.screen.redraw())
    }

    fn assert_shown(&self, redraw: &Redraw) {
        assert_eq!(redraw.offset, self.output.len() as u64);
        assert_eq!((redraw.cols, redraw.rows), self.screen.size());
        let mut client = Screen::new(redraw.cols, redraw.rows);
        client.feed(&redraw.bytes);
        assert_eq!(text(&client.redraw()), self.shown());
        assert_eq!(redraw.pending, self.screen.pending().len());
        assert_eq!(redraw.at, ms(self.clock));
    }
}

fn text(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// A watcher, who keeps what it was shown.
struct Watcher {
    follow: Follow,
    /// Where the first screen stood, and all output from there as far as it came without a screen between.
    from: u64,
    heard: Vec<u8>,
    screens: usize,
    sizes: Vec<(u64, u16, u16)>,
    at: Duration,
}

impl Watcher {
    fn new(live: &Live) -> Self {
        let (heard, sizes) = (Vec::new(), Vec::new());
        Self { follow: live.follow(), from: 0, heard, screens: 0, sizes, at: Duration::ZERO }
    }

    fn hears(&mut self, news: Followed) -> Option<Followed> {
        match news {
            Followed::Screen(redraw) => {
                self.screens += 1;
                self.from = redraw.offset;
                self.heard.clear();
                self.sizes.clear();
            }
            Followed::Event(event) => {
                assert!(event.at >= self.at);
                self.at = event.at;
                match event.kind {
                    Kind::Output { offset, bytes } => {
                        assert_eq!(offset, self.from + self.heard.len() as u64);
                        self.heard.extend_from_slice(&bytes);
                    }
                    Kind::Resize { offset, cols, rows } => self.sizes.push((offset, cols, rows)),
                    Kind::Input { .. } | Kind::Marker(_) | Kind::Gap { .. } | Kind::Exit(_) => (),
                }
            }
            end @ (Followed::Ended(_) | Followed::Interrupted) => return Some(end),
        }
        None
    }

    /// Follows to the end, and says how it ended.
    async fn watch(&mut self) -> Followed {
        loop {
            let news = within(self.follow.next()).await.unwrap();
            if let Some(end) = self.hears(news) {
                return end;
            }
        }
    }
}

async fn write(recorder: &mut Recorder, script: &mut Script, sizes: &[usize]) {
    for &size in sizes {
        let mut batch = vec![script.colours(size)];
        if size % 7 == 0 {
            batch.push(script.resizes(40 + size as u16 % 90, 10 + size as u16 % 30));
        }
        if size % 5 == 0 {
            let kind =
                Kind::Input { offset: recorder.input_offset(), bytes: Bytes::from_static(b"x"), echo: true };
            batch.push(script.event(kind));
            batch.push(script.colours(3));
        }
        recorder.record(batch).await.unwrap();
    }
}

fn proptest_on(cases: u32) -> ProptestConfig {
    ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(cases) }
}

fn running<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

fn ended(end: &Followed, wanted: &str) -> bool {
    matches!(end, Followed::Ended(end) if end.reason == wanted)
}

proptest! {
    #![proptest_config(proptest_on(24))]

    #[test]
    fn a_follower_gets_exactly_what_is_recorded_while_it_watches(
        sizes in prop::collection::vec(0..5000_usize, 0..80), synced in any::<bool>(),
    ) {
        running(async {
            let world = World::new();
            let spool = world.spool_with(if synced { Durability::Synced } else { Durability::Written });
            let mut recorder = spool.start(header("s1")).await.unwrap();
            let mut watcher = Watcher::new(&recorder.live());
            let writing = tokio::spawn(async move {
                let mut script = Script::new();
                write(&mut recorder, &mut script, &sizes).await;
                recorder.finish(ms(script.clock), "exit", Some(Exit::default())).await.unwrap();
                script
            });
            let end = watcher.watch().await;
            assert!(ended(&end, "exit"));
            let script = writing.await.unwrap();
            assert_eq!(watcher.screens, 1);
            let from = watcher.from as usize;
            assert!(watcher.heard == script.output[from..]);
            let sizes = script.sizes.iter().rev().take(watcher.sizes.len()).rev();
            assert!(watcher.sizes.iter().eq(sizes));
            // An end stays an end.
            assert!(ended(&watcher.watch().await, "exit"));
        });
    }

    #[test]
    fn a_replay_is_the_output_between_two_offsets_and_its_sizes(
        sizes in prop::collection::vec(0..40_000_usize, 1..60),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
        reopen in any::<bool>(),
    ) {
        running(async {
            let world = World::new();
            let spool = world.spool();
            let mut recorder = spool.start(header("s1")).await.unwrap();
            let mut script = Script::new();
            write(&mut recorder, &mut script, &sizes).await;
            if reopen {
                drop(recorder);
                recorder = spool.resume("s1").await.unwrap();
            }
            let live = recorder.live();
            let whole = script.output.len() as u64;
            let mut places: Vec<(u64, u64)> = places
                .iter()
                .map(|(from, len)| {
                    let from = from.index(whole as usize + 1) as u64;
                    (from, from + len.index((whole - from).min(REPLAY) as usize + 1) as u64)
                })
                .collect();
            // Where sizes stand exactly at an end.
            places.extend(script.sizes.windows(2).map(|pair| (pair[0].0, pair[1].0)));
            for (from, to) in places {
                if to - from > REPLAY {
                    continue;
                }
                let replayed = live.replay(from, to).await.unwrap().unwrap();
                assert!(replayed == wanted(&script, from, to), "{from}..{to} of {whole}");
            }
        });
    }

    #[test]
    fn the_screen_is_that_of_all_that_was_recorded_whatever_checkpoints_there_were(
        steps in prop::collection::vec((0..3000_usize, 0..3_u8, 1..9000_u64), 1..25),
    ) {
        running(async {
            let world = World::new();
            let mut recorder = world.spool().start(header("s1")).await.unwrap();
            let live = recorder.live();
            let mut script = Script::new();
            for (size, look, budget) in steps {
                write(&mut recorder, &mut script, &[size]).await;
                match look {
                    0 => script.assert_shown(&live.screen().await.unwrap()),
                    1 => {
                        let before = live.behind();
                        let after = live.advance(budget).await.unwrap();
                        assert!(after < before || before == 0);
                    }
                    _ => (),
                }
            }
            script.assert_shown(&live.screen().await.unwrap());
            assert_eq!(live.behind(), 0);
        });
    }
}

/// What a replay should be, from what is known of the session.
fn wanted(script: &Script, from: u64, to: u64) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut at = from;
    let output = |at: u64, end: u64| Kind::Output {
        offset: at,
        bytes: Bytes::copy_from_slice(&script.output[at as usize..end as usize]),
    };
    for &(offset, cols, rows) in script.sizes.iter().filter(|(offset, ..)| (from..=to).contains(offset)) {
        if offset > at {
            kinds.push(output(at, offset));
            at = offset;
        }
        kinds.push(Kind::Resize { offset, cols, rows });
    }
    if to > at {
        kinds.push(output(at, to));
    }
    kinds
}

#[tokio::test]
async fn a_replay_is_refused_beyond_its_limits() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    let mut script = Script::new();
    for _ in 0..30 {
        recorder.record(vec![script.colours(100_000)]).await.unwrap();
    }
    let (live, end) = (recorder.live(), 3_000_000);
    assert!(live.replay(end - REPLAY, end).await.unwrap().is_some());
    assert!(live.replay(0, REPLAY).await.unwrap().is_some());
    for (from, to) in [(end - REPLAY - 1, end), (end - 1, end + 1), (end + 1, end + 1), (5, 4)] {
        assert!(live.replay(from, to).await.unwrap().is_none(), "{from}..{to}");
    }
    recorder.record(vec![Event { at: ms(99), kind: Kind::Gap { lost: 10 } }]).await.unwrap();
    say(&mut recorder, ms(100), b"after").await;
    for (from, to, there) in [
        (end - 5, end, true),
        (end + 10, end + 15, true),
        (end + 12, end + 12, true),
        (end - 5, end + 12, false),
        (end, end + 1, false),
        (end + 5, end + 5, false),
        (end + 9, end + 12, false),
    ] {
        assert_eq!(live.replay(from, to).await.unwrap().is_some(), there, "{from}..{to}");
    }
}

#[tokio::test]
async fn a_follower_that_stalls_gets_a_screen_and_goes_on_from_there() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    let mut script = Script::new();
    recorder.record(vec![script.colours(1000)]).await.unwrap();
    let mut watcher = Watcher::new(&recorder.live());
    let Followed::Screen(first) = within(watcher.follow.next()).await.unwrap() else { panic!("no screen") };
    script.assert_shown(&first);
    for _ in 0..=LAG / 100_000 {
        recorder.record(vec![script.colours(100_000), script.resizes(101, 31)]).await.unwrap();
    }
    let Followed::Screen(second) = within(watcher.follow.next()).await.unwrap() else { panic!("no screen") };
    script.assert_shown(&second);
    watcher.from = second.offset;
    let since = script.output.len();
    for size in [1, 40_000, 900_000, 17] {
        recorder.record(vec![script.colours(size)]).await.unwrap();
    }
    recorder.finish(ms(1 << 20), "exit", None).await.unwrap();
    assert!(ended(&watcher.watch().await, "exit"));
    assert_eq!(watcher.screens, 0);
    assert!(watcher.heard == script.output[since..]);
}

#[tokio::test]
async fn a_follower_that_is_cancelled_again_and_again_misses_nothing() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    let mut script = Script::new();
    let mut watcher = Watcher::new(&recorder.live());
    for size in 0..50 {
        write(&mut recorder, &mut script, &[size * 97]).await;
        if let Ok(news) = tokio::time::timeout(Duration::ZERO, watcher.follow.next()).await {
            assert!(watcher.hears(news.unwrap()).is_none());
        }
    }
    recorder.finish(ms(1 << 20), "exit", None).await.unwrap();
    let mut end = None;
    while end.is_none() {
        if let Ok(news) = tokio::time::timeout(Duration::ZERO, watcher.follow.next()).await {
            end = watcher.hears(news.unwrap());
        }
    }
    assert!(ended(&end.unwrap(), "exit"));
    assert!(watcher.heard == script.output[watcher.from as usize..]);
}

#[tokio::test]
async fn a_follower_hears_of_an_interruption_and_the_session_can_go_on_at_once() {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    let mut script = Script::new();
    let mut watcher = Watcher::new(&recorder.live());
    recorder.record(vec![script.colours(5000)]).await.unwrap();
    let (end, ()) = tokio::join!(watcher.watch(), async { drop(recorder) });
    assert_eq!(end, Followed::Interrupted);
    let recorder = spool.resume("s1").await.unwrap();
    script.assert_shown(&recorder.live().screen().await.unwrap());
    // The reader of the first part stays there.
    assert_eq!(watcher.watch().await, Followed::Interrupted);
}

#[tokio::test]
async fn a_session_without_output_has_an_empty_screen() {
    let world = World::new();
    let recorder = world.spool().start(header("s1")).await.unwrap();
    let screen = recorder.live().screen().await.unwrap();
    assert_eq!((screen.offset, screen.cols, screen.rows, screen.bytes.len()), (0, 80, 24, 0));
    assert_eq!(recorder.live().advance(1).await.unwrap(), 0);
}

#[tokio::test]
async fn a_finished_recording_can_be_read_on() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    let live = recorder.live();
    let mut script = Script::new();
    write(&mut recorder, &mut script, &[10, 2000, 35]).await;
    recorder.finish(ms(script.clock), "exit", None).await.unwrap();
    script.assert_shown(&live.screen().await.unwrap());
    let whole = script.output.len() as u64;
    assert!(live.replay(0, whole).await.unwrap().unwrap() == wanted(&script, 0, whole));
}
