//! Whole tables beside the stream: the real engine, the command line and the API, and what a sink has
//! in the end.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Receiver, Sequin, http, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, World, engine, hook, settled, streaming, yaml};

/// Negative keys, zero, and the ends of the type among them.
pub(crate) const TABLE: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, value bigint NOT NULL);
    INSERT INTO t SELECT n, n FROM generate_series(-5000, 5000) n;
    INSERT INTO t VALUES (-9223372036854775808, 1), (9223372036854775807, 2)";

/// Options of a sink whose backfills go slowly enough to be watched.
const SLOWLY: &str = "    initial_backfill: true
    batch_size: 100
    backfill: {max_rows_per_second: 4000}
";

/// Of the first version that is found, and a newer one.
pub(crate) const MAJORS: [Option<u32>; 2] = [None, Some(18)];

pub(crate) async fn cluster(major: Option<u32>) -> Result<Cluster> {
    match major {
        Some(major) => Cluster::start_major(major).await,
        None => Cluster::start().await,
    }
}

/// An answer of the engine's API.
pub(crate) async fn ask(
    sequin: &Sequin,
    method: &str,
    path: &str,
    body: Value,
) -> Result<(u16, Value)> {
    let request = http::client()?.request(method.parse()?, format!("{}{path}", sequin.url()));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await?;
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    Ok((status, serde_json::from_str(&text).with_context(|| text.clone())?))
}

/// The backfills of a sink, the newest first.
pub(crate) async fn backfills(sequin: &Sequin, sink: &str) -> Result<Vec<Value>> {
    let path = format!("/api/sinks/{sink}/backfills");
    let (status, list) = ask(sequin, "GET", &path, json!(null)).await?;
    ensure!(status == 200, "{status} {list}");
    Ok(list["data"].as_array().cloned().unwrap_or_default())
}

/// Waits until a sink has so many backfills, all of them complete.
pub(crate) async fn complete(sequin: &Sequin, sink: &str, count: usize) -> Result<Vec<Value>> {
    let done = until("the backfills to be complete", LATER, async || {
        let all = backfills(sequin, sink).await?;
        let is_complete = |one: &Value| one["state"] == "completed";
        Ok(if all.len() == count && all.iter().all(is_complete) {
            Ok(all)
        } else {
            Err(format!("{all:?}"))
        })
    });
    done.await.with_context(|| format!("the engine said:\n{}", sequin.log()))
}

/// The rows of `id` and `value` that one has who takes in these messages in their order, without a
/// look at what they say before. Numbers that JSON's own cannot hold are compared as texts.
pub(crate) fn applied<'a>(messages: impl IntoIterator<Item = &'a Value>) -> BTreeMap<i64, i64> {
    let mut rows = BTreeMap::new();
    for message in messages {
        let record = &message["record"];
        let id = record["id"].as_i64().unwrap();
        // A row that moved.
        if let Some(old) = message["changes"]["id"].as_i64() {
            rows.remove(&old);
        }
        if message["action"] == "delete" {
            rows.remove(&id);
        } else {
            rows.insert(id, record["value"].as_i64().unwrap());
        }
    }
    rows
}

/// The rows as the source has them.
pub(crate) async fn rows(client: &Client, table: &str) -> Result<BTreeMap<i64, i64>> {
    let rows = client.query(&format!("SELECT id, value FROM {table}"), &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Where both differ, in a few words.
pub(crate) fn differences(
    have: &BTreeMap<i64, i64>,
    wanted: &BTreeMap<i64, i64>,
) -> Result<(), String> {
    let missing = wanted.iter().filter(|(id, value)| have.get(id) != Some(value));
    let beside = have.keys().filter(|id| !wanted.contains_key(id));
    let (missing, beside): (Vec<_>, Vec<_>) = (missing.collect(), beside.collect());
    if missing.is_empty() && beside.is_empty() {
        return Ok(());
    }
    let some = |all: &[_]| format!("{} {:?}", all.len(), &all[..all.len().min(5)]);
    let others = format!("{} {:?}", beside.len(), &beside[..beside.len().min(5)]);
    Err(format!("missing or old: {}; not there: {others}", some(&missing)))
}

pub(crate) fn reads(messages: &[Value]) -> Vec<&Value> {
    messages.iter().filter(|message| message["action"] == "read").collect()
}

/// Statements that change rows everywhere in the table, and end with what is counted: of each kind.
pub(crate) fn churn(round: i64) -> String {
    let new = 10_000 + round;
    let moved = 20_000 + round;
    let at = |step: i64| (round * 7_919 + step * 3_301).rem_euclid(10_001) - 5_000;
    format!(
        "INSERT INTO t VALUES ({new}, {round});
         UPDATE t SET value = value + 100000 WHERE id = {};
         DELETE FROM t WHERE id = {};
         UPDATE t SET id = {moved} WHERE id = {};
         BEGIN; UPDATE t SET value = 0 WHERE id BETWEEN {} AND {} + 20; ROLLBACK;
         BEGIN; UPDATE t SET value = -value WHERE id BETWEEN {} AND {} + 20; COMMIT;",
        at(1),
        at(2),
        at(3),
        at(4),
        at(4),
        at(5),
        at(5)
    )
}

impl World {
    pub(crate) async fn start_on(postgres: Cluster, schema: &str, sink: &str) -> Result<Self> {
        let client = postgres.client("postgres").await?;
        client.batch_execute(schema).await.context("create the schema")?;
        let receiver = Receiver::start().await?;
        let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "", sink));
        let sequin = engine(&config).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, receiver, client, postgres })
    }

    /// Waits until the sink has what the table has, and tells the messages.
    pub(crate) async fn same_rows(&self) -> Result<Vec<Value>> {
        self.settled().await?;
        let wanted = rows(&self.client, "t").await?;
        let messages = self.receiver.messages();
        if let Err(different) = differences(&applied(&messages), &wanted) {
            bail!("{different}; the engine said:\n{}", self.sequin.log());
        }
        Ok(messages)
    }

    async fn command(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.sequin.command(arguments).await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(text)?))
    }

    async fn start_backfill(&self, body: Value) -> Result<(u16, Value)> {
        ask(&self.sequin, "POST", "/api/sinks/hook/backfills", body).await
    }

    /// Waits until a backfill has delivered more than so many rows.
    async fn delivered_beyond(&self, count: u64) -> Result<Value> {
        until("rows to be delivered", LATER, async || {
            let all = backfills(&self.sequin, "hook").await?;
            let one = all.first().context("there is none")?;
            let enough = one["rows_ingested_count"].as_u64().unwrap_or(0) > count;
            Ok(if enough { Ok(one.clone()) } else { Err(one.to_string()) })
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b156_b157_b159_b160_b161_a_new_sink_has_the_table_in_the_end_whatever_changes_meanwhile()
-> Result<()> {
    for major in MAJORS {
        let world = World::start_on(cluster(major).await?, TABLE, SLOWLY).await?;
        let mut round = 0;
        until("the backfill to be complete", LATER, async || {
            world.client.batch_execute(&churn(round)).await?;
            round += 1;
            let all = backfills(&world.sequin, "hook").await?;
            let state = all.first().map(|one| one["state"].clone());
            Ok(if state == Some(json!("completed")) { Ok(()) } else { Err(format!("{all:?}")) })
        })
        .await?;
        let messages = world.same_rows().await?;
        let reads = reads(&messages);
        assert!(round > 20 && reads.len() > 9_000, "{round} rounds, {} reads", reads.len());
        for id in [i64::MIN, -1, 0, i64::MAX] {
            assert!(messages.iter().any(|message| message["record"]["id"] == id), "{id}");
        }
        let (_, told) = world.command(&["backfills", "list", "hook"]).await?;
        let told: Value = serde_json::from_str(&told)?;
        assert_eq!(told["state"], "completed", "{told}");
        assert_eq!(told["rows_ingested_count"], reads.len(), "{told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b169_b170_b182_b183_killed_again_and_again_a_backfill_goes_on_from_its_page() -> Result<()>
{
    for major in MAJORS {
        let mut world = World::start_on(cluster(major).await?, TABLE, SLOWLY).await?;
        let (mut delivered, mut window) = (0, 0);
        for life in 1..=4 {
            world.client.batch_execute(&churn(life)).await?;
            let shown = world.delivered_beyond(delivered + 1_000).await?;
            world.client.batch_execute(&churn(life + 100)).await?;
            world.sequin.kill9().await?;
            delivered = shown["rows_ingested_count"].as_u64().unwrap();
            world.client.batch_execute(&churn(life + 200)).await?;
            world.sequin.restart().await?;
            streaming(&world.sequin).await?;
            let shown = backfills(&world.sequin, "hook").await?[0].clone();
            let after = shown["rows_ingested_count"].as_u64().unwrap();
            assert!(after >= delivered, "what was shown is kept: {after} of {delivered}");
            // A page that was handed over, of as many rows as there may be in one.
            window += 2_000;
        }
        complete(&world.sequin, "hook", 1).await?;
        let messages = world.same_rows().await?;
        let mut times: HashMap<i64, usize> = HashMap::new();
        for read in reads(&messages) {
            *times.entry(read["record"]["id"].as_i64().unwrap()).or_default() += 1;
        }
        let again: usize = times.values().map(|times| times - 1).sum();
        assert!(again < window, "{again} of {} rows were read again", times.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b173_b175_started_paused_resumed_and_cancelled_from_outside() -> Result<()> {
    let world = World::start_on(cluster(None).await?, TABLE, "    batch_size: 100\n").await?;
    let started = ["backfills", "start", "hook", "public.t", "--max-rows-per-second", "2000"];
    let (code, told) = world.command(&started).await?;
    assert_eq!(code, Some(0), "{told}");
    let shown: Value = serde_json::from_str(&told)?;
    let id = shown["id"].as_str().context("its id")?.to_owned();
    // The estimate is of the server's statistics, which there are none of: nothing is counted.
    assert_eq!((&shown["state"], &shown["table"]), (&json!("active"), &json!("public.t")));
    let (status, told) = world.start_backfill(json!({"table": "public.t"})).await?;
    assert!(status == 422 && told.to_string().contains("backfill_exists"), "{status} {told}");

    world.delivered_beyond(1_000).await?;
    let (code, told) = world.command(&["backfills", "pause", "hook", &id]).await?;
    assert_eq!(code, Some(0), "{told}");
    // Within a page: what was read is delivered, and nothing more.
    let mut last = u64::MAX;
    let held = until("the backfill to rest", SOON, async || {
        settled(&world.client).await?;
        let one = backfills(&world.sequin, "hook").await?[0].clone();
        let now = one["rows_ingested_count"].as_u64().unwrap();
        let rests = std::mem::replace(&mut last, now) == now
            && now == reads(&world.receiver.messages()).len() as u64;
        Ok(if rests { Ok(now) } else { Err(one.to_string()) })
    })
    .await?;
    assert!(held < 10_003, "{held}");
    // It outlives the process, and so does that it is paused.
    let mut world = world;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    let path = format!("/api/sinks/hook/backfills/{id}");
    let (_, one) = ask(&world.sequin, "GET", &path, json!(null)).await?;
    assert_eq!((&one["state"], &one["rows_ingested_count"]), (&json!("paused"), &json!(held)));
    let (status, told) = ask(&world.sequin, "PATCH", &path, json!({"state": "completed"})).await?;
    assert!(status == 422 && told.to_string().contains("backfill_state"), "{status} {told}");
    let (status, told) = ask(&world.sequin, "PATCH", &path, json!({"state": "nonsense"})).await?;
    assert_eq!(status, 422, "{told}");

    let (code, told) = world.command(&["backfills", "resume", "hook", &id]).await?;
    assert_eq!(code, Some(0), "{told}");
    world.delivered_beyond(held + 1_000).await?;
    let (status, told) = ask(&world.sequin, "PATCH", &path, json!({"state": "cancelled"})).await?;
    assert!(status == 200 && told["canceled_at"].is_string(), "{status} {told}");
    let (code, told) = world.command(&["backfills", "resume", "hook", &id]).await?;
    assert!(code == Some(64) && told.contains("backfill_state"), "{code:?} {told}");

    // A new one begins at the beginning, and each row came in order of its key meanwhile.
    let before = reads(&world.receiver.messages()).len();
    assert!(before < 10_003, "{before}");
    let (status, told) = world.start_backfill(json!({"table": "t"})).await?;
    assert_eq!(status, 201, "{told}");
    until("the second to be complete", LATER, async || {
        let all = backfills(&world.sequin, "hook").await?;
        Ok(if all[0]["state"] == "completed" { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    let messages = world.same_rows().await?;
    let ids: Vec<i64> =
        reads(&messages).iter().map(|read| read["record"]["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), before + 10_003);
    let mut once = ids[..before].to_vec();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), before, "pausing, a restart in order and resuming repeated nothing");
    Ok(())
}
