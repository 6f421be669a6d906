//! A Typesense server's verdicts, and what becomes of documents.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Cluster, Sequin, typesense, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, engine, streaming, yaml};

/// A database, a Typesense server and an engine between them. The collection is `t`.
struct World {
    sequin: Sequin,
    typesense: typesense::Server,
    client: Client,
    postgres: Cluster,
}

/// The sink's YAML, with more lines of its destination (indented by six) and of the sink (by four).
fn sink(typesense: &typesense::Server, key: &str, destination: &str, options: &str) -> String {
    format!(
        "sinks:
  - name: search
    database: source
    source: {{include_tables: [public.t]}}
    retry_backoff: {{first_ms: 100, cap_ms: 500}}
    destination:
      type: typesense
      endpoint_url: {}
      collection_name: t
      api_key: {key}
{destination}{options}",
        typesense.url()
    )
}

impl World {
    async fn start(table: &str, fields: Value, destination: &str, options: &str) -> Result<Self> {
        let typesense = typesense::Server::start().await?;
        typesense.create_collection(&json!({"name": "t", "fields": fields})).await?;
        Self::with(typesense, table, "harness", destination, options).await
    }

    async fn with(
        typesense: typesense::Server,
        table: &str,
        key: &str,
        destination: &str,
        options: &str,
    ) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(table).await?;
        let rest = sink(&typesense, key, destination, options);
        let config = yaml(postgres.port(), "http://127.0.0.1:1", &rest);
        let sequin = engine(&config).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, typesense, client, postgres })
    }

    async fn sql(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.context("run the statements")
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        self.sequin.metric(name, &[]).await
    }

    /// Waits until a metric of the sink has a value.
    async fn until_metric(&self, name: &str, good: impl Fn(f64) -> bool) -> Result<()> {
        let waited = until(name, LATER, async || {
            let value = self.metric(name).await?;
            Ok(if good(value) { Ok(()) } else { Err(value.to_string()) })
        });
        waited.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    /// Waits until the ids of the documents are these, in any order.
    async fn until_ids(&self, ids: &[&str]) -> Result<()> {
        let mut expected = ids.to_vec();
        expected.sort_unstable();
        let waited = until("the documents", SOON, async || {
            let documents = self.typesense.documents("t").await?;
            let mut have: Vec<_> =
                documents.iter().map(|document| document["id"].as_str().unwrap()).collect();
            have.sort_unstable();
            Ok(if have == expected { Ok(()) } else { Err(format!("{have:?}")) })
        });
        waited.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    async fn until_document(&self, id: &str, good: impl Fn(&Value) -> bool) -> Result<()> {
        until("the document", SOON, async || {
            let document = self.typesense.document("t", id).await?.unwrap_or(Value::Null);
            Ok(if good(&document) { Ok(()) } else { Err(document.to_string()) })
        })
        .await
    }
}

/// `n` is any JSON value: what does not fit the collection is the row's own doing.
const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text, n jsonb)";

fn fields() -> Value {
    json!([{"name": "n", "type": "int32", "optional": true}])
}

/// Of a batch of a hundred, one document does not fit the schema: the others are sent once. When the
/// schema is mended, it fits.
#[tokio::test(flavor = "multi_thread")]
async fn b101_b102_only_the_document_that_failed_is_sent_again() -> Result<()> {
    let more = "    batch_timeout_ms: 300\n";
    let world = World::start(TABLE, fields(), "      batch_size: 100\n", more).await?;
    world
        .sql(
            "INSERT INTO t SELECT id, 'poi', (CASE id WHEN 42 THEN '\"many\"' ELSE '1' END)::jsonb
              FROM generate_series(1, 100) AS id",
        )
        .await?;
    world.until_metric("sequin_message_deliver_success_count", |count| count == 99.0).await?;
    world.until_metric("sequin_message_deliver_failure_count", |count| count >= 3.0).await?;
    let failed = world.metric("sequin_message_deliver_failure_count").await?;
    let attempts = world.metric("sequin_message_deliver_attempt_count").await?;
    // Read after the failures, so one more may be under way or done.
    assert!((99.0 + failed..=99.0 + failed + 2.0).contains(&attempts), "{attempts} and {failed}");
    assert_eq!(world.typesense.documents("t").await?.len(), 99);
    assert_eq!(world.metric("sequin_messages_pending").await?, 1.0);
    let log = world.sequin.log();
    assert!(log.contains("must be an int32"), "{log}");
    assert!(!log.contains("many"), "shows the row: {log}");

    world
        .typesense
        .change_collection("t", &json!({"fields": [{"name": "n", "drop": true}]}))
        .await?;
    world.until_metric("sequin_messages_pending", |count| count == 0.0).await?;
    assert_eq!(world.typesense.documents("t").await?.len(), 100);
    Ok(())
}

/// Later changes of the document that failed wait behind it, and come in order.
#[tokio::test(flavor = "multi_thread")]
async fn b101_what_comes_behind_a_failed_document_keeps_its_order() -> Result<()> {
    let world = World::start(TABLE, fields(), "", "").await?;
    world.sql("INSERT INTO t VALUES (1, 'first', '\"many\"'), (2, 'first', '2')").await?;
    world.until_metric("sequin_message_deliver_failure_count", |count| count >= 2.0).await?;
    world.sql("UPDATE t SET name = 'second'; UPDATE t SET name = 'third', n = '3'").await?;
    world.until_document("2", |document| document["name"] == "third").await?;
    assert!(world.typesense.document("t", "1").await?.is_none(), "nothing overtook the first");
    world
        .typesense
        .change_collection("t", &json!({"fields": [{"name": "n", "drop": true}]}))
        .await?;
    world.until_document("1", |document| document["name"] == "third").await
}

#[tokio::test(flavor = "multi_thread")]
async fn dirty_values_decide_about_what_does_not_fit() -> Result<()> {
    let world = World::start(TABLE, fields(), "      dirty_values: coerce_or_drop\n", "").await?;
    world.sql("INSERT INTO t VALUES (1, 'a', '\"many\"'), (2, 'b', '\"22\"')").await?;
    world.until_ids(&["1", "2"]).await?;
    let first = world.typesense.document("t", "1").await?.context("it is there")?;
    assert!(first.get("n").is_none(), "{first}");
    let second = world.typesense.document("t", "2").await?.context("it is there")?;
    assert_eq!(second["n"], 22);
    assert_eq!(world.metric("sequin_message_deliver_failure_count").await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn update_sets_fields_of_what_is_there_and_counts_the_rest_as_filtered() -> Result<()> {
    let world = World::start(TABLE, fields(), "      action: update\n", "").await?;
    world.sql("INSERT INTO t VALUES (1, 'a', '1'), (2, 'b', '2')").await?;
    world.until_metric("sequin_messages_filtered_count", |count| count == 2.0).await?;
    assert!(world.typesense.documents("t").await?.is_empty());
    world.typesense.import("t", &[json!({"id": "2", "other": "kept"})]).await?;
    world.sql("UPDATE t SET name = 'c'").await?;
    world.until_document("2", |document| document["name"] == "c").await?;
    let document = world.typesense.document("t", "2").await?.context("it is there")?;
    assert_eq!(document["other"], "kept");
    assert!(world.typesense.document("t", "1").await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn create_and_upsert_differ_in_what_was_there() -> Result<()> {
    for (action, name, other) in
        [("create", json!("old"), json!("kept")), ("upsert", json!("new"), Value::Null)]
    {
        let options = format!("      action: {action}\n");
        let world = World::start(TABLE, fields(), &options, "").await?;
        let old = json!({"id": "1", "name": "old", "other": "kept"});
        world.typesense.import("t", &[old]).await?;
        world.sql("INSERT INTO t VALUES (1, 'new', '1'), (2, 'new', '1')").await?;
        world.until_metric("sequin_message_deliver_success_count", |count| count == 2.0).await?;
        world.until_ids(&["1", "2"]).await?;
        let document = world.typesense.document("t", "1").await?.context("it is there")?;
        assert_eq!((&document["name"], &document["other"]), (&name, &other), "{action}");
        assert_eq!(world.metric("sequin_message_deliver_failure_count").await?, 0.0, "{action}");
    }
    Ok(())
}

/// Ids that are paths, lists or operators to somebody name one document and no other, also when they
/// go.
#[tokio::test(flavor = "multi_thread")]
async fn b098_b149_odd_ids_are_written_and_removed_as_they_are() -> Result<()> {
    const ODD: [&str; 26] = [
        "a", " a", "a ", "a b", "a,b", "a`b", "`", "a\\", "a/b", "a?b", "a#b", "%41", "A", ".",
        "..", "*", "[a]", "(a)", "a&&b", "a||b", "!a", "=a", "\"a\"", "日本", "é", "a:b",
    ];
    let table = "CREATE TABLE t (id text PRIMARY KEY)";
    let world = World::start(table, fields(), "", "    batch_timeout_ms: 100\n").await?;
    let insert = async |ids: &[&str]| {
        world.client.execute("INSERT INTO t SELECT unnest($1::text[])", &[&ids]).await
    };
    // A key of one column is the id as it is.
    insert(&ODD).await?;
    world.until_ids(&ODD).await?;
    // One after another, so that each removal meets all others.
    let mut left = ODD.to_vec();
    for id in ODD {
        world.client.execute("DELETE FROM t WHERE id = $1", &[&id]).await?;
        left.retain(|other| *other != id);
        world.until_ids(&left).await.with_context(|| format!("remove {id:?}"))?;
    }
    // All at once, some of which are not there any more.
    insert(&ODD).await?;
    world.until_ids(&ODD).await?;
    world.typesense.remove("t", "a/b").await?;
    world.sql("DELETE FROM t").await?;
    world.until_ids(&[]).await?;
    world.until_metric("sequin_messages_pending", |count| count == 0.0).await?;
    assert_eq!(world.metric("sequin_message_deliver_failure_count").await?, 0.0);
    assert_eq!(world.metric("sequin_messages_buried_count").await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_documents_are_removed_soon() -> Result<()> {
    let world = World::start(TABLE, fields(), "      batch_size: 1000\n", "").await?;
    world.sql("INSERT INTO t SELECT id, 'x', '1' FROM generate_series(1, 5000) AS id").await?;
    world.until_metric("sequin_message_deliver_success_count", |count| count == 5000.0).await?;
    world.sql("DELETE FROM t WHERE id > 3").await?;
    world.until_ids(&["1", "2", "3"]).await?;
    assert_eq!(world.metric("sequin_message_deliver_failure_count").await?, 0.0);
    Ok(())
}

/// A collection that is not there, then one whose key may not write: both are told, and mended
/// without a restart or a loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_collection_or_right_is_told_and_can_be_mended() -> Result<()> {
    let typesense = typesense::Server::start().await?;
    typesense.create_collection(&json!({"name": "tt", "fields": fields()})).await?;
    let world = World::with(typesense, TABLE, "harness", "", "").await?;
    world.sql("INSERT INTO t VALUES (1, 'a', '1')").await?;
    world.until_metric("sequin_message_deliver_failure_count", |count| count >= 2.0).await?;
    let log = world.sequin.log();
    assert!(
        log.contains("create the collection `t`, or correct its name: there is a `tt`"),
        "{log}"
    );
    world.typesense.create_collection(&json!({"name": "t", "fields": fields()})).await?;
    world.until_ids(&["1"]).await?;
    let World { typesense, .. } = world;

    let key = typesense.create_key(&["collections:get", "documents:search"]).await?;
    let world = World::with(typesense, TABLE, &key, "", "").await?;
    world.sql("INSERT INTO t VALUES (2, 'a', '1')").await?;
    world.until_metric("sequin_message_deliver_failure_count", |count| count >= 1.0).await?;
    let log = world.sequin.log();
    assert!(log.contains("documents:import") && !log.contains(&key), "{log}");

    // What the hint asks for is enough.
    let World { typesense, .. } = world;
    let key =
        typesense.create_key(&["collections:get", "documents:import", "documents:delete"]).await?;
    let world = World::with(typesense, TABLE, &key, "", "    batch_timeout_ms: 50\n").await?;
    world.sql("INSERT INTO t SELECT id, 'a', '1' FROM generate_series(3, 9) AS id").await?;
    world.sql("DELETE FROM t WHERE id > 4; DELETE FROM t WHERE id = 3").await?;
    world.until_ids(&["1", "4"]).await?;
    assert_eq!(world.metric("sequin_message_deliver_failure_count").await?, 0.0);
    assert!(world.sequin.log().contains("the destination answers"));
    Ok(())
}

/// The server goes at any moment and comes back: nothing is missing and nothing too much.
#[tokio::test(flavor = "multi_thread")]
async fn b120_a_server_that_is_killed_gets_everything_once_it_is_back() -> Result<()> {
    let mut world = World::start(TABLE, fields(), "", "").await?;
    for round in 0..3 {
        world
            .sql(&format!(
                "INSERT INTO t SELECT id, 'r{round}', '1' FROM generate_series(1, 500) AS id
                     ON CONFLICT (id) DO UPDATE SET name = excluded.name;
                 DELETE FROM t WHERE id % 5 = {round}"
            ))
            .await?;
        world.typesense.kill().await?;
        world.typesense.start_again().await?;
    }
    world.until_metric("sequin_messages_pending", |count| count == 0.0).await?;
    let rows = world.client.query("SELECT id::text, name FROM t ORDER BY t.id", &[]).await?;
    let rows: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    until("the table in Typesense", Duration::from_secs(60), async || {
        let text = |document: &Value, field: &str| document[field].as_str().unwrap().to_owned();
        let documents = world.typesense.documents("t").await?;
        let mut have: Vec<_> = documents
            .iter()
            .map(|document| (text(document, "id"), text(document, "name")))
            .collect();
        have.sort_by_key(|(id, _)| id.parse::<u64>().unwrap());
        Ok(if have == rows { Ok(()) } else { Err(format!("{} of {}", have.len(), rows.len())) })
    })
    .await?;
    drop(world.postgres);
    Ok(())
}

/// 0.24 refuses to make a document with `emplace` in which an indexed field is null.
#[tokio::test(flavor = "multi_thread")]
async fn a_null_is_no_obstacle_and_takes_a_field_away() -> Result<()> {
    let fields = json!([
        {"name": "name", "type": "string", "optional": true},
        {"name": "n", "type": "int32", "optional": true},
        {"name": "at", "type": "float", "optional": true},
    ]);
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, name text, n int, at float8)";
    let world = World::start(table, fields, "", "    batch_timeout_ms: 100\n").await?;
    world
        .sql("INSERT INTO t VALUES (1, NULL, 7, NULL), (2, 'b', NULL, 2.5), (3, 'c', 3, 3)")
        .await?;
    world.until_ids(&["1", "2", "3"]).await?;
    world.until_document("1", |document| *document == json!({"id": "1", "n": 7})).await?;
    world.sql("UPDATE t SET name = 'a', n = NULL WHERE id = 1; UPDATE t SET at = NULL").await?;
    world.until_document("1", |document| *document == json!({"id": "1", "name": "a"})).await?;
    world.until_document("2", |document| *document == json!({"id": "2", "name": "b"})).await?;
    assert_eq!(world.metric("sequin_message_deliver_failure_count").await?, 0.0);
    Ok(())
}
