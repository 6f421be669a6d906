use std::sync::Mutex;
use std::time::Duration;

use model::BoxFuture;
use model::groups::Groups;
use model::message::{Effect, Message};
use model::position::Position;
use model::pull::Leased;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::streams::Stream;

/// Hands out one message, and notes what is done with it.
#[derive(Default)]
struct Fake {
    done: Mutex<Vec<String>>,
    refuses: Option<PullError>,
}

impl Fake {
    fn note(&self, what: &str, leases: &[LeaseId]) {
        self.done.lock().unwrap().push(format!("{what} {}", leases.len()));
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }
}

impl Pull for Fake {
    fn receive(
        &self,
        messages_max: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Leased>, PullError>> {
        let note = format!("receive {messages_max} within {} ms", wait.as_millis());
        self.done.lock().unwrap().push(note);
        let message = Message {
            position: Position::ZERO,
            output: 0,
            groups: Groups::None,
            effect: Effect::Write,
            key: None,
            payload: r#"{"record":{"id":1}}"#.into(),
            rows: Groups::None,
            relation: None,
            operation: None,
            partial: false,
            route: None,
            scope: "".into(),
            idempotency_key: "".into(),
        };
        let leased = Leased { id: LeaseId::new(7), message: Arc::new(message) };
        let answer = self.refuses.map_or(Ok(vec![leased]), Err);
        Box::pin(async { answer })
    }

    fn ack(&self, leases: &[LeaseId]) -> Result<(), PullError> {
        self.note("ack", leases);
        self.refuses.map_or(Ok(()), Err)
    }

    fn nack(&self, leases: &[LeaseId]) {
        self.note("nack", leases);
    }

    fn stop(&self) {}
}

/// A server with one stream, and its address.
struct Server {
    address: String,
    fake: Arc<Fake>,
    _tasks: JoinSet<()>,
}

async fn server(fake: Fake) -> Server {
    let fake = Arc::new(fake);
    let streams = Arc::new(Streams::default());
    let pull = Arc::<Fake>::clone(&fake);
    streams.set(vec![Stream { id: "an-id".into(), name: "pois".into(), pull }]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (router, operations) = routes(streams).split();
    let api = crate::access::tests::local().guard(router, operations.needs());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { crate::serve(listener, api, std::future::pending()).await.unwrap() });
    Server { address, fake, _tasks: tasks }
}

impl Server {
    /// The status, the head and the body of an answer.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

const IDS: &str = r#"{"ack_ids": ["01234567-89ab-8def-8123-456789abcdef"]}"#;

#[tokio::test]
async fn requests_and_answers_are_the_predecessors() {
    let server = server(Fake::default()).await;
    let received = json!({"data": [{
        "ack_id": LeaseId::new(7).to_string(), "data": {"record": {"id": 1}}
    }]});
    for prefix in ["/api/sequin_streams/pois", "/api/http_pull_consumers/an-id"] {
        let path = format!("{prefix}/receive");
        let body = r#"{"max_batch_size": 10, "wait_for": "60s"}"#;
        let (status, head, answer) = server.ask("POST", &path, body).await;
        assert_eq!((status, &answer), (200, &received));
        assert!(head.contains("content-type: application/json"), "{head}");
        let path = format!("{prefix}/receive?batch_size=5&wait_for=500");
        assert_eq!(server.ask("GET", &path, "").await.2, received);
        for what in ["ack", "nack"] {
            let (status, _, answer) = server.ask("POST", &format!("{prefix}/{what}"), IDS).await;
            assert_eq!((status, answer), (200, json!({"success": true})));
        }
    }
    let once = ["receive 10 within 60000 ms", "receive 5 within 500 ms", "ack 1", "nack 1"];
    assert_eq!(server.fake.done(), [once, once].concat(), "and nothing was given back");
}

#[tokio::test]
async fn what_is_wrong_is_told_in_a_summary() {
    let server = server(Fake::default()).await;
    let streams = "/api/sequin_streams";
    for (method, path, body, status) in [
        ("POST", "/nobody/receive", "", 404),
        ("POST", "/nobody/ack", IDS, 404),
        ("POST", "/pois/receive?wait_for=1", "", 400),
        ("POST", "/pois/receive", r#"{"max_batch_size": 0}"#, 400),
        ("POST", "/pois/receive", "[]", 400),
        ("POST", "/pois/ack", r#"{"ack_ids": []}"#, 400),
        ("POST", "/pois/nack", "", 400),
    ] {
        let (told, _, answer) = server.ask(method, &format!("{streams}{path}"), body).await;
        assert_eq!(told, status, "{path} {body}");
        assert!(answer["summary"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    assert!(server.fake.done().is_empty());
}

#[tokio::test]
async fn a_stream_that_is_busy_or_stops_says_so() {
    let waiting = Fake { refuses: Some(PullError::Waiting { waiting_max: 20 }), ..Fake::default() };
    let (status, head, answer) =
        server(waiting).await.ask("POST", "/api/sequin_streams/pois/receive", "").await;
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: 1"), "{head}");
    assert!(answer["summary"].as_str().unwrap().starts_with("20 consumers wait"), "{answer}");
    let stopped = Fake { refuses: Some(PullError::Stopped), ..Fake::default() };
    let (status, _, answer) =
        server(stopped).await.ask("POST", "/api/sequin_streams/pois/ack", IDS).await;
    assert_eq!(status, 503);
    assert!(answer["summary"].as_str().unwrap().contains("they come again"), "{answer}");
}

#[tokio::test]
async fn messages_that_are_not_sent_are_given_back_at_once() {
    let fake = Arc::new(Fake::default());
    let leased = fake.receive(1, Duration::ZERO).await.unwrap();
    let pull = Arc::<Fake>::clone(&fake);
    drop(body::answer(pull, leased));
    assert_eq!(fake.done().last().unwrap(), "nack 1");
}
