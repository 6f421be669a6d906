//! Transactions, and letters, that are larger than memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::{Behaviour, Cluster, Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, engine, hook, settled, streaming, yaml};

/// `SEQUIN_MEMORY_MB` of these engines: the peak of the whole process stays below, code, caches and
/// stacks included (36 MiB of an unoptimised build that does nothing).
const CAP_MB: u64 = 80;

/// For millions of rows on a machine that does other things, too.
const LONG: Duration = Duration::from_secs(900);

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint)";

/// Peak of the resident memory, in MiB.
fn peak_mb(sequin: &Sequin) -> Result<u64> {
    let pid = sequin.pid().context("it runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib >> 10)
}

/// Numbers of rows and their places in the transaction, line by line without holding the file.
fn in_order(path: &Path, rows: u64) -> Result<()> {
    use std::io::BufRead as _;
    let number = |line: &str, key: &str| -> Option<u64> {
        let rest = line.split_once(key)?.1;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest.get(..end)?.parse().ok()
    };
    let mut expected = 0;
    let mut first_idx = None;
    for line in std::io::BufReader::new(std::fs::File::open(path)?).lines() {
        let line = line?;
        expected += 1;
        let (id, idx) = (number(&line, "\"id\":"), number(&line, "\"commit_idx\":"));
        let idx = idx.with_context(|| line.clone())?;
        let first = *first_idx.get_or_insert(idx);
        assert_eq!((id, idx - first), (Some(expected), expected - 1), "{line}");
    }
    assert_eq!(expected, rows);
    Ok(())
}

/// One transaction of so many rows into a file: each once and in order, within the memory that was
/// given.
async fn deliver(rows: u64) -> Result<()> {
    let postgres =
        Cluster::start_with(&[("max_wal_size", "8GB"), ("logical_decoding_work_mem", "4MB")])
            .await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("events.ndjson");
    let sink = format!(
        "sinks:
  - name: archive
    database: source
    batch_size: 1000
    destination: {{type: file, path: {}, rotate_bytes: 100000000000}}
",
        path.display()
    );
    let config = yaml(postgres.port(), "http://127.0.0.1:1", &sink);
    let mut sequin = engine(&config).env("SEQUIN_MEMORY_MB", &CAP_MB.to_string()).start().await?;
    streaming(&sequin).await?;
    let before = peak_mb(&sequin)?;
    let insert = format!("INSERT INTO t SELECT n, n FROM generate_series(1, {rows}) n");
    client.batch_execute(&insert).await?;
    until("all rows", LONG, async || {
        let delivered = sequin.metric("sequin_message_deliver_success_count", &[]).await?;
        #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
        let all = delivered >= rows as f64;
        Ok(if all { Ok(()) } else { Err(delivered.to_string()) })
    })
    .await?;
    settled(&client).await?;
    let peak = peak_mb(&sequin)?;
    sequin.terminate().await?;
    in_order(&path, rows)?;
    println!("{rows} rows: {before} MiB before, {peak} MiB at most");
    assert!(peak < CAP_MB, "{peak} MiB of {CAP_MB} MiB, {before} MiB before");
    Ok(())
}

/// Many times the budget, so that nothing of the size of the transaction is held.
#[tokio::test(flavor = "multi_thread")]
async fn b016_a_large_transaction_is_delivered_in_order_within_the_memory() -> Result<()> {
    deliver(500_000).await
}

async fn count(client: &Client) -> Result<i64> {
    Ok(client.query_one("SELECT count(*) FROM t", &[]).await?.get(0))
}

/// Large enough that the server spills it to its disk before it knows how it ends: aborted as a
/// whole, by a savepoint, and while the engine is killed in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn b013_b014_b017_of_a_large_transaction_that_aborts_nothing_is_delivered() -> Result<()> {
    let postgres = Cluster::start_with(&[("logical_decoding_work_mem", "64kB")]).await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("events.ndjson");
    let sink = format!(
        "sinks:
  - name: archive
    database: source
    destination: {{type: file, path: {}}}
",
        path.display()
    );
    let config = yaml(postgres.port(), "http://127.0.0.1:1", &sink);
    let mut sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    client
        .batch_execute(
            "BEGIN; INSERT INTO t SELECT n, 0 FROM generate_series(1, 20000) n; ROLLBACK;
             BEGIN;
             INSERT INTO t SELECT n, 1 FROM generate_series(1, 10000) n;
             SAVEPOINT a;
             INSERT INTO t SELECT n, 2 FROM generate_series(50001, 70000) n;
             ROLLBACK TO a;
             INSERT INTO t SELECT n, 1 FROM generate_series(10001, 20000) n",
        )
        .await?;
    sequin.kill9().await?;
    client.batch_execute("COMMIT").await?;
    sequin.restart().await?;
    assert_eq!(count(&client).await?, 20_000);
    let lines = || -> Result<usize> {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(!text.contains("\"value\":0,") && !text.contains("\"value\":2,"));
        Ok(text.lines().count())
    };
    until("the rows", LATER, async || {
        let found = lines()?;
        Ok(if found >= 20_000 { Ok(()) } else { Err(found.to_string()) })
    })
    .await?;
    settled(&client).await?;
    assert_eq!(lines()?, 20_000, "each once");
    // As they stand: what was aborted takes no place.
    in_order(&path, 20_000)
}

/// So many messages of 18 kB that a receiver refuses become letters; a restart with them, looking at
/// them and counting them stay within the memory.
async fn bury(rows: u64) -> Result<()> {
    let postgres = Cluster::start_with(&[("max_wal_size", "8GB")]).await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, value text)").await?;
    let receiver = Receiver::start().await?;
    receiver.set(Behaviour::Status(422));
    let never = "    max_retry_count: 1\n    dead_letter_limit: {max_percent: 100}\n";
    let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "", never));
    let mut sequin = engine(&config).env("SEQUIN_MEMORY_MB", &CAP_MB.to_string()).start().await?;
    streaming(&sequin).await?;
    let insert = format!(
        "INSERT INTO t SELECT n, repeat(md5(n::text), 563) FROM generate_series(1, {rows}) n"
    );
    client.batch_execute(&insert).await?;
    until("all to be put aside", LONG, async || {
        let buried = sequin.metric("sequin_messages_buried_count", &[]).await?;
        #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
        let all = buried >= rows as f64;
        Ok(if all { Ok(()) } else { Err(buried.to_string()) })
    })
    .await?;
    settled(&client).await?;
    let peak = peak_mb(&sequin)?;
    assert!(peak < CAP_MB, "{peak} MiB of {CAP_MB} MiB while they were put aside");
    sequin.terminate().await?;

    sequin.restart().await?;
    streaming(&sequin).await?;
    let client = tests::http::client()?;
    let ask = async |path: &str| -> Result<serde_json::Value> {
        let url = format!("{}{path}", sequin.url());
        Ok(serde_json::from_str(&client.get(&url).send().await?.text().await?)?)
    };
    let counts = ask("/api/letters/counts").await?;
    assert_eq!(counts["data"][0]["letters"], rows, "{counts}");
    let page = ask("/api/sinks/hook/letters?limit=100").await?;
    assert_eq!(page["data"].as_array().map(Vec::len), Some(100));
    // A text is looked for in all of them: of gigabytes that takes longer than the client waits.
    if rows < 10_000 {
        let found = ask("/api/letters?text=no-such-text&limit=10").await?;
        assert_eq!(found["data"].as_array().map(Vec::len), Some(0), "{found}");
    }
    let peak = peak_mb(&sequin)?;
    println!("{rows} letters: {peak} MiB at most after the restart");
    assert!(peak < CAP_MB, "{peak} MiB of {CAP_MB} MiB after a restart with {rows} letters");
    Ok(())
}

/// 90 MB of letters, more than the memory.
#[tokio::test(flavor = "multi_thread")]
async fn b205_a_restart_with_many_letters_stays_within_the_memory() -> Result<()> {
    bury(5_000).await
}
