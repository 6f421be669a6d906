//! Plugins that misbehave, in the running engine: each fails alone.

use anyhow::Result;
use serde_json::Value;

use tests::{Sequin, until};

use crate::world::{LATER, SOON, World, engine, hook, plugin, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text)";

/// One row of 100 triggers the plugin: the others are delivered, the one is put aside with the
/// reason, the neighbour sink without the plugin gets everything, and the slot moves on.
async fn fails_alone(kind: &str, reason: &str) -> Result<Value> {
    let postgres = tests::Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = tests::Receiver::start().await?;
    let function = format!(
        "functions:
  - {{name: hostile, type: transform, file: '{}', config: {{column: name, when: {kind}}}}}
",
        plugin(kind)
    );
    let sinks = format!(
        "{function}{}    transform: hostile
  - {{name: neighbour, database: source, batch_size: 10,
     destination: {{type: webhook, http_endpoint: receiver}}}}
",
        hook("hook", "", "    batch_size: 10\n")
    );
    let sequin = engine(&yaml(postgres.port(), &receiver.url(), &sinks)).start().await?;
    streaming(&sequin).await?;
    let sql = format!(
        "INSERT INTO t SELECT n, CASE n WHEN 41 THEN '{kind}' ELSE 'fine' END
         FROM generate_series(1, 100) n"
    );
    client.batch_execute(&sql).await?;
    let messages = receiver.until_messages(199, LATER).await?;
    let guilty = |message: &&Value| message["record"]["id"] == 41;
    let names: Vec<_> =
        messages.iter().filter(guilty).map(|m| m["metadata"]["consumer"]["name"].clone()).collect();
    assert_eq!(names, ["neighbour"], "the guilty row passes where no plugin stops it");
    until("the letter", SOON, async || {
        let buried = sequin.metric("sequin_messages_buried_count", &[]).await?;
        Ok(if buried == 1.0 { Ok(()) } else { Err(format!("{buried} letters")) })
    })
    .await?;
    let output = sequin.command(&["letters", "--sink", "hook"]).await?;
    let text = String::from_utf8(output.stdout)?;
    let letters: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(letters.len(), 1, "{text}");
    assert_eq!(letters[0]["reason"], reason, "{text}");
    assert_eq!(letters[0]["input"]["record"]["id"], 41, "{text}");
    assert!(letters[0]["plugin"].as_str().unwrap().starts_with("sha256:"), "{text}");
    // The engine is as well as before.
    client.batch_execute("INSERT INTO t VALUES (200, 'fine')").await?;
    receiver.until_messages(201, SOON).await?;
    Ok(letters[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn b265_a_plugin_that_spins_fails_alone() -> Result<()> {
    fails_alone("spin", "plugin_deadline").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b266_a_plugin_that_allocates_without_end_fails_alone() -> Result<()> {
    fails_alone("grow", "plugin_memory").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b267_a_plugin_that_traps_on_one_row_fails_alone_with_its_stack() -> Result<()> {
    let letter = fails_alone("trap", "plugin_trap").await?;
    let error = letter["error"].as_str().unwrap();
    assert!(error.contains("wasm") && error.contains("trap"), "message and stack: {error}");
    Ok(())
}

/// A plugin that asks for more than it is granted is refused before anything starts.
#[tokio::test(flavor = "multi_thread")]
async fn b269_a_plugin_that_wants_more_is_refused_at_the_start() -> Result<()> {
    let functions = format!(
        "functions:
  - {{name: hostile, type: filter, file: '{}'}}
{}    filter: hostile
",
        plugin("wants-clock"),
        hook("hook", "", "")
    );
    let config = yaml(1, "http://127.0.0.1:1", &functions);
    let checked = engine(&config).command(&["config", "validate", "{config}"]).await?;
    let output = String::from_utf8(checked.stderr)?;
    assert_eq!(checked.status.code(), Some(64), "{output}");
    assert!(output.contains("hostile") && output.contains("clock"), "{output}");
    // Where it runs all the same, its sink does not start.
    let sequin = engine(&config).start().await?;
    until("the sink to stand", SOON, async || {
        let up = sequin.metric("sequin_sink_up", &[]).await?;
        Ok(if up == 0.0 { Ok(()) } else { Err(up.to_string()) })
    })
    .await?;
    assert!(sequin.log().contains("clock"), "{}", sequin.log());
    Ok(())
}

/// Messages as a webhook got them, run over by hand: what becomes of each is told, and nothing is
/// sent anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn b278_a_dry_run_tells_what_would_become_of_captured_messages() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let sql =
        "INSERT INTO t SELECT n, (ARRAY['keep', 'drop', 'evict', 'many', 'boom', 'set-text'])[n]
               FROM generate_series(1, 6) n";
    let mut captured = world.messages_after(sql, 6).await?;
    captured.sort_by_key(|message| message["record"]["id"].as_u64());
    world.settled().await?;
    let input: String = captured.iter().map(|message| format!("{message}\n")).collect();
    let config = r#"{"column": "name", "when": "boom"}"#;
    let file = plugin("every-verdict");
    let arguments = ["plugin", "run", &file, "--role", "transform", "--config", config];
    let output = Sequin::builder().command_over(&arguments, &input).await?;
    let said = String::from_utf8(output.stderr)?;
    let told = String::from_utf8(output.stdout)?;
    let told: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let outcomes: Vec<_> = told.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["keep", "drop", "evict", "many", "error", "keep"], "{said}");
    assert_eq!(told[3]["documents"][1]["json"]["second"], 2, "{}", told[3]);
    assert_eq!(told[4]["reason"], "plugin_trap", "{}", told[4]);
    assert!(told[4]["error"].as_str().unwrap().contains("the row says so"), "{}", told[4]);
    assert_eq!(told[5]["record"]["set"], "set-text", "{}", told[5]);
    assert_eq!(output.status.code(), Some(1), "a row failed: {said}");
    assert!(said.contains("3 kept, 1 dropped, 1 evicted, 1 failed"), "{said}");
    assert_eq!(world.receiver.messages().len(), 6, "nothing was sent");
    assert_eq!(world.sequin.metric("sequin_messages_buried_count", &[]).await?, 0.0);
    Ok(())
}

/// What a filter drops is not delivered, and settles.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_decides_what_a_log_sink_hears_of() -> Result<()> {
    let function = format!(
        "    filter: public
functions:
  - {{name: public, type: filter, file: '{}', config: {{column: is_public}}}}
",
        plugin("public-rows")
    );
    let schema = "CREATE TABLE t (id bigint PRIMARY KEY, is_public boolean)";
    let world = World::start(schema, &function).await?;
    let sql = "INSERT INTO t SELECT n, n % 2 = 0 FROM generate_series(1, 10) n; DELETE FROM t";
    let messages = world.messages_after(sql, 15).await?;
    world.settled().await?;
    let inserts = messages.iter().filter(|message| message["action"] == "insert");
    assert!(inserts.clone().all(|message| message["record"]["is_public"] == true));
    assert_eq!(inserts.count(), 5);
    assert_eq!(world.receiver.messages().len(), 15, "deletes always pass");
    Ok(())
}

/// What was compiled is kept in the data directory, for the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_compiles_no_plugin_again() -> Result<()> {
    let postgres = tests::Cluster::start().await?;
    postgres.client("postgres").await?.batch_execute(TABLE).await?;
    let function = format!(
        "    filter: public
functions:
  - {{name: public, type: filter, file: '{}', config: {{column: is_public}}}}
",
        plugin("public-rows")
    );
    let config = yaml(postgres.port(), "http://127.0.0.1:1", &hook("hook", "", &function));
    let mut sequin = engine(&config).env("LOG_LEVEL", "info,plugin=debug").start().await?;
    let count = |sequin: &Sequin, text: &str| sequin.log().matches(text).count();
    assert_eq!(count(&sequin, "a component was compiled"), 1, "{}", sequin.log());
    sequin.restart().await?;
    assert_eq!(count(&sequin, "a component was compiled before"), 1, "{}", sequin.log());
    assert_eq!(
        count(&sequin, "a component was compiled"),
        2,
        "that, and the one of the first start"
    );
    // Without a place for it the engine runs all the same.
    let compiled = sequin.data_dir().join("compiled-plugins");
    std::fs::remove_dir_all(&compiled)?;
    std::fs::write(&compiled, "")?;
    sequin.restart().await?;
    assert_eq!(count(&sequin, "plugins are compiled at each start"), 1, "{}", sequin.log());
    Ok(())
}

/// What a function does is counted where its operator asks for it, in classes; and it has the limits that
/// its owner gives it.
#[tokio::test(flavor = "multi_thread")]
async fn b265_fuel_is_counted_where_it_is_asked_for_and_a_function_has_limits_of_its_own()
-> Result<()> {
    let postgres = tests::Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let receiver = tests::Receiver::start().await?;
    let functions = format!(
        "functions:
  - {{name: spins, type: transform, file: '{}', config: {{column: name, when: spin}}, limits: {{row_cpu_ms: 30, batch_cpu_ms: 40}}}}
{}    transform: spins
",
        plugin("spin"),
        hook("hook", "", "")
    );
    let config = yaml(postgres.port(), &receiver.url(), &functions);
    let mut sequin = engine(&config).env("SEQUIN_PLUGIN_FUEL", "true").start().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t SELECT n, 'fine' FROM generate_series(1, 500) n").await?;
    receiver.until_messages(500, LATER).await?;
    let metrics = sequin.metrics().await?;
    let fuel = |metrics: &str, what: &str| -> Option<f64> {
        let name = format!("sequin_plugin_call_fuel_{what}{{");
        metrics.lines().find(|line| line.starts_with(&name))?.rsplit(' ').next()?.parse().ok()
    };
    let (sum, count) = (fuel(&metrics, "sum").unwrap(), fuel(&metrics, "count").unwrap());
    assert!(
        count >= 1.0 && sum / 500.0 > 50.0 && sum / 500.0 < 100_000.0,
        "{sum} in {count} calls"
    );
    assert!(metrics.contains("sequin_plugin_call_fuel_bucket"), "{metrics}");
    client.batch_execute("INSERT INTO t VALUES (501, 'spin')").await?;
    let letter = until("the letter", LATER, async || {
        let letters = sequin.command(&["letters"]).await?;
        let letters = String::from_utf8(letters.stdout)?;
        Ok(if letters.is_empty() { Err(letters) } else { Ok(letters) })
    })
    .await?;
    assert!(letter.contains("40 ms of CPU time"), "{letter}");
    // Compiled without it is another component to the cache.
    sequin.set_env("SEQUIN_PLUGIN_FUEL", "false");
    sequin.restart().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (502, 'fine')").await?;
    receiver.until_messages(501, LATER).await?;
    assert_eq!(fuel(&sequin.metrics().await?, "sum"), None);
    Ok(())
}
