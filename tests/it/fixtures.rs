//! The fixtures of the first-party plugins: `plugins/NAME/fixtures`.
//!
//! `messages.jsonl` is what `sequin tail --types` printed while `changes.sql` ran over `schema.sql` on
//! a real server; only positions and times are made the same for every recording. `outcomes.jsonl`
//! is what `sequin plugin run` prints for it. The plugins' own tests hold them to the same outcomes
//! natively (`sequin_plugin::testing::recorded`).
//!
//! With `SEQUIN_FIXTURES` set both are written anew (`cargo x fixtures`): read the difference.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Cluster, Sequin, Tail, until};

use crate::world::{LATER, plugin};

/// A table of which nothing is recorded: its row says that all is there.
const END: &str = "fixture_end";

/// Those that have fixtures.
const PLUGINS: [(&str, &str); 5] = [
    ("feature-flags", "transform"),
    ("localised-fields", "transform"),
    ("pick", "transform"),
    ("public-rows", "filter"),
    ("route-by-columns", "route"),
];

fn fixture(name: &str, file: &str) -> PathBuf {
    tests::repository().join("plugins").join(name).join("fixtures").join(file)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!("read {}: `cargo x fixtures` records what is missing", path.display())
    })
}

/// What the file holds, or what is to be written to it.
fn same_or_written(path: &Path, text: &str) -> Result<()> {
    if tests::records_fixtures() {
        return std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
    }
    let known = read(path)?;
    for (number, (known, found)) in (1..).zip(known.lines().zip(text.lines())) {
        assert_eq!(found, known, "{}:{number}", path.display());
    }
    assert_eq!(text.lines().count(), known.lines().count(), "{}", path.display());
    Ok(())
}

/// Positions count transactions, and times seconds, from the first.
fn settled(lines: &str) -> Result<String> {
    let mut transactions: HashMap<u64, usize> = HashMap::new();
    let mut text = String::new();
    for line in lines.lines() {
        let message: Value = serde_json::from_str(line)?;
        let metadata = &message["metadata"];
        if metadata["table_name"] == END {
            continue;
        }
        let lsn = metadata["commit_lsn"].as_u64().context("without commit_lsn")?;
        let next = transactions.len() + 1;
        let number = *transactions.entry(lsn).or_insert(next);
        ensure!(number < 60, "more transactions than a minute has seconds");
        let mut line = line.to_owned();
        let mut replace = |name: &str, value: String| {
            let (from, to) =
                (format!("\"{name}\":{}", metadata[name]), format!("\"{name}\":{value}"));
            ensure!(line.contains(&from), "no {from} in {line}");
            line = line.replace(&from, &to);
            Ok(())
        };
        replace("commit_lsn", number.to_string())?;
        replace("commit_timestamp", format!("\"2026-01-01T00:00:{number:02}.000000Z\""))?;
        replace("idempotency_key", format!("\"{number}:{}\"", metadata["commit_idx"]))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

async fn recorded(name: &str) -> Result<String> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("SET timezone = 'UTC'").await?;
    client.batch_execute(&read(&fixture(name, "schema.sql"))?).await?;
    client.batch_execute(&format!("CREATE TABLE {END} (id int PRIMARY KEY)")).await?;
    let tail = Tail::start(&postgres.url("postgres"), &["--types"]).await?;
    // Each statement is a transaction.
    for statement in read(&fixture(name, "changes.sql"))?.split(";\n") {
        client.batch_execute(statement).await.with_context(|| statement.to_owned())?;
    }
    client.batch_execute(&format!("INSERT INTO {END} VALUES (1)")).await?;
    let lines = until("the end of the recording", LATER, async || {
        let lines = tail.lines()?;
        Ok(if lines.contains(END) { Ok(lines) } else { Err(lines) })
    })
    .await?;
    settled(&lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn fixtures_are_what_a_real_server_sends() -> Result<()> {
    for (name, _) in PLUGINS {
        same_or_written(&fixture(name, "messages.jsonl"), &recorded(name).await?)?;
    }
    outcomes().await
}

#[tokio::test(flavor = "multi_thread")]
async fn components_make_of_fixtures_what_is_expected() -> Result<()> {
    if tests::records_fixtures() {
        // The other test does it, once there are messages.
        return Ok(());
    }
    outcomes().await
}

async fn outcomes() -> Result<()> {
    for (name, role) in PLUGINS {
        let file = |file: &str| fixture(name, file).display().to_string();
        let arguments = [
            "plugin",
            "run",
            &plugin(name),
            &file("messages.jsonl"),
            "--config-file",
            &file("config.json"),
            "--role",
            role,
        ];
        let output = Sequin::builder().command(&arguments).await?;
        let said = String::from_utf8(output.stderr)?;
        // Some rows are to fail.
        ensure!(matches!(output.status.code(), Some(0 | 1)), "{name}: {}: {said}", output.status);
        same_or_written(&fixture(name, "outcomes.jsonl"), &String::from_utf8(output.stdout)?)?;
    }
    Ok(())
}
