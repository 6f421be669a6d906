//! Versions of plugins: promote, go back, hold; in the running engine, over restarts and kills.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Sequin, until};

use crate::uploads::{answer, push, tagged};
use crate::world::{LATER, SOON, World, hook, plugin, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a boolean, b boolean)";

/// Rows where `column` is true pass the filter.
fn by_file(file: &str, column: &str) -> String {
    format!(
        "    filter: public
functions:
  - {{name: public, type: filter, file: '{file}', config: {{column: {column}}}}}
"
    )
}

fn named(version: &str, column: &str) -> String {
    by_file("", column).replace("file: ''", &format!("plugin: public-rows@{version}"))
}

impl World {
    /// Asks the engine with a command; its answer, one JSON value a line.
    async fn told(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        answer(&self.sequin, arguments).await
    }

    async fn refused(&self, arguments: &[&str], code: &str) -> Result<String> {
        refused(&self.sequin, arguments, code).await
    }

    fn write(&self, rest: &str) -> Result<()> {
        let config = yaml(self.postgres.port(), &self.receiver.url(), &hook("hook", "", rest));
        self.sequin.write_config(&config)
    }

    async fn reloaded(&self, rest: &str) -> Result<()> {
        let count = async || self.sequin.metric("sequin_config_reloads_total", &[]).await;
        let before = count().await?;
        self.write(rest)?;
        self.until("another configuration", async || Ok((count().await? > before).then_some(())))
            .await
    }

    async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let found =
            until(what, SOON, async || Ok(look().await?.ok_or_else(|| "not yet".to_owned())));
        found.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    /// Inserts a row that passes by `a` and one that passes by `b`: which of them arrives.
    async fn column(&self, id: &mut i64) -> Result<&'static str> {
        *id += 2;
        let (a, b) = (*id, *id + 1);
        let sql = format!("INSERT INTO t VALUES ({a}, true, false), ({b}, false, true)");
        self.client.batch_execute(&sql).await?;
        self.until("one of two rows", async || {
            let ids = self.ids();
            Ok(if ids.contains(&a) { Some("a") } else { ids.contains(&b).then_some("b") })
        })
        .await
    }

    fn ids(&self) -> Vec<i64> {
        let messages = self.receiver.messages();
        messages.iter().filter_map(|message| message["record"]["id"].as_i64()).collect()
    }

    async fn history(&self) -> Result<Vec<Value>> {
        self.told(&["plugin", "history", "hook"]).await
    }
}

async fn refused(sequin: &Sequin, arguments: &[&str], code: &str) -> Result<String> {
    let output = sequin.command(arguments).await?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains(&format!("error: {code}: ")), "{code}: {said}");
    Ok(said)
}

/// Upload is not deploy; a promotion is, from a recorded position, and holds over restarts and kills
/// against the file, until the file says the same.
#[tokio::test(flavor = "multi_thread")]
async fn b270_a_promotion_holds_until_the_file_says_the_same() -> Result<()> {
    let mut world = World::start(TABLE, &by_file(&plugin("public-rows"), "a")).await?;
    let mut id = 0;
    assert_eq!(world.column(&mut id).await?, "a");
    let next = push(&world.sequin, &tagged("public-rows", "2.0.0")).await?;
    assert_eq!((&next["version"], &next["created"]), (&json!("2.0.0"), &json!(true)));
    assert_eq!(world.column(&mut id).await?, "a", "an upload deploys nothing");
    let to = ["plugin", "promote", "hook", "--to", "public-rows@2.0.0", "--by", "ann"];
    let with = ["--config", "{\"column\": \"b\"}", "--reason", "b is right"];
    let made = world.told(&[&to[..], &with[..]].concat()).await?;
    assert_eq!((&made[0]["generation"], &made[0]["how"]), (&json!(2), &json!("promote")));
    assert_eq!(made[0]["plugins"][0]["digest"], next["digest"]);
    assert_eq!(world.column(&mut id).await?, "b");

    // The old file, after a kill and after an edit of something else, undoes nothing.
    world.sequin.kill9().await?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    assert_eq!(world.column(&mut id).await?, "b");
    let log = world.sequin.log();
    for part in ["held: the filter of sink `hook`", "`ann`", "b is right", "release hook"] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    let held = [("consumer_name", "hook"), ("role", "filter")];
    assert_eq!(world.sequin.metric("sequin_binding_held", &held).await?, 1.0);
    let edited = by_file(&plugin("public-rows"), "a") + "#";
    world.reloaded(&format!("    batch_size: 7\n{edited}")).await?;
    assert_eq!(world.column(&mut id).await?, "b", "all else of the edit is done");
    let all = world.told(&["plugin", "bindings"]).await?;
    assert_eq!((&all[0]["sink"], &all[0]["hold"]["by"]), (&json!("hook"), &json!("ann")));

    // The file says the same: the hold is over, and the file decides again.
    world.write(&named("2.0.0", "b"))?;
    world
        .until("the hold to be over", async || {
            let all = world.told(&["plugin", "bindings"]).await?;
            Ok(all[0]["hold"].is_null().then_some(()))
        })
        .await?;
    assert!(world.sequin.metric("sequin_binding_held", &held).await.is_err(), "nothing is held");
    world.reloaded(&by_file(&plugin("public-rows"), "a")).await?;
    assert_eq!(world.column(&mut id).await?, "a");

    // Everything is on record, with the places where it began.
    let history = world
        .until("where the last generation began", async || {
            let history = world.history().await?;
            Ok((!history[0]["behind"].is_null()).then_some(history))
        })
        .await?;
    let how: Vec<_> = history.iter().map(|it| it["how"].as_str().unwrap()).collect();
    assert_eq!(how, ["apply", "promote", "apply"]);
    assert!(history.iter().all(|it| it["behind"]["commit_lsn"].is_string()), "{history:?}");
    let deeds = world.told(&["plugin", "audit"]).await?;
    let what: Vec<_> = deeds.iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["apply", "hold_met", "promote", "upload", "apply"], "{deeds:?}");
    assert_eq!((&deeds[2]["by"], &deeds[2]["digest"]), (&json!("ann"), &next["digest"]));
    Ok(())
}

/// Going back takes the chain with its config, and the next apply that would undo it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn b270_who_goes_back_is_not_undone_by_the_next_apply() -> Result<()> {
    let world = World::start(TABLE, &by_file(&plugin("public-rows"), "a")).await?;
    push(&world.sequin, &tagged("public-rows", "2.0.0")).await?;
    push(&world.sequin, &tagged("public-rows", "3.0.0")).await?;
    let mut id = 0;
    world.reloaded(&named("2.0.0", "b")).await?;
    assert_eq!(world.column(&mut id).await?, "b");
    let back = ["plugin", "rollback", "hook", "--by", "bob", "--reason", "rows are missing"];
    let made = world.told(&back).await?;
    assert_eq!((&made[0]["generation"], &made[0]["how"]), (&json!(3), &json!("rollback")));
    assert_eq!(world.column(&mut id).await?, "a");
    // The file still wants the other one, and wants yet another then.
    world.write(&named("3.0.0", "b"))?;
    world
        .until("the refusal", async || {
            let refused = world.sequin.log().contains("held: the filter of sink `hook`");
            Ok(refused.then_some(()))
        })
        .await?;
    let log = world.sequin.log();
    assert!(log.contains("`bob`") && log.contains("rows are missing"), "{log}");
    assert_eq!(world.column(&mut id).await?, "a");
    world.refused(&["plugin", "rollback", "hook", "--to", "9"], "unknown_generation").await?;
    world.refused(&["plugin", "rollback", "hook", "--to", "1"], "unchanged").await?;
    world.refused(&["plugin", "rollback", "nobody"], "unknown_sink").await?;

    let released = world.told(&["plugin", "release", "hook", "--by", "bob"]).await?;
    assert_eq!(released, [json!({"released": true})]);
    assert_eq!(world.column(&mut id).await?, "b", "the file decides again");
    world.refused(&["plugin", "release", "hook"], "not_held").await?;
    let history = world.history().await?;
    assert_eq!(history[0]["plugins"][0]["versions"], json!(["public-rows@3.0.0"]));
    Ok(())
}

/// What does not open or does not take its config is refused, and what runs goes on.
#[tokio::test(flavor = "multi_thread")]
async fn b270_b271_what_cannot_run_is_refused_and_what_runs_goes_on() -> Result<()> {
    let world = World::start(TABLE, &by_file(&plugin("public-rows"), "a")).await?;
    let router = push(&world.sequin, &tagged("route-by-columns", "2.0.0")).await?;
    push(&world.sequin, &tagged("public-rows", "2.0.0")).await?;
    let digest = router["digest"].as_str().unwrap();
    let before = world.history().await?;
    let refused = [
        (vec!["--to", "public-rows@2.0.0", "--config", "{\"colour\": 1}"], "plugin_refused"),
        (vec!["--to", digest], "plugin_refused"),
        (vec!["--to", "public-rows@7.0.0"], "unknown_version"),
        (vec!["--to", "public-rows@2.0.0", "--function", "other"], "which_function"),
        (vec!["--to", "public-rows@2.0.0", "--role", "transform"], "no_binding"),
    ];
    for (arguments, code) in refused {
        let arguments = [&["plugin", "promote", "hook"], &arguments[..]].concat();
        world.refused(&arguments, code).await?;
    }
    assert_eq!(world.history().await?, before, "nothing was recorded");
    assert_eq!(world.column(&mut 0).await?, "a");
    Ok(())
}

/// A version never moves, is named in the file, and stays while somebody may want it back.
#[tokio::test(flavor = "multi_thread")]
async fn b250_b270_a_version_stays_what_it_is_while_it_is_used() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let first = tagged("public-rows", "1.0.0");
    let pushed = push(&world.sequin, &first).await?;
    let again = push(&world.sequin, &first).await?;
    assert_eq!((&again["digest"], &again["created"]), (&pushed["digest"], &json!(false)));
    let other = crate::uploads::with_section(&first, "note", b"other bytes");
    let other = crate::uploads::file(&other);
    let arguments = ["plugin", "push", other.path().to_str().unwrap()];
    world.refused(&arguments, "version_taken").await?;

    let mut id = 0;
    world.reloaded(&named("1.0.0", "a")).await?;
    assert_eq!(world.column(&mut id).await?, "a");
    world.refused(&["plugin", "delete", "public-rows@1.0.0"], "in_use").await?;
    push(&world.sequin, &tagged("public-rows", "2.0.0")).await?;
    world.reloaded(&named("2.0.0", "b")).await?;
    assert_eq!(world.column(&mut id).await?, "b");
    world.refused(&["plugin", "delete", "public-rows@1.0.0"], "in_use").await?;
    push(&world.sequin, &tagged("public-rows", "3.0.0")).await?;
    world.reloaded(&named("3.0.0", "b")).await?;
    world.told(&["plugin", "delete", "public-rows@1.0.0"]).await?;
    world.refused(&["plugin", "show", "public-rows@1.0.0"], "unknown_version").await?;
    // Its bytes are those of a generation, which can still be gone back to.
    assert_eq!(world.told(&["plugin", "collect"]).await?[0]["removed"], json!([]));
    world.told(&["plugin", "rollback", "hook", "--to", "1"]).await?;
    assert_eq!(world.column(&mut id).await?, "a");
    let listed = world.told(&["plugin", "list"]).await?;
    let listed: Vec<_> = listed.iter().map(|it| it["version"].as_str().unwrap()).collect();
    assert_eq!(listed, ["2.0.0", "3.0.0"]);
    Ok(())
}

/// A kill in the middle of a promotion or of a way back leaves the one or the other, as it is on record, and loses
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn b270_a_kill_in_a_promotion_leaves_what_is_on_record() -> Result<()> {
    let mut world = World::start(TABLE, &by_file(&plugin("public-rows"), "a")).await?;
    push(&world.sequin, &tagged("public-rows", "2.0.0")).await?;
    let mut last = 0;
    let mut seen = 1;
    for round in 0..6_i64 {
        let (from, to) = (round * 1_000 + 1, round * 1_000 + 500);
        let sql =
            format!("INSERT INTO t SELECT n, true, true FROM generate_series({from}, {to}) n");
        world.client.batch_execute(&sql).await?;
        // Always the one that does not run.
        let now = world.history().await?;
        let is_first = now[0]["plugins"] == now[now.len() - 1]["plugins"];
        let column = if is_first { "b" } else { "a" };
        let config = format!("{{\"column\": \"{column}\"}}");
        let first = now[now.len() - 1]["plugins"][0]["digest"].as_str().unwrap();
        let version = if is_first { "public-rows@2.0.0" } else { first };
        let mut command = world.sequin.executable();
        // What ran before is the other one: so is a way back, as soon as there is one.
        match round {
            0..3 => {
                command.args(["plugin", "promote", "hook", "--to", version, "--config", &config])
            }
            _ => command.args(["plugin", "rollback", "hook"]),
        };
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut asking = command.spawn()?;
        // Each round a little later on its way: at once, once it is taken up, once it is done.
        let log = world.sequin.log().len();
        match round % 3 {
            0 => {}
            1 => {
                world
                    .until("the promotion to be taken up", async || {
                        let log = world.sequin.log().split_off(log);
                        Ok(log.contains("taking up another configuration").then_some(()))
                    })
                    .await?;
            }
            _ => {
                asking.wait()?;
            }
        }
        world.sequin.kill9().await?;
        asking.wait()?;
        world.sequin.restart().await?;
        streaming(&world.sequin).await?;
        let history = world.history().await?;
        let number = history[0]["generation"].as_u64().unwrap();
        assert!(number == seen || number == seen + 1, "{number} after {seen}");
        assert!(number == seen + 1 || round % 3 == 0, "it was on record before it ran");
        seen = number;
        let mut id = 100_000 + last;
        let runs = world.column(&mut id).await?;
        last += 2;
        let promoted = history[0]["plugins"][0]["versions"] == json!(["public-rows@2.0.0"]);
        assert_eq!(runs, if promoted { "b" } else { "a" }, "round {round}");
        until("all rows", LATER, async || {
            let ids = world.ids();
            let missing: Vec<_> = (from..=to).filter(|id| !ids.contains(id)).collect();
            Ok(if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) })
        })
        .await?;
    }
    Ok(())
}
