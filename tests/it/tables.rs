//! Tables that change under a running engine: names, publications, partitions.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::postgres::Cluster;
use tests::{Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, World, engine, hook, streaming, yaml};

/// Messages as `sink: table id`.
fn shown(messages: &[Value]) -> Vec<String> {
    let text = |message: &Value| {
        let metadata = &message["metadata"];
        let (sink, table) = (&metadata["consumer"]["name"], &metadata["table_name"]);
        let text = format!("{sink}: {table} {}", message["record"]["id"]);
        text.replace('"', "")
    };
    messages.iter().map(text).collect()
}

/// Waits until a sink has so many warnings of a code.
async fn warned(sequin: &Sequin, sink: &str, code: &str, count: f64) -> Result<()> {
    until(&format!("{count} warnings {code}"), SOON, async || {
        // Without any warning there is no sample.
        let labels = [("consumer_name", sink), ("code", code)];
        let found = sequin.metric("sequin_sink_warnings", &labels).await.unwrap_or(0.0);
        Ok(if found == count { Ok(()) } else { Err(found.to_string()) })
    })
    .await
}

async fn value(client: &Client, sql: &str) -> Result<String> {
    let rows = client.simple_query(sql).await?;
    let value = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.with_context(|| format!("{sql} has no value"))
}

#[tokio::test(flavor = "multi_thread")]
async fn b078_b079_a_renamed_table_is_followed_by_its_oid_and_reported_by_its_name() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY); CREATE SCHEMA archive").await?;
    let oid = value(&client, "SELECT 't'::regclass::oid").await?;
    let receiver = Receiver::start().await?;
    let sink = |name: &str, table: &str| {
        format!(
            "  - {{name: {name}, database: source, source: {{include_tables: [{table}]}},
     destination: {{type: webhook, http_endpoint: receiver}}}}\n"
        )
    };
    let sinks = format!("sinks:\n{}{}", sink("named", "public.t"), sink("followed", &oid));
    let mut sequin = engine(&yaml(postgres.port(), &receiver.url(), &sinks)).start().await?;
    streaming(&sequin).await?;

    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    let mut got = shown(&receiver.until_messages(2, SOON).await?);
    got.sort();
    assert_eq!(got, ["followed: t 1", "named: t 1"]);

    client.batch_execute("ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA archive").await?;
    client.batch_execute("INSERT INTO archive.u VALUES (2)").await?;
    let got = shown(&receiver.until_messages(3, SOON).await?);
    assert_eq!(got[2..], ["followed: u 2"]);
    warned(&sequin, "named", "table_renamed", 1.0).await?;
    assert!(sequin.log().contains("table public.t is archive.u now"), "{}", sequin.log());
    warned(&sequin, "followed", "table_renamed", 0.0).await?;

    // A new table of the old name, written to while nobody looks.
    assert!(sequin.terminate().await?.success());
    client
        .batch_execute("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (3)")
        .await?;
    client.batch_execute("DROP TABLE t; CREATE TABLE t (id text PRIMARY KEY)").await?;
    client.batch_execute("INSERT INTO t VALUES ('four'); INSERT INTO archive.u VALUES (5)").await?;
    sequin.restart().await?;
    let messages = receiver.until_messages(6, LATER).await?;
    let mut got = shown(&messages[3..]);
    got.sort();
    assert_eq!(got, ["followed: u 5", "named: t 3", "named: t four"]);
    warned(&sequin, "named", "table_renamed", 0.0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b082_a_table_created_later_is_delivered_without_a_restart() -> Result<()> {
    let world = World::start("CREATE TABLE t (id bigint PRIMARY KEY)", "").await?;
    world.messages_after("INSERT INTO t VALUES (1)", 1).await?;
    world.client.batch_execute("CREATE TABLE later (id bigint PRIMARY KEY, at date)").await?;
    let messages = world.messages_after("INSERT INTO later VALUES (2, '2024-02-29')", 2).await?;
    assert_eq!(shown(&messages), ["hook: t 1", "hook: later 2"]);
    assert_eq!(messages[1]["record"], json!({"id": 2, "at": "2024-02-29"}));
    assert_eq!(messages[1]["metadata"]["record_pks"], json!(["2"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b083_a_table_added_to_the_publication_is_delivered_from_there_on() -> Result<()> {
    let schema = "CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id bigint PRIMARY KEY);
                  CREATE PUBLICATION sequin_it FOR TABLE a";
    let world = World::start(schema, "").await?;
    let sql = "INSERT INTO b VALUES (1); INSERT INTO a VALUES (2)";
    world.messages_after(sql, 1).await?;
    world.client.batch_execute("ALTER PUBLICATION sequin_it ADD TABLE b").await?;
    let messages = world.messages_after("INSERT INTO b VALUES (3)", 2).await?;
    assert_eq!(shown(&messages), ["hook: a 2", "hook: b 3"]);
    world.settled().await?;
    assert_eq!(world.receiver.messages().len(), 2, "the earlier row does not come");
    Ok(())
}

/// Published under the names of the partitions: a sink on the root gets them all the same, the rows
/// that move in order (the partitions have a key that does not change), and is told once how to
/// have it better.
#[tokio::test(flavor = "multi_thread")]
async fn b085_b087_rows_of_partitions_reach_a_sink_of_their_root() -> Result<()> {
    let schema = "
        CREATE TABLE root (id bigint, part int) PARTITION BY LIST (part);
        CREATE TABLE one PARTITION OF root (PRIMARY KEY (id)) FOR VALUES IN (1);
        CREATE TABLE two PARTITION OF root (PRIMARY KEY (id)) FOR VALUES IN (2);
        CREATE TABLE other (id bigint PRIMARY KEY);
        CREATE PUBLICATION sequin_it FOR ALL TABLES WITH (publish_via_partition_root = false)";
    let world = World::start(schema, "    source: {include_tables: [root]}\n").await?;
    let sql = "INSERT INTO root VALUES (1, 1), (2, 2); INSERT INTO other VALUES (3);
               UPDATE root SET part = 2 WHERE id = 1";
    let messages = world.messages_after(sql, 4).await?;
    let mut of_one: Vec<String> = Vec::new();
    for message in messages.iter().filter(|message| message["record"]["id"] == 1) {
        let (action, table) = (&message["action"], &message["metadata"]["table_name"]);
        of_one.push(format!("{action} {table}").replace('"', ""));
    }
    assert_eq!(of_one, ["insert one", "delete one", "insert two"]);
    let tables = shown(&messages);
    assert!(tables.contains(&"hook: two 2".to_owned()) && tables.len() == 4, "{tables:?}");
    warned(&world.sequin, "hook", "pubviaroot_not_set", 1.0).await?;
    let told = world.sequin.log().matches("under the names of partitions").count();
    assert_eq!(told, 1, "once for the root:\n{}", world.sequin.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b018_a_prepared_transaction_is_delivered_once_over_a_restart() -> Result<()> {
    let postgres = Cluster::start_with(&[("max_prepared_transactions", "10")]).await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    let receiver = Receiver::start().await?;
    let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "", ""));
    let mut sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    for (id, name) in [(1, "kept"), (2, "dropped")] {
        let sql = format!("BEGIN; INSERT INTO t VALUES ({id}); PREPARE TRANSACTION '{name}'");
        client.batch_execute(&sql).await?;
    }
    client.batch_execute("INSERT INTO t VALUES (3)").await?;
    assert_eq!(shown(&receiver.until_messages(1, SOON).await?), ["hook: t 3"]);
    sequin.restart().await?;
    streaming(&sequin).await?;
    client.batch_execute("ROLLBACK PREPARED 'dropped'").await?;
    client.batch_execute("COMMIT PREPARED 'kept'").await?;
    client.batch_execute("INSERT INTO t VALUES (4)").await?;
    receiver.until_messages(3, SOON).await?;
    sequin.restart().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (5)").await?;
    let messages = receiver.until_messages(4, LATER).await?;
    let mut got = shown(&messages);
    got[1..3].sort();
    assert_eq!(got, ["hook: t 3", "hook: t 1", "hook: t 4", "hook: t 5"]);
    Ok(())
}

/// Where an engine keeps its own state is nobody's rows, though all tables are published and a sink
/// asks for them by name.
#[tokio::test(flavor = "multi_thread")]
async fn b210_rows_of_our_own_schemas_reach_no_sink() -> Result<()> {
    let schema = "CREATE SCHEMA sequin; CREATE SCHEMA _sequin; CREATE SCHEMA sequin_2;
        CREATE TABLE t (id bigint PRIMARY KEY); CREATE TABLE sequin.progress (id bigint PRIMARY KEY);
        CREATE TABLE _sequin.t (id bigint PRIMARY KEY); CREATE TABLE sequin_2.u (id bigint PRIMARY KEY)";
    let world = World::start(schema, "").await?;
    let insert = "INSERT INTO sequin.progress VALUES (1); INSERT INTO _sequin.t VALUES (2);
        TRUNCATE sequin.progress; INSERT INTO t VALUES (3); INSERT INTO sequin_2.u VALUES (4)";
    let messages = world.messages_after(insert, 2).await?;
    let mut got = shown(&messages);
    got.sort();
    assert_eq!(got, ["hook: t 3", "hook: u 4"]);
    world.settled().await?;
    assert_eq!(world.receiver.messages().len(), 2);
    Ok(())
}
