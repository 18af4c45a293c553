//! The floor: client, relay and agent with nothing but tokio-tungstenite between them, the agent dialling out. What a
//! session costs beyond this is the house's own.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use agent::{
    Shell,
    shell::{self, Allowed, Request},
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config, client_async_with_config,
    tungstenite::{Message, handshake::server, protocol::WebSocketConfig},
};
use tokio_util::task::TaskTracker;

/// The largest message.
const MESSAGE: usize = 32 * 1024;

type Socket = WebSocketStream<TcpStream>;

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(0)
}

/// Dials a WebSocket by TCP, without Nagle's delay.
pub async fn dial(address: SocketAddr, path: &str) -> Socket {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let url = format!("ws://{address}{path}");
    client_async_with_config(url, stream, Some(config())).await.unwrap().0
}

/// Sessions whose agent is to come, by number.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Socket>>>>;

/// The relay: prints where it listens, then pairs clients with the agent's sockets. With a folder it records.
pub async fn relay(folder: Option<PathBuf>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (tasks, waiting) = (TaskTracker::new(), Waiting::default());
    // A client waits when the agent is not asked fast enough.
    let (ask, mut asked) = mpsc::channel::<String>(64);
    let (hand_over, mut control) = mpsc::channel::<Socket>(1);
    tasks.spawn(async move {
        let mut agent = control.recv().await.unwrap();
        while let Some(task) = asked.recv().await {
            agent.send(Message::text(task)).await.unwrap();
        }
    });
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (waiting, ask, hand_over) = (waiting.clone(), ask.clone(), hand_over.clone());
        let cast = folder.as_ref().map(|folder| folder.join(format!("{number}.cast")));
        tasks.spawn(async move {
            let (path, socket) = greet(stream).await;
            match path.split('/').collect::<Vec<_>>()[..] {
                ["", "control"] => hand_over.send(socket).await.unwrap(),
                ["", "agent", id] => {
                    let session = waiting.lock().unwrap().remove(id);
                    let _ = session.unwrap().send(socket);
                }
                ["", "client", command] => {
                    let (arrived, agent) = oneshot::channel();
                    waiting.lock().unwrap().insert(number.to_string(), arrived);
                    ask.send(format!("{number} {command}")).await.unwrap();
                    pass(socket, agent.await.unwrap(), cast.as_deref().map(Cast::new)).await;
                }
                _ => panic!("{path}"),
            }
        });
    }
}

async fn greet(stream: TcpStream) -> (String, Socket) {
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "tungstenite's own shape")]
    let see = |request: &server::Request, response: server::Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let socket = accept_hdr_async_with_config(stream, see, Some(config())).await.unwrap();
    (path, socket)
}

async fn pass(client: Socket, agent: Socket, mut cast: Option<Cast>) {
    let ((mut to_client, mut from_client), (mut to_agent, mut from_agent)) = (client.split(), agent.split());
    let output = async {
        while let Some(Ok(Message::Binary(bytes))) = from_agent.next().await {
            if let Some(cast) = &mut cast {
                cast.write(&bytes);
            }
            if to_client.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
    };
    let input = async {
        while let Some(Ok(Message::Binary(bytes))) = from_client.next().await {
            if to_agent.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = output => { let _ = to_client.close().await; }
        () = input => {}
    }
}

/// An asciicast as it is written most plainly.
struct Cast {
    file: BufWriter<File>,
    began: Instant,
    /// A character of which only the beginning has come.
    begun: Vec<u8>,
}

impl Cast {
    fn new(path: &Path) -> Self {
        let mut file = BufWriter::new(File::create(path).unwrap());
        writeln!(file, r#"{{"version":2,"width":80,"height":24}}"#).unwrap();
        Self { file, began: Instant::now(), begun: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) {
        let joined;
        let all = if self.begun.is_empty() {
            bytes
        } else {
            joined = [&self.begun, bytes].concat();
            &joined
        };
        let whole = match std::str::from_utf8(all) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => all.len(),
        };
        let event = (self.began.elapsed().as_secs_f64(), "o", String::from_utf8_lossy(&all[..whole]));
        serde_json::to_writer(&mut self.file, &event).unwrap();
        self.file.write_all(b"\n").unwrap();
        self.begun = all[whole..].to_vec();
    }
}

/// The agent: waits for sessions on one socket, dials another for each.
pub async fn agent(relay: SocketAddr) {
    let mut control = dial(relay, "/control").await;
    let tasks = TaskTracker::new();
    while let Some(Ok(Message::Text(task))) = control.next().await {
        let (id, command) = task.split_once(' ').unwrap();
        let command = String::from_utf8(hex::decode(command).unwrap()).unwrap();
        tasks.spawn(session(relay, id.to_owned(), command));
    }
}

async fn session(relay: SocketAddr, id: String, command: String) {
    let (mut to_relay, mut from_relay) = dial(relay, &format!("/agent/{id}")).await.split();
    let request = Request { session_id: id, run_as: None, command: Some(command), cols: 80, rows: 24 };
    let (terminal, mut process) = shell::open(Shell::Login, &Allowed::default(), &request).unwrap();
    let output = async {
        let mut room = vec![0; MESSAGE];
        while let Ok(count @ 1..) = terminal.read(&mut room).await {
            let bytes = Bytes::copy_from_slice(&room[..count]);
            if to_relay.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
    };
    let input = async {
        while let Some(Ok(Message::Binary(bytes))) = from_relay.next().await {
            let mut rest = &bytes[..];
            while let Ok(count @ 1..) = terminal.write(rest).await {
                rest = &rest[count..];
                if rest.is_empty() {
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = output => {}
        () = input => process.hang_up(&terminal),
    }
    let _ = to_relay.close().await;
    let _ = process.exit(&terminal).await;
}
