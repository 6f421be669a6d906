//! `sequin.yaml` as a whole, by the real binary: what is refused before anything starts, what is told
//! while it runs, and `sequin config`.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::postgres::Cluster;
use tests::{Receiver, Sequin, until};

use crate::world::{LATER, SOON, World, engine, hook, plugin, streaming, yaml};

/// Line and column of a text in another, both from 1.
fn position(config: &str, text: &str) -> String {
    let (line, content) =
        config.lines().enumerate().find(|(_, content)| content.contains(text)).unwrap();
    format!("{}:{}", line + 1, content.find(text).unwrap() + 1)
}

async fn count(client: &tokio_postgres::Client, table: &str) -> Result<i64> {
    Ok(client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn b240_one_invalid_entry_among_many_starts_nothing() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    let receiver = Receiver::start().await?;
    let second = "  - name: second
    database: source
    batch_size: 1001
    destination: {type: webhook, http_endpoint: receiver}\n";
    let config = yaml(postgres.port(), &receiver.url(), &(hook("first", "", "") + second));
    let (status, output) = engine(&config).start_expecting_failure().await?;
    assert_eq!(status.code(), Some(64), "{output}");
    assert!(output.contains("sink `second`: `batch_size` must be between 1 and 1000"), "{output}");
    assert!(output.contains(&format!("sequin.yaml:{}", position(&config, "1001"))), "{output}");
    assert_eq!(count(&client, "pg_replication_slots").await?, 0);
    assert_eq!(count(&client, "pg_publication").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b241_b242_b243_b244_b246_b248_mistakes_are_told_with_their_position() -> Result<()> {
    let two = hook("hook", "", "") + "  - {name: hook, database: source}\n";
    let sink = |options: &str| yaml(1, "http://127.0.0.1:1", &hook("hook", "", options));
    let cases = [
        ("databases:\n  - name: a\n   port: [\n".to_owned(), "port", "error"),
        (
            yaml(1, "http://127.0.0.1:1", &two),
            "hook, database",
            "sink `hook`: the name is used twice",
        ),
        (sink("    batch_sise: 10\n"), "batch_sise", "did you mean `batch_size`?"),
        (sink("    filter: ${NOWHERE_SET}\n"), "${NOWHERE", "variable `NOWHERE_SET` is not set"),
        (
            sink("    table: a\n    source: {include_tables: [a]}\n"),
            "a",
            "`table` and `source` cannot be given together",
        ),
        (
            sink("    source: {include_tables: [a], exclude_tables: [zz]}\n"),
            "[zz]",
            "`include_tables` and `exclude_tables` exclude each other",
        ),
    ];
    for (config, place, message) in cases {
        for arguments in [["config", "validate", "-"], ["config", "validate", "{config}"]] {
            let output = match arguments.last() {
                Some(&"-") => engine(&config).command_over(&arguments, &config).await?,
                _ => engine(&config).command(&arguments).await?,
            };
            let text = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(64), "{text}");
            assert!(text.contains(message), "{message} in:\n{text}");
            let line = position(&config, place);
            let line = line.split(':').next().unwrap();
            assert!(place == "a" || text.contains(&format!(":{line}:")), "{line} in:\n{text}");
        }
        let (status, output) = engine(&config).start_expecting_failure().await?;
        assert_eq!(status.code(), Some(64), "{output}");
        assert!(output.contains(message), "{message} in:\n{output}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b243_b244_b245_config_commands_say_what_a_file_means() -> Result<()> {
    let shared = "x-shared: &shared {database: source, batch_size: 7}\n";
    let rest = format!(
        "{shared}sinks:\n  - {{<<: *shared, name: hook, pool: 1, destination: \
         {{type: webhook, http_endpoint: receiver, http_endpoint_path: \"${{HOOK_PATH}}\"}}}}\n"
    );
    let config = yaml(1, "http://127.0.0.1:1", &rest);
    let command = async |config: &str, arguments: &[&str]| {
        engine(config).env("HOOK_PATH", "/to/$here").command(arguments).await
    };
    let told = command(&config, &["config", "validate", "{config}", "--json"]).await?;
    assert_eq!(told.status.code(), Some(64));
    let told: Value = serde_json::from_slice(&told.stdout)?;
    assert_eq!(told["valid"], false);
    assert_eq!(told["diagnostics"][0]["message"], "sink `hook`: unknown key `pool`");
    assert_eq!(told["diagnostics"][0]["line"], config.lines().count());

    let good = config.replace("pool: 1, ", "");
    let told = command(&good, &["config", "validate", "{config}"]).await?;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(String::from_utf8(told.stdout)?.ends_with("1 database, 0 functions, 1 sink\n"));
    let filled_in = command(&good, &["config", "interpolate", "{config}"]).await?;
    let filled_in = String::from_utf8(filled_in.stdout)?;
    assert!(filled_in.contains("http_endpoint_path: \"/to/$$here\"\n"), "{filled_in}");
    assert!(filled_in.contains("    batch_size: 7\n"), "{filled_in}");
    let again = engine(&filled_in).command(&["config", "validate", "{config}"]).await?;
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let missing = engine(&good).command(&["config", "interpolate", "{config}"]).await?;
    assert_eq!(missing.status.code(), Some(64));

    let schema = command("", &["config", "schema"]).await?;
    let schema: Value = serde_json::from_slice(&schema.stdout)?;
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    Ok(())
}

/// Waits until a sink has so many warnings of a code.
async fn warned(sequin: &Sequin, code: &str, expected: f64) -> Result<()> {
    let what = format!("{expected} warnings {code}");
    let warned = until(&what, LATER, async || {
        // Without any warning there is no sample.
        let found = sequin.metric("sequin_sink_warnings", &[("code", code)]).await.unwrap_or(0.0);
        Ok(if found == expected { Ok(()) } else { Err(found.to_string()) })
    });
    warned.await.with_context(|| format!("the engine said:\n{}", sequin.log()))
}

#[tokio::test(flavor = "multi_thread")]
async fn b107_b247_b249_a_table_that_does_not_exist_is_told_until_it_does() -> Result<()> {
    let options = "    source: {include_tables: [order, orders]}
    tables: [{name: orders, group_column_names: [custmer]}]\n";
    let schema = "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint)";
    let world = World::start(schema, options).await?;
    warned(&world.sequin, "table_missing", 1.0).await?;
    warned(&world.sequin, "column_missing", 1.0).await?;
    let log = world.sequin.log();
    assert!(log.contains("has no table public.order; did you mean public.orders?"), "{log}");
    assert!(log.contains("has no column custmer"), "{log}");
    assert!(log.contains("did you mean customer?"), "{log}");

    let sql = "CREATE TABLE \"order\" (id bigint PRIMARY KEY);
        ALTER TABLE orders RENAME COLUMN customer TO custmer;
        INSERT INTO \"order\" VALUES (1)";
    let messages = world.messages_after(sql, 1).await?;
    assert_eq!(messages[0]["metadata"]["table_name"], "order");
    warned(&world.sequin, "table_missing", 0.0).await?;
    warned(&world.sequin, "column_missing", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn b115_functions_of_the_file_are_run() -> Result<()> {
    let functions = "functions:
  - name: names
    type: enrichment
    code: |
      select id, upper(name) as shouted from t where id = any($1)
  - {name: shouted, type: path, path: metadata.enrichment.shouted}\n";
    let whole = "    source: {include_tables: [t]}
    enrichment: names
    timestamp_format: unix_microsecond\n";
    let part = "  - name: part
    database: source
    tables: [{name: t, enrichment: names, group_column_names: [name]}]
    group_scope: sink
    transform: [shouted]
    destination: {type: webhook, http_endpoint: receiver, http_endpoint_path: /part}\n";
    let rest = functions.to_owned() + &hook("whole", "/whole", whole) + part;
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client
        .batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, name text, at timestamptz)")
        .await?;
    let receiver = Receiver::start().await?;
    let config = yaml(postgres.port(), &receiver.url(), &rest);
    let sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (1, 'a', '1970-01-01 00:00:01Z')").await?;
    let messages = receiver.until_messages(2, SOON).await;
    let messages = messages.with_context(|| sequin.log())?;
    let whole = messages.iter().find(|message| message.is_object()).context("the message")?;
    assert_eq!(whole["metadata"]["enrichment"]["shouted"], "A");
    assert_eq!(whole["record"]["at"], 1_000_000);
    assert!(messages.contains(&json!("A")), "{messages:?}");
    Ok(())
}

fn copy(name: &str, to: &Path) -> Result<()> {
    std::fs::copy(plugin(name), to).with_context(|| to.display().to_string())?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn components_are_found_by_name_and_by_digest() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let dir = directory.path();
    copy("public-rows", &dir.join("some-file.wasm"))?;
    copy("pick", &dir.join("pick.wasm"))?;
    std::fs::write(dir.join("broken.wasm"), "no component")?;
    let digest = engine("").command(&["plugin", "inspect", "--no-start", &plugin("pick")]).await?;
    let inspected: Value = serde_json::from_slice(&digest.stdout)?;
    let digest = inspected["digest"].as_str().context("a digest")?.to_owned();
    let run = async |filter: &str, transform: &str| {
        let functions = format!(
            "functions:
  - {{name: keep, type: filter, plugin: \"{filter}\", config: {{column: shown}}}}
  - {{name: shape, type: transform, plugin: \"{transform}\", config: {{only: [id]}}}}\n"
        );
        let sink = hook("hook", "", "    filter: [keep]\n    transform: [shape]\n");
        let config = yaml(1, "http://127.0.0.1:1", &(functions + &sink));
        engine(&config).env("SEQUIN_PLUGIN_DIR", &dir.display().to_string())
    };
    let mut good = run("public-rows@0.1.0", &digest).await.start().await?;
    assert!(good.terminate().await?.success());

    let missing = format!("sha256:{}", "0".repeat(64));
    let validate = ["config", "validate", "{config}"];
    // What is not here may be pushed to the platform that this file is for.
    let told = run("public-row@0.1.0", &missing).await.command(&validate).await?;
    let output = String::from_utf8(told.stderr)?;
    assert_eq!(told.status.code(), Some(0), "{output}");
    assert!(output.contains("warning: function `keep`"), "{output}");
    assert!(output.contains("did you mean `public-rows@0.1.0`?"), "{output}");
    assert!(output.contains(&format!("there is no plugin {missing}")), "{output}");
    assert!(output.contains("pick@0.1.0, public-rows@0.1.0"), "{output}");
    assert!(output.contains("broken.wasm (this is not a component"), "{output}");

    // The same bytes under two names are no question; others of that name and version are.
    copy("public-rows", &dir.join("again.wasm"))?;
    let mut good = run("public-rows@0.1.0", "pick@0.1.0").await.start().await?;
    assert!(good.terminate().await?.success());
    let mut bytes = std::fs::read(dir.join("again.wasm"))?;
    // A custom section named `x`, at the end.
    bytes.extend_from_slice(&[0, 2, 1, b'x']);
    std::fs::write(dir.join("again.wasm"), bytes)?;
    let told = run("public-rows@0.1.0", "pick@0.1.0").await.command(&validate).await?;
    let output = String::from_utf8(told.stderr)?;
    assert_eq!(told.status.code(), Some(64), "{output}");
    assert!(output.contains("both say that they are public-rows@0.1.0, and differ"), "{output}");
    Ok(())
}
