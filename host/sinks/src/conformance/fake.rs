//! Destinations in the same process: one that answers what a test tells it, one that loses answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request that arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// The body as it came.
    pub(crate) bytes: Vec<u8>,
}

impl Seen {
    pub(crate) fn body(body: &str) -> Self {
        Self { body: body.to_owned(), ..Self::default() }
    }

    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(other, _)| other == name);
        same.map(|(_, value)| value.as_str()).collect()
    }
}

/// What the destination answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// None: it never answers.
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self { status: Some(status), headers: Vec::new(), body: body.to_owned() }
    }

    pub(crate) fn never() -> Self {
        Self { status: None, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A destination over HTTP. It answers as if all were well, unless a test said otherwise.
pub(crate) struct Fake {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    well: fn(&Seen) -> Answer,
    next: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

impl Fake {
    pub(crate) async fn start(well: fn(&Seen) -> Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { well, next: Mutex::default(), seen: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, _tasks: tasks }
    }

    /// The next request is answered so; called again, the one after it.
    pub(crate) fn next(&self, answer: Answer) {
        self.shared.next.lock().unwrap().push_back(answer);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    let bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().unwrap().to_string(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
    };
    let next = shared.next.lock().unwrap().pop_front();
    let answer = next.unwrap_or_else(|| (shared.well)(&seen));
    shared.seen.lock().unwrap().push(seen);
    let Some(status) = answer.status else {
        return std::future::pending().await;
    };
    let mut response = Response::builder().status(status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body.into()).unwrap()
}

/// A destination over TCP that reads one request per connection, answers it or not, and closes.
pub(crate) struct Raw {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
    closed: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Raw {
    /// None: the request is read, its answer lost.
    pub(crate) async fn start(answers: Vec<Option<Answer>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (closed_by_us, closed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let bodies = Arc::clone(&seen);
        tasks.spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let body = read_request(&mut stream).await;
                bodies.lock().unwrap().push(body);
                if let Some(Answer { status: Some(status), body, .. }) = answer {
                    let length = body.len();
                    let text =
                        format!("HTTP/1.1 {status} OK\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
                stream.shutdown().await.unwrap();
                drop(stream);
                closed_by_us.send_modify(|count| *count += 1);
            }
        });
        Self { url, seen, closed, _tasks: tasks }
    }

    /// The bodies, in their order.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) async fn closed(&self, connections: usize) {
        self.closed.clone().wait_for(|count| *count >= connections).await.unwrap();
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return body.to_owned();
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "half a request");
    }
}

/// An address that nobody listens at.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
