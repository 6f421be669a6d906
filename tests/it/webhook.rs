//! What a webhook's answers lead to, and what its requests look like.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests::Behaviour;

use crate::world::{LATER, SOON, World, engine, hook, plugin, streaming, yaml};
use tests::checker;

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

/// An engine with this configuration of the endpoint and the sink, made from the usual one.
async fn custom(change: impl Fn(String) -> String) -> Result<World> {
    let postgres = tests::Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = tests::Receiver::start().await?;
    let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "/hook", ""));
    let sequin = engine(&change(config)).start().await?;
    streaming(&sequin).await?;
    Ok(World { sequin, receiver, client, postgres })
}

#[tokio::test(flavor = "multi_thread")]
async fn b119_a_receiver_says_when_to_come_back() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    for status in [429, 503] {
        world.receiver.set(Behaviour::RetryAfter { seconds: 3, status });
        let before = world.receiver.requests().len();
        world.client.batch_execute(&format!("INSERT INTO t VALUES ({status}, 0)")).await?;
        tests::until("two attempts", SOON, async || {
            let attempts = world.receiver.requests().len() - before;
            Ok(if attempts >= 2 { Ok(()) } else { Err(format!("{attempts} attempts")) })
        })
        .await?;
        let requests = world.receiver.requests();
        let pause = requests[before + 1].at - requests[before].at;
        // The back-off of this sink is at most one second.
        assert!(pause >= Duration::from_secs(3), "{status}: {pause:?}");
        world.receiver.set(Behaviour::Ok);
        world.settled().await?;
    }
    assert_eq!(world.receiver.messages().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b121_a_slow_answer_is_given_up_and_the_message_sent_again() -> Result<()> {
    let world =
        custom(|config| config.replace("/hook'}", "/hook', request_timeout_ms: 300}")).await?;
    world.receiver.set(Behaviour::Hang(Duration::from_secs(60)));
    world.client.batch_execute("INSERT INTO t VALUES (1, 0)").await?;
    tests::until("two attempts", SOON, async || {
        let attempts = world.receiver.requests().len();
        Ok(if attempts >= 2 { Ok(()) } else { Err(format!("{attempts} attempts")) })
    })
    .await?;
    assert!(world.sequin.log().contains("within 300ms"), "{}", world.sequin.log());
    assert_eq!(world.receiver.messages().len(), 0);
    world.receiver.set(Behaviour::Ok);
    world.receiver.until_messages(1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b126_a_bare_body_holds_one_message() -> Result<()> {
    let sink =
        hook("hook", "", "    batch_size: 2\n").replace("_path: ''", "_path: '', batch: false");
    let (_, said) = engine(&yaml(1, "http://127.0.0.1:1", &sink)).start_expecting_failure().await?;
    assert!(said.contains("`batch: false`") && said.contains("batch_size"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b127_bodies_are_compressed_if_a_header_says_so() -> Result<()> {
    let world = custom(|config| {
        config.replace("{x-from: sequin}", "{x-from: sequin, Content-Encoding: gzip}")
    })
    .await?;
    let messages =
        world.messages_after("INSERT INTO t SELECT generate_series(1, 50), 0", 50).await?;
    let mut ids: Vec<_> =
        messages.iter().map(|message| message["record"]["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());
    for request in world.receiver.accepted() {
        assert_eq!(request.header("content-encoding"), Some("gzip"));
        assert!(request.bytes.starts_with(b"\x1f\x8b"), "not gzip");
    }
    Ok(())
}

/// Whatever their case: the encrypted one is sent, once.
#[tokio::test(flavor = "multi_thread")]
async fn b128_b129_headers_have_an_order_and_paths_one_slash() -> Result<()> {
    let world = custom(|config| {
        let config = config.replace("{x-from: sequin}", "{X-From: sequin, Authorization: plain}");
        let end = config.find("\n    headers:").unwrap();
        format!("{}/base/{}", &config[..end], &config[end..])
    })
    .await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    let request = world.receiver.accepted().remove(0);
    let sent: Vec<_> = request.headers.get_all("authorization").iter().collect();
    assert_eq!(sent, ["Bearer hidden-token"]);
    assert_eq!(request.header("x-from"), Some("sequin"));
    assert_eq!(request.path, "/base/hook");
    Ok(())
}

/// The receiver goes and comes between two posts: its closed connections cost no attempt.
#[tokio::test(flavor = "multi_thread")]
async fn b130_a_connection_closed_meanwhile_costs_no_attempt() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    for id in 1..=5 {
        world.client.batch_execute(&format!("INSERT INTO t VALUES ({id}, 0)")).await?;
        world.receiver.until_messages(id, SOON).await?;
        world.settled().await?;
        world.receiver.restart().await?;
    }
    let failed = world.sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
    assert_eq!((failed, world.receiver.messages().len()), (0.0, 5));
    Ok(())
}

/// A receiver that takes 4 kB at most: what is larger alone is put aside, everything else arrives.
#[tokio::test(flavor = "multi_thread")]
async fn b105_b131_only_what_is_too_large_alone_is_parked() -> Result<()> {
    let world = World::start(
        "CREATE TABLE t (id bigint PRIMARY KEY, value bigint, text text)",
        "    batch_size: 40\n    batch_timeout_ms: 200\n",
    )
    .await?;
    world.receiver.set_predicate(|body| (body.to_string().len() > 4000).then_some(413));
    let sql =
        "INSERT INTO t SELECT id, 0, repeat('x', CASE WHEN id IN (7, 8, 39) THEN 5000 ELSE 10 END)
               FROM generate_series(1, 40) AS id;
               UPDATE t SET value = 1, text = '' WHERE id = 8";
    world.client.batch_execute(sql).await?;
    world.receiver.until_messages(38, SOON).await?;
    world.settled().await?;
    let mut all: Vec<_> = world.receiver.messages();
    all.sort_by_key(|message| message["record"]["id"].as_i64());
    all.dedup();
    let ids: Vec<_> = all.iter().map(|message| message["record"]["id"].as_i64().unwrap()).collect();
    let expected: Vec<_> = (1..=40).filter(|id| ![7, 39].contains(id)).collect();
    assert_eq!(ids, expected, "of 8 the update, which is small");
    let letters = world.sequin.command(&["letters", "--sink", "hook"]).await?;
    let text = String::from_utf8(letters.stdout)?;
    let letters: Vec<serde_json::Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut parked: Vec<_> =
        letters.iter().map(|letter| letter["input"]["record"]["id"].as_i64().unwrap()).collect();
    parked.sort_unstable();
    assert_eq!(parked, [7, 8, 39], "{text}");
    for letter in &letters {
        let error = letter["error"].as_str().unwrap();
        assert!(error.contains("too large") && error.contains("413"), "{error}");
    }
    Ok(())
}

/// A router sends some rows elsewhere, leaves others, and says of two what no webhook can do: those
/// are put aside with the key named, and hold back nothing.
#[tokio::test(flavor = "multi_thread")]
async fn b109_b110_a_route_sends_a_message_elsewhere_or_fails_with_its_key() -> Result<()> {
    let routing = format!(
        "    routing: router
    batch_size: 10
functions:
  - name: router
    type: routing
    sink_type: webhook
    file: '{}'
    config: {{column: name, when: panic}}
",
        plugin("every-route")
    );
    let world = World::start("CREATE TABLE t (id bigint PRIMARY KEY, name text)", &routing).await?;
    let sql = "INSERT INTO t VALUES (1, 'plain'), (2, 'path'), (3, 'many-types'), (4, 'unknown'),
               (5, 'plain'), (6, 'path')";
    world.messages_after(sql, 4).await?;
    world.settled().await?;
    let mut seen = Vec::new();
    for request in world.receiver.accepted() {
        for message in request.messages() {
            let id = message["record"]["id"].as_i64().unwrap();
            seen.push((id, request.method.clone(), request.path.clone()));
        }
    }
    seen.sort();
    let expected = [(1, "POST", "/"), (2, "PUT", "/t"), (5, "POST", "/"), (6, "PUT", "/t")];
    assert_eq!(seen, expected.map(|(id, method, path)| (id, method.into(), path.into())));
    let letters = world.sequin.command(&["letters", "--sink", "hook"]).await?;
    let text = String::from_utf8(letters.stdout)?;
    assert_eq!(text.lines().count(), 2, "{text}");
    for key in ["`endpoint_path`", "`no_such_key`"] {
        assert!(text.lines().any(|line| line.contains(key)), "{key}: {text}");
    }
    Ok(())
}

/// What the operator forbids is refused before anything is sent, and also if a name hides it.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_keeps_requests_from_internal_addresses() -> Result<()> {
    let config = yaml(1, "http://127.0.0.1:1", &hook("hook", "", ""));
    let guarded = engine(&config).env("SEQUIN_HTTP_GUARD", "internal");
    let validate = ["config", "validate", "{config}"];
    let said = String::from_utf8(guarded.command(&validate).await?.stderr)?;
    assert!(said.contains("loopback") && said.contains("SEQUIN_HTTP_GUARD"), "{said}");
    let metadata = config.replace("127.0.0.1:1", "169.254.169.254");
    let said = String::from_utf8(engine(&metadata).command(&validate).await?.stderr)?;
    assert!(said.contains("link-local") && said.contains("SEQUIN_HTTP_GUARD"), "{said}");

    let postgres = tests::Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = tests::Receiver::start().await?;
    let url = receiver.url().replace("127.0.0.1", "localhost");
    let config = yaml(postgres.port(), &url, &hook("hook", "", ""));
    let sequin = engine(&config).env("SEQUIN_HTTP_GUARD", "internal").start().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (1, 0)").await?;
    tests::until("two failures", LATER, async || {
        let failed = sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
        Ok(if failed >= 2.0 { Ok(()) } else { Err(format!("{failed} failures")) })
    })
    .await?;
    assert!(sequin.log().contains("loopback addresses are refused"), "{}", sequin.log());
    assert_eq!(receiver.requests().len(), 0);
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
    // Any letters and digits are base64.
    let key = "hiddenTokenHiddenTokenHiddenTokenHiddenToken0000";
    let config = config
        .replace("    headers: {", &format!("    signing_secret: whsec_{key}\n    headers: {{"));
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
    assert!(receiver.requests()[0].header("webhook-signature").unwrap().starts_with("v1,"));
    receiver.stop();
    failures(4.0).await?;
    for (place, text) in [("log", sequin.log()), ("metrics", sequin.metrics().await?)] {
        let secret = |line: &&str| line.contains("hidden-token") || line.contains("hiddenToken");
        let leaks: Vec<_> = text.lines().filter(secret).collect();
        assert!(leaks.is_empty(), "in the {place}: {leaks:#?}");
    }
    Ok(())
}
