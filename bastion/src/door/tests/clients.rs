//! Who a client is, how many there may be, and what becomes of them when the house closes.

use super::{house::hear, *};

#[tokio::test]
async fn a_stranger_s_forwarded_address_is_ignored() {
    let house = House::open(patient()).await;
    let heard = house.ask("GET /whoami HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6", "").await;
    assert!(heard.ends_with("\r\n\r\n127.0.0.1"), "{heard}");
}

#[tokio::test]
async fn a_trusted_proxy_s_right_most_stranger_is_the_client() {
    let house = House::built(patient(), |config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let heard = house.ask("GET /whoami HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7", "").await;
    assert!(heard.ends_with("\r\n\r\n203.0.113.7"), "{heard}");
}

#[tokio::test]
async fn a_websocket_passes_and_outlives_the_door_s_deadlines() {
    let limits = Limits { first_byte: SOON, header: SOON, keep_alive: SOON, write_stall: SOON, ..patient() };
    let house = House::open(limits).await;
    let url = format!("ws://{}/ws", house.addr);
    let (mut socket, answer) = Box::pin(patiently(tokio_tungstenite::connect_async(url))).await.unwrap();
    assert_eq!(answer.status(), 101);
    house.is_empty().await;
    tokio::time::sleep(SOON.duration() * 2).await;
    socket.send("hello".into()).await.unwrap();
    let heard = patiently(socket.next()).await.unwrap().unwrap();
    assert_eq!(heard.into_text().unwrap().as_str(), "hello");
}

#[tokio::test]
async fn a_full_house_lets_the_next_in_when_one_leaves_upgraded_ones_too() {
    let house = House::open(Limits { connections: 1, ..patient() }).await;
    let url = format!("ws://{}/ws", house.addr);
    let (mut socket, _) = Box::pin(patiently(tokio_tungstenite::connect_async(url))).await.unwrap();
    let mut next = std::pin::pin!(house.ask("GET /ok HTTP/1.1", ""));
    let early = tokio::time::timeout(SOON.duration(), next.as_mut()).await;
    assert!(early.is_err(), "there was no room: {early:?}");
    socket.close(None).await.unwrap();
    drop(socket);
    assert!(patiently(next).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn at_shutdown_a_running_request_ends_and_nobody_else_comes_in() {
    let mut house = House::open(patient()).await;
    let mut idle = house.connect().await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: castellan.example\r\n\r\n").await.unwrap();
    patiently(house.rooms.entered.notified()).await;
    house.shutdown.cancel();
    patiently(&mut house.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(house.addr).await.is_err(), "the listener is closed");
    assert_eq!(hear(&mut idle).await, "", "an idle connection ends at once");
    house.rooms.leave.notify_one();
    let heard = hear(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("done"), "{heard}");
    drop((stream, idle));
    house.is_empty().await;
}
