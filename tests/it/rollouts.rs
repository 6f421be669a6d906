//! Another version of a function under real traffic: in the shadow, for a share, for all, taken back,
//! and a kill in the middle.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Cluster, Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, engine, hook, plugin, settled, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text, n bigint)";

/// Rows that are written again and again.
const KEYS: i64 = 40;

struct Rolling {
    sequin: Sequin,
    receiver: Receiver,
    client: Client,
    _postgres: Cluster,
    _plugins: tempfile::TempDir,
    /// Of the new version.
    digest: String,
    written: i64,
}

impl Rolling {
    /// The version in use counts rows in `seen`, the new one says `set` where the name is `set-text`,
    /// and fails where it is `error`.
    async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// With these variables of the environment.
    async fn start_with(env: &[(&str, &str)]) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let receiver = Receiver::start().await?;
        let plugins = tempfile::tempdir()?;
        std::fs::copy(plugin("every-verdict"), plugins.path().join("new.wasm"))?;
        let config = format!(
            "functions:
  - {{name: f, type: transform, file: '{}', config: {{column: name, when: boom}}}}
{}    transform: f
",
            plugin("trap"),
            hook("hook", "", "    batch_size: 5\n")
        );
        let builder = engine(&yaml(postgres.port(), &receiver.url(), &config))
            .env("SEQUIN_PLUGIN_DIR", &plugins.path().display().to_string());
        let builder = env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        let sequin = builder.start().await?;
        streaming(&sequin).await?;
        let inspected = sequin.command(&["plugin", "inspect", &plugin("every-verdict")]).await?;
        let inspected = String::from_utf8(inspected.stdout)?;
        let digest = inspected.split(|c: char| c.is_whitespace() || c == '"');
        let digest = digest.into_iter().find(|word| word.starts_with("sha256:"));
        let digest = digest.with_context(|| inspected.clone())?.to_owned();
        let (_postgres, _plugins) = (postgres, plugins);
        Ok(Self { sequin, receiver, client, _postgres, _plugins, digest, written: 0 })
    }

    /// So many changes, a transaction each.
    async fn write(&mut self, changes: i64, name: &str) -> Result<()> {
        let (from, to) = (self.written + 1, self.written + changes);
        let sql = format!(
            "DO $$ BEGIN FOR i IN {from}..{to} LOOP
                INSERT INTO t VALUES (i % {KEYS}, '{name}', i)
                    ON CONFLICT (id) DO UPDATE SET name = excluded.name, n = excluded.n;
                COMMIT;
            END LOOP; END $$"
        );
        self.client.batch_execute(&sql).await?;
        self.written = to;
        Ok(())
    }

    async fn rollout(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["plugin", "rollout"], arguments].concat();
        let output = self.sequin.command(&all).await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{all:?}: {said}\n{}", self.sequin.log());
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn report(&self) -> Result<Value> {
        let told = self.rollout(&["report", "hook", "--json"]).await?;
        serde_json::from_str(&told).context(told)
    }

    async fn until_report(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        until(what, LATER, async || {
            let report = self.report().await?;
            Ok(if is_so(&report) { Ok(report) } else { Err(report.to_string()) })
        })
        .await
    }

    /// What arrived first of each change: its number, commit and key, and whether the new version made
    /// it.
    fn arrived(&self) -> BTreeMap<i64, (u64, i64, bool)> {
        let mut arrived = BTreeMap::new();
        for message in self.receiver.messages() {
            let record = &message["record"];
            let commit = message["metadata"]["commit_lsn"].as_u64().unwrap();
            let number = |name: &str| record[name].as_i64().unwrap();
            let made = (commit, number("id"), record.get("seen").is_none());
            let by = message["metadata"]["plugins"]["f"].as_str().unwrap();
            assert_eq!(by == self.digest, made.2, "a message names who made it: {message}");
            let known = arrived.entry(number("n")).or_insert(made);
            assert_eq!(*known, made, "a repeat is made by the same version: {message}");
        }
        arrived
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b270_a_version_goes_from_the_shadow_to_all_rows_and_back_through_a_kill() -> Result<()> {
    let mut world = Rolling::start().await?;
    let digest = world.digest.clone();
    let told = world.rollout(&["shadow", "hook", "f", &digest]).await?;
    assert!(told.contains("shadow"), "{told}");
    world.write(100, "set-text").await?;
    let report = world.until_report("rows in the shadow", |report| {
        report["compared"]["changed"].as_u64() > Some(0)
    });
    let report = report.await?;
    let sample = &report["samples"][0];
    let pointers: BTreeSet<&str> = sample["differences"]
        .as_array()
        .context("differences")?
        .iter()
        .filter_map(|difference| difference["pointer"].as_str())
        .collect();
    assert_eq!(pointers, BTreeSet::from(["/columns/seen", "/columns/set"]), "{sample}");
    assert!(sample["key"]["id"].is_string(), "{sample}");
    world.receiver.until_messages(100, LATER).await?;
    assert!(world.arrived().values().all(|(_, _, is_new)| !is_new), "nothing of it is delivered");

    // A kill in the shadow, while it is written.
    world.write(100, "set-text").await?;
    world.sequin.kill9().await?;
    world.write(100, "set-text").await?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    settled(&world.client).await?;
    let report = world.report().await?;
    assert_eq!((&report["state"], &report["resumed"]), (&"shadow".into(), &1.into()), "{report}");
    assert!(world.arrived().values().all(|(_, _, is_new)| !is_new), "nothing of it is delivered");

    // A share, and a kill while it is written.
    world.rollout(&["share", "hook", "50"]).await?;
    let before = world.receiver.messages().len();
    world.write(200, "set-text").await?;
    world.receiver.until_messages(before + 100, LATER).await?;
    world.sequin.kill9().await?;
    world.write(200, "set-text").await?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    world.write(100, "set-text").await?;
    settled(&world.client).await?;
    let report = world.report().await?;
    assert_eq!((&report["state"], &report["resumed"]), (&"canary".into(), &2.into()), "{report}");
    world.rollout(&["promote", "hook"]).await?;
    world.write(100, "set-text").await?;
    settled(&world.client).await?;
    world.sequin.kill9().await?;
    world.sequin.restart().await?;
    world.write(100, "set-text").await?;
    settled(&world.client).await?;
    world.rollout(&["abort", "hook", "--reason", "enough"]).await?;
    world.write(100, "set-text").await?;
    settled(&world.client).await?;

    let arrived = world.arrived();
    let numbers: Vec<i64> = arrived.keys().copied().collect();
    assert_eq!(numbers, (1..=world.written).collect::<Vec<_>>(), "nothing is lost");
    let report = world.report().await?;
    let steps = report["steps"].as_array().context("steps")?;
    let steps: Vec<(u64, u64)> = steps
        .iter()
        .map(|step| (step["commit_lsn"].as_u64().unwrap(), step["percent"].as_u64().unwrap()))
        .collect();
    assert_eq!(steps.iter().map(|step| step.1).collect::<Vec<_>>(), [50, 100, 0], "{report}");
    let mut shared: BTreeMap<i64, bool> = BTreeMap::new();
    for (n, (commit, id, is_new)) in &arrived {
        let percent = steps.iter().rev().find(|step| step.0 <= *commit).map_or(0, |step| step.1);
        match percent {
            0 => assert!(!is_new, "change {n} at {commit}: {steps:?}"),
            100 => assert!(is_new, "change {n} at {commit}: {steps:?}"),
            _ => assert_eq!(shared.entry(*id).or_insert(*is_new), is_new, "a key alternates"),
        }
    }
    let taken = shared.values().filter(|is_new| **is_new).count();
    assert!((8..=32).contains(&taken), "{taken} of {KEYS} keys");
    // In order: of each key the first arrivals rise.
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in world.receiver.messages() {
        let record = &message["record"];
        let (id, n) = (record["id"].as_i64().unwrap(), record["n"].as_i64().unwrap());
        if seen.insert(n) {
            let before = last.insert(id, n).unwrap_or_default();
            assert!(before < n, "{n} of key {id} came behind {before}");
        }
    }
    let top = world.sequin.command(&["plugin", "top", "--json"]).await?;
    let top = String::from_utf8(top.stdout)?;
    let costs: Vec<Value> = top.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(costs.len(), 2, "{top}");
    for cost in &costs {
        for number in ["/rows", "/cpu_us", "/bytes_out", "/shared/instances", "/shared/compile_us"]
        {
            assert!(cost.pointer(number).and_then(Value::as_u64) > Some(0), "{number} of {cost}");
        }
    }
    assert!(costs[0]["cpu_us"].as_u64() >= costs[1]["cpu_us"].as_u64(), "{top}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b270_a_failing_canary_keeps_the_old_version_and_is_told() -> Result<()> {
    let alerts = Receiver::start().await?;
    let url = format!("{}/alerts?key=hunter2", alerts.url());
    let env = [("SEQUIN_ALERT_URL", url.as_str()), ("SEQUIN_ALERT_TOKEN", "hunter3")];
    let mut world = Rolling::start_with(&env).await?;
    let digest = world.digest.clone();
    world.rollout(&["canary", "hook", "f", &digest, "--percent", "50", "--min-rows", "10"]).await?;
    world.write(200, "error").await?;
    settled(&world.client).await?;
    let report = world.until_report("it is taken back", |it| it["state"] == "rolled_back").await?;
    assert!(report["reason"].as_str().unwrap().contains("max_error_percent"), "{report}");
    let back = world.sequin.metric("sequin_rollouts_rolled_back_total", &[]).await?;
    assert_eq!(back, 1.0);
    assert!(world.sequin.log().contains("rollout_rolled_back"), "{}", world.sequin.log());
    // Somebody is called, and it is on record.
    let told = alerts.until_messages(1, LATER).await?;
    assert_eq!((&told[0]["event"], &told[0]["name"]), (&"rollback".into(), &"hook".into()));
    assert!(told[0]["text"].as_str().unwrap().contains("max_error_percent"), "{told:?}");
    assert_eq!(alerts.requests()[0].header("authorization"), Some("Bearer hunter3"));
    assert!(!world.sequin.log().contains("hunter"), "no secret in the log");
    let deeds = world.sequin.command(&["plugin", "audit"]).await?;
    let deeds = String::from_utf8(deeds.stdout)?;
    let deed = deeds.lines().find(|line| line.contains("rollout_rolled_back"));
    assert!(
        deed.is_some_and(|deed| deed.contains(&digest) && deed.contains("max_error")),
        "{deeds}"
    );
    let labels = [("digest", digest.as_str()), ("kind", "plugin_error")];
    let faults = world.sequin.metric("sequin_plugin_faults_count", &labels).await?;
    let letters = world.sequin.command(&["letters"]).await?;
    let letters = String::from_utf8(letters.stdout)?;
    let letters: Vec<Value> =
        letters.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(letters.len() >= 10 && letters.len() as f64 == faults, "{} {faults}", letters.len());
    assert!(letters.iter().all(|letter| letter["plugin"] == digest.as_str()));
    // What comes now goes as it did.
    let before = world.receiver.messages().len();
    assert_eq!(before + letters.len(), 200, "nothing is lost");
    world.write(100, "error").await?;
    world.receiver.until_messages(before + 100, SOON).await?;
    assert!(world.arrived().values().all(|(_, _, is_new)| !is_new));
    let told = world.sequin.command(&["plugin", "rollout", "share", "hook", "10"]).await?;
    assert!(!told.status.success(), "it is over");
    Ok(())
}

/// What was promoted is not taken back because its bytes are gone: its sink stands, with all that it
/// misses, and the engine with all others runs.
#[tokio::test(flavor = "multi_thread")]
async fn b201_b270_a_promoted_version_that_is_gone_stops_its_sink_alone() -> Result<()> {
    let mut world = Rolling::start().await?;
    let digest = world.digest.clone();
    world.rollout(&["canary", "hook", "f", &digest, "--percent", "100"]).await?;
    world.rollout(&["promote", "hook"]).await?;
    world.write(20, "set-text").await?;
    world.receiver.until_messages(20, LATER).await?;
    world.sequin.terminate().await?;
    let component = world._plugins.path().join("new.wasm");
    let aside = world._plugins.path().join("aside");
    std::fs::rename(&component, &aside)?;
    std::fs::remove_dir_all(world.sequin.data_dir().join("plugins"))?;
    world.write(20, "set-text").await?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    settled(&world.client).await?;
    let up = [("consumer_name", "hook")];
    assert_eq!(world.sequin.metric("sequin_sink_up", &up).await?, 0.0);
    assert!(world.sequin.log().contains("rollout_version_missing"), "{}", world.sequin.log());
    assert_eq!(world.report().await?["state"], "promoted");
    assert_eq!(world.receiver.messages().len(), 20, "nothing goes the old way");
    std::fs::rename(&aside, &component)?;
    world.receiver.until_messages(40, LATER).await.with_context(|| world.sequin.log())?;
    assert!(world.arrived().values().all(|(_, _, is_new)| *is_new));
    assert_eq!(world.sequin.metric("sequin_sink_up", &up).await?, 1.0);
    Ok(())
}
