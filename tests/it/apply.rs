//! `sequin config plan`, `apply`, `export` and `drift` against a running engine: from nothing to many
//! sinks and back, by what a team's CI runs.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Receiver, Sequin, http, until};

use crate::uploads::tagged;
use crate::world::{LATER, SOON, engine, hook, plugin, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, is_public bool, name text)";

/// An engine without a configuration, and a directory to apply from.
pub(crate) struct Applying {
    pub(crate) sequin: Sequin,
    pub(crate) receiver: Receiver,
    pub(crate) postgres: Cluster,
    pub(crate) client: tokio_postgres::Client,
    dir: tempfile::TempDir,
}

impl Applying {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// With these sinks in a file of its own.
    async fn start_with(sinks: Option<&str>) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let receiver = Receiver::start().await?;
        let sequin = match sinks {
            None => engine("").without_config(),
            Some(sinks) => engine(&yaml(postgres.port(), &receiver.url(), sinks)),
        };
        let sequin = sequin.start().await?;
        Ok(Self { sequin, receiver, postgres, client, dir: tempfile::tempdir()? })
    }

    /// Writes a configuration with these sinks and functions; its path.
    pub(crate) fn file(&self, rest: &str) -> Result<String> {
        self.write("sequin.yaml", &yaml(self.postgres.port(), &self.receiver.url(), rest))
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> Result<String> {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().context("a directory")?)?;
        std::fs::write(&path, content)?;
        Ok(path.to_str().context("a path")?.to_owned())
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.sequin.command(arguments).await
    }

    /// The answer of a command that is to succeed.
    pub(crate) async fn told(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{arguments:?}: {said}\n{}", self.sequin.log());
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.told(arguments).await?)?)
    }

    /// Why a command is refused.
    pub(crate) async fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        let told = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(64), "{arguments:?}: {:?} {told}", output.status);
        Ok(told)
    }

    pub(crate) async fn apply(&self, file: &str) -> Result<Value> {
        self.json(&["config", "apply", file, "--auto-approve", "--json"]).await
    }

    pub(crate) async fn export(&self) -> Result<String> {
        self.told(&["config", "export", "--show-sensitive"]).await
    }

    /// The names of the sinks that run.
    pub(crate) async fn sinks(&self) -> Result<Vec<String>> {
        let metrics = self.sequin.metrics().await?;
        let of = |line: &str| {
            let (_, rest) = line
                .split_once("entity_type=\"sink_consumer\"")
                .map(|_| line.split_once("entity_name=\""))??;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let mut names: Vec<String> = metrics.lines().filter_map(of).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) async fn insert(&self, id: i64, sql: &str, count: usize) -> Result<Vec<Value>> {
        let sql = format!("INSERT INTO t VALUES ({id}, {sql})");
        self.client.batch_execute(&sql).await?;
        self.receiver.until_messages(count, SOON).await
    }
}

fn actions(plan: &Value) -> Vec<String> {
    let changes = plan["changes"].as_array().unwrap().iter();
    let shown = changes.map(|it| {
        format!(
            "{} {} {}",
            it["action"].as_str().unwrap(),
            it["resource_type"].as_str().unwrap(),
            it["name"].as_str().unwrap()
        )
    });
    shown.collect()
}

fn described(plan: &Value) -> String {
    let actions = plan["actions"].as_array().unwrap().iter();
    actions.map(|it| it["description"].as_str().unwrap().to_owned() + "\n").collect()
}

pub(crate) fn many(count: usize) -> String {
    let mut text = "sinks:\n".to_owned();
    for n in 0..count {
        text += hook(&format!("s{n:02}"), &format!("/{n}"), "").trim_start_matches("sinks:\n");
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn b238_b239_b255_from_an_empty_engine_to_two_dozen_sinks_and_back() -> Result<()> {
    let it = Applying::start().await?;
    let file = it.file(&many(24))?;
    let plan = it.json(&["config", "plan", &file, "--json"]).await?;
    assert_eq!(actions(&plan).len(), 26, "{plan}");
    assert_eq!(actions(&plan)[0], "create database source");
    let told = described(&plan);
    assert!(told.contains("create slot `sequin_it` on database `source`"), "{told}");
    assert!(!plan.to_string().contains("hidden-token"), "{plan}");
    assert_eq!(it.sinks().await?, [""; 0], "a plan changes nothing");
    assert!(it.export().await?.trim() == "{}", "{}", it.export().await?);
    let detailed = it.run(&["config", "plan", &file, "--detailed-exitcode"]).await?;
    assert_eq!(detailed.status.code(), Some(2));
    let shown = String::from_utf8(detailed.stdout)?;
    assert!(shown.contains("+ sink `s23` is created") && shown.contains("26 to create"), "{shown}");

    // Nobody is there to say yes.
    let told = it.refused(&["config", "apply", &file]).await?;
    assert!(told.contains("--auto-approve"), "{told}");
    let applied = it.apply(&file).await?;
    assert_eq!(applied["applied"], true);
    streaming(&it.sequin).await?;
    assert_eq!(it.sinks().await?.len(), 24);
    it.insert(1, "true, 'a'", 24).await?;

    // A plan of the export is empty, the export of that is the same to the byte, and so is all of it
    // once more.
    let exported = it.export().await?;
    let export = it.write("export.yaml", &exported)?;
    let plan = it.json(&["config", "plan", &export, "--json"]).await?;
    assert_eq!((actions(&plan), described(&plan)), (vec![], String::new()));
    assert_eq!(it.apply(&export).await?["applied"], false);
    assert_eq!(it.export().await?, exported);
    assert_eq!(it.apply(&file).await?["applied"], false);
    let shown = it.told(&["config", "apply", &file]).await?;
    assert!(shown.contains("Nothing to do"), "{shown}");
    // Without secrets it refers to variables of the environment, which are what it is without.
    let masked = it.told(&["config", "export"]).await?;
    assert!(!masked.contains("hidden-token") && !masked.contains("password: postgres"), "{masked}");
    let masked = it.write("masked.yaml", &masked)?;
    let told = it.refused(&["config", "plan", &masked]).await?;
    assert!(told.contains("DATABASE_SOURCE_PASSWORD` is not set"), "{told}");

    // One field of one sink: in place of it alone.
    let other = it.file(&many(24).replace("'/7'", "'/seven'"))?;
    let shown = it.told(&["config", "plan", &other]).await?;
    assert!(shown.contains("~ sink `s07` is started anew"), "{shown}");
    assert!(shown.contains("destination.http_endpoint_path: \"/7\" → \"/seven\""), "{shown}");
    let hash = it.json(&["config", "plan", &other, "--json"]).await?["hash"].clone();
    it.told(&["config", "apply", &other, "--plan", hash.as_str().context("a hash")?]).await?;
    let stale = it.refused(&["config", "apply", &file, "--plan", hash.as_str().unwrap()]).await?;
    assert!(stale.contains("stale_plan"), "{stale}");

    // What is not named stays, until it is pruned; and databases even then.
    let fewer = it.file(&many(2))?;
    assert_eq!(it.json(&["config", "plan", &fewer, "--json"]).await?["changes"], json!([]));
    let prune = ["config", "apply", &fewer, "--auto-approve", "--prune", "--json"];
    let pruned = it.json(&prune).await?;
    assert_eq!(actions(&pruned).len(), 22);
    assert_eq!(it.sinks().await?, ["s00", "s01"]);
    let nothing = it.write("nothing.yaml", "sinks: []\n")?;
    let told = it.refused(&["config", "plan", &nothing, "--prune"]).await?;
    assert!(told.contains("database_kept") && told.contains("--prune-databases"), "{told}");
    let all = ["config", "apply", &nothing, "--auto-approve", "--prune", "--prune-databases"];
    let told = it.told(&all).await?;
    assert!(told.contains("its slot stays at the source"), "{told}");
    until("the sinks to go", SOON, async || {
        let sinks = it.sinks().await?;
        Ok(if sinks.is_empty() { Ok(()) } else { Err(format!("{sinks:?}")) })
    })
    .await?;
    let deeds = it.told(&["plugin", "audit"]).await?;
    assert!(deeds.contains("delete database `source`"), "{deeds}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b240_b244_what_is_wrong_changes_nothing_and_is_told_with_its_place() -> Result<()> {
    let it = Applying::start().await?;
    it.apply(&it.file(&many(1))?).await?;
    streaming(&it.sequin).await?;
    let before = it.export().await?;
    let wrong = it.file(&many(2).replace("database: source", "databse: source"))?;
    let told = it.refused(&["config", "apply", &wrong, "--auto-approve"]).await?;
    assert!(told.contains("sequin.yaml:17:") && told.contains("databse"), "{told}");
    let missing = it.file(&many(1).replace("'/0'", "'${NOWHERE}'"))?;
    let told = it.refused(&["config", "apply", &missing, "--auto-approve"]).await?;
    assert!(told.contains("`NOWHERE` is not set"), "{told}");
    let gone = "functions: [{name: f, type: filter, file: gone.wasm}]\n";
    let gone = it.file(&format!("{gone}{}", many(1)))?;
    let told = it.refused(&["config", "apply", &gone, "--auto-approve"]).await?;
    assert!(told.contains("gone.wasm"), "{told}");
    let bad = it.write("bad.wasm", "no component")?;
    let bad = format!("functions: [{{name: f, type: filter, file: '{bad}'}}]\n");
    let bad = it.file(&format!("{bad}{}", many(1)))?;
    let told = it.refused(&["config", "apply", &bad, "--auto-approve"]).await?;
    assert!(told.contains("invalid_component"), "{told}");
    let kept =
        it.file("sinks: [{name: s, database: other, destination: {type: file, path: x}}]\n")?;
    let told = it.refused(&["config", "apply", &kept, "--auto-approve"]).await?;
    assert!(told.contains("sequin.yaml:15:") && told.contains("`other`"), "{told}");
    assert_eq!(it.export().await?, before);
    // What a client of the predecessor sends, and what it is told.
    let client = http::client()?;
    let url = |route: &str| format!("{}/api/config/{route}", it.sequin.url());
    let send = async |route: &str, yaml: &str| {
        let asked = client.post(url(route)).header("content-type", "application/json");
        let asked = asked.body(json!({"yaml": yaml}).to_string()).send().await?;
        let status = asked.status().as_u16();
        Ok::<_, anyhow::Error>((status, serde_json::from_str::<Value>(&asked.text().await?)?))
    };
    let (status, told) = send("plan", "a: [").await?;
    assert_eq!((status, &told["code"]), (422, &json!("invalid_config")), "{told}");
    assert!(told["validation_errors"]["yaml"][0].as_str().unwrap().contains("sequin.yaml:1:"));
    let (status, told) = send("plan", "functions: [{name: f, type: filter, file: f.wasm}]").await?;
    assert_eq!(status, 422, "{told}");
    assert!(told["summary"].as_str().unwrap().contains("does not come with a YAML text"), "{told}");
    // Its text is not filled in from the engine's environment.
    let text = std::fs::read_to_string(it.file(&many(1).replace("'/0'", "'/$HOME'"))?)?;
    let (status, told) = send("apply", &text).await?;
    assert_eq!(status, 200, "{told}");
    assert!(it.export().await?.contains("\"/$$HOME\""));
    let sent = client.post(url("apply")).body("x").send().await?;
    assert_eq!(sent.status(), 415);
    let sent = client.post(url("apply")).header("content-type", "application/x-tar").body("x");
    let told: Value = serde_json::from_str(&sent.send().await?.text().await?)?;
    assert_eq!(told["code"], "bad_bundle", "{told}");
    Ok(())
}

/// Components and SQL travel with the configuration; the engine never sees the files.
#[tokio::test(flavor = "multi_thread")]
async fn b238_b271_what_a_configuration_names_travels_with_it_and_survives_a_kill() -> Result<()> {
    let mut it = Applying::start().await?;
    std::fs::copy(plugin("public-rows"), it.dir.path().join("filter.wasm"))?;
    std::fs::create_dir(it.dir.path().join("plugins"))?;
    std::fs::write(it.dir.path().join("plugins/pick.wasm"), tagged("pick", "7.0.0"))?;
    it.write("look.sql", "select id, 'more' as more from t where id = any($1)")?;
    let rest = format!(
        "functions:
  - {{name: public, type: filter, file: filter.wasm, config: {{table: public.t, column: is_public}}}}
  - {{name: few, type: transform, plugin: pick@7.0.0, config: {{only: [id]}}}}
  - {{name: look, type: enrichment, file: look.sql}}
{}",
        hook("hook", "", "    filter: public\n    transform: few\n    enrichment: look\n    source: {include_tables: [t]}\n")
    );
    let file = it.file(&rest)?;
    // As one file, the same each time; its variables stay.
    let bundle = it.dir.path().join("all.tar").display().to_string();
    it.told(&["bundle", "build", &file, "-o", &bundle]).await?;
    let bytes = std::fs::read(&bundle)?;
    it.told(&["bundle", "build", &file, "-o", &bundle]).await?;
    assert_eq!(std::fs::read(&bundle)?, bytes);
    it.told(&["bundle", "verify", &bundle]).await?;
    let inspected = it.json(&["bundle", "inspect", &bundle]).await?;
    let names: Vec<_> =
        inspected["components"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert!(names.contains(&&json!("pick")) && names.contains(&&Value::Null), "{inspected}");
    // From elsewhere, without the files.
    let elsewhere = tempfile::tempdir()?;
    let moved = elsewhere.path().join("moved.tar").display().to_string();
    std::fs::rename(&bundle, &moved)?;
    for name in ["filter.wasm", "plugins/pick.wasm", "look.sql", "sequin.yaml"] {
        std::fs::remove_file(it.dir.path().join(name))?;
    }
    let plan = it.json(&["config", "plan", &moved, "--json"]).await?;
    assert!(actions(&plan).contains(&"create function public".to_owned()), "{plan}");
    let versions = it.told(&["plugin", "list"]).await?;
    assert!(!versions.contains("7.0.0"), "a plan writes nothing");
    it.apply(&moved).await?;
    streaming(&it.sequin).await?;
    it.client.batch_execute("INSERT INTO t VALUES (1, false, 'a')").await?;
    let messages = it.insert(2, "true, 'b'", 1).await?;
    assert_eq!(messages[0]["record"], json!({"id": 2}), "{messages:?}");
    assert_eq!(messages[0]["metadata"]["enrichment"]["more"], "more", "{messages:?}");
    let versions = it.told(&["plugin", "list"]).await?;
    assert!(versions.contains("7.0.0"), "{versions}");
    // What was applied is what the next process runs.
    let exported = it.export().await?;
    it.sequin.kill9().await?;
    it.sequin.restart().await?;
    streaming(&it.sequin).await?;
    assert_eq!(it.export().await?, exported);
    it.client.batch_execute("INSERT INTO t VALUES (3, false, 'a')").await?;
    let messages = it.insert(4, "true, 'b'", 2).await?;
    assert_eq!(messages[1]["record"], json!({"id": 4}));
    // A byte of it that is another, and a name that is taken.
    let mut changed = std::fs::read(&moved)?;
    let at = changed.len() - 4_000;
    changed[at] ^= 1;
    std::fs::write(&moved, &changed)?;
    let told = it.refused(&["config", "apply", &moved, "--auto-approve"]).await?;
    assert!(told.contains("it was changed"), "{told}");
    it.write("plugins/pick.wasm", "")?;
    let other = crate::uploads::with_section(&tagged("pick", "7.0.0"), "more", b"x");
    std::fs::write(it.dir.path().join("plugins/pick.wasm"), other)?;
    let few =
        "functions: [{name: few, type: transform, plugin: pick@7.0.0, config: {only: [id]}}]\n";
    let file = it.write("one.yaml", few)?;
    let told = it.refused(&["config", "apply", &file, "--auto-approve"]).await?;
    assert!(told.contains("version_taken"), "{told}");
    Ok(())
}

/// Several files by several owners, and a file of the engine's own.
#[tokio::test(flavor = "multi_thread")]
async fn b238_an_owner_prunes_its_own_and_no_others() -> Result<()> {
    let it = Applying::start().await?;
    it.apply(&it.file("sinks: []\n")?).await?;
    let sink = |name: &str| hook(name, "", "");
    let (a, b) = (it.write("a.yaml", &sink("a"))?, it.write("b.yaml", &sink("b"))?);
    let apply = async |file: &str, owner: &str| {
        let apply =
            ["config", "apply", file, "--auto-approve", "--prune", "--owner", owner, "--json"];
        it.json(&apply).await
    };
    for (file, owner) in [(&a, "a"), (&b, "b")] {
        assert_eq!(actions(&apply(file, owner).await?), [format!("create sink {owner}")]);
    }
    assert_eq!(it.sinks().await?, ["a", "b"]);
    let none = it.write("a.yaml", "sinks: []\n")?;
    assert_eq!(actions(&apply(&none, "a").await?), ["delete sink a"]);
    let told = it.told(&["config", "drift"]).await?;
    assert!(told.contains("no file of its own"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b238_an_own_file_wins_when_it_says_something_new_and_drift_is_shown() -> Result<()> {
    let it = Applying::start_with(Some(&many(1))).await?;
    streaming(&it.sequin).await?;
    let told = it.told(&["config", "drift", "--detailed-exitcode"]).await?;
    assert!(told.contains("is what the engine's own file says"), "{told}");
    let b = it.write("b.yaml", &hook("b", "", ""))?;
    it.apply(&b).await?;
    assert_eq!(it.sinks().await?, ["b", "s00"]);
    let drift = it.run(&["config", "drift", "--detailed-exitcode"]).await?;
    assert_eq!(drift.status.code(), Some(2));
    assert!(String::from_utf8(drift.stdout)?.contains("+ sink `b`"));
    assert_eq!(it.sequin.metric("sequin_config_drift", &[]).await?, 1.0);
    // What is wrong with it leaves what was applied.
    let own = std::fs::read_to_string(it.sequin.config_path())?;
    it.sequin.write_config(&format!("{own}\nsinkz: 1\n"))?;
    until("the refusal", LATER, async || {
        let failed = it.sequin.metric("sequin_config_reload_failed", &[]).await?;
        Ok(if failed == 1.0 { Ok(()) } else { Err("not refused".to_owned()) })
    })
    .await?;
    assert_eq!(it.sinks().await?, ["b", "s00"]);
    // Something new in it takes the place of what was applied.
    it.sequin.write_config(&own.replace("'/0'", "'/new'"))?;
    until("the file to win", LATER, async || {
        let sinks = it.sinks().await?;
        Ok(if sinks == ["s00"] { Ok(()) } else { Err(format!("{sinks:?}")) })
    })
    .await?;
    until("the drift to end", SOON, async || {
        let drift = it.sequin.metric("sequin_config_drift", &[]).await?;
        Ok(if drift == 0.0 { Ok(()) } else { Err("drift".to_owned()) })
    })
    .await?;
    // So it does at a start, unless told otherwise.
    it.apply(&b).await?;
    let Applying { mut sequin, postgres: _postgres, receiver: _receiver, .. } = it;
    let has_b = async |sequin: &Sequin| {
        Ok::<_, anyhow::Error>(sequin.metrics().await?.contains("entity_name=\"b\""))
    };
    for (wins, is_there) in [("true", true), ("false", false)] {
        sequin.set_env("SEQUIN_APPLIED_CONFIG_WINS", wins);
        sequin.restart().await?;
        streaming(&sequin).await?;
        assert_eq!(has_b(&sequin).await?, is_there, "{wins}");
    }
    assert!(sequin.log().contains("takes the place of what was applied"));
    Ok(())
}

/// Tables are read as a whole when the sink is new, and by no later apply of it.
#[tokio::test(flavor = "multi_thread")]
async fn b252_an_apply_of_a_sink_that_is_there_reads_its_tables_no_second_time() -> Result<()> {
    let it = Applying::start().await?;
    it.client
        .batch_execute("INSERT INTO t SELECT id, true, 'x' FROM generate_series(1, 3) id")
        .await?;
    let sink = |more: &str| {
        let options =
            format!("    source: {{include_tables: [t]}}\n    initial_backfill: true\n{more}");
        hook("hook", "", &options)
    };
    let plan = it.apply(&it.file(&sink(""))?).await?;
    assert!(described(&plan).contains("read the tables of sink `hook` as a whole"), "{plan}");
    streaming(&it.sequin).await?;
    let keys = |messages: &[Value]| {
        let ids = messages.iter().map(|it| it["record"]["id"].as_i64().unwrap());
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(keys(&it.receiver.until_messages(3, LATER).await?), [1, 2, 3]);
    let plan = it.apply(&it.file(&sink("    batch_size: 7\n"))?).await?;
    assert!(!described(&plan).contains("as a whole"), "{plan}");
    assert_eq!(it.apply(&it.file(&sink("    batch_size: 7\n"))?).await?["applied"], false);
    assert_eq!(keys(&it.insert(4, "true, 'y'", 4).await?), [1, 2, 3, 4]);
    let backfills = it.told(&["backfills", "list", "hook"]).await?;
    assert_eq!(backfills.lines().count(), 1, "{backfills}");
    Ok(())
}

/// Once plugins must be signed, what comes with an apply must be, and no apply changes by whom.
#[tokio::test(flavor = "multi_thread")]
async fn b271_what_comes_with_an_apply_is_signed_and_no_apply_changes_by_whom() -> Result<()> {
    let it = Applying::start().await?;
    let openssl = |arguments: &[&str]| -> Result<()> {
        let output = std::process::Command::new("openssl");
        let output = { output }.args(arguments).current_dir(it.dir.path()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key"])?;
    openssl(&["pkey", "-in", "key", "-pubout", "-out", "pub"])?;
    let public = std::fs::read_to_string(it.dir.path().join("pub"))?;
    let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();
    let policy = format!(
        "plugins: {{signatures: {{keys: [{{name: ci, public_key: {public}}}], \
         require: [{{plugin: '*', any_of: [ci]}}]}}}}\n"
    );
    it.apply(&it.file(&(policy.clone() + "sinks: []\n"))?).await?;
    std::fs::copy(plugin("public-rows"), it.dir.path().join("f.wasm"))?;
    let function = "functions: [{name: f, type: filter, file: f.wasm, \
                    config: {table: public.t, column: is_public}}]\n";
    let file = it.file(&format!("{function}{}", hook("hook", "", "    filter: f\n")))?;
    let told = it.refused(&["config", "apply", &file, "--auto-approve"]).await?;
    assert!(told.contains("unsigned: `public-rows` must be signed by ci"), "{told}");
    openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", "key", "-in", "f.wasm", "-out", "s"])?;
    openssl(&["base64", "-in", "s", "-out", "f.wasm.sig"])?;
    it.apply(&file).await?;
    streaming(&it.sequin).await?;
    it.client.batch_execute("INSERT INTO t VALUES (1, false, 'a')").await?;
    assert_eq!(it.insert(2, "true, 'b'", 1).await?[0]["record"]["id"], 2);
    for other in ["plugins: {}\nsinks: []\n", &policy.replace("'*'", "'a*'")] {
        let told = it.refused(&["config", "apply", &it.file(other)?, "--auto-approve"]).await?;
        assert!(told.contains("signatures_fixed"), "{told}");
    }
    let prune = ["config", "apply", &it.file("sinks: []\n")?, "--auto-approve", "--prune"];
    it.told(&prune).await?;
    assert!(it.export().await?.contains("require:"), "saying nothing withdraws nothing");
    Ok(())
}

/// A table may be created later. A column of one that is there, which no row will have, is a slip.
#[tokio::test(flavor = "multi_thread")]
async fn b247_b249_b271_a_column_that_the_source_does_not_have_fails_the_plan() -> Result<()> {
    let it = Applying::start().await?;
    std::fs::copy(plugin("public-rows"), it.dir.path().join("f.wasm"))?;
    let filtered = |column: &str, tables: &str, options: &str| {
        let function = format!(
            "functions: [{{name: f, type: filter, file: f.wasm, config: {{table: public.t, column: {column}}}}}]\n"
        );
        let options =
            format!("    filter: f\n    source: {{include_tables: [{tables}]}}\n{options}");
        it.file(&format!("{function}{}", hook("hook", "", &options)))
    };
    let group = "    tables: [{name: t, group_column_names: [nmae]}]\n";
    for (column, options, wrong) in [
        (
            "is_publik",
            "",
            "has no column is_publik, which function `f` reads; did you mean is_public?",
        ),
        (
            "is_public",
            group,
            "has no column nmae, which is to group its messages; did you mean name?",
        ),
    ] {
        let told = it.refused(&["config", "plan", &filtered(column, "t", options)?]).await?;
        assert!(told.contains("column_missing") && told.contains(wrong), "{told}");
    }
    // Of a table that the sink does not take, and of one that is not there yet.
    let plan = it.json(&["config", "plan", &filtered("is_publik", "later", "")?, "--json"]).await?;
    assert!(plan["warnings"].to_string().contains("no table public.later"), "{plan}");
    // What a transform sets, the one behind it reads: no table has it.
    for name in ["pick", "feature-flags"] {
        std::fs::copy(plugin(name), it.dir.path().join(format!("{name}.wasm")))?;
    }
    let chain = format!(
        "functions:
  - {{name: sets, type: transform, file: pick.wasm, config: {{set: {{made: a}}}}}}
  - {{name: reads, type: transform, file: feature-flags.wasm, config: {{table: public.t, column: made, flags: [a]}}}}
{}",
        hook("hook", "", "    transform: [sets, reads]\n    source: {include_tables: [t]}\n")
    );
    it.json(&["config", "plan", &it.file(&chain)?, "--json"]).await?;
    it.apply(&filtered("is_public", "t", "")?).await?;
    // What runs and is not touched hinders no apply, and is shown.
    it.client.batch_execute("ALTER TABLE t RENAME is_public TO is_open").await?;
    let more = filtered("is_public", "t", "")?;
    let text =
        std::fs::read_to_string(&more)? + hook("other", "/o", "").trim_start_matches("sinks:\n");
    it.apply(&it.write("more.yaml", &text)?).await?;
    assert_eq!(it.sinks().await?, ["hook", "other"]);
    Ok(())
}
