//! Clients that are slow on purpose are cut off by the deadline each test shortens, and by no other.

use super::{house::hear, *};

/// Asserts that what `future` waits for happened by the deadline under test, not before it.
async fn by_the_deadline<T>(future: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let output = patiently(future).await;
    assert!(began.elapsed() >= SOON.duration(), "closed before the deadline");
    output
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let house = House::open(Limits { first_byte: SOON, ..patient() }).await;
    let mut stream = house.connect().await;
    assert_eq!(by_the_deadline(hear(&mut stream)).await, "");
}

#[tokio::test]
async fn a_client_that_stops_within_its_headers_is_cut_off() {
    let house = House::open(Limits { header: SOON, ..patient() }).await;
    let heard = by_the_deadline(house.say(b"GET /ok HTTP/1.1\r\nHost: castell")).await;
    assert!(!heard.contains("200"), "{heard}");
}

#[tokio::test]
async fn a_client_that_drips_its_headers_is_cut_off() {
    let house = House::open(Limits { header: SOON, ..patient() }).await;
    let (mut read, mut write) = house.connect().await.into_split();
    let drip = async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        write.write_all(b"GET /ok HTTP/1.1\r\nX: ").await.unwrap();
        while write.write_all(b"x").await.is_ok() {
            pace.tick().await;
        }
    };
    let heard = by_the_deadline(async {
        tokio::select! {
            heard = hear(&mut read) => heard,
            () = drip => String::new(),
        }
    });
    assert!(!heard.await.contains("200"));
}

#[tokio::test]
async fn a_stalled_body_ends_by_the_handler_s_deadline() {
    let house = House::open(patient()).await;
    let heard = by_the_deadline(house.ask("POST /capped HTTP/1.1\r\nContent-Length: 10", "12345")).await;
    assert!(heard.starts_with("HTTP/1.1 408 ") && heard.contains("\"request_timeout\""), "{heard}");
}

#[tokio::test]
async fn a_stalled_body_ends_by_the_door_s_deadline_whatever_the_handler_does() {
    let house = House::open(Limits { body: SOON, ..patient() }).await;
    for framing in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"] {
        let request = format!("POST /naive HTTP/1.1\r\nHost: castellan.example\r\n{framing}");
        let heard = by_the_deadline(house.say(request.as_bytes())).await;
        assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    }
}

#[tokio::test]
async fn a_stalled_body_that_nobody_reads_holds_nothing() {
    let house = House::open(patient()).await;
    let request = b"POST /ok HTTP/1.1\r\nHost: castellan.example\r\nContent-Length: 10\r\n\r\n12345";
    let heard = house.say(request).await;
    assert!(heard.starts_with("HTTP/1.1 405 "), "{heard}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let house = House::open(Limits { write_stall: SOON, ..patient() }).await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: castellan.example\r\n\r\n").await.unwrap();
    by_the_deadline(async {
        let mut first = [0];
        stream.read_exact(&mut first).await.unwrap();
        house.is_empty().await;
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_serves_again_and_closes_when_idle() {
    let house = House::open(Limits { keep_alive: SOON, ..patient() }).await;
    let mut stream = house.connect().await;
    let request = b"GET /ok HTTP/1.1\r\nHost: castellan.example\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = patiently(stream.read(&mut answer)).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 "));
    stream.write_all(request).await.unwrap();
    let heard = by_the_deadline(hear(&mut stream)).await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}

#[tokio::test]
async fn a_second_request_s_headers_have_a_deadline_too() {
    let house = House::open(Limits { header: SOON, ..patient() }).await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /ok HTTP/1.1\r\nHost: castellan.example\r\n\r\n").await.unwrap();
    patiently(stream.read(&mut [0; 4096])).await.unwrap();
    stream.write_all(b"GET /ok HT").await.unwrap();
    let heard = by_the_deadline(hear(&mut stream)).await;
    assert!(!heard.contains("200"), "{heard}");
}

#[tokio::test]
async fn a_request_takes_as_long_as_its_handler_needs() {
    let limits = Limits { first_byte: SOON, header: SOON, keep_alive: SOON, write_stall: SOON, ..patient() };
    let house = House::open(limits).await;
    let leave = async {
        patiently(house.rooms.entered.notified()).await;
        tokio::time::sleep(SOON.duration() * 3).await;
        house.rooms.leave.notify_one();
    };
    let (heard, ()) = tokio::join!(house.ask("GET /slow HTTP/1.1", ""), leave);
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("done"), "{heard}");
}

#[tokio::test]
async fn a_deadline_once_met_is_forgotten() {
    let house = House::open(Limits { header: SOON, ..patient() }).await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: cast").await.unwrap();
    // The first part has to be seen on its own, or there is no deadline to meet.
    tokio::time::sleep(SOON.duration() / 4).await;
    stream.write_all(b"ellan.example\r\n\r\n").await.unwrap();
    patiently(house.rooms.entered.notified()).await;
    tokio::time::sleep(SOON.duration() * 2).await;
    house.rooms.leave.notify_one();
    let mut answer = vec![0; 4096];
    let length = patiently(stream.read(&mut answer)).await.unwrap();
    assert!(answer[..length].ends_with(b"done"));
    // An idle connection whose old deadline still ran would be closed by now.
    tokio::time::sleep(SOON.duration() / 4).await;
    let last = b"GET /ok HTTP/1.1\r\nHost: castellan.example\r\nConnection: close\r\n\r\n";
    stream.write_all(last).await.unwrap();
    assert!(hear(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_stalled_handshake_is_cut_off_and_a_whole_one_is_served() {
    let house = House::built(Limits { tls_handshake: SOON, ..patient() }, |config| {
        let file = |name| Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/door/testdata").join(name));
        config.server.tls.cert = file("cert.pem");
        config.server.tls.key = file("key.pem");
        config.server.public_url = "https://castellan.example".parse().unwrap();
    })
    .await;
    let mut stream = house.connect().await;
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    by_the_deadline(hear(&mut stream)).await;

    let trusted = reqwest::Certificate::from_pem(include_bytes!("../testdata/cert.pem")).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    let url = format!("https://localhost:{}/ok", house.addr.port());
    let answer = patiently(client.get(url).send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["strict-transport-security"].to_str().unwrap().starts_with("max-age=63072000"));
}

#[tokio::test]
async fn slow_clients_do_not_slow_a_normal_one() {
    let house = House::open(patient()).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = house.connect().await;
        stream.write_all(b"GET /ok HTTP/1.1\r\nHost: cast").await.unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    let heard = house.ask("GET /ok HTTP/1.1", "").await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
