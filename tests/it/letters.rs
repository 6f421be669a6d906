//! Dead letters from the outside: the API and the command line of a running engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Behaviour, http, until};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::world::{LATER, SOON, World, plugin, streaming};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value text)";

impl World {
    async fn ask(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.sequin.url());
        let request = http::client()?.request(method.parse()?, url);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        Ok((status, serde_json::from_str(&text).with_context(|| text.clone())?))
    }

    async fn letters(&self, letters: usize) -> Result<Vec<Value>> {
        until("the letters", SOON, async || {
            let (_, list) = self.ask("GET", "/api/sinks/hook/letters", json!(null)).await?;
            let found = list["data"].as_array().cloned().unwrap_or_default();
            Ok(if found.len() == letters { Ok(found) } else { Err(list.to_string()) })
        })
        .await
    }

    async fn cli(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.sequin.command(arguments).await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(text)?))
    }
}

/// Letters of three rows: one is sent again, one is edited first, one is discarded.
#[tokio::test(flavor = "multi_thread")]
async fn b122_b235_letters_are_listed_edited_retried_and_discarded() -> Result<()> {
    let world = World::start(TABLE, "    max_retry_count: 1\n    batch_size: 1\n").await?;
    world.receiver.set_predicate(|body| body.to_string().contains("bad").then_some(422));
    world
        .client
        .batch_execute("INSERT INTO t VALUES (1, 'bad 9007199254740993'), (2, 'bad'), (3, 'bad')")
        .await?;
    let mut letters = world.letters(3).await?;
    // They were put aside side by side.
    letters.sort_by_key(|letter| letter["commit_idx"].as_u64());
    assert_eq!(letters[0]["reason"], "delivery", "{letters:?}");
    assert_eq!((&letters[0]["table"], &letters[0]["attempts"]), (&json!("public.t"), &json!(1)));
    let (status, counts) = world.ask("GET", "/api/letters/counts", json!(null)).await?;
    assert_eq!((status, &counts["data"][0]["letters"]), (200, &json!(3)), "{counts}");
    let (_, found) = world.ask("GET", "/api/letters?text=9007199254740993", json!(null)).await?;
    assert_eq!(found["data"].as_array().map(Vec::len), Some(1), "{found}");
    let ids: Vec<String> = letters.iter().map(|letter| letter["id"].to_string()).collect();
    let (status, whole) =
        world.ask("GET", &format!("/api/letters/{}", ids[1]), json!(null)).await?;
    assert_eq!((status, &whole["input"]["record"]["id"]), (200, &json!(2)), "{whole}");
    assert_eq!(whole["input"]["metadata"]["columns"][0]["type"], "int8", "{whole}");

    // Edited, looked at, sent.
    let input = whole["input"].to_string().replace("bad", "mended");
    let (code, told) = world.cli(&["letters", "edit", &ids[1], "--input", &input]).await?;
    assert_eq!(code, Some(0), "{told}");
    let (_, dry) = world
        .ask("POST", "/api/sinks/hook/letters/replay", json!({"all": true, "dry_run": true}))
        .await?;
    assert!(
        dry.to_string().contains("\"verdict\":\"send\"") && dry.to_string().contains("mended"),
        "{dry}"
    );
    assert_eq!(world.receiver.messages().len(), 0, "nothing was sent");
    let (code, told) = world.cli(&["letters", "retry", &ids[1]]).await?;
    assert!(code == Some(0) && told.contains("\"delivered\":1"), "{told}");
    let sent = world.receiver.until_messages(1, SOON).await?;
    assert_eq!(sent[0]["record"]["value"], "mended");
    assert_eq!(sent[0]["metadata"]["replay"], true);
    assert_eq!(sent[0]["metadata"]["idempotency_key"], whole["idempotency_key"]);

    let (code, told) =
        world.cli(&["letters", "discard", &ids[2], "--reason", "a test row"]).await?;
    assert_eq!(code, Some(0), "{told}");
    // It still fails, and stays.
    let (code, told) = world.cli(&["letters", "replay", "--sink", "hook"]).await?;
    assert!(code == Some(0) && told.contains("\"failed\":1"), "{told}");
    let (code, told) = world.cli(&["letters", "show", &ids[2]]).await?;
    let shown: Value = serde_json::from_str(&told)?;
    assert_eq!(
        (code, &shown["state"], &shown["closed_why"]),
        (Some(0), &json!("discarded"), &json!("a test row"))
    );
    let (_, listed) = world.cli(&["letters", "--sink", "hook"]).await?;
    assert_eq!(listed.lines().count(), 1, "{listed}");

    // What is wrong is told.
    let (code, told) = world.cli(&["letters", "--sink", "nope"]).await?;
    assert!(code == Some(64) && told.contains("there are: hook"), "{told}");
    let (code, told) = world.cli(&["letters", "replay", "--sink", "nope"]).await?;
    assert!(code == Some(64) && told.contains("these do: hook"), "{told}");
    let (status, told) = world.ask("GET", "/api/sinks/nope/letters", json!(null)).await?;
    assert!(status == 404 && told["summary"].to_string().contains("there are: hook"), "{told}");
    let (status, _) = world.ask("PATCH", "/api/letters/9999", json!({"input": {}})).await?;
    assert_eq!(status, 404);
    let origin = http::client()?.get(format!("{}/api/letters", world.sequin.url()));
    assert_eq!(origin.header("origin", "https://a.test").send().await?.status().as_u16(), 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b235_a_failing_message_is_visible_and_is_retried_or_discarded_now() -> Result<()> {
    let world = World::start(TABLE, "    batch_size: 1\n").await?;
    world.receiver.set_predicate(|body| body.to_string().contains("bad").then_some(400));
    world.client.batch_execute("INSERT INTO t VALUES (1, 'bad'), (2, 'bad')").await?;
    let waiting = until("two messages to wait", SOON, async || {
        let (_, list) = world.ask("GET", "/api/sinks/hook/messages", json!(null)).await?;
        let found = list["data"].as_array().cloned().unwrap_or_default();
        let all = found.len() == 2 && found.iter().all(|it| it["attempts"].as_u64() > Some(1));
        Ok(if all { Ok(found) } else { Err(list.to_string()) })
    })
    .await?;
    assert!(waiting[0]["last_error"].to_string().contains("400"), "{waiting:?}");
    assert_eq!(waiting[0]["payload"]["record"]["id"], 1, "{waiting:?}");
    let (_, listed) = world.cli(&["messages", "list", "hook"]).await?;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    // The first one is sent as another message, which goes at once; what it was is kept with its letter.
    let id = waiting[0]["id"].as_str().unwrap();
    let (_, shown) = world.cli(&["messages", "show", "hook", id]).await?;
    assert!(shown.contains("\"payload\":") && shown.contains("400"), "{shown}");
    let shown: Value = serde_json::from_str(&shown)?;
    let mut instead = shown["message"].clone();
    instead["payload"]["record"]["value"] = json!("good");
    until("the message to be edited", SOON, async || {
        let text = instead.to_string();
        let (code, told) = world.cli(&["messages", "edit", "hook", id, "--message", &text]).await?;
        // It may be under way just then.
        Ok(if code == Some(0) { Ok(()) } else { Err(told) })
    })
    .await?;
    let sent = world.receiver.until_messages(1, SOON).await?;
    assert_eq!(sent[0]["record"]["value"], "good", "{sent:?}");
    let (code, _) = world.cli(&["messages", "show", "hook", id]).await?;
    assert_eq!(code, Some(64), "it does not wait any more");
    let id = waiting[1]["id"].as_str().unwrap();
    until("the message to be discarded", SOON, async || {
        let discard = ["messages", "discard", "hook", id, "--reason", "test"];
        let (code, told) = world.cli(&discard).await?;
        // It may be under way just then.
        Ok(if code == Some(0) { Ok(()) } else { Err(told) })
    })
    .await?;
    let letters = world.letters(1).await?;
    assert!(letters[0]["error"].to_string().contains("by hand: test"), "{letters:?}");
    world.receiver.clear_predicate();
    let (code, told) = world.cli(&["messages", "retry", "hook"]).await?;
    assert_eq!(code, Some(0), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn b236_a_trace_is_switched_on_and_read() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let (status, told) = world.ask("POST", "/api/sinks/hook/trace", json!({"rows": 5})).await?;
    assert_eq!(status, 200, "{told}");
    world.messages_after("INSERT INTO t VALUES (1, 'x')", 1).await?;
    until("the trace", SOON, async || {
        let (_, trace) = world.ask("GET", "/api/sinks/hook/trace", json!(null)).await?;
        let what: Vec<&str> = trace["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| it["what"].as_str())
            .collect();
        let all = what == ["input", "output", "request", "sent"]
            && trace["data"][3]["told"]["verdict"] == "delivered";
        let sent = &trace["data"][2]["told"];
        let all = all
            && (&sent["method"], &sent["answer"]["status"]) == (&json!("POST"), &json!(200))
            && sent["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:"))
            && sent["headers"]["content-type"] == "application/json"
            && sent["headers"]["authorization"] == "…"
            && sent["body"]["text"].as_str().is_some_and(|body| body.contains("\"value\":\"x\""));
        assert!(!trace.to_string().contains("hidden-token"), "{trace}");
        Ok(if all { Ok(()) } else { Err(trace.to_string()) })
    })
    .await?;
    Ok(())
}

/// `sequin sink tail` shows what passes as it passes, and ends by itself or with the engine.
#[tokio::test(flavor = "multi_thread")]
async fn b236_a_tail_shows_what_passes_until_it_is_over() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    let mut command = world.sequin.executable();
    command.args(["sink", "tail", "hook", "--rows", "1"]).stdout(std::process::Stdio::piped());
    let mut tail = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    until("the trace to be on", SOON, async || {
        let (_, trace) = world.ask("GET", "/api/sinks/hook/trace", json!(null)).await?;
        Ok(if trace["on"] == true { Ok(()) } else { Err(trace.to_string()) })
    })
    .await?;
    world.messages_after("INSERT INTO t VALUES (1, 'x')", 1).await?;
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 4 {
        let line = tokio::time::timeout(SOON, lines.next_line()).await??;
        let event: Value = serde_json::from_str(&line.context("a line")?)?;
        seen.push(event["what"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(seen, ["input", "output", "request", "sent"]);
    // Who looks on does not hold the engine up.
    let stopped = world.sequin.terminate().await?;
    assert!(stopped.success(), "{stopped}");
    tokio::time::timeout(SOON, tail.wait()).await??;
    Ok(())
}

/// `sequin sink test` says what is wrong with a destination, and sends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_tested_without_a_message() -> Result<()> {
    let world = World::start(TABLE, "").await?;
    let (code, told) = world.cli(&["sink", "test", "hook"]).await?;
    assert!(code == Some(0) && told.contains("takes messages"), "{told}");
    assert!(world.receiver.messages().is_empty());
    let (code, told) = world.cli(&["sink", "test", "nope"]).await?;
    assert!(code == Some(64) && told.contains("nope"), "{told}");
    let (status, summary) = world.ask("GET", "/api/metrics/summary", json!(null)).await?;
    assert_eq!(status, 200);
    assert_eq!(summary["sinks"][0]["name"], "hook");
    assert_eq!(summary["sinks"][0]["metrics"]["sequin_sink_up"], 1, "{summary}");
    assert_eq!(summary["slots"][0]["metrics"]["sequin_slot_connected"], 1, "{summary}");
    Ok(())
}

/// Rows that a version failed on are sent through another one. A kill in the middle leaves what was not
/// sent where it was; the next replay goes on with it, in the order of each row's changes.
#[tokio::test(flavor = "multi_thread")]
async fn b122_b270_a_kill_in_a_replay_through_another_version_loses_and_reorders_nothing()
-> Result<()> {
    const KEYS: i64 = 40;
    const CHANGES: i64 = 200;
    let function = format!(
        "    batch_size: 1
    transform: f
    dead_letter_limit: {{max_percent: 100}}
functions:
  - {{name: f, type: transform, file: '{}', config: {{column: value, when: boom}}}}
",
        plugin("every-verdict")
    );
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, value text, n bigint)";
    let mut world = World::start(table, &function).await?;
    let other = std::fs::read(plugin("trap"))?;
    let pushed = crate::uploads::push(&world.sequin, &other).await?;
    let digest = pushed["digest"].as_str().context("a digest")?.to_owned();
    world.receiver.set(Behaviour::Slow(Duration::from_millis(20)));
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..{CHANGES} LOOP
            INSERT INTO t VALUES (i % {KEYS}, 'error', i)
                ON CONFLICT (id) DO UPDATE SET n = excluded.n;
            COMMIT;
        END LOOP; END $$"
    );
    world.client.batch_execute(&sql).await?;
    let buried = async |world: &World| -> Result<usize> {
        Ok(world.cli(&["letters", "--limit", "1000"]).await?.1.lines().count())
    };
    until("the letters", LATER, async || {
        let count = world.sequin.metric("sequin_messages_buried_count", &[]).await?;
        Ok(if count == CHANGES as f64 { Ok(()) } else { Err(format!("{count}")) })
    })
    .await?;
    let replay = ["letters", "replay", "--sink", "hook", "--function", "f", "--plugin", &digest];
    let dry = [&replay[..], &["--dry-run"]].concat();
    let (_, told) = world.cli(&dry).await?;
    assert!(told.contains("\"verdict\":\"send\""), "{told}");
    assert_eq!(world.receiver.messages().len(), 0, "nothing was sent");
    let mut asking = world.sequin.executable();
    asking.args(replay).stdout(std::process::Stdio::null());
    let mut asking = asking.spawn()?;
    world.receiver.until_messages(30, LATER).await?;
    world.sequin.kill9().await?;
    asking.wait()?;
    assert!(world.receiver.messages().len() < CHANGES as usize, "it was in the middle");
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    let left = buried(&world).await?;
    assert!(left > 0 && left < CHANGES as usize, "{left}");
    let (code, told) = world.cli(&replay).await?;
    assert!(code == Some(0), "{told}");
    until("no letter to be left", LATER, async || {
        let left = buried(&world).await?;
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} letters")) })
    })
    .await?;
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    for message in world.receiver.messages() {
        let number = |name: &str| message["record"][name].as_i64().unwrap();
        assert_eq!(message["metadata"]["plugins"]["f"], digest.as_str(), "{message}");
        if seen.insert(number("n")) {
            let before = last.insert(number("id"), number("n")).unwrap_or_default();
            assert!(before < number("n"), "{before} before {message}");
        }
    }
    assert_eq!(seen, (1..=CHANGES).collect::<BTreeSet<_>>());
    Ok(())
}
