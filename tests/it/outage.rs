//! Destinations that are away, that take little, or take nothing of what we have to say.

use anyhow::{Context as _, Result};

use crate::world::{SOON, World, hook};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint, text text)";

async fn until_metric(world: &World, name: &str, is: impl Fn(f64) -> bool) -> Result<()> {
    tests::until(name, SOON, async || {
        let value = world.sequin.metric(name, &[]).await?;
        Ok(if is(value) { Ok(()) } else { Err(format!("{name} is {value}")) })
    })
    .await
}

/// Nobody listens, and two attempts are allowed: none of fifty messages uses them up.
#[tokio::test(flavor = "multi_thread")]
async fn b120_b123_an_outage_is_shown_costs_no_attempts_and_ends_soon() -> Result<()> {
    let mut world = World::start(TABLE, "    max_retry_count: 2\n").await?;
    world.receiver.stop();
    world.client.batch_execute("INSERT INTO t SELECT generate_series(1, 50), 0, ''").await?;
    until_metric(&world, "sequin_sink_breaker", |state| state > 0.0).await?;
    let failed = world.sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
    until_metric(&world, "sequin_message_deliver_failure_count", |now| now >= failed + 3.0).await?;
    let text = world.sequin.metrics().await?;
    assert!(text.contains("code=\"destination_unreachable\""), "{text}");
    assert!(world.sequin.metric("sequin_sink_next_retry_seconds", &[]).await? > 0.0);
    world.receiver.restart().await?;
    world.receiver.until_messages(50, SOON).await?;
    world.settled().await?;
    until_metric(&world, "sequin_sink_breaker", |state| state == 0.0).await?;
    assert!(world.sequin.metric("sequin_messages_buried_count", &[]).await? == 0.0);
    Ok(())
}

/// Rows of all sizes: the bodies that arrive are as large as is allowed and no larger, and what no
/// body can hold is put aside without being sent.
#[tokio::test(flavor = "multi_thread")]
async fn b104_b105_no_request_is_larger_than_its_bound() -> Result<()> {
    let postgres = tests::Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = tests::Receiver::start().await?;
    let sink = hook("hook", "/hook", "    batch_size: 100\n    batch_timeout_ms: 50\n")
        .replace("http_endpoint: receiver", "http_endpoint: receiver, max_body_bytes: 4096");
    let config = crate::world::yaml(postgres.port(), &receiver.url(), &sink);
    let sequin = crate::world::engine(&config).start().await?;
    crate::world::streaming(&sequin).await?;
    let world = World { sequin, receiver, client, postgres };
    let sql = "INSERT INTO t SELECT id, 0, repeat('x', (id * 7919 % 2500)::int) FROM \
               generate_series(1, 300) AS id; \
               INSERT INTO t VALUES (301, 0, repeat('x', 5000)), (302, 0, '')";
    world.client.batch_execute(sql).await?;
    world.receiver.until_messages(301, SOON).await?;
    world.settled().await?;
    let bodies: Vec<_> = world.receiver.requests().iter().map(|it| it.bytes.len()).collect();
    assert!(bodies.iter().all(|bytes| *bytes <= 4096), "{bodies:?}");
    assert!(bodies.iter().any(|bytes| *bytes > 3000), "{bodies:?}");
    let letters = world.sequin.command(&["letters", "--sink", "hook"]).await?;
    let letter: serde_json::Value = serde_json::from_slice(&letters.stdout)?;
    assert_eq!(
        (&letter["reason"], &letter["input"]["record"]["id"]),
        (&"too_large".into(), &301.into())
    );
    Ok(())
}

/// Everything is refused: after ten letters the sink stands, loses nothing, and goes on when somebody
/// says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_puts_everything_aside_stands_until_it_is_resumed() -> Result<()> {
    let options = "    dead_letter_limit: {min_messages: 10}\n";
    let world = World::start(TABLE, options).await?;
    world.receiver.set(tests::Behaviour::Status(413));
    world.client.batch_execute("INSERT INTO t SELECT generate_series(1, 200), 0, ''").await?;
    until_metric(&world, "sequin_sink_tripped", |stands| stands == 1.0).await?;
    assert!(world.sequin.log().contains("too_many_letters"), "{}", world.sequin.log());
    world.receiver.set(tests::Behaviour::Ok);
    let url = format!("{}/api/sinks/hook/resume", world.sequin.url());
    let answer = tests::http::client()?.post(&url).send().await.context("resume")?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await?, r#"{"resumed":true}"#);
    world.settled().await?;
    let buried = world.sequin.metric("sequin_messages_buried_count", &[]).await?;
    // Those that were on their way when the limit was reached are among them.
    assert!((10.0..100.0).contains(&buried), "{buried}");
    let delivered = world.sequin.metric("sequin_message_deliver_success_count", &[]).await?;
    assert_eq!(buried + delivered, 200.0, "nothing is lost");
    Ok(())
}
