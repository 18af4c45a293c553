//! A real S3 server in this process, over files, that can be told to misbehave on the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use recordings::{Store, open_store_with};
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const NAME: &str = "recordings";

/// What a request meets instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trick {
    /// An error of S3's, as its code says.
    Refuse(StatusCode, &'static str),
    /// The connection breaks while the request's body comes in.
    BreakIn,
    /// The connection breaks in the middle of the answer's body.
    BreakOut,
    /// A byte of the answer's body is another.
    Alter,
    /// It is done, and the connection breaks before the answer.
    Unsaid,
}

/// Which requests meet it, and how many.
struct Ambush {
    method: Method,
    path: &'static str,
    trick: Trick,
    left: usize,
}

struct House {
    folder: TempDir,
    service: S3Service,
    ambushes: Mutex<Vec<Ambush>>,
}

pub(crate) struct Bucket {
    address: SocketAddr,
    house: Arc<House>,
    tasks: TaskTracker,
    up: CancellationToken,
}

impl Bucket {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(NAME)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single("castellan", "a secret"));
        let house = House { folder, service: service.build(), ambushes: Mutex::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, up) = (TaskTracker::new(), CancellationToken::new());
        let bucket = Self { address, house: Arc::new(house), tasks, up };
        bucket.serve(listener);
        bucket
    }

    /// Breaks all connections, and takes no more.
    pub(crate) async fn stop(&self) {
        self.up.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts again where it was.
    pub(crate) async fn again(&mut self) {
        (self.tasks, self.up) = (TaskTracker::new(), CancellationToken::new());
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let (house, tasks, up) = (Arc::clone(&self.house), self.tasks.clone(), self.up.clone());
        let serving = async move {
            while let Some(Ok((socket, _))) = up.run_until_cancelled(listener.accept()).await {
                let (house, up) = (Arc::clone(&house), up.clone());
                tasks.spawn(async move {
                    let answer = service_fn(|request| answer(&house, request));
                    let mut http = hyper::server::conn::http1::Builder::new();
                    let serving =
                        http.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), answer);
                    // A connection that breaks is what some tests want.
                    let _ = up.run_until_cancelled(serving).await;
                });
            }
        };
        self.tasks.spawn(serving);
    }

    /// The next `times` requests of that method whose path or query holds `path` meet `trick`.
    pub(crate) fn ambush(&self, method: Method, path: &'static str, trick: Trick, times: usize) {
        self.house.ambushes.lock().unwrap().push(Ambush { method, path, trick, left: times });
    }

    /// Requests that have not met theirs yet.
    pub(crate) fn waiting(&self) -> usize {
        self.house.ambushes.lock().unwrap().iter().map(|ambush| ambush.left).sum()
    }

    /// The store, opened as an operator's settings would.
    pub(crate) fn store(&self) -> Store {
        self.store_as("a secret")
    }

    pub(crate) fn store_as(&self, secret: &str) -> Store {
        let settings = [
            ("aws_endpoint", format!("http://{}", self.address)),
            ("aws_allow_http", "true".into()),
            ("aws_region", "us-east-1".into()),
            ("aws_access_key_id", "castellan".into()),
            ("aws_secret_access_key", secret.into()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        open_store_with(&format!("s3://{NAME}/kept/here"), settings).unwrap()
    }

    /// The object at `key`, below the store's prefix.
    pub(crate) fn object(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.house.folder.path().join(NAME).join(key)).unwrap()
    }

    pub(crate) fn remove(&self, key: &str) {
        std::fs::remove_file(self.house.folder.path().join(NAME).join(key)).unwrap();
    }
}

impl House {
    fn trick(&self, request: &Request<Incoming>) -> Option<Trick> {
        let place = request.uri().path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
        let mut ambushes = self.ambushes.lock().unwrap();
        let fits = |ambush: &&mut Ambush| {
            ambush.left > 0 && ambush.method == *request.method() && place.contains(ambush.path)
        };
        let ambush = ambushes.iter_mut().find(fits)?;
        ambush.left -= 1;
        Some(ambush.trick)
    }
}

type Wire = Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>>;

async fn answer(house: &House, request: Request<Incoming>) -> Wire {
    match house.trick(&request) {
        None => Ok(house.service.call(request.map(Body::from)).await.map_err(|e| format!("{e:?}"))?),
        Some(Trick::Refuse(status, code)) => {
            let xml = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            Ok(Response::builder().status(status).body(Body::from(xml))?)
        }
        Some(Trick::BreakIn) => {
            let mut body = request.into_body();
            let _ = body.frame().await;
            Err("broken".into())
        }
        Some(Trick::Unsaid) => {
            house.service.call(request.map(Body::from)).await.map_err(|e| format!("{e:?}"))?;
            Err("broken".into())
        }
        Some(trick) => {
            let answered = house.service.call(request.map(Body::from)).await.map_err(|e| format!("{e:?}"))?;
            let (parts, body) = answered.into_parts();
            let mut bytes = BodyExt::collect(body).await.map_err(|e| format!("{e:?}"))?.to_bytes().to_vec();
            let body = if trick == Trick::Alter {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Body::from(bytes)
            } else {
                torn(&bytes, &parts.headers)
            };
            Ok(Response::from_parts(parts, body))
        }
    }
}

/// The first half of a body, and then nothing: its length has been told already.
fn torn(bytes: &[u8], headers: &HeaderMap) -> Body {
    assert!(headers.contains_key("content-length"));
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let end = stream::iter([Err(std::io::Error::other("broken"))]);
    let frames = stream::iter([Ok(Frame::data(half))]).chain(end);
    Body::http_body(StreamBody::new(frames))
}
