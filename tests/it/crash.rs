//! Kills and stops of the engine under load.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::{Behaviour, Cluster, Proxy, Receiver, Way, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, World, engine, hook, settled, streaming, yaml};
use tests::checker;

/// Sequences are not replicated: this one counts the changes without being one.
const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint); CREATE SEQUENCE written";

/// Writes for a while: upserts, updates and deletes over 50 keys, a transaction each.
async fn write(client: &Client, rounds: u32, seed: u32) -> Result<()> {
    let sql = format!(
        "DO $$ DECLARE k bigint; BEGIN PERFORM setseed({seed} / 1000.0); FOR n IN 1..{rounds} LOOP
            k := 1 + floor(random() * 50);
            IF random() < 0.1 THEN
                DELETE FROM t WHERE id = k;
            ELSE
                INSERT INTO t VALUES (k, {seed} * 100000 + n)
                    ON CONFLICT (id) DO UPDATE SET value = excluded.value;
            END IF;
            IF FOUND THEN PERFORM nextval('written'); END IF;
            COMMIT;
        END LOOP; END $$"
    );
    client.batch_execute(&sql).await.context("write")
}

async fn rows(client: &Client) -> Result<Vec<(i64, i64)>> {
    let rows = client.query("SELECT id, value FROM t ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// How many changes were written.
async fn written(client: &Client) -> Result<usize> {
    let row = client.query_one("SELECT last_value FROM written", &[]).await?;
    Ok(usize::try_from(row.get::<_, i64>(0))?)
}

/// `kill -9` again and again under load, with a webhook that fails, sometimes after it has taken the
/// messages in: nothing is lost, order per key holds, and the replayed rows are the source's.
#[tokio::test(flavor = "multi_thread")]
async fn b182_kill_9_under_load_loses_nothing_and_keeps_order() -> Result<()> {
    let mut world = World::start(TABLE, "    batch_size: 10\n").await?;
    world.receiver.set(Behaviour::Flaky { seed: 7, percent: 10 });
    let World { sequin, receiver, client, .. } = &mut world;
    for life in 1..=6 {
        // Killed in the middle of the work, at another point each time.
        let target = receiver.messages().len() + 150 * life as usize;
        let kill = async {
            receiver.until_messages(target, LATER).await?;
            sequin.kill9().await?;
            sequin.restart().await
        };
        tokio::try_join!(write(client, 2_000, life), kill)?;
    }
    write(&world.client, 500, 9).await?;
    world.settled().await.with_context(|| format!("the engine said:\n{}", world.sequin.log()))?;
    let messages = world.receiver.messages();
    assert_eq!(checker::distinct(&messages), written(&world.client).await?, "nothing is lost");
    let repeats = checker::check_order(&messages);
    assert_eq!(checker::replayed(&messages), rows(&world.client).await?);
    // What may repeat: what was in flight or settled within the recording interval at each kill,
    // and what the receiver took in without saying so.
    assert!(repeats < messages.len() / 4, "{repeats} repeats of {}", messages.len());
    Ok(())
}

/// SIGTERM in the middle of the work, several times: every message once.
#[tokio::test(flavor = "multi_thread")]
async fn b184_a_graceful_stop_repeats_nothing() -> Result<()> {
    let mut world = World::start(TABLE, "    batch_size: 10\n").await?;
    // It has the messages long before it says so: requests are under way when the signal comes.
    world.receiver.set(Behaviour::Slow(Duration::from_millis(100)));
    for life in 1..=4 {
        write(&world.client, 1_000, life).await?;
        let count = world.receiver.messages().len();
        world.receiver.until_messages(count + 100, LATER).await?;
        let status = world.sequin.terminate().await?;
        assert!(status.success(), "{status}: {}", world.sequin.log());
        world.sequin.restart().await?;
    }
    world.receiver.set(Behaviour::Ok);
    world.settled().await?;
    let messages = world.receiver.messages();
    assert_eq!(checker::distinct(&messages), written(&world.client).await?, "nothing is lost");
    assert_eq!(checker::check_order(&messages), 0, "no repeats");
    assert_eq!(checker::replayed(&messages), rows(&world.client).await?);
    Ok(())
}

/// The receiver has a batch and its answer is on the way when the engine is killed: that batch comes
/// again, under the same keys, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn b114_b182_a_kill_before_the_answer_repeats_what_was_under_way() -> Result<()> {
    let mut world = World::start(TABLE, "    batch_size: 10\n").await?;
    let insert = "INSERT INTO t SELECT n, n FROM generate_series";
    world.messages_after(&format!("{insert}(1, 10) n"), 10).await?;
    world.settled().await?;
    // Longer than the test: it is never heard.
    world.receiver.set(Behaviour::Slow(Duration::from_secs(600)));
    world.messages_after(&format!("{insert}(11, 20) n"), 20).await?;
    world.sequin.kill9().await?;
    world.receiver.set(Behaviour::Ok);
    world.sequin.restart().await?;
    world.receiver.until_messages(30, SOON).await?;
    world.settled().await?;
    let messages = world.receiver.messages();
    let mut keys: Vec<_> =
        messages.iter().map(|message| message["metadata"]["idempotency_key"].to_string()).collect();
    assert_eq!(keys.len(), 30);
    let again = keys.split_off(20);
    assert_eq!(keys.split_off(10), again);
    Ok(())
}

/// The engine has recorded how far it came and the server cannot hear it when it is killed: the server
/// sends all of it again, and the receiver is sent nothing again.
#[tokio::test(flavor = "multi_thread")]
async fn b182_a_kill_before_the_server_is_told_repeats_nothing() -> Result<()> {
    let postgres = Cluster::start().await?;
    let proxy = Proxy::start(postgres.port()).await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = Receiver::start().await?;
    let config = yaml(proxy.port(), &receiver.url(), &hook("hook", "", "    batch_size: 10\n"));
    let mut sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (0, 0)").await?;
    receiver.until_messages(1, SOON).await?;
    settled(&client).await?;

    proxy.stall(Way::ToServer);
    client.batch_execute("INSERT INTO t SELECT n, n FROM generate_series(1, 50) n").await?;
    let messages = receiver.until_messages(51, SOON).await?;
    let commit = messages.last().and_then(|message| message["metadata"]["commit_lsn"].as_f64());
    let commit = commit.context("a position")?;
    until("the engine to record it", SOON, async || {
        let recorded = sequin.metric("sequin_slot_confirmed_lsn", &[]).await?;
        Ok(if recorded > commit { Ok(()) } else { Err(format!("{recorded} of {commit}")) })
    })
    .await?;
    sequin.kill9().await?;
    let told = "SELECT (confirmed_flush_lsn - '0/0')::float8 FROM pg_replication_slots
                WHERE slot_name = 'sequin_it'";
    let told: f64 = client.query_one(told, &[]).await?.get(0);
    assert!(told <= commit, "the server was not told");

    proxy.heal();
    sequin.restart().await?;
    client.batch_execute("INSERT INTO t VALUES (51, 51)").await?;
    settled(&client).await?;
    let messages = receiver.messages();
    assert_eq!((messages.len(), checker::distinct(&messages)), (52, 52));
    Ok(())
}
