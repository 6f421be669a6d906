//! The source cut off, killed, restarted, held up, idle, and taken away.

use anyhow::Result;
use tests::{Cluster, Proxy, Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, World, engine, hook, streaming, yaml};
use tests::checker;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint)";

async fn insert(client: &Client, from: usize, to: usize) -> Result<()> {
    let sql = format!("INSERT INTO t SELECT generate_series({from}, {to}), 0");
    Ok(client.batch_execute(&sql).await?)
}

/// Waits until the engine has said it.
async fn said(sequin: &Sequin, text: &str) -> Result<()> {
    until(&format!("the engine to say {text:?}"), LATER, async || {
        Ok(if sequin.log().contains(text) { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await
}

/// Who reads the slot, as the server sees it.
async fn reader(client: &Client) -> Result<Option<i32>> {
    let row = client.query_one("SELECT active_pid FROM pg_replication_slots", &[]).await?;
    Ok(row.get(0))
}

/// Cut for so long that the engine has tried in vain five times, with growing pauses.
#[tokio::test(flavor = "multi_thread")]
async fn b185_a_cut_connection_is_resumed_without_loss() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = Receiver::start().await?;
    let proxy = Proxy::start(postgres.port()).await?;
    let sequin =
        engine(&yaml(proxy.port(), &receiver.url(), &hook("hook", "", ""))).start().await?;
    streaming(&sequin).await?;
    insert(&client, 1, 100).await?;
    receiver.until_messages(100, SOON).await?;
    proxy.cut();
    insert(&client, 101, 5_000).await?;
    until("the engine to have tried again and again", LATER, async || {
        let refused = proxy.refused();
        Ok(if refused >= 5 { Ok(()) } else { Err(format!("{refused} times")) })
    })
    .await?;
    assert_eq!(sequin.metric("sequin_slot_connected", &[]).await?, 0.0);
    assert_eq!(sequin.health().await?.0, 200, "the process is well");
    proxy.heal();
    insert(&client, 5_001, 6_000).await?;
    let messages = receiver.until_messages(6_000, LATER).await?;
    assert_eq!(checker::distinct(&messages), 6_000);
    assert_eq!(checker::check_order(&messages), 0, "no repeats");
    assert_eq!(sequin.metric("sequin_slot_connects_count", &[]).await?, 2.0, "one process");
    Ok(())
}

/// `kill -9` of the server under load, again and again. What it had committed arrives.
#[tokio::test(flavor = "multi_thread")]
async fn b185_a_killed_server_is_read_on_when_it_is_back() -> Result<()> {
    let mut world = World::start(TABLE, "    batch_size: 10\n").await?;
    for life in 0..3_usize {
        let from = life * 1_000;
        insert(&world.client, from + 1, from + 900).await?;
        world.receiver.until_messages(from + 100, LATER).await?;
        world.postgres.kill().await?;
        world.postgres.start_again().await?;
        world.client = world.postgres.client("postgres").await?;
        insert(&world.client, from + 901, from + 1_000).await?;
    }
    let messages = world.receiver.until_messages(3_000, LATER).await?;
    assert_eq!(checker::distinct(&messages), 3_000, "nothing is lost");
    // The process lives, and knows what it has delivered, whatever the server has forgotten.
    assert_eq!(checker::check_order(&messages), 0, "no repeats");
    world.settled().await?;
    assert_eq!(world.sequin.health().await?.0, 200);
    Ok(())
}

/// A server that shuts down waits until all it has sent is confirmed, which a sink that is down
/// would put off for ever. It is let go, and read on when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn b185_a_stalled_sink_does_not_keep_the_server_from_restarting() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    world.receiver.set_predicate(|_| Some(500));
    insert(&world.client, 1, 1_000).await?;
    until("the sink to fail", SOON, async || {
        let failed = world.sequin.metric("sequin_message_deliver_failure_count", &[]).await?;
        Ok(if failed > 0.0 { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await?;
    // Bounded by the harness, at 30 s.
    world.postgres.stop().await?;
    world.postgres.start_again().await?;
    world.receiver.clear_predicate();
    let messages = world.receiver.until_messages(1_000, LATER).await?;
    assert_eq!(checker::distinct(&messages), 1_000);
    assert_eq!(world.sequin.health().await?.0, 200);
    Ok(())
}

/// A sink stands still for more than ten times `wal_sender_timeout`, with far more to send than fits
/// into memory: the walsender waits for its socket, and the connection is the same all the time.
#[tokio::test(flavor = "multi_thread")]
async fn b031_b206_a_stalled_sink_holds_the_walsender_back_and_keeps_the_connection() -> Result<()>
{
    let postgres = Cluster::start_with(&[("wal_sender_timeout", "1s")]).await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, value text)").await?;
    let receiver = Receiver::start().await?;
    let config =
        yaml(postgres.port(), &receiver.url(), &hook("hook", "", "    batch_size: 1000\n"));
    let sequin = engine(&config).env("SEQUIN_MEMORY_MB", "4").start().await?;
    streaming(&sequin).await?;
    receiver.set_predicate(|_| Some(500));
    let sql = "INSERT INTO t SELECT n, repeat('x', 1900) FROM generate_series(1, 20000) n";
    client.batch_execute(sql).await?;
    let waits = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'walsender'";
    until("the walsender to wait for its socket", LATER, async || {
        let event: Option<String> = client.query_one(waits, &[]).await?.get(0);
        let paused = sequin.metric("sequin_slot_paused", &[]).await? == 1.0;
        let waits = event.as_deref() == Some("WalSenderWriteData");
        Ok(if paused && waits { Ok(()) } else { Err(format!("paused: {paused}, {event:?}")) })
    })
    .await?;
    let pid = reader(&client).await?;
    let start: std::time::SystemTime = client.query_one("SELECT now()", &[]).await?.get(0);
    until("more than ten timeouts to pass", LATER, async || {
        let passed = "SELECT now() > $1::timestamptz + interval '11 s'";
        let passed: bool = client.query_one(passed, &[&start]).await?.get(0);
        anyhow::ensure!(reader(&client).await? == pid, "the connection is another one");
        Ok(if passed { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await?;
    receiver.clear_predicate();
    let messages = receiver.until_messages(20_000, LATER).await?;
    assert_eq!(checker::distinct(&messages), 20_000);
    assert_eq!(reader(&client).await?, pid);
    assert_eq!(sequin.metric("sequin_slot_connects_count", &[]).await?, 1.0);
    Ok(())
}

/// 100 MB of log that is not about the publication: the slot follows, and nothing is written for it.
#[tokio::test(flavor = "multi_thread")]
async fn b032_b033_an_idle_publication_on_a_busy_server_keeps_no_log() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    let schema = format!(
        "{TABLE}; CREATE TABLE busy (v text); ALTER TABLE busy ALTER v SET STORAGE plain;
         CREATE PUBLICATION sequin_it FOR TABLE t"
    );
    client.batch_execute(&schema).await?;
    let receiver = Receiver::start().await?;
    let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "", ""));
    let sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    let before = "SELECT pg_current_wal_lsn()::text";
    let before: String = client.query_one(before, &[]).await?.get(0);
    let sql = "INSERT INTO busy SELECT repeat('x', 4000) FROM generate_series(1, 24000)";
    client.batch_execute(sql).await?;
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::bigint";
    let written: i64 = client.query_one(sql, &[&before]).await?.get(0);
    assert!(written > 90 << 20, "{written} bytes of log");
    let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    until("the slot to follow", SOON, async || {
        let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots";
        let follows: bool = client.query_one(sql, &[&end]).await?.get(0);
        Ok(if follows { Ok(()) } else { Err("it does not".to_owned()) })
    })
    .await?;
    assert!(receiver.messages().is_empty());
    Ok(())
}

/// A second engine waits for the slot and says who has it. When it is free it takes over, once an
/// operator has accepted that what the first one owes is not in the slot any more.
#[tokio::test(flavor = "multi_thread")]
async fn b189_a_second_engine_stands_by_and_takes_over() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    let config = yaml(world.postgres.port(), &world.receiver.url(), &hook("hook", "", ""));
    let mut second = engine(&config).start().await?;
    let pid = reader(&world.client).await?.unwrap_or_default();
    said(&second, &format!("slot sequin_it is in use (process {pid}, application sequin")).await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    world.settled().await?;
    assert_eq!(second.metric("sequin_slot_connected", &[]).await?, 0.0);
    assert_eq!(second.log().matches("is in use").count(), 1, "told once");
    assert_eq!(second.health().await?.0, 200);
    world.sequin.terminate().await?;
    said(&second, "slot_of_another").await?;
    assert_eq!(second.metric("sequin_slot_connected", &[]).await?, 0.0);
    second.terminate().await?;
    let accepted = second.command(&["accept-loss", "sequin_it"]).await?;
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    second.restart().await?;
    streaming(&second).await?;
    let messages = world.messages_after("INSERT INTO t VALUES (2, 0)", 2).await?;
    assert_eq!(checker::distinct(&messages), 2);
    assert_eq!(messages.len(), 2, "each once");
    Ok(())
}

/// Given up by the server while it is read: a state that says why, in a process that lives.
#[tokio::test(flavor = "multi_thread")]
async fn b188_a_slot_that_the_server_gives_up_is_told() -> Result<()> {
    let postgres = Cluster::start_with(&[("max_slot_wal_keep_size", "1MB")]).await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = Receiver::start().await?;
    receiver.set_predicate(|_| Some(500));
    let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "", ""));
    let sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    insert(&client, 1, 10).await?;
    until("the slot to lose its log", LATER, async || {
        let more = "INSERT INTO t SELECT max(id) + 1, 0 FROM t; SELECT pg_switch_wal(); CHECKPOINT";
        client.batch_execute(more).await?;
        let sql = "SELECT wal_status FROM pg_replication_slots";
        let status: Option<String> = client.query_one(sql, &[]).await?.get(0);
        Ok(if status.as_deref() == Some("lost") { Ok(()) } else { Err(format!("{status:?}")) })
    })
    .await?;
    said(&sequin, "given up slot sequin_it (wal_removed)").await?;
    assert!(sequin.log().contains("slot_lost"), "{}", sequin.log());
    assert_eq!(sequin.metric("sequin_slot_connected", &[]).await?, 0.0);
    assert_eq!(sequin.health().await?.0, 200);
    Ok(())
}

/// The slot is dropped and created again by hand, under its name, while the engine is away: what
/// lies between is lost, and the engine says so instead of going on.
#[tokio::test(flavor = "multi_thread")]
async fn b187_b192_a_slot_that_was_created_again_by_hand_is_told() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    world.settled().await?;
    // Its own restart is none of that.
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    world.messages_after("INSERT INTO t VALUES (2, 0)", 2).await?;
    world.sequin.kill9().await?;
    for sql in [
        "INSERT INTO t VALUES (3, 0)",
        "SELECT pg_drop_replication_slot('sequin_it')",
        "SELECT pg_create_logical_replication_slot('sequin_it', 'pgoutput')",
        "INSERT INTO t VALUES (4, 0)",
    ] {
        world.client.batch_execute(sql).await?;
    }
    world.sequin.restart().await?;
    said(&world.sequin, "slot_moved").await?;
    assert!(world.sequin.log().contains("are lost to the sinks"), "{}", world.sequin.log());
    until("the slot not to be read", SOON, async || {
        let free = reader(&world.client).await?.is_none();
        let shown = world.sequin.metric("sequin_slot_connected", &[]).await? == 0.0;
        Ok(if free && shown { Ok(()) } else { Err(format!("free: {free}, shown: {shown}")) })
    })
    .await?;
    assert_eq!(world.receiver.messages().len(), 2, "nothing of what came behind the gap");
    // Nobody accepts a loss under a running engine, or of another slot.
    let running = world.sequin.command(&["accept-loss", "sequin_it"]).await?;
    assert_eq!(running.status.code(), Some(64), "{}", String::from_utf8_lossy(&running.stderr));
    world.sequin.terminate().await?;
    let other = world.sequin.command(&["accept-loss", "another"]).await?;
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("knows of no slot another"), "{said}");
    let accepted = world.sequin.command(&["accept-loss", "sequin_it"]).await?;
    let said = String::from_utf8_lossy(&accepted.stderr);
    assert!(accepted.status.success() && said.contains("the progress of hook"), "{said}");
    world.sequin.restart().await?;
    let messages = world.receiver.until_messages(3, SOON).await?;
    assert_eq!(messages[2]["record"]["id"], 4, "from where the slot stands");
    Ok(())
}
