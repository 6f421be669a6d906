//! Edits of sequin.yaml under a running engine.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::process::Signal;
use tests::{Behaviour, Cluster, Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, engine, plugin, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text)";

struct Edited {
    sequin: Sequin,
    receiver: Receiver,
    client: Client,
    postgres: Cluster,
}

/// A webhook sink of the name, which sends to the path `/name`.
fn sink(name: &str, rest: &str) -> String {
    format!(
        "  - name: {name}
    database: source
    retry_backoff: {{first_ms: 50, cap_ms: 200}}
    destination: {{type: webhook, http_endpoint: receiver, http_endpoint_path: /{name}}}
{rest}"
    )
}

impl Edited {
    async fn start(rest: &str) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let receiver = Receiver::start().await?;
        let config = yaml(postgres.port(), &receiver.url(), rest);
        let sequin = engine(&config).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, receiver, client, postgres })
    }

    fn yaml(&self, rest: &str) -> String {
        yaml(self.postgres.port(), &self.receiver.url(), rest)
    }

    /// Writes another configuration, and waits until it is taken up.
    async fn edit(&self, rest: &str) -> Result<()> {
        let before = self.metric("sequin_config_reloads_total").await?;
        self.sequin.write_config(&self.yaml(rest))?;
        self.until_metric("sequin_config_reloads_total", before + 1.0).await
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        self.sequin.metric(name, &[]).await
    }

    async fn until_metric(&self, name: &str, wanted: f64) -> Result<()> {
        let reached = until(name, SOON, async || {
            let value = self.metric(name).await?;
            Ok(if value == wanted { Ok(()) } else { Err(format!("{value}")) })
        });
        reached.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    async fn insert(&self, ids: std::ops::RangeInclusive<i64>) -> Result<()> {
        let (from, to) = (ids.start(), ids.end());
        let sql = format!("INSERT INTO t SELECT n, 'fine' FROM generate_series({from}, {to}) n");
        self.client.batch_execute(&sql).await.context("insert")
    }

    /// What arrived at a path, in order.
    fn ids(&self, path: &str) -> Vec<i64> {
        let requests = self.receiver.accepted().into_iter();
        let at = requests.filter(|request| request.path == path);
        let messages = at.flat_map(|request| request.messages());
        messages.filter_map(|message: Value| message["record"]["id"].as_i64()).collect()
    }

    async fn until_ids(&self, path: &str, ids: std::ops::RangeInclusive<i64>) -> Result<()> {
        let wanted: Vec<i64> = ids.collect();
        let arrived = until(path, LATER, async || {
            let mut ids = self.ids(path);
            ids.sort_unstable();
            Ok(if ids == wanted { Ok(()) } else { Err(format!("{ids:?}")) })
        });
        arrived.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    /// The server's process that sends the slot: another one after a reconnect.
    async fn walsender(&self) -> Result<i32> {
        let query = "SELECT active_pid FROM pg_replication_slots WHERE active";
        Ok(self.client.query_one(query, &[]).await?.get(0))
    }

    async fn settled(&self) -> Result<()> {
        let row = self.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        let target: String = row.get(0);
        let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots";
        until("the slot to be confirmed", LATER, async || {
            let reached: bool = self.client.query_one(sql, &[&target]).await?.get(0);
            Ok(if reached { Ok(()) } else { Err(target.clone()) })
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b209_an_edit_restarts_its_sink_and_nothing_else() -> Result<()> {
    let world = Edited::start(&format!("sinks:\n{}{}", sink("a", ""), sink("b", ""))).await?;
    world.insert(1..=10).await?;
    world.until_ids("/a", 1..=10).await?;
    world.until_ids("/b", 1..=10).await?;
    world.settled().await?;
    let walsender = world.walsender().await?;

    let changed = sink("a", "").replace("path: /a", "path: /elsewhere");
    world.edit(&format!("sinks:\n{changed}{}", sink("b", ""))).await?;
    world.insert(11..=20).await?;
    world.until_ids("/elsewhere", 11..=20).await?;
    world.until_ids("/b", 1..=20).await?;
    assert_eq!(world.ids("/a").len(), 10);
    assert_eq!(world.walsender().await?, walsender, "the stream is the same");
    let delivered = [("consumer_name", "a")];
    let delivered = world.sequin.metric("sequin_message_deliver_success_count", &delivered).await?;
    assert_eq!(delivered, 20.0, "its counters go on");
    let log = world.sequin.log();
    assert!(log.contains("sink `a` changed: destination"), "{log}");
    assert!(!log.contains("hidden-token"), "{log}");
    Ok(())
}

/// The destination is wrong, and rows queue up; the edit mends it while more are written.
#[tokio::test(flavor = "multi_thread")]
async fn b209_what_a_sink_owed_goes_where_the_edit_says() -> Result<()> {
    let wrong = Receiver::start().await?;
    wrong.set(Behaviour::Status(500));
    let broken = sink("a", "").replace("endpoint: receiver", "endpoint: wrong");
    let endpoint = format!("  - {{name: wrong, url: {}}}\n", wrong.url());
    let rest = format!("{endpoint}sinks:\n{broken}{}", sink("b", ""));
    let world = Edited::start(&rest).await?;
    world.insert(1..=300).await?;
    world.until_ids("/b", 1..=300).await?;
    let writing = async {
        for id in 301..=400 {
            world.insert(id..=id).await?;
        }
        anyhow::Ok(())
    };
    let edit = format!("{endpoint}sinks:\n{}{}", sink("a", ""), sink("b", ""));
    let (written, edited) = tokio::join!(writing, world.edit(&edit));
    written?;
    edited?;
    world.until_ids("/a", 1..=400).await?;
    world.until_ids("/b", 1..=400).await?;
    world.settled().await?;
    assert_eq!(world.metric("sequin_slot_connects_count").await?, 1.0, "the stream goes on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b240_an_invalid_edit_changes_nothing_and_is_told_once() -> Result<()> {
    let world = Edited::start(&format!("sinks:\n{}", sink("a", ""))).await?;
    let (walsender, hash) = (world.walsender().await?, world.metric("sequin_config_hash").await?);
    let wrong = world.yaml(&format!("sinks:\n{}{}", sink("b", ""), sink("a", "    filter: f\n")));
    world.sequin.write_config(&wrong)?;
    world.until_metric("sequin_config_reload_failed", 1.0).await?;
    let told = || world.sequin.log().matches("there is no function `f`").count();
    let log = world.sequin.log();
    let line = wrong.lines().position(|line| line.contains("filter: f")).context("it is there")?;
    assert!(log.contains(&format!("sequin.yaml:{}:", line + 1)), "file and line: {log}");
    // The same again, as another file.
    let next = world.sequin.config_path().with_extension("next");
    std::fs::write(&next, format!("{wrong}\n"))?;
    std::fs::rename(&next, world.sequin.config_path())?;
    world.until_metric("sequin_config_reload_failures_total", 2.0).await?;
    assert_eq!(told(), 1, "{}", world.sequin.log());
    world.insert(1..=5).await?;
    world.until_ids("/a", 1..=5).await?;
    assert_eq!(world.ids("/b").len(), 0);
    assert_eq!(world.walsender().await?, walsender);
    assert_eq!(world.metric("sequin_config_hash").await?, hash);

    // An editor that puts the mended file in the place of the other.
    let right = format!("sinks:\n{}{}", sink("a", ""), sink("b", ""));
    std::fs::write(&next, world.yaml(&right))?;
    std::fs::rename(&next, world.sequin.config_path())?;
    world.until_metric("sequin_config_reload_failed", 0.0).await?;
    world.insert(6..=8).await?;
    world.until_ids("/b", 6..=8).await?;
    assert_ne!(world.metric("sequin_config_hash").await?, hash);
    Ok(())
}

/// A file that was cut to nothing while it was written takes no sink away; one that says so does.
#[tokio::test(flavor = "multi_thread")]
async fn b240_a_file_that_was_cut_to_nothing_takes_no_sink_away() -> Result<()> {
    let world = Edited::start(&format!("sinks:\n{}", sink("a", ""))).await?;
    for (times, nothing) in [(1.0, ""), (2.0, "# to be written\n")] {
        world.sequin.write_config(nothing)?;
        world.until_metric("sequin_config_reload_failures_total", times).await?;
        assert!(world.sequin.log().contains("all sinks (1) would go"), "{}", world.sequin.log());
    }
    world.insert(1..=3).await?;
    world.until_ids("/a", 1..=3).await?;
    world.sequin.write_config("sinks: []\n")?;
    world.until_metric("sequin_config_reload_failed", 0.0).await?;
    world.until_metric("sequin_config_reloads_total", 1.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn b239_a_hangup_reads_again_and_the_same_file_changes_nothing() -> Result<()> {
    let mut world = Edited::start(&format!("sinks:\n{}", sink("a", ""))).await?;
    world.sequin.signal(Signal::HUP)?;
    until("the file to be read again", SOON, async || {
        let log = world.sequin.log();
        Ok(if log.contains("the configuration is as it was") { Ok(()) } else { Err(log) })
    })
    .await?;
    assert_eq!(world.metric("sequin_config_reloads_total").await?, 0.0);
    let both = format!("sinks:\n{}{}", sink("a", ""), sink("b", ""));
    world.sequin.write_config(&world.yaml(&both))?;
    world.sequin.signal(Signal::HUP)?;
    world.until_metric("sequin_config_reloads_total", 1.0).await?;
    world.insert(1..=3).await?;
    world.until_ids("/b", 1..=3).await
}

/// As Kubernetes changes mounted files: a link to a directory is put in the place of another.
#[tokio::test(flavor = "multi_thread")]
async fn b239_a_link_that_leads_elsewhere_is_an_edit() -> Result<()> {
    let (postgres, receiver) = (Cluster::start().await?, Receiver::start().await?);
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let dir = tempfile::tempdir()?;
    let version = |name: &str, rest: &str| -> Result<()> {
        std::fs::create_dir(dir.path().join(name))?;
        let text = yaml(postgres.port(), &receiver.url(), rest);
        std::fs::write(dir.path().join(name).join("sequin.yaml"), text)?;
        std::os::unix::fs::symlink(name, dir.path().join("next"))?;
        std::fs::rename(dir.path().join("next"), dir.path().join("data"))?;
        Ok(())
    };
    version("one", &format!("sinks:\n{}", sink("a", "")))?;
    let path = dir.path().join("sequin.yaml");
    std::os::unix::fs::symlink(Path::new("data/sequin.yaml"), &path)?;
    let sequin = engine("").config_file(&path).start().await?;
    streaming(&sequin).await?;
    let world = Edited { sequin, receiver, client, postgres };
    let both = format!("sinks:\n{}{}", sink("a", ""), sink("b", ""));
    std::fs::create_dir(dir.path().join("two"))?;
    std::fs::write(dir.path().join("two/sequin.yaml"), world.yaml(&both))?;
    std::os::unix::fs::symlink("two", dir.path().join("next"))?;
    std::fs::rename(dir.path().join("next"), dir.path().join("data"))?;
    world.until_metric("sequin_config_reloads_total", 1.0).await?;
    world.insert(1..=3).await?;
    world.until_ids("/b", 1..=3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn b207_b208_a_sink_comes_and_one_that_fails_goes() -> Result<()> {
    let wrong = Receiver::start().await?;
    wrong.set(Behaviour::Status(500));
    let broken = sink("dead", "").replace("endpoint: receiver", "endpoint: wrong");
    let endpoint = format!("  - {{name: wrong, url: {}}}\n", wrong.url());
    let world = Edited::start(&format!("{endpoint}sinks:\n{broken}{}", sink("a", ""))).await?;
    world.insert(1..=20).await?;
    world.until_ids("/a", 1..=20).await?;
    let walsender = world.walsender().await?;
    world.edit(&format!("{endpoint}sinks:\n{}{}", sink("a", ""), sink("new", ""))).await?;
    world.settled().await?;
    world.insert(21..=30).await?;
    world.until_ids("/new", 21..=30).await?;
    world.until_ids("/a", 1..=30).await?;
    assert_eq!(world.walsender().await?, walsender);
    let metrics = world.sequin.metrics().await?;
    assert!(!metrics.contains("consumer_name=\"dead\""), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_paused_and_resumed_by_its_status() -> Result<()> {
    let with = |status: &str| {
        format!("sinks:\n{}{}", sink("a", &format!("    status: {status}\n")), sink("b", ""))
    };
    let world = Edited::start(&with("active")).await?;
    world.insert(1..=5).await?;
    world.until_ids("/a", 1..=5).await?;
    let walsender = world.walsender().await?;
    world.edit(&with("paused")).await?;
    world.insert(6..=15).await?;
    world.until_ids("/b", 1..=15).await?;
    until("the paused sink to collect", SOON, async || {
        let pending = [("consumer_name", "a")];
        let pending = world.sequin.metric("sequin_messages_pending", &pending).await?;
        Ok(if pending == 10.0 { Ok(()) } else { Err(format!("{pending}")) })
    })
    .await?;
    assert_eq!(world.ids("/a").len(), 5);
    world.edit(&with("active")).await?;
    world.until_ids("/a", 1..=15).await?;
    assert_eq!(world.walsender().await?, walsender);
    // What passes while it is disabled is not for it.
    world.edit(&with("disabled")).await?;
    world.insert(16..=20).await?;
    world.until_ids("/b", 1..=20).await?;
    world.settled().await?;
    world.edit(&with("active")).await?;
    world.insert(21..=22).await?;
    world.until_ids("/b", 1..=22).await?;
    world.settled().await?;
    let mut ids = world.ids("/a");
    ids.sort_unstable();
    assert_eq!(ids, (1..=15).chain(21..=22).collect::<Vec<_>>());
    Ok(())
}

/// The YAML is as it was, and the component that it names is another.
#[tokio::test(flavor = "multi_thread")]
async fn b209_a_component_put_in_the_place_of_another_is_an_edit_of_its_sinks() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f.wasm");
    std::fs::copy(plugin("trap"), &file)?;
    let function = format!(
        "functions:
  - {{name: f, type: transform, file: '{}', config: {{column: name, when: bad}}}}
",
        file.display()
    );
    let transformed = sink("a", "    transform: f\n");
    let rest = format!("{function}sinks:\n{transformed}{}", sink("b", ""));
    let world = Edited::start(&rest).await?;
    world.client.batch_execute("INSERT INTO t VALUES (1, 'bad')").await?;
    world.until_metric("sequin_messages_buried_count", 1.0).await?;
    let next = dir.path().join("next.wasm");
    std::fs::copy(plugin("spin"), &next)?;
    std::fs::rename(&next, &file)?;
    world.until_metric("sequin_config_reloads_total", 1.0).await?;
    world.client.batch_execute("INSERT INTO t VALUES (2, 'bad')").await?;
    world.until_metric("sequin_messages_buried_count", 2.0).await?;
    let output = world.sequin.command(&["letters"]).await?;
    let text = String::from_utf8(output.stdout)?;
    let letters: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let reasons: Vec<_> = letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    assert_eq!(reasons, ["plugin_trap", "plugin_deadline"], "{text}");
    world.until_ids("/b", 1..=2).await?;
    let log = world.sequin.log();
    assert!(log.contains("function `f` changed: component"), "{log}");
    assert!(!log.contains("sink `b`"), "{log}");
    Ok(())
}
