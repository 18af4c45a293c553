//! A small application behind the door, on a port of its own; gone when dropped.

use super::*;

/// A served application, and what a test may know of it.
pub(super) struct House {
    pub(super) addr: SocketAddr,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) rooms: Arc<Rooms>,
    pub(super) serving: JoinHandle<io::Result<()>>,
}

/// Where the application and a test meet.
#[derive(Default)]
pub(super) struct Rooms {
    /// `/slow` is being answered.
    pub(super) entered: Notify,
    /// `/slow` may go on.
    pub(super) leave: Notify,
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl House {
    pub(super) async fn open(limits: Limits) -> Self {
        Self::built(limits, |_| {}).await
    }

    /// A house whose configuration `change` has had a hand in.
    pub(super) async fn built(limits: Limits, change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut config = Config::for_dev(Path::new("/nowhere"), addr);
        config.server.public_url = "http://castellan.example".parse().unwrap();
        config.limits = limits;
        change(&mut config);
        let rooms = Arc::new(Rooms::default());
        let app = Guard::new(&config, addr).around(application(rooms.clone()));
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let door = Door::from_config(&config).unwrap();
        let serving = tokio::spawn({
            let (tasks, shutdown) = (tasks.clone(), shutdown.clone());
            async move { serve(listener, app, door, &tasks, shutdown).await }
        });
        Self { addr, tasks, shutdown, rooms, serving }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        patiently(TcpStream::connect(self.addr)).await.unwrap()
    }

    /// Sends `bytes` and reads until the door closes.
    pub(super) async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        hear(&mut stream).await
    }

    /// A whole request of its own connection; `head` is its line and any headers beside `Host`.
    pub(super) async fn ask(&self, head: &str, body: &str) -> String {
        let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let gap = if headers.is_empty() { "" } else { "\r\n" };
        let host = if headers.contains("Host:") { "" } else { "Host: castellan.example\r\n" };
        let request = format!("{line}\r\n{host}Connection: close\r\n{headers}{gap}\r\n{body}");
        self.say(request.as_bytes()).await
    }

    /// Waits until no connection is left, whatever its client does.
    pub(super) async fn is_empty(&self) {
        self.tasks.close();
        patiently(self.tasks.wait()).await;
    }
}

/// Everything until the other side closes, politely or not.
pub(super) async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut heard = Vec::new();
    let _reset = patiently(stream.read_to_end(&mut heard)).await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[handler]
async fn slow(Data(rooms): Data<&Arc<Rooms>>) -> &'static str {
    rooms.entered.notify_one();
    rooms.leave.notified().await;
    "done"
}

#[handler]
fn whoami(Data(peer): Data<&Peer>) -> String {
    peer.addr.to_string()
}

#[handler]
async fn capped(body: Body) -> Result<String, BodyError> {
    read_body(body, 1024, SOON.duration()).await.map(|bytes| bytes.len().to_string())
}

#[handler]
async fn naive(body: Body) -> poem::Result<String> {
    Ok(body.into_bytes().await?.len().to_string())
}

#[handler]
fn panics() -> &'static str {
    panic!("on purpose: /etc/shadow")
}

#[handler]
fn leaks() -> Response {
    Response::builder()
        .status(http::StatusCode::INTERNAL_SERVER_ERROR)
        .header("server", "castellan")
        .header("retry-after", "7")
        .body("SELECT * FROM users")
}

#[handler]
fn own_problem() -> Response {
    problem(http::StatusCode::CONFLICT, "ended", "It is over.")
}

#[handler]
fn echo(socket: WebSocket) -> impl IntoResponse {
    socket.on_upgrade(|mut socket| async move {
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            if socket.send(Message::Text(text)).await.is_err() {
                break;
            }
        }
    })
}

fn application(rooms: Arc<Rooms>) -> impl poem::Endpoint {
    let big = || vec![b'x'; 64 << 20];
    Route::new()
        .at("/ok", get(make(|_: Request| async { "fine" })))
        .at("/healthz", get(make(|_: Request| async { "fine" })))
        .at("/big", get(make(move |_: Request| async move { big() })))
        .at("/kept", get(make(|_: Request| async { "fine".with_header("cache-control", "max-age=1") })))
        .at("/slow", get(slow))
        .at("/whoami", get(whoami))
        .at("/capped", post(capped))
        .at("/naive", post(naive))
        .at("/panics", get(panics))
        .at("/leaks", get(leaks))
        .at("/ended", get(own_problem))
        .at("/ws", get(echo))
        .nest("/", crate::pages::pages())
        .data(rooms)
}
