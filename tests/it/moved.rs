//! Sinks, functions and databases that get another name (`moved`) and keep what is kept of them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::process::Signal;
use tests::{Cluster, Receiver, Sequin, http, until};
use tokio_postgres::Client;

use crate::apply::Applying;
use crate::world::{LATER, engine, plugin, settled, streaming, yaml};

/// Rows that are written again and again.
const ROWS: i64 = 3;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, is_public bool, name text)";

/// A sink that sends to `/moves`, whatever its name, through a filter, and one that stays as it is.
fn filtered(name: &str, function: &str) -> String {
    let filter = plugin("public-rows");
    let config = "{table: public.t, column: is_public}";
    let uses = sinks(name, &format!("    filter: {function}\n"));
    format!(
        "functions:
  - {{name: {function}, type: filter, file: '{filter}', config: {config}}}
{uses}"
    )
}

/// The same without a filter.
fn sinks(name: &str, rest: &str) -> String {
    let sink = |name: &str, path: &str, rest: &str| {
        format!(
            "  - name: {name}
    database: source
    retry_backoff: {{first_ms: 100, cap_ms: 1000}}
    batch_size: 1
    initial_backfill: true
    destination: {{type: webhook, http_endpoint: receiver, http_endpoint_path: {path}}}
{rest}"
        )
    };
    let moves = sink(name, "/moves", &format!("{rest}    max_retry_count: 2\n"));
    format!("sinks:\n{moves}{}", sink("stays", "/stays", ""))
}

/// What arrived at a path: the row and the number of its version.
fn versions(receiver: &Receiver, path: &str) -> Vec<(i64, i64)> {
    let requests = receiver.accepted().into_iter().filter(|request| request.path == path);
    let messages = requests.flat_map(|request| request.messages());
    let version = |message: Value| {
        let record = &message["record"];
        Some((record["id"].as_i64()?, record["name"].as_str()?.parse().ok()?))
    };
    messages.filter_map(version).collect()
}

/// Waits until these numbers have arrived, each once, and those of a row in their order.
async fn arrived(
    sequin: &Sequin,
    receiver: &Receiver,
    path: &str,
    wanted: impl IntoIterator<Item = i64>,
) -> Result<()> {
    let wanted: Vec<i64> = wanted.into_iter().collect();
    let arrived = until(path, LATER, async || {
        let versions = versions(receiver, path);
        let is_all = versions.len() >= wanted.len();
        Ok(if is_all { Ok(()) } else { Err(format!("{versions:?}")) })
    });
    arrived.await.with_context(|| format!("the engine said:\n{}", sequin.log()))?;
    let versions = versions(receiver, path);
    let mut numbers: Vec<i64> = versions.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, wanted, "{path}: each once\n{}", sequin.log());
    for row in 0..ROWS {
        let of_row: Vec<i64> =
            versions.iter().filter(|(id, _)| *id == row).map(|(_, number)| *number).collect();
        assert!(of_row.is_sorted(), "{path}: row {row} in order: {of_row:?}");
    }
    Ok(())
}

/// Versions of a few rows, one transaction each.
async fn write(client: &Client, numbers: std::ops::RangeInclusive<i64>) -> Result<()> {
    for number in numbers {
        let row = number % ROWS;
        let sql = format!(
            "INSERT INTO t VALUES ({row}, true, '{number}')
             ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        );
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Waits until both sinks were begun with their table, which is empty.
async fn begun(sequin: &Sequin) -> Result<()> {
    let begun = until("the backfills", LATER, async || {
        let log = sequin.log();
        let complete = log.matches("the backfill is complete").count();
        Ok(if complete == 2 { Ok(()) } else { Err(format!("{complete}")) })
    });
    begun.await.with_context(|| sequin.log())
}

/// A row of the sink that moves is refused for good; with `away` all of them are, for now.
fn refuse(receiver: &Receiver, away: bool) {
    receiver.set_predicate(move |body| {
        let body = body.to_string();
        let is_other = body.contains("\"name\":\"stays\"");
        let is_bad = body.contains("\"bad\"").then_some(422);
        if is_other { None } else { is_bad.or(away.then_some(503)) }
    });
}

async fn letters(sequin: &Sequin, sink: &str) -> Result<Vec<Value>> {
    let url = format!("{}/api/sinks/{sink}/letters", sequin.url());
    let text = http::client()?.get(url).send().await?.text().await?;
    let list: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(list["data"].as_array().cloned().unwrap_or_default())
}

fn fields(change: &Value) -> Vec<&str> {
    change["fields"].as_array().unwrap().iter().filter_map(|it| it["path"].as_str()).collect()
}

/// A sink with a backlog in the change log and a letter, and its function.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_sink_keeps_what_it_owes_its_letters_and_its_generations() -> Result<()> {
    let mut it = Applying::start().await?;
    it.apply(&it.file(&filtered("old", "f"))?).await?;
    streaming(&it.sequin).await?;
    begun(&it.sequin).await?;
    refuse(&it.receiver, false);
    it.client.batch_execute("INSERT INTO t VALUES (100, true, 'bad')").await?;
    write(&it.client, 1..=3).await?;
    arrived(&it.sequin, &it.receiver, "/moves", 1..=3).await?;
    until("the letter", LATER, async || {
        let letters = letters(&it.sequin, "old").await?;
        Ok(if letters.len() == 1 { Ok(()) } else { Err(format!("{letters:?}")) })
    })
    .await?;
    refuse(&it.receiver, true);
    write(&it.client, 4..=60).await?;
    // All that it owes stands in the change log by then, under its old name.
    settled(&it.client).await?;

    let moved = "moved:
  - {from: sinks.older, to: sinks.old}
  - {from: sinks.old, to: sinks.new}
  - {from: functions.f, to: functions.g}
";
    let file = it.file(&format!("{}{moved}", filtered("new", "g")))?;
    let plan = it.json(&["config", "plan", &file, "--prune", "--json"]).await?;
    let changes = plan["changes"].as_array().context("changes")?;
    let told: Vec<_> = changes.iter().map(|it| (&it["action"], &it["name"], fields(it))).collect();
    let (update, function, sink) = (json!("update"), json!("g"), json!("new"));
    let expected = [(&update, &function, vec!["name"]), (&update, &sink, vec!["name", "filter"])];
    assert_eq!(told, expected, "{plan}");
    assert_eq!(changes[1]["fields"][0]["old"], "old", "{plan}");
    assert!(!plan["actions"].to_string().contains("as a whole"), "{plan}");

    it.told(&["config", "apply", &file, "--prune", "--auto-approve"]).await?;
    it.sequin.kill9().await?;
    it.sequin.restart().await?;
    streaming(&it.sequin).await?;
    assert_eq!(it.sinks().await?, ["new", "stays"]);
    refuse(&it.receiver, false);
    write(&it.client, 61..=65).await?;
    arrived(&it.sequin, &it.receiver, "/moves", 1..=65).await?;
    arrived(&it.sequin, &it.receiver, "/stays", 1..=65).await?;
    begun(&it.sequin).await.context("no table is read again")?;

    let plan = it.json(&["config", "plan", &file, "--prune", "--json"]).await?;
    assert_eq!(plan["changes"], json!([]));
    assert_eq!(it.apply(&file).await?["applied"], false);
    let exported = it.export().await?;
    assert!(!exported.contains("moved") && !exported.contains("old"), "{exported}");
    let history = it.told(&["plugin", "history", "new"]).await?;
    assert!(history.contains("sha256:"), "{history}");
    let moved_letters = letters(&it.sequin, "new").await?;
    assert_eq!(moved_letters.len(), 1);
    it.receiver.clear_predicate();
    it.told(&["letters", "replay", "--sink", "new"]).await?;
    until("the letter's row", LATER, async || {
        let is_there = it
            .receiver
            .messages()
            .iter()
            .any(|it| it["record"]["id"] == 100 && it["metadata"]["consumer"]["name"] == "new");
        Ok(if is_there { Ok(()) } else { Err(it.sequin.log()) })
    })
    .await?;

    // Its old name is free; another one that has it stands in the way of the entry.
    let other = filtered("old", "g").replace("/moves", "/other");
    it.apply(&it.file(&other)?).await?;
    let file = it.file(&format!("{}{moved}", filtered("new", "g")))?;
    let told = it.refused(&["config", "apply", &file, "--auto-approve"]).await?;
    assert!(told.contains("moved_both"), "{told}");
    write(&it.client, 66..=66).await?;
    arrived(&it.sequin, &it.receiver, "/moves", 1..=66).await
}

/// The engine's own file: while it runs, and while it does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_own_file_renames_on_sighup_and_at_a_start() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = Receiver::start().await?;
    let config = |moved: &str, name: &str, database: &str| {
        let all = yaml(postgres.port(), &receiver.url(), &sinks(name, ""));
        let all = all.replace("name: source", &format!("name: {database}"));
        format!("{}{moved}", all.replace("database: source", &format!("database: {database}")))
    };
    let mut sequin = engine(&config("", "a", "source")).start().await?;
    streaming(&sequin).await?;
    begun(&sequin).await?;
    refuse(&receiver, true);
    write(&client, 1..=20).await?;
    settled(&client).await?;

    let mut moved = "moved:\n  - {from: sinks.a, to: sinks.b}\n".to_owned();
    sequin.write_config(&config(&moved, "b", "source"))?;
    sequin.signal(Signal::HUP)?;
    let renamed = async |sequin: &Sequin, what: &str, times: usize| {
        until("the new name", LATER, async || {
            let log = sequin.log();
            let is_done =
                log.contains(what) && log.matches("the other configuration runs").count() == times;
            Ok(if is_done { Ok(()) } else { Err(log) })
        })
        .await
    };
    renamed(&sequin, "sink `a` to `b`", 1).await?;
    streaming(&sequin).await?;
    write(&client, 21..=25).await?;
    settled(&client).await?;

    // The entry of before stays; the database gets another name, too, and the slot is the same one.
    moved += "  - {from: sinks.b, to: sinks.c}\n  - {from: databases.source, to: databases.shop}\n";
    sequin.kill9().await?;
    sequin.write_config(&config(&moved, "c", "shop"))?;
    sequin.restart().await?;
    streaming(&sequin).await?;
    write(&client, 26..=30).await?;
    receiver.clear_predicate();
    arrived(&sequin, &receiver, "/moves", 1..=30).await?;
    arrived(&sequin, &receiver, "/stays", 1..=30).await?;

    // Once more with all of it there, and with the database back under its name while it runs.
    sequin.restart().await?;
    streaming(&sequin).await?;
    let back = "moved:\n  - {from: databases.shop, to: databases.source}\n";
    sequin.write_config(&config(back, "c", "source"))?;
    sequin.signal(Signal::HUP)?;
    renamed(&sequin, "database `shop` to `source`", 2).await?;
    write(&client, 31..=35).await?;
    arrived(&sequin, &receiver, "/moves", 1..=35).await?;
    arrived(&sequin, &receiver, "/stays", 1..=35).await?;
    begun(&sequin).await.context("no table is read again")?;
    let slots = client.query("SELECT slot_name FROM pg_replication_slots", &[]).await?;
    assert_eq!(slots.len(), 1);
    Ok(())
}
