//! Consumers who fetch the messages of a stream over HTTP.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Sequin, http, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::world::{LATER, SOON, engine, settled, streaming, yaml};
use tests::checker;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint)";

/// Within the time-out of the test's HTTP client.
const WAIT: &str = "15s";

/// An engine with the stream `pulled`.
struct World {
    sequin: Sequin,
    client: Client,
    _postgres: Cluster,
}

impl World {
    /// `options` are those of the stream.
    async fn start(options: &str) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let sequin = engine(&config(&postgres, options)).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, client, _postgres: postgres })
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.context("run the statements")
    }

    fn consumer(&self) -> Result<Consumer> {
        let url = format!("{}/api/sequin_streams/pulled", self.sequin.url());
        Ok(Consumer { url, client: http::client()? })
    }
}

fn config(postgres: &Cluster, options: &str) -> String {
    let sink = format!(
        "sinks:
  - {{name: pulled, database: source, destination: {{type: sequin_stream{options}}}}}
"
    );
    yaml(postgres.port(), "http://127.0.0.1:1", &sink)
}

struct Consumer {
    url: String,
    client: reqwest::Client,
}

/// What was received: ids to acknowledge by, and messages.
type Received = (Vec<String>, Vec<Value>);

impl Consumer {
    /// The status and the body of an answer.
    async fn ask(&self, what: &str, body: Value) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}/{what}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.with_context(|| format!("ask to {what}"))?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).with_context(|| text)?))
    }

    async fn receive(&self, max: usize, wait: Option<&str>) -> Result<Received> {
        let mut body = json!({"max_batch_size": max});
        if let Some(wait) = wait {
            body["wait_for"] = json!(wait);
        }
        let (status, answer) = self.ask("receive", body).await?;
        ensure!(status == 200, "{status}: {answer}");
        let items = answer["data"].as_array().context("a list")?;
        let id = |item: &Value| item["ack_id"].as_str().unwrap().to_owned();
        Ok((items.iter().map(id).collect(), items.iter().map(|it| it["data"].clone()).collect()))
    }

    /// `ack` or `nack`.
    async fn tell(&self, what: &str, ids: &[String]) -> Result<()> {
        let (status, answer) = self.ask(what, json!({"ack_ids": ids})).await?;
        ensure!((status, &answer) == (200, &json!({"success": true})), "{status}: {answer}");
        Ok(())
    }
}

fn ids(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["record"]["id"].as_i64().unwrap()).collect()
}

fn key(message: &Value) -> &str {
    message["metadata"]["idempotency_key"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn b151_receive_returns_early_when_messages_appear_and_empty_at_the_deadline() -> Result<()> {
    let world = World::start("").await?;
    let consumer = world.consumer()?;
    let begin = Instant::now();
    let (none, _) = consumer.receive(10, Some("1s")).await?;
    assert!(none.is_empty() && begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    let (none, _) = consumer.receive(10, None).await?;
    assert!(none.is_empty());
    // Three waits whose deadlines together are beyond any patience.
    for id in 1..=3 {
        let begin = Instant::now();
        let insert = format!("INSERT INTO t VALUES ({id}, 0)");
        let (received, inserted) =
            tokio::join!(consumer.receive(10, Some(WAIT)), world.run(&insert));
        inserted?;
        let (leases, messages) = received?;
        assert_eq!(ids(&messages), [id]);
        assert!(begin.elapsed() < Duration::from_secs(14), "{:?}", begin.elapsed());
        consumer.tell("ack", &leases).await?;
    }
    settled(&world.client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn b152_a_message_comes_again_after_its_time_and_at_once_when_given_back() -> Result<()> {
    let world = World::start(", visibility_timeout_ms: 2000").await?;
    let consumer = world.consumer()?;
    world.run("INSERT INTO t VALUES (1, 0)").await?;
    let begin = Instant::now();
    let (first, messages) = consumer.receive(1, Some(WAIT)).await?;
    let (second, again) = consumer.receive(1, Some(WAIT)).await?;
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(key(&messages[0]), key(&again[0]));
    assert_ne!(first, second);
    consumer.tell("nack", &second).await?;
    let (third, again) = consumer.receive(1, None).await?;
    assert_eq!(key(&messages[0]), key(&again[0]), "it is there without waiting");
    consumer.tell("ack", &third).await?;
    settled(&world.client).await?;
    assert!(consumer.receive(1, Some("3s")).await?.0.is_empty());
    let failed = world.sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
    assert_eq!(failed, 0.0, "no attempt failed");
    Ok(())
}

/// Two consumers work on few rows with many changes: what one of them holds, neither the message nor
/// another one of its row, the other has not; and the order of each row is that of the commits.
#[tokio::test(flavor = "multi_thread")]
async fn b153_no_message_and_no_group_is_held_by_two_consumers() -> Result<()> {
    let world = World::start(", visibility_timeout_ms: 300000").await?;
    let (changes, rows) = (400, 7);
    let insert = format!("INSERT INTO t SELECT i, 0 FROM generate_series(0, {rows} - 1) i");
    let update = format!(
        "DO $$ BEGIN FOR n IN 1..{changes} - {rows} LOOP
             UPDATE t SET value = n WHERE id = n % {rows}; COMMIT; END LOOP; END $$"
    );
    let write = async {
        world.run(&insert).await?;
        world.run(&update).await
    };
    let held: Mutex<HashSet<i64>> = Mutex::default();
    let done: Mutex<Vec<Value>> = Mutex::default();
    let consume = async || -> Result<()> {
        let consumer = world.consumer()?;
        while done.lock().unwrap_or_else(PoisonError::into_inner).len() < changes {
            let (leases, messages) = consumer.receive(3, Some("1s")).await?;
            for id in ids(&messages) {
                assert!(held.lock().unwrap().insert(id), "row {id} is held twice");
            }
            // Somebody else may come in between.
            tokio::task::yield_now().await;
            for (lease, message) in leases.into_iter().zip(messages) {
                held.lock().unwrap().remove(&ids(std::slice::from_ref(&message))[0]);
                done.lock().unwrap().push(message);
                consumer.tell("ack", &[lease]).await?;
            }
        }
        Ok(())
    };
    let all = async { tokio::try_join!(consume(), consume(), write).map(drop) };
    tokio::time::timeout(LATER, all).await.context("consume everything")??;
    let done = done.lock().unwrap().clone();
    assert_eq!(
        (done.len(), checker::distinct(&done), checker::check_order(&done)),
        (changes, changes, 0)
    );
    settled(&world.client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn b154_acknowledging_is_idempotent_and_a_stream_that_is_not_there_is_not_found() -> Result<()>
{
    let world = World::start("").await?;
    let mut consumer = world.consumer()?;
    world.run("INSERT INTO t VALUES (1, 0)").await?;
    let (leases, _) = consumer.receive(1, Some(WAIT)).await?;
    let unknown = ["01234567-89ab-4def-8123-456789abcdef".to_owned()];
    for ids in [&unknown[..], &leases, &leases] {
        consumer.tell("ack", ids).await?;
    }
    consumer.tell("nack", &leases).await?;
    assert!(consumer.receive(1, Some("1s")).await?.0.is_empty());
    settled(&world.client).await?;
    let (status, answer) = consumer.ask("ack", json!({"ack_ids": ["1"]})).await?;
    assert_eq!(status, 400, "{answer}");
    consumer.url = consumer.url.replace("pulled", "nobody");
    let (status, answer) = consumer.ask("ack", json!({"ack_ids": leases})).await?;
    assert_eq!(status, 404, "{answer}");
    assert!(answer["summary"].as_str().unwrap().contains("nobody"), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b114_what_was_held_at_a_kill_comes_again_as_the_same_message() -> Result<()> {
    let mut world = World::start("").await?;
    let consumer = world.consumer()?;
    world.run("INSERT INTO t SELECT generate_series(1, 5), 0").await?;
    let mut held = Vec::new();
    until("all messages", SOON, async || {
        held.extend(consumer.receive(5 - held.len(), Some("1s")).await?.1);
        Ok(if held.len() == 5 { Ok(()) } else { Err(format!("{} messages", held.len())) })
    })
    .await?;
    world.sequin.kill9().await?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    let (mut again, mut leases) = (Vec::new(), Vec::new());
    until("all messages again", SOON, async || {
        let (more, messages) = consumer.receive(5 - again.len(), Some("1s")).await?;
        leases.extend(more);
        again.extend(messages);
        Ok(if again.len() == 5 { Ok(()) } else { Err(format!("{} messages", again.len())) })
    })
    .await?;
    let keys =
        |messages: &[Value]| messages.iter().map(|it| key(it).to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(&held), keys(&again));
    consumer.tell("ack", &leases).await?;
    settled(&world.client).await
}

/// A stop with messages held, offered and acknowledged, and a consumer who waits: it takes no longer
/// than any other, and only what was not acknowledged comes again.
#[tokio::test(flavor = "multi_thread")]
async fn b184_a_stop_waits_for_no_consumer_and_repeats_nothing_acknowledged() -> Result<()> {
    let mut world = World::start("").await?;
    let consumer = world.consumer()?;
    world.run("INSERT INTO t SELECT generate_series(1, 3), 0").await?;
    let (mut leases, mut messages) = (Vec::new(), Vec::new());
    until("all messages", SOON, async || {
        let (more, received) = consumer.receive(1, Some("1s")).await?;
        leases.extend(more);
        messages.extend(received);
        Ok(if messages.len() == 3 { Ok(()) } else { Err(format!("{messages:?}")) })
    })
    .await?;
    assert_eq!(ids(&messages), [1, 2, 3]);
    consumer.tell("nack", &leases[1..2]).await?;
    consumer.tell("ack", &leases[..1]).await?;
    let begin = Instant::now();
    let status = world.sequin.terminate().await?;
    assert!(status.success(), "{}", world.sequin.log());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    messages.clear();
    until("the rest", SOON, async || {
        messages.extend(consumer.receive(10, Some("1s")).await?.1);
        Ok(if messages.len() >= 2 { Ok(()) } else { Err(format!("{messages:?}")) })
    })
    .await?;
    assert_eq!(ids(&messages), [2, 3]);
    assert!(consumer.receive(10, Some("1s")).await?.0.is_empty());
    Ok(())
}

/// A consumer whose connection breaks while it waits takes no message along: the next has it long
/// before the visibility timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_goes_away_while_it_waits_takes_no_message_along() -> Result<()> {
    let world = World::start(", max_waiting: 1").await?;
    let consumer = world.consumer()?;
    let host = world.sequin.url().trim_start_matches("http://").to_owned();
    let mut gone = TcpStream::connect(&host).await?;
    let request = format!(
        "GET /api/sequin_streams/pulled/receive?wait_for=5m HTTP/1.1\r\nhost: {host}\r\n\r\n"
    );
    gone.write_all(request.as_bytes()).await?;
    let waiting = async || consumer.ask("receive", json!({"wait_for": 500})).await;
    until("it to wait", SOON, async || {
        let (status, answer) = waiting().await?;
        Ok(if status == 429 { Ok(()) } else { Err(format!("{status} {answer}")) })
    })
    .await?;
    drop(gone);
    until("it to be gone", SOON, async || {
        let (status, answer) = waiting().await?;
        Ok(if status == 200 { Ok(()) } else { Err(format!("{status} {answer}")) })
    })
    .await?;
    world.run("INSERT INTO t VALUES (1, 0)").await?;
    let (_, messages) = consumer.receive(1, Some(WAIT)).await?;
    assert_eq!(ids(&messages), [1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_fetch_has_the_token_or_is_on_this_machine() -> Result<()> {
    const TOKEN: &str = "a-token-of-a-test-000";
    let world = World::start("").await?;
    let local = world.consumer()?;
    assert_eq!(local.ask("receive", json!({})).await?.0, 200);

    let config = config(&world._postgres, "");
    let open = engine(&config).env("SEQUIN_BIND", "0.0.0.0").start().await?;
    let url = format!("{}/api/sequin_streams/pulled", open.url());
    let stranger = Consumer { url, client: http::client()? };
    let (status, answer) = stranger.ask("receive", json!({})).await?;
    assert_eq!(status, 403);
    assert!(answer["summary"].as_str().unwrap().contains("SEQUIN_API_TOKEN"), "{answer}");
    assert!(open.log().contains("nobody can fetch from streams"), "{}", open.log());
    drop(open);

    let closed = engine(&config).env("SEQUIN_API_TOKEN", TOKEN).start().await?;
    let url = format!("{}/api/sequin_streams/pulled", closed.url());
    let stranger = Consumer { url, client: http::client()? };
    assert_eq!(stranger.ask("receive", json!({})).await?.0, 401);
    let request = stranger.client.get(format!("{}/receive", stranger.url));
    let response = request.header("authorization", format!("Bearer {TOKEN}")).send().await?;
    assert_eq!(response.status(), 200);
    assert!(!closed.log().contains(TOKEN), "{}", closed.log());
    Ok(())
}
