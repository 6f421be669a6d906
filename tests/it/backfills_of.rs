//! What of a database a backfill takes: parts of tables, tables without a key, several tables, and
//! tables that are new.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Receiver, until};
use tokio_postgres::Client;

use crate::backfills::{
    MAJORS, TABLE, applied, ask, backfills, cluster, complete, differences, rows,
};
use crate::world::{LATER, World, engine, settled, streaming, yaml};

/// Keys of what was read.
fn keys(messages: &[Value], table: &str) -> Vec<i64> {
    let of_table = |message: &&Value| {
        message["action"] == "read" && message["metadata"]["table_name"] == table
    };
    let read = messages.iter().filter(of_table);
    read.map(|message| message["record"]["id"].as_i64().unwrap()).collect()
}

/// What the API answers once the backfill is over.
async fn ran(world: &World, body: Value) -> Result<Value> {
    let path = "/api/sinks/hook/backfills";
    let (status, begun) = ask(&world.sequin, "POST", path, body).await?;
    assert_eq!(status, 201, "{begun}");
    let path = format!("{path}/{}", begun["id"].as_str().context("its id")?);
    until("the backfill to be over", LATER, async || {
        let (_, one) = ask(&world.sequin, "GET", &path, json!(null)).await?;
        Ok(if one["state"] == "active" { Err(one.to_string()) } else { Ok(one) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn b161_b164_b166_a_part_of_a_table_by_a_condition_or_from_a_value_on() -> Result<()> {
    let schema = "
        CREATE TABLE t (id bigint PRIMARY KEY, value bigint, place text COLLATE \"C\");
        INSERT INTO t SELECT n, CASE WHEN n % 10 <> 0 THEN n / 100 END, 'p' || n
        FROM generate_series(-3000, 3000) n";
    for major in MAJORS {
        let world = World::start_on(cluster(major).await?, schema, "    batch_size: 100\n").await?;
        let over = ran(
            &world,
            json!({"table": "t", "condition": "value % 2 = 0 and place <> 'p7' -- all"}),
        )
        .await?;
        assert_eq!(over["state"], "completed", "{over}");
        let sql = "SELECT id FROM t WHERE value % 2 = 0 AND place <> 'p7'";
        let wanted = ids(&world.client, sql).await?;
        let took = keys(&world.receiver.messages(), "t");
        assert_eq!((took.len(), took.into_iter().collect()), (wanted.len(), wanted));

        // Many rows are tied, and rows without a value are left out.
        world.receiver.forget();
        let body = json!({"table": "t", "sort_column": "value", "start_position": -7});
        let over = ran(&world, body).await?;
        assert_eq!(over["state"], "completed", "{over}");
        let wanted = ids(&world.client, "SELECT id FROM t WHERE value >= -7").await?;
        let took = keys(&world.receiver.messages(), "t");
        assert_eq!((took.len(), took.into_iter().collect()), (wanted.len(), wanted));

        // What is wrong with it is told by the server that knows.
        let over = ran(&world, json!({"table": "t", "condition": "value %"})).await?;
        assert_eq!(over["state"], "failed", "{over}");
        assert!(over["error"].to_string().contains("backfill_condition"), "{over}");
        let over =
            ran(&world, json!({"table": "t", "sort_column": "value", "start_position": "x"}))
                .await?;
        assert!(over["error"].to_string().contains("backfill_sort_column"), "{over}");
    }
    Ok(())
}

async fn ids(client: &Client, sql: &str) -> Result<BTreeSet<i64>> {
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn b167_a_table_without_a_key_is_refused_or_read_by_place() -> Result<()> {
    let schema = "
        CREATE TABLE t (id bigint, value bigint);
        ALTER TABLE t REPLICA IDENTITY FULL;
        INSERT INTO t SELECT n, n FROM generate_series(-3000, 3000) n";
    for major in MAJORS {
        let world = World::start_on(cluster(major).await?, schema, "    batch_size: 100\n").await?;
        let over = ran(&world, json!({"table": "t"})).await?;
        assert_eq!(over["state"], "failed", "{over}");
        assert!(over["error"].to_string().contains("backfill_no_key"), "{over}");
        assert_eq!(world.receiver.messages().len(), 0);

        world.client.batch_execute("DELETE FROM t WHERE id % 3 = 0").await?;
        let over = ran(&world, json!({"table": "t", "by_place": true})).await?;
        assert_eq!(over["state"], "completed", "{over}");
        let took = keys(&world.receiver.messages(), "t");
        let wanted = ids(&world.client, "SELECT id FROM t").await?;
        assert_eq!((took.len(), took.into_iter().collect()), (wanted.len(), wanted));
    }
    Ok(())
}

/// Two sinks, one of which takes two tables; then an edit adds a third table to it.
#[tokio::test(flavor = "multi_thread")]
async fn b174_two_tables_and_two_sinks_at_once_and_a_table_that_is_added_without_a_restart()
-> Result<()> {
    for major in MAJORS {
        let postgres = cluster(major).await?;
        let client = postgres.client("postgres").await?;
        let others = "
            CREATE TABLE u (id bigint PRIMARY KEY, value bigint NOT NULL);
            INSERT INTO u SELECT -n, n FROM generate_series(1, 5000) n;
            CREATE TABLE v (id bigint PRIMARY KEY, value bigint NOT NULL);
            INSERT INTO v SELECT n, 3 FROM generate_series(-2000, 2000) n";
        client.batch_execute(&format!("{TABLE};{others}")).await?;
        let receiver = Receiver::start().await?;
        let sink = |name: &str, tables: &str| {
            format!(
                "  - name: {name}
    database: source
    destination: {{type: webhook, http_endpoint: receiver, http_endpoint_path: /{name}}}
    source: {{include_tables: [{tables}]}}
    initial_backfill: true
    batch_size: 100
    backfill: {{max_rows_per_second: 6000, new_tables: true}}
"
            )
        };
        let config = |first: &str| {
            let sinks = format!("sinks:\n{}{}", sink("one", first), sink("two", "t"));
            yaml(postgres.port(), &receiver.url(), &sinks)
        };
        let sequin = engine(&config("t, u")).start().await?;
        streaming(&sequin).await?;
        until("both tables to be read at once", LATER, async || {
            let all = backfills(&sequin, "one").await?;
            let begun = |one: &&Value| {
                one["state"] == "active" && one["rows_ingested_count"].as_u64() > Some(0)
            };
            let count = all.iter().filter(begun).count();
            Ok(if count == 2 { Ok(()) } else { Err(format!("{all:?}")) })
        })
        .await
        .with_context(|| sequin.log())?;
        client.batch_execute("UPDATE u SET value = -1 WHERE id % 5 = 0").await?;
        complete(&sequin, "one", 2).await?;
        complete(&sequin, "two", 1).await?;

        let pid = sequin.pid();
        sequin.write_config(&config("t, u, v"))?;
        let all = complete(&sequin, "one", 3).await?;
        assert_eq!(all[0]["table"], "public.v");
        // Created and filled only now, and taken by its name.
        client
            .batch_execute(
                "CREATE TABLE w (id bigint PRIMARY KEY, value bigint NOT NULL);
                 INSERT INTO w SELECT n, n FROM generate_series(-10, 10) n",
            )
            .await?;
        settled(&client).await?;
        sequin.write_config(&config("t, u, v, w"))?;
        complete(&sequin, "one", 4).await?;
        assert_eq!(sequin.pid(), pid);
        assert_eq!(backfills(&sequin, "two").await?.len(), 1, "its tables are the same");

        settled(&client).await?;
        for (sink, tables) in [("/one", ["t", "u", "v", "w"].as_slice()), ("/two", &["t"])] {
            let requests = receiver.accepted().into_iter();
            let at = requests.filter(|request| request.path == sink);
            let messages: Vec<Value> = at.flat_map(|request| request.messages()).collect();
            for table in tables {
                let of_table = messages.iter().filter(|it| it["metadata"]["table_name"] == *table);
                let wanted = rows(&client, table).await?;
                let different = differences(&applied(of_table), &wanted);
                assert_eq!(different, Ok(()), "{table} at {sink}");
            }
            let others =
                |it: &&Value| !tables.iter().any(|name| it["metadata"]["table_name"] == *name);
            assert_eq!(messages.iter().filter(others).count(), 0);
        }
    }
    Ok(())
}
