//! `sequin tail`, as a user calls it.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::process::Signal;
use tests::{Cluster, Harm, Proxy, Tail, until};
use tokio_postgres::Client;

use crate::world::{SOON, World};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text, doc json)";

async fn database(schema: &str) -> Result<(Cluster, Client)> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(schema).await?;
    Ok((postgres, client))
}

/// The same with a publication for all tables and a slot, both named `mine`.
async fn mine(schema: &str) -> Result<(Cluster, Client)> {
    let (postgres, client) = database(schema).await?;
    client.batch_execute("CREATE PUBLICATION mine FOR ALL TABLES").await?;
    client.batch_execute("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')").await?;
    Ok((postgres, client))
}

/// `insert public.t 1`, …
fn brief(messages: &[Value]) -> Vec<String> {
    let brief = |message: &Value| {
        let (action, metadata) = (message["action"].as_str().unwrap(), &message["metadata"]);
        let table = (metadata["table_schema"].as_str(), metadata["table_name"].as_str());
        let (schema, table) = (table.0.unwrap(), table.1.unwrap());
        format!("{action} {schema}.{table} {}", message["record"]["id"])
    };
    messages.iter().map(brief).collect()
}

/// The slots and publications there are.
async fn left(client: &Client) -> Result<Vec<String>> {
    let sql = "SELECT 'slot ' || slot_name FROM pg_replication_slots
               UNION ALL SELECT 'publication ' || pubname FROM pg_publication ORDER BY 1";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn end(tail: &mut Tail) -> Result<()> {
    end_by(tail, Signal::TERM).await
}

async fn end_by(tail: &mut Tail, signal: Signal) -> Result<()> {
    tail.signal(signal)?;
    let status = tail.wait(SOON).await?;
    assert!(status.success(), "{status}: {}", tail.stderr()?);
    Ok(())
}

/// Runs it to its end; its status and what it said.
async fn refused(url: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut tail = Tail::spawn(url, arguments, None)?;
    let status = tail.wait(SOON).await?;
    assert_eq!(tail.messages()?.len(), 0);
    Ok((status.code(), tail.stderr()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_what_a_webhook_gets_and_leaves_nothing_behind() -> Result<()> {
    let world = World::start(&format!("{TABLE}; ALTER TABLE t REPLICA IDENTITY FULL"), "").await?;
    let before = left(&world.client).await?;
    let mut tail = Tail::start(&world.postgres.url("postgres"), &[]).await?;
    assert_eq!(left(&world.client).await?.len(), before.len() + 2, "a slot and a publication");
    let sql = "INSERT INTO t VALUES (1, E'a\nb', E'{\n\"x\":\n1}'); UPDATE t SET name = 'c';
               BEGIN; SELECT pg_logical_emit_message(true,
                   'sequin:transaction_annotations.set', E'{\n\"by\": 7}');
               DELETE FROM t; COMMIT";
    let expected = world.messages_after(sql, 3).await?;
    let got = tail.until_messages(3, SOON).await?;
    assert_eq!(got[0]["metadata"]["consumer"]["name"], "tail");
    assert_eq!(got[0]["metadata"]["database"]["database"], "postgres");
    assert_eq!(got[2]["metadata"]["transaction_annotations"], json!({"by": 7}));
    let own = ["consumer", "database", "database_name"];
    let same = |messages: Vec<Value>| -> Vec<Value> {
        let mut messages = messages;
        for message in &mut messages {
            let metadata = message["metadata"].as_object_mut().unwrap();
            for name in own {
                assert!(metadata.remove(name).is_some(), "{name}");
            }
        }
        messages
    };
    assert_eq!(same(got), same(expected));
    // The last thing it reads is a truncate.
    world.client.batch_execute("TRUNCATE t").await?;
    let got = tail.until_messages(4, SOON).await?;
    assert_eq!((&got[3]["action"], &got[3]["record"]), (&json!("truncate"), &json!({})));
    end(&mut tail).await?;
    assert_eq!(left(&world.client).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_killed_leaves_no_slot() -> Result<()> {
    let (postgres, client) = database(TABLE).await?;
    let mut tail = Tail::start(&postgres.url("postgres"), &["--table", "t"]).await?;
    assert_eq!(left(&client).await?.len(), 2);
    tail.signal(Signal::KILL)?;
    tail.wait(SOON).await?;
    until("the slot to go", SOON, async || {
        let left = left(&client).await?;
        let slots = left.iter().filter(|name| name.starts_with("slot")).count();
        Ok(if slots == 0 { Ok(()) } else { Err(format!("{left:?}")) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_with_a_slot_goes_on_where_it_was_and_repeats_nothing() -> Result<()> {
    let (postgres, client) = mine(TABLE).await?;
    let url = postgres.url("postgres");
    let arguments = ["--slot", "mine", "--publication", "mine"];
    client.batch_execute("INSERT INTO t SELECT generate_series(1, 3)").await?;
    let mut tail = Tail::start(&url, &arguments).await?;
    let rows = ["insert public.t 1", "insert public.t 2", "insert public.t 3"];
    assert_eq!(brief(&tail.until_messages(3, SOON).await?), rows);
    end(&mut tail).await?;

    client.batch_execute("INSERT INTO t VALUES (4)").await?;
    client.batch_execute("INSERT INTO t VALUES (5), (6)").await?;
    // A transaction that is cut stays; the one before it is done.
    let mut tail = Tail::spawn(&url, &[&arguments[..], &["--count", "2"]].concat(), None)?;
    assert!(tail.wait(SOON).await?.success(), "{}", tail.stderr()?);
    assert_eq!(brief(&tail.messages()?), ["insert public.t 4", "insert public.t 5"]);
    let mut tail = Tail::start(&url, &arguments).await?;
    let rest = ["insert public.t 5", "insert public.t 6"];
    assert_eq!(brief(&tail.until_messages(2, SOON).await?), rest);
    end(&mut tail).await?;

    let mut tail = Tail::spawn(&url, &[&arguments[..], &["--seconds", "1"]].concat(), None)?;
    assert!(tail.wait(SOON).await?.success(), "{}", tail.stderr()?);
    assert_eq!(brief(&tail.messages()?), [""; 0]);
    assert_eq!(left(&client).await?, ["publication mine", "slot mine"]);
    Ok(())
}

/// A transaction of many batches is printed to its end before a signal ends the run.
#[tokio::test(flavor = "multi_thread")]
async fn tail_told_to_stop_finishes_the_transaction() -> Result<()> {
    const ROWS: usize = 30_000;
    let (postgres, client) = mine(TABLE).await?;
    let url = postgres.url("postgres");
    let arguments = ["--slot", "mine", "--publication", "mine"];
    let mut tail = Tail::start(&url, &arguments).await?;
    client.batch_execute(&format!("INSERT INTO t SELECT generate_series(1, {ROWS})")).await?;
    tail.until_messages(1, SOON).await?;
    end(&mut tail).await?;
    assert_eq!(tail.messages()?.len(), ROWS);
    let mut tail = Tail::spawn(&url, &[&arguments[..], &["--seconds", "1"]].concat(), None)?;
    assert!(tail.wait(SOON).await?.success(), "{}", tail.stderr()?);
    assert_eq!(tail.messages()?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_of_a_table_or_an_action_prints_that_alone() -> Result<()> {
    let schema = format!(
        "{TABLE}; CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE log (id int)"
    );
    let (postgres, client) = mine(&schema).await?;
    let url = postgres.url("postgres");
    let existing = ["--publication", "mine", "--table", "s.t"];
    let tails = [
        (Tail::start(&url, &existing).await?, "insert s.t 2"),
        (Tail::start(&url, &["--table", "t", "--action", "delete"]).await?, "delete public.t 1"),
        (
            Tail::start(&url, &["--table", "log", "--action", "insert"]).await?,
            "insert public.log 3",
        ),
    ];
    let sql = "INSERT INTO t VALUES (1); INSERT INTO s.t VALUES (2); INSERT INTO log VALUES (3);
               DELETE FROM t; INSERT INTO t VALUES (4)";
    client.batch_execute(sql).await?;
    let signals = [Signal::TERM, Signal::INT, Signal::HUP];
    for ((mut tail, expected), signal) in tails.into_iter().zip(signals) {
        tail.until_messages(1, SOON).await.with_context(|| expected.to_owned())?;
        let sql = "SELECT bool_and(confirmed_flush_lsn >= pg_current_wal_flush_lsn())
                   FROM pg_replication_slots WHERE temporary";
        until("everything to be read", SOON, async || {
            let all: bool = client.query_one(sql, &[]).await?.get(0);
            Ok(if all { Ok(()) } else { Err("not confirmed".to_owned()) })
        })
        .await?;
        assert_eq!(brief(&tail.messages()?), [expected]);
        end_by(&mut tail, signal).await?;
    }
    assert_eq!(left(&client).await?, ["publication mine", "slot mine"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_says_what_is_wrong_with_a_server() -> Result<()> {
    let schema = format!(
        "{TABLE}; CREATE TABLE keyless (id int); CREATE ROLE r LOGIN REPLICATION PASSWORD 'right';
         CREATE PUBLICATION mine FOR TABLE t;
         CREATE TABLE part (id int) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF part FOR VALUES FROM (0) TO (9)"
    );
    let (postgres, client) = database(&schema).await?;
    let hba = postgres.socket_dir().join("data/pg_hba.conf");
    let access = std::fs::read_to_string(&hba)?;
    std::fs::write(&hba, format!("host all r 127.0.0.1/32 scram-sha-256\n{access}"))?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    let url = postgres.url("postgres");
    let of_r = |password: &str| url.replacen("postgres@", &format!("r:{password}@"), 1);
    until("the new pg_hba.conf to be in force", SOON, async || {
        let (_, said) = refused(&of_r("hunter2"), &["--table", "t"]).await?;
        Ok(if said.contains("(authentication)") { Ok(()) } else { Err(said) })
    })
    .await?;
    let missing = postgres.url("nowhere");
    for (url, arguments, code, texts) in [
        (&of_r("hunter2"), &[][..], 70, ["(authentication)", "check user r"]),
        (&missing, &[], 70, ["(database_missing)", "nowhere"]),
        (&url, &["--publication", "none"], 70, ["(publication_missing)", "none"]),
        (&url, &["--publication", "mine", "--slot", "none"], 70, ["(slot_missing)", "none"]),
        (&url, &["--table", "gone"], 70, ["(table_missing)", "public.gone"]),
        (&url, &[], 70, ["(replica_identity)", "public.keyless"]),
        (&url, &["--table", "part"], 70, ["(replica_identity)", "public.leaf"]),
        (&of_r("right"), &[], 70, ["(privilege)", "--table"]),
        (&of_r("right"), &["--table", "t"], 70, ["(privilege)", "--publication"]),
        (&url, &["--publication", "mine", "--slot", "UPPER"], 64, ["(slot_name)", "UPPER"]),
        (&url, &["--slot", "a"], 64, ["--publication", "required"]),
        (&"http://x".to_owned(), &[], 64, ["(connect_options)", "help: "]),
        (&url, &["--slot", "a", "--from-now"], 64, ["--from-now", "--slot"]),
    ] {
        let (status, said) = refused(url, arguments).await?;
        assert_eq!(status, Some(code), "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?} does not say {text}: {said}");
        }
        assert!(!said.contains("hunter2") && !said.contains("right"), "{said}");
    }
    assert_eq!(left(&client).await?, ["publication mine"], "no failure leaves anything");

    let postgres = Cluster::start_with(&[("wal_level", "replica")]).await?;
    let (status, said) = refused(&postgres.url("postgres"), &[]).await?;
    assert_eq!((status, said.contains("(wal_level)")), (Some(70), true), "{said}");
    assert_eq!(left(&postgres.client("postgres").await?).await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_ends_when_nobody_reads_any_more() -> Result<()> {
    let (postgres, client) = database(TABLE).await?;
    let (reader, writer) = std::io::pipe()?;
    let mut tail = Tail::spawn(&postgres.url("postgres"), &[], Some(writer.into()))?;
    tail.reading().await?;
    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    assert_eq!(brief(&[serde_json::from_str(&line)?]), ["insert public.t 1"]);
    // The reader is gone, and nothing more happens in the database.
    let status = tail.wait(SOON).await?;
    assert!(status.success(), "{status}: {}", tail.stderr()?);
    assert_eq!(left(&client).await?, [""; 0]);
    Ok(())
}

/// A slot that stays is read on without repeats; what a temporary one misses is said.
#[tokio::test(flavor = "multi_thread")]
async fn tail_survives_a_broken_stream_with_a_slot_and_says_so_without() -> Result<()> {
    let (postgres, client) = mine(TABLE).await?;
    let proxy = Proxy::start(postgres.port()).await?;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let mut tail = Tail::start(&url, &["--slot", "mine", "--publication", "mine"]).await?;
    let mut rows = 0;
    // A keepalive may shield the data behind it.
    let mut harmed = async |harms: usize| {
        proxy.harm(Harm::Truncate);
        until("the stream to break", SOON, async || {
            let (from, to) = (rows + 1, rows + 500);
            client
                .batch_execute(&format!("INSERT INTO t SELECT generate_series({from}, {to})"))
                .await?;
            rows = to;
            Ok(if proxy.harms_done() == harms { Ok(rows) } else { Err(rows.to_string()) })
        })
        .await
    };
    let rows = harmed(1).await?;
    let expected: Vec<_> = (1..=rows).map(|id| format!("insert public.t {id}")).collect();
    assert_eq!(brief(&tail.until_messages(rows, SOON).await?), expected);
    end(&mut tail).await?;

    let mut tail = Tail::start(&url, &["--publication", "mine"]).await?;
    harmed(2).await?;
    let status = tail.wait(SOON).await?;
    let said = tail.stderr()?;
    assert_eq!((status.code(), said.contains("(stream_broken)")), (Some(70), true), "{said}");
    Ok(())
}
