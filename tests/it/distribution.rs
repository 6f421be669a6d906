//! Where versions of plugins come from: files, OCI image layouts and registries, and bundles; and that
//! nothing runs but what the configuration names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::registry::Registry;
use tests::{Cluster, Receiver, Sequin, until};

use crate::uploads::{answer, file, tagged, with_section};
use crate::world::{LATER, SOON, engine, hook, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, is_public bool, name text)";

/// An engine with what it reads from and sends to.
struct Distributing {
    sequin: Sequin,
    receiver: Receiver,
    client: tokio_postgres::Client,
    postgres: Cluster,
}

/// A configuration that runs `pick@VERSION`, which keeps these columns.
fn picking(version: &str, only: &str, source: &str) -> String {
    let sink = hook("hook", "", "    transform: few\n    source: {include_tables: [t]}\n");
    format!(
        "plugins:\n  versions:\n    - {{name: pick, version: {version}{source}}}\nfunctions:\n  - {{name: \
         few, type: transform, plugin: pick@{version}, config: {{only: [{only}]}}}}\n{sink}"
    )
}

impl Distributing {
    async fn prepare() -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let receiver = Receiver::start().await?;
        let sequin = engine("").prepare()?;
        Ok(Self { sequin, receiver, client, postgres })
    }

    fn write(&self, rest: &str) -> Result<()> {
        self.sequin.write_config(&yaml(self.postgres.port(), &self.receiver.url(), rest))
    }

    async fn start(&mut self) -> Result<()> {
        self.sequin.restart().await?;
        streaming(&self.sequin).await
    }

    /// The record of the next row.
    async fn record(&self, id: i64, count: usize) -> Result<Value> {
        self.client.batch_execute(&format!("INSERT INTO t VALUES ({id}, true, 'n')")).await?;
        let messages = self.receiver.until_messages(count, SOON).await?;
        Ok(messages[count - 1]["record"].clone())
    }

    /// Beside the configuration.
    fn beside(&self, name: &str) -> PathBuf {
        self.sequin.config_path().with_file_name(name)
    }

    /// What runs as `pick@VERSION`.
    async fn digest(&self, version: &str) -> Result<String> {
        let all = answer(&self.sequin, &["plugin", "list"]).await?;
        let found = all.iter().find(|it| it["version"] == version);
        Ok(found.context("the version")?["digest"].as_str().unwrap().to_owned())
    }

    /// What is wrong with the sink.
    async fn fault(&self, what: &str) -> Result<()> {
        let held = async || {
            let health = answer_of(&self.sequin, &["sink", "show", "hook"]).await?;
            Ok(if health.contains(what) { Ok(()) } else { Err(health) })
        };
        until(&format!("the sink to say {what:?}"), LATER, held).await
    }
}

async fn answer_of(sequin: &Sequin, arguments: &[&str]) -> Result<String> {
    let output = sequin.command(arguments).await?;
    Ok(String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?)
}

async fn publish(sequin: &Sequin, component: &Path, to: &str) -> Result<Value> {
    let component = component.to_str().unwrap();
    Ok(answer(sequin, &["plugin", "publish", component, to]).await?[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn b271_a_version_of_a_file_or_a_layout_is_what_it_was_for_good() -> Result<()> {
    let mut it = Distributing::prepare().await?;
    std::fs::write(it.beside("pick.wasm"), tagged("pick", "7.0.0"))?;
    it.write(&picking("7.0.0", "id", ", source: {file: pick.wasm}"))?;
    it.start().await?;
    assert_eq!(it.record(1, 1).await?, json!({"id": 1}));
    let first = it.digest("7.0.0").await?;

    // Of a layout, the same bytes under another version are another component.
    let layout = it.beside("images").display().to_string();
    let component = file(&tagged("pick", "7.1.0"));
    let told = publish(&it.sequin, component.path(), &format!("oci-layout:{layout}:7.1.0")).await?;
    let again =
        publish(&it.sequin, component.path(), &format!("oci-layout:{layout}:7.1.0")).await?;
    assert_eq!(told, again, "the same component gives the same manifest");
    it.write(&picking("7.1.0", "name", ", source: {oci_layout: 'images:7.1.0'}"))?;
    until("the layout's version to run", LATER, async || {
        Ok(it.digest("7.1.0").await.map_err(|error| error.to_string()))
    })
    .await?;
    assert_eq!(it.digest("7.1.0").await?, told["digest"].as_str().unwrap());
    streaming(&it.sequin).await?;
    until("the new version to be in force", LATER, async || {
        let runs = answer(&it.sequin, &["plugin", "bindings"]).await?;
        let digest = runs[0]["plugins"][0]["digest"].clone();
        Ok(if digest == told["digest"] { Ok(()) } else { Err(digest.to_string()) })
    })
    .await?;
    assert_eq!(it.record(2, 2).await?, json!({"name": "n"}));

    // The same version of other bytes: the running one goes on, and it is said why.
    std::fs::write(it.beside("pick.wasm"), with_section(&tagged("pick", "7.0.0"), "more", b"x"))?;
    it.write(&picking("7.0.0", "id", ", source: {file: pick.wasm}"))?;
    until("the refusal", LATER, async || {
        let log = it.sequin.log();
        let told = log.contains(&format!("pick@7.0.0 is {first}, for good"));
        Ok(if told { Ok(()) } else { Err(log) })
    })
    .await?;
    assert_eq!(it.record(3, 3).await?, json!({"name": "n"}));

    // What became of where a version came from hinders no apply of something else.
    it.write(&picking("7.1.0", "name", ", source: {oci_layout: 'images:7.1.0'}"))?;
    let away = it.beside("away");
    std::fs::rename(it.beside("images"), &away)?;
    let more = it.beside("more.yaml");
    std::fs::write(&more, "http_endpoints: [{name: more, url: 'https://example.com'}]\n")?;
    let more = more.display().to_string();
    until("an apply of something else", LATER, async || {
        let told = answer_of(&it.sequin, &["config", "apply", &more, "--auto-approve"]).await?;
        Ok(if told.contains("It runs.") { Ok(()) } else { Err(told) })
    })
    .await?;
    std::fs::rename(away, it.beside("images"))?;

    // A file that is not there, and one that is another plugin.
    let bad = it.beside("bad.yaml");
    let text = picking("8.0.0", "id", ", source: {file: gone.wasm}");
    std::fs::write(&bad, yaml(it.postgres.port(), &it.receiver.url(), &text))?;
    let told = it.sequin.command(&["config", "validate", bad.to_str().unwrap()]).await?;
    assert_eq!(told.status.code(), Some(64));
    let said = String::from_utf8(told.stderr)?;
    assert!(said.contains("gone.wasm"), "{said}");
    std::fs::write(it.beside("other.wasm"), tagged("public-rows", "8.0.0"))?;
    let lies = it.beside("lies");
    let text = picking("8.0.0", "id", ", source: {file: other.wasm}");
    std::fs::write(&lies, yaml(it.postgres.port(), &it.receiver.url(), &text))?;
    let lies = lies.display().to_string();
    let told = answer_of(&it.sequin, &["config", "apply", &lies, "--auto-approve"]).await?;
    assert!(told.contains("metadata_mismatch"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b271_what_a_registry_has_runs_by_its_digest_alone() -> Result<()> {
    let Some(mut registry) = Registry::start().await? else { return Ok(()) };
    let mut it = Distributing::prepare().await?;
    let reference = registry.reference("pick", "9.0.0");
    let component = file(&tagged("pick", "9.0.0"));
    let path = component.path().display().to_string();
    let stranger = answer_of(&it.sequin, &["plugin", "publish", &path, &reference]).await?;
    assert!(stranger.contains("docker login"), "a stranger publishes nothing: {stranger}");
    it.sequin.set_env("SEQUIN_REGISTRY_USERNAME", Registry::USERNAME);
    it.sequin.set_env("SEQUIN_REGISTRY_PASSWORD", Registry::PASSWORD);
    let told = publish(&it.sequin, component.path(), &reference).await?;
    let digest = told["digest"].as_str().unwrap().to_owned();
    // What comes back is what went.
    let pulled = it.beside("pulled.wasm").display().to_string();
    answer(&it.sequin, &["plugin", "pull", &reference, "-o", &pulled, "--digest", &digest]).await?;
    assert_eq!(std::fs::read(&pulled)?, tagged("pick", "9.0.0"));

    let from = |digest: &str| format!(", digest: '{digest}', source: {{oci: '{reference}'}}");
    it.write(&picking("9.0.0", "id", &from(&digest)))?;
    it.start().await?;
    assert_eq!(it.record(1, 1).await?, json!({"id": 1}));

    // Somebody puts something else under the tag: nobody runs it, and who runs goes on.
    let other = file(&with_section(&tagged("pick", "9.0.0"), "more", b"x"));
    publish(&it.sequin, other.path(), &reference).await?;
    it.sequin.kill9().await?;
    it.start().await?;
    assert_eq!(it.record(2, 2).await?, json!({"id": 2}));
    let fresh = engine("").prepare()?;
    let (port, url) = (it.postgres.port(), it.receiver.url());
    fresh.write_config(&yaml(port, &url, &picking("9.0.0", "id", &from(&digest))))?;
    let path = fresh.config_path().display().to_string();
    let told = answer_of(&it.sequin, &["config", "validate", &path]).await?;
    assert!(told.contains("and the configuration says"), "{told}");
    // Without the registry a start goes on with what is known, and a sink that needs more waits alone.
    registry.kill().await?;
    it.sequin.kill9().await?;
    it.start().await?;
    assert_eq!(it.record(3, 3).await?, json!({"id": 3}));
    it.sequin.terminate().await?;
    let none = "0".repeat(64);
    it.write(&picking("9.1.0", "id", &from(&format!("sha256:{none}"))))?;
    it.sequin.restart().await?;
    it.fault("plugin_unusable").await?;
    it.fault(&reference).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b238_b271_an_engine_starts_from_a_bundle() -> Result<()> {
    let mut it = Distributing::prepare().await?;
    std::fs::write(it.beside("pick.wasm"), tagged("pick", "7.0.0"))?;
    it.write(&picking("7.0.0", "id", ", source: {file: pick.wasm}"))?;
    let written = it.sequin.config_path().display().to_string();
    let bundle = it.beside("all.tar").display().to_string();
    let built = it.sequin.command(&["bundle", "build", &written, "-o", &bundle]).await?;
    ensure!(built.status.success(), "{built:?}");
    // Elsewhere, without what it was made from.
    let elsewhere = tempfile::tempdir()?;
    let moved = elsewhere.path().join("all.tar");
    std::fs::rename(&bundle, &moved)?;
    std::fs::remove_file(it.beside("pick.wasm"))?;
    let valid = answer_of(&it.sequin, &["config", "validate", moved.to_str().unwrap()]).await?;
    assert!(valid.contains("is valid"), "{valid}");
    it.sequin = engine("").config_file(&moved).start().await?;
    streaming(&it.sequin).await?;
    assert_eq!(it.record(1, 1).await?, json!({"id": 1}));
    it.digest("7.0.0").await?;
    // Another one in its place is taken up, as another file is.
    std::fs::write(it.beside("pick.wasm"), tagged("pick", "7.1.0"))?;
    let text = picking("7.1.0", "name", ", source: {file: pick.wasm}");
    std::fs::write(it.beside("next.yaml"), yaml(it.postgres.port(), &it.receiver.url(), &text))?;
    std::fs::write(it.beside("pick.wasm"), tagged("pick", "7.1.0"))?;
    let next = it.beside("next.yaml").display().to_string();
    let output = moved.display().to_string();
    let built = it.sequin.command(&["bundle", "build", &next, "-o", &output]).await?;
    ensure!(built.status.success(), "{built:?}");
    until("the next bundle to run", LATER, async || {
        Ok(it.digest("7.1.0").await.map_err(|error| error.to_string()))
    })
    .await?;
    until("its columns", LATER, async || {
        let runs = answer(&it.sequin, &["plugin", "bindings"]).await?;
        let named = runs[0]["plugins"][0]["versions"].to_string();
        Ok(if named.contains("7.1.0") { Ok(()) } else { Err(named) })
    })
    .await?;
    assert_eq!(it.record(2, 2).await?, json!({"name": "n"}));
    // What was broken on its way starts nothing.
    let mut bytes = std::fs::read(&moved)?;
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let broken = elsewhere.path().join("broken.tar");
    std::fs::write(&broken, bytes)?;
    let refused = engine("").config_file(&broken).quiet().start_expecting_failure().await?;
    assert_eq!(refused.0.code(), Some(64), "{}", refused.1);
    Ok(())
}
