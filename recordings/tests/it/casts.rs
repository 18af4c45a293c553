//! What happened in a session, as its cast says it: every oddity a stream can have, read back by strict readers.

use std::sync::OnceLock;

use bytes::Bytes;
use futures_util::TryStreamExt;
use recordings::{Event, Exit, Kind, Library};
use serde_json::Value;

use crate::world::{World, header, ms};

const DAY: u64 = 24 * 3_600_000;

/// One thing that happened; offsets are counted by whoever records it.
#[derive(Clone)]
enum Did {
    Print(Vec<u8>),
    Resize(u16, u16),
    Lose(u64),
    Mark(&'static str),
    Exit,
}

/// A cast's events as they should be, and nothing else.
type Events = Vec<(f64, String, String)>;

struct Case {
    name: &'static str,
    did: Vec<(u64, Did)>,
    wanted: Events,
}

fn print(bytes: impl AsRef<[u8]>) -> Did {
    Did::Print(bytes.as_ref().to_vec())
}

fn case(name: &'static str, did: Vec<(u64, Did)>, wanted: &[(f64, &str, &str)]) -> Case {
    let owned = |(at, code, data): &(f64, &str, &str)| (*at, (*code).to_owned(), (*data).to_owned());
    Case { name, did, wanted: wanted.iter().map(owned).collect() }
}

fn characters() -> Vec<Case> {
    let all = |bytes: &[u8]| vec![(1, print(bytes))];
    let each = |bytes: &[u8]| bytes.iter().map(|byte| (1, print([*byte]))).collect::<Vec<_>>();
    vec![
        case("a character cut in two", vec![(1, print(b"\xc5")), (2, print(b"\xbc"))], &[(0.002, "o", "ż")]),
        case(
            "characters cut across feeds",
            vec![(1, print(b"\xc3\xb3\xc5")), (2, print(b"\x82\xc4")), (3, print(b"\x87"))],
            &[(0.001, "o", "ó"), (0.002, "o", "ł"), (0.003, "o", "ć")],
        ),
        case(
            "one byte at a time",
            each("a中🦀".as_bytes()),
            &[(0.001, "o", "a"), (0.001, "o", "中"), (0.001, "o", "🦀")],
        ),
        case("lone continuations", all(b"\x80\xbfx"), &[(0.001, "o", "\u{fffd}\u{fffd}x")]),
        case(
            "upstream's vector",
            all(b"\x83\x23\xf0\x90\x80\xc0\x21"),
            &[(0.001, "o", "\u{fffd}#\u{fffd}\u{fffd}!")],
        ),
        case(
            "upstream's vector, a byte at a time",
            each(b"\x83\x23\xf0\x90\x80\xc0\x21"),
            &[
                (0.001, "o", "\u{fffd}"),
                (0.001, "o", "#"),
                (0.001, "o", "\u{fffd}\u{fffd}"),
                (0.001, "o", "!"),
            ],
        ),
        case("surrogates", all(b"\xed\xa0\x80"), &[(0.001, "o", "\u{fffd}\u{fffd}\u{fffd}")]),
        case(
            "overlong and beyond",
            all(b"\xc0\x80\xf5\xff"),
            &[(0.001, "o", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}")],
        ),
        case("unfinished at the end", all(b"ab\xe2\x82"), &[(0.001, "o", "ab"), (0.001, "o", "\u{fffd}")]),
        case("nothing but an unfinished one", all(b"\xf0\x9f\xa6"), &[(0.001, "o", "\u{fffd}")]),
        case("a byte order mark", all(b"\xef\xbb\xbfx"), &[(0.001, "o", "\u{feff}x")]),
        case(
            "NUL and controls",
            all(b"\0\x01\x1b[0m\x07\x1f"),
            &[(0.001, "o", "\0\u{1}\u{1b}[0m\u{7}\u{1f}")],
        ),
        case(
            "what JSON need not escape",
            all("\u{7f}\u{80}\u{9b}\u{2028}\u{2029}".as_bytes()),
            &[(0.001, "o", "\u{7f}\u{80}\u{9b}\u{2028}\u{2029}")],
        ),
        case("what JSON must escape", all(b"\"\\\r\n\t\x08\x0c/"), &[(0.001, "o", "\"\\\r\n\t\u{8}\u{c}/")]),
    ]
}

fn courses() -> Vec<Case> {
    let long = vec![b'x'; 1 << 20];
    let line = "x".repeat(1 << 20);
    let escapes = vec![0x1b; 1 << 20];
    vec![
        case("nothing at all", vec![], &[(0.0, "o", "")]),
        case("nothing but an exit", vec![(2500, Did::Exit)], &[(2.5, "o", "")]),
        case("nothing in what was printed", vec![(7, print(b"")), (9, print(b""))], &[(0.009, "o", "")]),
        case(
            "only sizes that are none or the same",
            vec![
                (1, Did::Resize(0, 0)),
                (2, Did::Resize(80, 24)),
                (3, Did::Resize(80, 0)),
                (4, Did::Resize(u16::MAX, 24)),
            ],
            &[(0.004, "o", "")],
        ),
        case(
            "a clock that goes back",
            vec![(2000, print(b"a")), (1000, print(b"b")), (0, Did::Resize(9, 9)), (3000, print(b"c"))],
            &[(2.0, "o", "a"), (2.0, "o", "b"), (2.0, "r", "9x9"), (3.0, "o", "c")],
        ),
        case(
            "a day without a word",
            vec![(1, print(b"$ ")), (DAY, print(b"still")), (2 * DAY, print(b"here"))],
            &[(0.001, "o", "$ "), (86_400.0, "o", "still"), (172_800.0, "o", "here")],
        ),
        case(
            "output that was lost",
            vec![(1, print(b"a\xe4")), (2, Did::Lose(12)), (3, print(b"\xb8b"))],
            &[
                (0.001, "o", "a"),
                (0.002, "o", "\u{fffd}"),
                (0.002, "m", "12 bytes of output lost"),
                (0.003, "o", "\u{fffd}b"),
            ],
        ),
        case(
            "marks with lines in them",
            vec![(1, Did::Mark("two\nlines\u{7}")), (2, Did::Mark("\n"))],
            &[(0.001, "m", "twolines")],
        ),
        case(
            "a very long line",
            vec![(1, print(&long)), (2, print(&long))],
            &[(0.001, "o", &line), (0.002, "o", &line)],
        ),
        case("nothing but escapes", vec![(1, print(&escapes))], &[(0.001, "o", &"\u{1b}".repeat(1 << 20))]),
        storm(),
    ]
}

/// Ten thousand sizes, some of them none.
fn storm() -> Case {
    let sizes: Vec<(u64, u16, u16)> =
        (0..10_000_u16).map(|n| (u64::from(n / 10), n % 300, 24 + n % 7)).collect();
    let good = |(at, cols, rows): &(u64, u16, u16)| {
        (*cols > 0).then(|| (*at as f64 / 1000.0, "r".to_owned(), format!("{cols}x{rows}")))
    };
    Case {
        name: "a storm of sizes",
        wanted: sizes.iter().filter_map(good).collect(),
        did: sizes.into_iter().map(|(at, cols, rows)| (at, Did::Resize(cols, rows))).collect(),
    }
}

/// The cast that the spool gives of a finished recording.
async fn cast(case: &Case) -> Vec<u8> {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    let (mut last, mut batch, mut offset) = (0, Vec::new(), 0);
    for (at, did) in case.did.clone() {
        last = at;
        let kind = match did {
            Did::Print(bytes) => {
                offset += bytes.len() as u64;
                Kind::Output { offset: offset - bytes.len() as u64, bytes: Bytes::from(bytes) }
            }
            Did::Resize(cols, rows) => Kind::Resize { offset, cols, rows },
            Did::Lose(lost) => {
                offset += lost;
                Kind::Gap { lost }
            }
            Did::Mark(label) => Kind::Marker(label.into()),
            Did::Exit => Kind::Exit(Exit::default()),
        };
        batch.push(Event { at: ms(at), kind });
    }
    for some in batch.chunks(500) {
        recorder.record(some.to_vec()).await.unwrap();
    }
    recorder.finish(ms(last), "exit", None).await.unwrap();
    let library = Library::new(world.store(), spool);
    let cast = library.cast("s1", None).await.unwrap();
    cast.read(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat()
}

/// The events of a cast that keeps every rule a writer of asciicast v2 should keep.
fn strict(cast: &[u8]) -> Events {
    let text = std::str::from_utf8(cast).expect("a cast is UTF-8");
    let body = text.strip_suffix('\n').expect("the last line is whole");
    let mut lines = body.split('\n');
    let head = lines.next().unwrap();
    assert!(head.starts_with('{'), "no mark before the header: {head}");
    let head: Value = serde_json::from_str(head).unwrap();
    assert!(head["version"] == 2 && head["timestamp"].is_u64() && !head.to_string().contains("null"));
    let mut size =
        ["width", "height"].map(|side| head[side].as_u64().filter(|n| (1..=1000).contains(n)).unwrap());
    assert!(
        head["env"]
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, value)| { ["TERM", "SHELL"].contains(&key.as_str()) && value.is_string() })
    );
    let mut events = Events::new();
    for line in lines {
        let (time, rest) = line.strip_prefix('[').and_then(|line| line.split_once(',')).expect(line);
        let (whole, part) = time.split_once('.').expect(line);
        let digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        assert!(digits(whole) && digits(part) && part.len() <= 6, "{time}");
        let at: f64 = time.parse().unwrap();
        assert!(events.last().is_none_or(|(last, ..)| *last <= at), "{time} is before");
        let (code, data) = rest.split_at(4);
        assert!(["\"o\",", "\"i\",", "\"r\",", "\"m\","].contains(&code), "{code}");
        let data = data.strip_suffix(']').expect("three parts");
        let data: String = serde_json::from_str(data).expect("a string");
        if code.contains('r') {
            let new = data.split('x').map(|n| n.parse().unwrap()).collect::<Vec<u64>>();
            assert!(new.len() == 2 && new != size && new.iter().all(|n| (1..=1000).contains(n)), "{data}");
            size.copy_from_slice(&new);
        }
        events.push((at, code[1..2].to_owned(), data));
    }
    assert!(!events.is_empty(), "players refuse a cast without an event");
    events
}

/// asciinema 2.4.0, the strictest reader there is; the runner names it as skipped without it.
fn asciinema(name: &str, cast: &[u8], shown: &str) {
    static BINARY: OnceLock<Option<String>> = OnceLock::new();
    let Some(binary) = BINARY.get_or_init(|| std::env::var("CASTELLAN_TEST_ASCIINEMA").ok()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s1.cast");
    std::fs::write(&file, cast).unwrap();
    let mut command = std::process::Command::new(binary);
    let told = command.arg("cat").arg(&file).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(told.status.success(), "{name}: {}", String::from_utf8_lossy(&told.stderr));
    assert!(told.stdout == shown.as_bytes(), "{name}: asciinema shows something else");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_stream_holds_its_cast_is_one_that_everybody_reads() {
    for case in characters().into_iter().chain(courses()) {
        let cast = cast(&case).await;
        let mut events = strict(&cast);
        let (_, code, label) = events.pop().unwrap();
        assert_eq!((&*code, &*label), ("m", "ended: exit"), "{}", case.name);
        assert!(events == case.wanted, "{}: {:?}", case.name, &events[..events.len().min(9)]);
        let shown: String =
            events.iter().filter(|(_, code, _)| code == "o").map(|(.., data)| &data[..]).collect();
        asciinema(case.name, &cast, &shown);
    }
}
