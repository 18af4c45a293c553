//! What every answer carries, errors included, and which host it answers for.

use super::*;

const API: &str = "content-security-policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n";

fn assert_dressed(heard: &str) {
    for line in [
        "x-content-type-options: nosniff\r\n",
        "referrer-policy: no-referrer\r\n",
        "cross-origin-opener-policy: same-origin\r\n",
        "cross-origin-resource-policy: same-origin\r\n",
        "x-frame-options: DENY\r\n",
        "permissions-policy: camera=(), ",
        "content-security-policy: default-src 'none'; ",
        "cache-control: ",
    ] {
        assert!(heard.contains(line), "{line:?} is missing in {heard}");
    }
    assert!(!heard.to_lowercase().contains("\r\nserver:"), "{heard}");
    assert!(!heard.contains("strict-transport-security"), "this is plain HTTP: {heard}");
}

fn assert_problem(heard: &str, status: u16, code: &str) {
    assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    assert!(heard.contains("content-type: application/problem+json\r\n"), "{heard}");
    assert!(heard.contains(API), "{heard}");
    let body = heard.split_once("\r\n\r\n").unwrap().1;
    let problem: serde_json::Value = serde_json::from_str(body).expect(body);
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code);
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    assert_dressed(heard);
}

#[tokio::test]
async fn a_good_answer_carries_the_headers() {
    let house = House::open(patient()).await;
    let heard = house.ask("GET /ok HTTP/1.1", "").await;
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("fine"), "{heard}");
    assert_dressed(&heard);
    assert!(heard.contains(API) && heard.contains("cache-control: no-store\r\n"), "{heard}");
    let heard = house.ask("GET /kept HTTP/1.1", "").await;
    assert!(heard.contains("cache-control: max-age=1\r\n") && !heard.contains("no-store"), "{heard}");
}

#[tokio::test]
async fn every_error_is_a_problem_with_the_headers() {
    let house = House::open(patient()).await;
    assert_problem(&house.ask("GET /nothing HTTP/1.1", "").await, 404, "not_found");
    assert_problem(&house.ask("POST /nothing HTTP/1.1", "").await, 404, "not_found");
    assert_problem(&house.ask("DELETE /ok HTTP/1.1", "").await, 405, "method_not_allowed");
    assert_problem(&house.ask("GET /ended HTTP/1.1", "").await, 409, "ended");
    assert_problem(&house.ask("GET /ws HTTP/1.1", "").await, 400, "invalid_request");
    let heard = house.ask("POST /capped HTTP/1.1\r\nContent-Length: 2000", &"x".repeat(2000)).await;
    assert_problem(&heard, 413, "payload_too_large");
}

#[tokio::test]
async fn a_failure_tells_nothing_of_the_inside() {
    let house = House::open(patient()).await;
    let heard = house.ask("GET /panics HTTP/1.1", "").await;
    assert_problem(&heard, 500, "internal");
    assert!(!heard.contains("shadow"), "{heard}");
    let heard = house.ask("GET /leaks HTTP/1.1", "").await;
    assert_problem(&heard, 500, "internal");
    assert!(!heard.contains("SELECT") && heard.contains("retry-after: 7\r\n"), "{heard}");
    assert!(house.ask("GET /ok HTTP/1.1", "").await.starts_with("HTTP/1.1 200 "), "the house stands");
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_are_refused() {
    let house = House::open(patient()).await;
    let large = format!("GET /ok HTTP/1.1\r\nX: {}", "x".repeat(17 << 10));
    assert!(house.ask(&large, "").await.starts_with("HTTP/1.1 431 "));
    let fits = format!("GET /ok HTTP/1.1\r\nX: {}", "x".repeat(15 << 10));
    assert!(house.ask(&fits, "").await.starts_with("HTTP/1.1 200 "));
    let many = format!("GET /ok HTTP/1.1{}", "\r\nX: x".repeat(100));
    assert!(house.ask(&many, "").await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_body_is_counted_not_believed() {
    let house = House::open(patient()).await;
    let chunked = |size: usize| format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    let head = "POST /capped HTTP/1.1\r\nTransfer-Encoding: chunked";
    assert!(house.ask(head, &chunked(1024)).await.ends_with("1024"));
    assert_problem(&house.ask(head, &chunked(1025)).await, 413, "payload_too_large");
    let heard = house.ask("POST /capped HTTP/1.1\r\nContent-Length: 1024", &"x".repeat(1024)).await;
    assert!(heard.ends_with("1024"), "{heard}");
    // Announced, never sent: refused at once, by the handler's cap and by the door's.
    for (path, length) in [("/capped", 1025), ("/naive", (64 << 10) + 1)] {
        let heard = house.ask(&format!("POST {path} HTTP/1.1\r\nContent-Length: {length}"), "").await;
        assert_problem(&heard, 413, "payload_too_large");
    }
}

#[tokio::test]
async fn a_handler_that_reads_everything_gets_no_more_than_the_door_s_cap() {
    let house = House::open(Limits { body_size: ByteSize::kib(4), ..patient() }).await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let head = "POST /naive HTTP/1.1\r\nTransfer-Encoding: chunked";
    assert!(house.ask(head, &format!("{}0\r\n\r\n", chunk.repeat(4))).await.ends_with("4096"));
    assert_problem(&house.ask(head, &chunk.repeat(100)).await, 413, "payload_too_large");
}

#[tokio::test]
async fn a_refused_client_that_is_still_sending_is_not_reset() {
    let house = House::open(patient()).await;
    let mut stream = house.connect().await;
    let head = b"POST /naive HTTP/1.1\r\nHost: castellan.example\r\nContent-Length: 70000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    assert_problem(&house::hear(&mut stream).await, 413, "payload_too_large");
    for _ in 0..5 {
        stream.write_all(&[b'x'; 1000]).await.expect("taken, if only to be thrown away");
    }
}

#[tokio::test]
async fn only_the_bastion_s_own_hosts_are_answered() {
    let house = House::open(patient()).await;
    let port = house.addr.port();
    let status = async |head: &str| house.ask(head, "").await[9..12].to_owned();
    let ours = [
        "castellan.example".to_owned(),
        "Castellan.EXAMPLE:80".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ];
    for host in ours {
        assert_eq!(status(&format!("GET /ok HTTP/1.1\r\nHost: {host}")).await, "200", "{host}");
    }
    let foreign = [
        "evil.example".to_owned(),
        format!("castellan.example:{port}"),
        "castellan.example.evil.example".to_owned(),
        "localhost".to_owned(),
        "castellan.example:".to_owned(),
        "x@castellan.example".to_owned(),
        "castellan.example\r\nHost: evil.example".to_owned(),
        String::new(),
    ];
    for host in foreign {
        assert_eq!(status(&format!("GET /ok HTTP/1.1\r\nHost: {host}")).await, "421", "{host}");
    }
    assert_eq!(status("GET http://evil.example/ok HTTP/1.1\r\nHost: castellan.example").await, "421");
    assert_eq!(status("GET http://castellan.example/ok HTTP/1.1\r\nHost: castellan.example").await, "200");
    assert_eq!(status("GET /healthz HTTP/1.1\r\nHost: evil.example").await, "200");
    let heard = house.ask("GET /ok HTTP/1.1\r\nHost: evil.example", "").await;
    assert_problem(&heard, 421, "misdirected");
}

#[tokio::test]
async fn each_class_of_page_loads_what_it_needs_and_no_more() {
    let house = House::open(patient()).await;
    for (path, status, scripts) in [
        ("/", "200", "script-src 'self';"),
        ("/hosts", "200", "script-src 'self';"),
        ("/docs", "200", "script-src 'self';"),
        ("/recordings", "200", "script-src 'self';"),
        ("/recordings/0190", "200", "script-src 'self' 'wasm-unsafe-eval';"),
        ("/nowhere", "404", "script-src 'self';"),
    ] {
        let heard = house.ask(&format!("GET {path} HTTP/1.1\r\nAccept: text/html,*/*"), "").await;
        assert_eq!(&heard[9..12], status, "{path}");
        assert!(heard.contains("content-type: text/html; charset=utf-8\r\n"), "{path}: {heard}");
        assert!(heard.contains(scripts) && heard.contains("frame-ancestors 'none'"), "{path}: {heard}");
        assert!(heard.contains("cache-control: no-store\r\n"), "{path}: {heard}");
        assert_dressed(&heard);
    }
    let heard = house.ask("HEAD / HTTP/1.1", "").await;
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("\r\n\r\n"), "{heard}");
    assert_problem(&house.ask("POST / HTTP/1.1", "").await, 405, "method_not_allowed");
    assert_problem(&house.ask("GET /assets/../../Cargo.toml HTTP/1.1", "").await, 404, "not_found");
    assert_problem(&house.ask("GET /index.html HTTP/1.1", "").await, 404, "not_found");
}

/// Everything that is logged, as one text.
#[derive(Clone, Default)]
struct Journal(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_path_and_neither_query_nor_headers() {
    let journal = Journal::default();
    let writer = journal.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let house = House::open(patient()).await;
    let logged = patiently(async {
        loop {
            // A test beside this one, which listens to nothing, may have been the first to log there and then.
            tracing::callsite::rebuild_interest_cache();
            let head = "GET /ok?token=hunter2 HTTP/1.1\r\nAuthorization: Bearer hunter3\r\nCookie: hunter4";
            house.ask(head, "").await;
            house.ask("GET /nothing?token=hunter2 HTTP/1.1", "").await;
            let logged = String::from_utf8(journal.0.lock().unwrap().clone()).unwrap();
            if ["/ok", "/nothing"].iter().all(|path| logged.contains(&format!("path=\"{path}\""))) {
                break logged;
            }
        }
    })
    .await;
    let line = logged.lines().find(|line| line.contains("path=\"/ok\"")).expect("a line");
    assert!(line.contains("INFO") && line.contains("method=GET") && line.contains("status=200"), "{line}");
    assert!(line.contains("peer=127.0.0.1"), "{line}");
    assert!(!logged.contains("hunter"), "{logged}");
}
