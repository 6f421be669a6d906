//! A read replica: the slot and all reading is there, and what has to be written is written at its
//! primary.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Cluster, Receiver, until};
use tokio_postgres::Client;

use crate::backfills::{TABLE, applied, backfills, churn, complete, differences, reads, rows};
use crate::world::{LATER, SOON, engine, hook, streaming};

/// Versions whose standbys decode.
const MAJORS: [u32; 2] = [16, 18];

fn yaml(replica: u16, primary: &str, webhook: &str, sink: &str) -> String {
    let sink = hook("hook", "", sink);
    format!(
        "databases:
  - name: source
    hostname: 127.0.0.1
    port: {replica}
    database: postgres
    username: postgres
    heartbeat_interval_ms: 1000
    slot: {{name: sequin_it, create_if_not_exists: true}}
    publication: {{name: sequin_it, create_if_not_exists: true}}
{primary}
http_endpoints: [{{name: receiver, url: {webhook}}}]
{sink}"
    )
}

/// Waits until the sink has what the table has.
async fn same_rows(receiver: &Receiver, client: &Client) -> Result<Vec<Value>> {
    let wanted = rows(client, "t").await?;
    until("the sink to have the table", LATER, async || {
        let messages = receiver.messages();
        Ok(differences(&applied(&messages), &wanted).map(|()| messages))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn b178_b179_a_replica_is_read_and_what_is_written_is_written_at_its_primary() -> Result<()> {
    for major in MAJORS {
        let mut primary = Cluster::start_major(major).await?;
        let standby = primary.standby().await?;
        let client = primary.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let replica = standby.client("postgres").await?;
        let receiver = Receiver::start().await?;
        let at = format!("    primary: {{hostname: 127.0.0.1, port: {}}}", primary.port());
        let sink = "    initial_backfill: true
    batch_size: 100
    backfill: {max_rows_per_second: 4000}
";
        let config = yaml(standby.port(), &at, &receiver.url(), sink);
        let mut sequin = engine(&config).start().await?;
        // Publication and slot are made, which takes a word of the primary.
        streaming(&sequin).await?;
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'sequin_it'";
        let slots_at = async |client: &Client| -> Result<i64> {
            Ok(client.query_one(slots, &[]).await?.get(0))
        };
        assert_eq!((slots_at(&client).await?, slots_at(&replica).await?), (0, 1));

        let seen = "SELECT pg_create_logical_replication_slot('seen', 'pgoutput')";
        client.batch_execute(seen).await?;

        let mut round = 0;
        until("rows to be read", LATER, async || {
            client.batch_execute(&churn(round)).await?;
            round += 1;
            let all = backfills(&sequin, "hook").await?;
            let enough =
                all.first().is_some_and(|one| one["rows_ingested_count"].as_u64() > Some(2_000));
            Ok(if enough { Ok(()) } else { Err(format!("{all:?}")) })
        })
        .await
        .with_context(|| sequin.log())?;

        // The replica falls behind: what it shows is old, and so is what it streams.
        replica.batch_execute("SELECT pg_wal_replay_pause()").await?;
        for round in 300..330 {
            client.batch_execute(&churn(round)).await?;
        }
        let mut last = Value::Null;
        until("the backfill to stand, too", SOON, async || {
            let all = backfills(&sequin, "hook").await?;
            let now = all[0]["rows_ingested_count"].clone();
            let stands = std::mem::replace(&mut last, now.clone()) == now;
            Ok(if stands && all[0]["state"] == "active" { Ok(()) } else { Err(format!("{all:?}")) })
        })
        .await?;
        sequin.kill9().await?;
        replica.batch_execute("SELECT pg_wal_replay_resume()").await?;
        sequin.restart().await?;
        streaming(&sequin).await?;
        complete(&sequin, "hook", 1).await?;
        let messages = same_rows(&receiver, &client).await?;
        assert!(reads(&messages).len() > 9_000);

        // What is written is in the log of the primary.
        let written = "SELECT data FROM pg_logical_slot_peek_binary_changes('seen', null, null,
            'proto_version', '1', 'publication_names', 'sequin_it', 'messages', 'true')
            WHERE position($1::text::bytea in data) > 0";
        for word in ["sequin.heartbeat", "sequin:instance", "sequin_it@127.0.0.1:"] {
            until(word, SOON, async || {
                let found = client.query(written, &[&word]).await?;
                Ok(if found.is_empty() { Err("nothing".to_owned()) } else { Ok(()) })
            })
            .await?;
        }
        assert!(!sequin.log().contains("no heartbeat can be written"), "{}", sequin.log());
        assert!(!sequin.log().contains("slot_of_another"), "{}", sequin.log());
        let status = sequin.terminate().await?;
        assert!(status.success());
    }
    Ok(())
}

/// Two engines on the slot of a standby, one after the other; and a slot of the same name at the
/// primary, which is nobody else's matter.
#[tokio::test(flavor = "multi_thread")]
async fn b178_b193_the_slot_of_a_standby_is_claimed_at_its_primary() -> Result<()> {
    let mut primary = Cluster::start_major(18).await?;
    let standby = primary.standby().await?;
    let client = primary.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, value bigint)").await?;
    let receiver = Receiver::start().await?;
    let at = format!("    primary: {{hostname: 127.0.0.1, port: {}}}", primary.port());
    let of_standby = yaml(standby.port(), &at, &receiver.url(), "");
    let mut first = engine(&of_standby).start().await?;
    streaming(&first).await?;
    // The same name, on the primary.
    let of_primary = yaml(primary.port(), "", &receiver.url(), "");
    let neighbour = engine(&of_primary).start().await?;
    streaming(&neighbour).await?;
    client.batch_execute("INSERT INTO t VALUES (1, 1)").await?;
    receiver.until_messages(2, SOON).await?;
    assert!(first.terminate().await?.success());
    client.batch_execute("INSERT INTO t VALUES (2, 2)").await?;
    let mut second = engine(&of_standby).prepare()?;
    second.launch()?;
    until("the second to be refused", LATER, async || {
        let log = second.log();
        Ok(if log.contains("slot_of_another") { Ok(()) } else { Err(log) })
    })
    .await?;
    for log in [first.log(), neighbour.log()] {
        assert!(!log.contains("slot_of_another"), "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b178_a_replica_without_a_primary_says_what_is_missing() -> Result<()> {
    let mut primary = Cluster::start_major(18).await?;
    let client = primary.client("postgres").await?;
    client.batch_execute(&format!("{TABLE}; CREATE PUBLICATION sequin_it FOR TABLE t")).await?;
    drop(client);
    let standby = primary.standby().await?;
    let receiver = Receiver::start().await?;
    let config = yaml(standby.port(), "", &receiver.url(), "    initial_backfill: true\n");
    let mut sequin = engine(&config).prepare()?;
    sequin.launch()?;
    let client = primary.client("postgres").await?;
    until("the slot to stream", LATER, async || {
        client.batch_execute("SELECT pg_log_standby_snapshot()").await?;
        let connected = sequin.metric("sequin_slot_connected", &[]).await?;
        Ok(if connected == 1.0 { Ok(()) } else { Err("not connected".to_owned()) })
    })
    .await?;
    until("the backfill to say it", LATER, async || {
        let all = backfills(&sequin, "hook").await?;
        let told = json!(all).to_string();
        Ok(if told.contains("primary_missing") || told.contains("set `primary`") {
            Ok(())
        } else {
            Err(told)
        })
    })
    .await
    .with_context(|| sequin.log())?;
    Ok(())
}
