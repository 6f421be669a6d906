//! The message of each kind of change, as it reaches a webhook.

use anyhow::Result;
use serde_json::{Value, json};
use tests::{Behaviour, until};

use crate::world::{LATER, World};
use tests::checker::position;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text, n integer)";

#[tokio::test(flavor = "multi_thread")]
async fn b001_an_insert_is_one_message_with_everything_in_it() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let messages = world.messages_after("INSERT INTO t VALUES (7, 'a \"b\"', NULL)", 1).await?;
    let message = &messages[0];
    assert_eq!(message["record"], json!({"id": 7, "name": "a \"b\"", "n": null}));
    assert_eq!(message["changes"], Value::Null);
    assert_eq!(message["action"], "insert");
    let metadata = &message["metadata"];
    assert_eq!(metadata["table_schema"], "public");
    assert_eq!(metadata["table_name"], "t");
    assert_eq!(metadata["database_name"], "source");
    assert_eq!(metadata["record_pks"], json!(["7"]));
    assert_eq!(metadata["consumer"]["name"], "hook");
    assert_eq!(metadata["database"]["database"], "postgres");
    assert_eq!(metadata["commit_idx"], 0);
    let row = world
        .client
        .query_one(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
                abs(extract(epoch FROM now() - $1::text::timestamptz)) < 60",
            &[&metadata["commit_timestamp"].as_str().unwrap()],
        )
        .await?;
    let (lsn, recent): (i64, bool) = (row.get(0), row.get(1));
    let (commit_lsn, _) = position(message);
    assert!(commit_lsn > 0 && commit_lsn < lsn.cast_unsigned(), "{commit_lsn} of {lsn}");
    assert!(recent, "{}", metadata["commit_timestamp"]);
    world.settled().await?;
    assert_eq!(world.receiver.messages().len(), 1, "one message, not more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b002_an_update_under_full_identity_names_the_previous_value_of_what_changed() -> Result<()>
{
    let schema = format!("{TABLE}; ALTER TABLE t REPLICA IDENTITY FULL");
    let world = World::start(&schema, "").await?;
    let sql = "INSERT INTO t VALUES (1, 'a', 1); UPDATE t SET name = 'b'";
    let messages = world.messages_after(sql, 2).await?;
    assert_eq!(messages[1]["action"], "update");
    assert_eq!(messages[1]["record"], json!({"id": 1, "name": "b", "n": 1}));
    assert_eq!(messages[1]["changes"], json!({"name": "a"}));
    assert_eq!(messages[1]["metadata"]["record_pks"], json!(["1"]), "the primary key alone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b005_b006_deletes_carry_what_postgres_knows_and_nothing_stale() -> Result<()> {
    let schema = format!(
        "{TABLE}; CREATE TABLE f (LIKE t INCLUDING ALL); ALTER TABLE f REPLICA IDENTITY FULL"
    );
    let world = World::start(&schema, "").await?;
    let sql = "INSERT INTO t VALUES (1, 'a', 1); DELETE FROM t;
               INSERT INTO f VALUES (2, 'b', 2); DELETE FROM f";
    let messages = world.messages_after(sql, 4).await?;
    let delete = |table: &str| {
        let of = |message: &&Value| {
            message["action"] == "delete" && message["metadata"]["table_name"] == *table
        };
        messages.iter().find(of).unwrap().clone()
    };
    assert_eq!(delete("t")["record"], json!({"id": 1, "name": null, "n": null}), "the key");
    assert_eq!(delete("f")["record"], json!({"id": 2, "name": "b", "n": 2}), "everything");
    assert_eq!(delete("f")["changes"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b011_changes_of_one_transaction_share_its_position_and_rise_within_it() -> Result<()> {
    let schema = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
                  CREATE TABLE c (id int PRIMARY KEY)";
    let world = World::start(schema, "    batch_size: 100\n").await?;
    let sql = "BEGIN;
        INSERT INTO a SELECT generate_series(1, 400);
        INSERT INTO b SELECT generate_series(1, 300);
        INSERT INTO c SELECT generate_series(1, 300);
        COMMIT";
    let messages = world.messages_after(sql, 1_000).await?;
    let mut positions: Vec<_> = messages.iter().map(position).collect();
    positions.sort_unstable();
    let (commit_lsn, _) = positions[0];
    let expected: Vec<_> = (0..1_000).map(|index| (commit_lsn, index)).collect();
    assert_eq!(positions, expected);
    let table = |at: u64| {
        let found = messages.iter().find(|message| position(message).1 == at);
        found.unwrap()["metadata"]["table_name"].clone()
    };
    assert_eq!((table(0), table(399), table(400)), ("a".into(), "a".into(), "b".into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b012_b013_commits_decide_the_order_and_rollbacks_leave_nothing() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let first = world.postgres.client("postgres").await?;
    let second = world.postgres.client("postgres").await?;
    let third = world.postgres.client("postgres").await?;
    first.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await?;
    second.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await?;
    third.batch_execute("BEGIN; INSERT INTO t VALUES (3)").await?;
    first.batch_execute("INSERT INTO t VALUES (4)").await?;
    second.batch_execute("INSERT INTO t VALUES (5); COMMIT").await?;
    third.batch_execute("ROLLBACK").await?;
    first.batch_execute("SAVEPOINT s; INSERT INTO t VALUES (6); ROLLBACK TO s; COMMIT").await?;
    let messages = world.messages_after("INSERT INTO t VALUES (9)", 5).await?;
    world.settled().await?;
    assert_eq!(world.receiver.messages().len(), 5, "nothing of what was rolled back");
    let mut by_position: Vec<_> = messages
        .iter()
        .map(|message| (position(message), message["record"]["id"].clone()))
        .collect();
    by_position.sort_by_key(|(position, _)| *position);
    let ids: Vec<_> = by_position.iter().map(|(_, id)| id.as_u64().unwrap()).collect();
    assert_eq!(ids, [2, 5, 1, 4, 9]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b021_b022_b023_b024_b025_annotations_reach_the_changes_behind_them() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let sql = "SELECT pg_logical_emit_message(false, 'sequin:transaction_annotations.set', '9');
        BEGIN; INSERT INTO t VALUES (1);
        SELECT pg_logical_emit_message(true, 'sequin:transaction_annotations.set',
            '{\"by\": {\"user\": 7}}');
        SELECT pg_logical_emit_message(true, 'someone', '8');
        INSERT INTO t VALUES (2);
        SELECT pg_logical_emit_message(true, 'sequin:transaction_annotations.clear', '');
        INSERT INTO t VALUES (3);
        SELECT pg_logical_emit_message(true, 'sequin:transaction_annotations.set', '5');
        SELECT pg_logical_emit_message(true, 'sequin:transaction_annotations.set', '{no json');
        INSERT INTO t VALUES (4);
        SELECT pg_logical_emit_message(true, 'sequin:transaction_annotations.set', '6');
        COMMIT;
        INSERT INTO t VALUES (5)";
    let mut messages = world.messages_after(sql, 5).await?;
    messages.sort_by_key(position);
    let annotations: Vec<_> =
        messages.iter().map(|m| m["metadata"]["transaction_annotations"].clone()).collect();
    let by = json!({"by": {"user": 7}});
    assert_eq!(annotations, [Value::Null, by, Value::Null, Value::Null, Value::Null]);
    assert_eq!(world.sequin.log().matches("transaction annotations are not JSON").count(), 1);
    Ok(())
}

/// Two tables in one TRUNCATE, between rows of many keys: each is told at its place, with nothing
/// before or after it on the wrong side.
#[tokio::test(flavor = "multi_thread")]
async fn b019_b020_a_truncate_is_told_at_its_place() -> Result<()> {
    let schema = format!("{TABLE}; CREATE TABLE u (id bigint PRIMARY KEY)");
    let world = World::start(&schema, "    actions: [insert, truncate]\n    batch_size: 5").await?;
    let sql = "BEGIN; INSERT INTO t SELECT n FROM generate_series(1, 30) n; TRUNCATE t, u;
               INSERT INTO t SELECT n FROM generate_series(1, 30) n; COMMIT";
    let messages = world.messages_after(sql, 62).await?;
    let truncates: Vec<_> = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message["action"] == "truncate")
        .map(|(place, message)| (place, message["metadata"]["table_name"].as_str().unwrap()))
        .collect();
    assert_eq!(truncates, [(30, "t"), (31, "u")]);
    assert_eq!(messages[30]["record"], json!({}));
    assert_eq!(messages[30]["metadata"]["record_pks"], json!([]));
    assert_eq!(messages[30]["metadata"]["commit_idx"], 30);
    world.settled().await
}

#[tokio::test(flavor = "multi_thread")]
async fn b019_a_truncate_that_was_not_asked_for_is_counted_and_told() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let messages = world.messages_after("TRUNCATE t; INSERT INTO t VALUES (1)", 1).await?;
    assert_eq!(messages[0]["action"], "insert");
    let skipped = world.sequin.metric("sequin_truncates_skipped_count", &[]).await?;
    assert!((skipped - 1.0).abs() < f64::EPSILON, "{skipped}");
    let log = world.sequin.log();
    assert!(log.contains("a truncate is not delivered") && log.contains("public.t"), "{log}");
    Ok(())
}

const LONG: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n integer, long text);
    ALTER TABLE t ALTER long SET STORAGE EXTERNAL";

/// Without the option the value is absent and named, and the log says what can be done; a text
/// that looks like the predecessor's marker is only a text.
#[tokio::test(flavor = "multi_thread")]
async fn b070_b073_an_unchanged_value_is_absent_and_named() -> Result<()> {
    let world = World::start(LONG, "").await?;
    let sql = "INSERT INTO t VALUES (1, 1, repeat('x', 9000)), (2, 1, 'unchanged_toast');
               UPDATE t SET n = 2";
    let messages = world.messages_after(sql, 4).await?;
    let updates = messages.iter().filter(|message| message["action"] == "update");
    let mut updates: Vec<_> = updates.collect();
    updates.sort_by_key(|message| message["record"]["id"].as_i64());
    assert_eq!(updates[0]["record"], json!({"id": 1, "n": 2}));
    assert_eq!(updates[0]["metadata"]["unchanged"], json!(["long"]));
    assert_eq!(updates[1]["record"], json!({"id": 2, "n": 2, "long": "unchanged_toast"}));
    assert_eq!(updates[1]["metadata"].get("unchanged"), None);
    let log = world.sequin.log();
    assert!(log.contains("REPLICA IDENTITY FULL on the table"), "{log}");
    let incomplete = world.sequin.metric("sequin_rows_incomplete_count", &[]).await?;
    assert!((incomplete - 1.0).abs() < f64::EPSILON, "{incomplete}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b071_b072_an_unchanged_value_is_fetched_where_a_sink_asks_for_it() -> Result<()> {
    let world = World::start(LONG, "    unchanged_values: fetch").await?;
    let sql = "INSERT INTO t VALUES (1, 1, repeat('x', 9000)); UPDATE t SET n = 2";
    let messages = world.messages_after(sql, 2).await?;
    let long = |text: &str| json!(text.repeat(9000));
    assert_eq!(messages[1]["record"], json!({"id": 1, "n": 2, "long": long("x")}));
    assert_eq!(messages[1]["metadata"]["fetched"], json!(["long"]));
    let messages = world.messages_after("UPDATE t SET long = repeat('y', 9000)", 3).await?;
    assert_eq!(messages[2]["record"]["long"], long("y"), "a new value is sent whole");
    assert_eq!(messages[2]["metadata"].get("fetched"), None);
    Ok(())
}

/// The predecessor's names, as its dashboards read them.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_how_long_things_take_and_how_everybody_is() -> Result<()> {
    let world = World::start("CREATE TABLE t (id int PRIMARY KEY)", "    batch_size: 10\n").await?;
    world.messages_after("INSERT INTO t SELECT generate_series(1, 30)", 30).await?;
    world.settled().await?;
    let metric =
        async |name: &str, labels: &[(&str, &str)]| world.sequin.metric(name, labels).await;
    let sink = ("consumer_name", "hook");
    // Three batches at least; whoever made the rows and whoever read them have one clock.
    let through = [sink, ("success", "true")];
    assert!(metric("sequin_delivery_latency_us_count", &through).await? >= 3.0);
    let refused = [sink, ("success", "false")];
    assert_eq!(metric("sequin_delivery_latency_us_count", &refused).await?, 0.0);
    assert!(metric("sequin_delivery_latency_us_sum", &through).await? > 0.0);
    assert!(metric("sequin_internal_latency_us_count", &[sink]).await? >= 3.0);
    let slot = ("slot_name", "sequin_it");
    let ingestion = metric("sequin_ingestion_latency_us", &[slot]).await?;
    assert!(ingestion > 0.0 && ingestion < 30e6, "{ingestion}");
    for (name, kind) in [("sequin_it", "postgres_replication_slot"), ("hook", "sink_consumer")] {
        let labels = [("entity_name", name), ("entity_type", kind), ("status", "ok")];
        assert_eq!(metric("sequin_entity_health", &labels).await?, 1.0, "{name}");
    }
    // It goes up while the sink takes nothing.
    world.receiver.set(Behaviour::Status(503));
    let wide = "INSERT INTO t SELECT generate_series(31, 40000)";
    world.client.batch_execute(wide).await?;
    until("the slot to hold log back", LATER, async || {
        let text = world.sequin.metrics().await?;
        let labels = [("database_name", "source"), slot];
        // The server is asked on a slow clock.
        let held = if text.contains("sequin_replication_slot_size{") {
            metric("sequin_replication_slot_size", &labels).await?
        } else {
            0.0
        };
        let labels = [("entity_name", "hook"), ("status", "error")];
        let fails =
            text.contains("entity_name=\"hook\",entity_type=\"sink_consumer\",status=\"error\"");
        let is_told = held > 2e6 && fails && metric("sequin_entity_health", &labels).await? == 1.0;
        Ok(if is_told { Ok(()) } else { Err(format!("{held} bytes, fails: {fails}")) })
    })
    .await
}
