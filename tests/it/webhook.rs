//! What a webhook's answers lead to, and what its requests look like.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests::Behaviour;

use crate::checker;
use crate::world::{SOON, World, engine, hook, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint)";

#[tokio::test(flavor = "multi_thread")]
async fn b118_only_a_success_is_a_delivery() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let answers = [Behaviour::Status(500), Behaviour::Status(404), Behaviour::Redirect];
    for (id, answer) in (1..).zip(answers) {
        world.receiver.set(answer.clone());
        let before = world.receiver.requests().len();
        world.client.batch_execute(&format!("INSERT INTO t VALUES ({id}, 0)")).await?;
        tests::until("three attempts", SOON, async || {
            let attempts = world.receiver.requests().len() - before;
            Ok(if attempts >= 3 { Ok(()) } else { Err(format!("{attempts} attempts")) })
        })
        .await?;
        assert_eq!(world.receiver.messages().len(), id - 1, "{answer:?} is no delivery");
        world.receiver.set(Behaviour::Ok);
        world.receiver.until_messages(id, SOON).await?;
    }
    world.settled().await?;
    assert_eq!(world.receiver.messages().len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b120_a_refused_connection_is_tried_again_until_it_works() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    world.receiver.stop();
    world.client.batch_execute("INSERT INTO t VALUES (1, 0)").await?;
    tests::until("three failures", SOON, async || {
        let failed = world.sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
        Ok(if failed >= 3.0 { Ok(()) } else { Err(format!("{failed} failures")) })
    })
    .await?;
    world.receiver.restart().await?;
    world.receiver.until_messages(1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b125_batched_bodies_are_wrapped_and_single_ones_are_bare() -> Result<()> {
    let world = World::start(TABLE, "    batch_size: 10\n    batch_timeout_ms: 50\n").await?;
    world.messages_after("INSERT INTO t SELECT generate_series(1, 20), 0", 20).await?;
    let requests = world.receiver.accepted();
    for request in &requests {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-from"), Some("sequin"));
        assert_eq!(request.header("authorization"), Some("Bearer hidden-token"));
        let messages = request.body["data"].as_array().unwrap();
        assert!((1..=10).contains(&messages.len()));
        assert_eq!(request.body.as_object().unwrap().len(), 1);
    }
    let sizes: Vec<_> = requests.iter().map(|request| request.messages().len()).collect();
    assert!(sizes.contains(&10), "full batches are used: {sizes:?}");
    drop(world);

    let single = "sinks:
  - name: hook
    database: source
    destination: {type: webhook, http_endpoint: receiver, http_endpoint_path: /one, batch: false}
";
    let (postgres, receiver) = (tests::Cluster::start().await?, tests::Receiver::start().await?);
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let sequin = engine(&yaml(postgres.port(), &receiver.url(), single)).start().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (1, 5), (2, 6)").await?;
    receiver.until_messages(2, SOON).await?;
    for request in receiver.accepted() {
        assert_eq!(request.path, "/one");
        assert_eq!(request.body["action"], "insert", "the message itself");
    }
    Ok(())
}

/// A batch that is not full goes when its time is up, as one request.
#[tokio::test(flavor = "multi_thread")]
async fn b103_an_incomplete_batch_is_sent_within_its_time() -> Result<()> {
    let world = World::start(TABLE, "    batch_size: 500\n    batch_timeout_ms: 300\n").await?;
    world.messages_after("INSERT INTO t SELECT generate_series(1, 7), 0", 7).await?;
    let sizes: Vec<_> =
        world.receiver.accepted().iter().map(|request| request.messages().len()).collect();
    assert_eq!(sizes, [7]);
    Ok(())
}

/// The first message of one key is refused for a while: its key waits, in order, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn b089_b090_b091_a_blocked_key_keeps_its_order_and_holds_back_no_other() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    world.receiver.set_predicate(|body| {
        let sick = body["data"].as_array()?.iter().any(|message| message["record"]["id"] == 1);
        sick.then_some(503)
    });
    let sql = "DO $$ BEGIN FOR n IN 1..30 LOOP
            INSERT INTO t SELECT id, n FROM generate_series(1, 5) AS id
                ON CONFLICT (id) DO UPDATE SET value = excluded.value;
            COMMIT;
        END LOOP; END $$";
    let messages = world.messages_after(sql, 4 * 30).await?;
    assert!(messages.iter().all(|message| message["record"]["id"] != 1));
    assert_eq!(checker::check_order(&messages), 0);
    let pending = world.sequin.metric("sequin_messages_pending", &[]).await?;
    assert_eq!(pending, 30.0, "the blocked key waits as a whole");

    world.receiver.clear_predicate();
    let messages = world.receiver.until_messages(5 * 30, SOON).await?;
    assert_eq!(checker::check_order(&messages), 0);
    let sick = checker::by_key(&messages)["1"].clone();
    let values: Vec<_> = sick.iter().map(|message| message["record"]["value"].clone()).collect();
    assert_eq!(values, (1..=30).map(|n| json!(n)).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b088_updates_of_one_row_arrive_in_commit_order() -> Result<()> {
    let world = World::start(TABLE, "    batch_size: 50\n").await?;
    world.receiver.set(Behaviour::FailEvery(7));
    world.client.batch_execute("INSERT INTO t VALUES (1, 0)").await?;
    let sql = "DO $$ BEGIN FOR n IN 1..10000 LOOP UPDATE t SET value = n; COMMIT; END LOOP; END $$";
    world.client.batch_execute(sql).await?;
    let messages = world.receiver.until_messages(10_001, Duration::from_secs(300)).await?;
    let values: Vec<_> =
        messages.iter().map(|message| message["record"]["value"].as_u64().unwrap()).collect();
    assert_eq!(values, (0..=10_000).collect::<Vec<u64>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b237_secrets_stay_out_of_logs_and_metrics() -> Result<()> {
    let postgres = tests::Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let mut receiver = tests::Receiver::start().await?;
    // In the URL's query, in a header, in the password; and errors that tell of requests.
    let url = format!("{}/path?key=hidden-token", receiver.url());
    let config = yaml(postgres.port(), &url, &hook("hook", "", ""));
    let config = config.replace("password: postgres", "password: hidden-token");
    let with_user = config.replace("http://", "http://me:hidden-token@");
    let (_, refused) = engine(&with_user).start_expecting_failure().await?;
    assert!(!refused.contains("hidden-token"), "{refused}");
    let sequin = engine(&config).env("LOG_LEVEL", "trace").start().await?;
    streaming(&sequin).await?;
    receiver.set(Behaviour::Status(500));
    client.batch_execute("INSERT INTO t VALUES (1, 0)").await?;
    let failures = async |count: f64| {
        tests::until("failures", SOON, async || {
            let failed = sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
            Ok(if failed >= count { Ok(()) } else { Err(format!("{failed} failures")) })
        })
        .await
    };
    failures(2.0).await?;
    receiver.stop();
    failures(4.0).await?;
    for (place, text) in [("log", sequin.log()), ("metrics", sequin.metrics().await?)] {
        let leaks: Vec<_> = text.lines().filter(|line| line.contains("hidden-token")).collect();
        assert!(leaks.is_empty(), "in the {place}: {leaks:#?}");
    }
    Ok(())
}
