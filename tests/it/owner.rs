//! Whose a slot is: data directories that were emptied, copied and put back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Sequin, until};

use crate::world::{LATER, World, streaming};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint)";

async fn said(sequin: &Sequin, text: &str) -> Result<()> {
    until(&format!("the engine to say {text:?}"), LATER, async || {
        Ok(if sequin.log().contains(text) { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp failed");
    Ok(())
}

/// The engine is killed, and its data directory is gone: what it had confirmed and owed is lost, and
/// that is not passed in silence, not by the next start either.
#[tokio::test(flavor = "multi_thread")]
async fn b193_an_empty_data_directory_on_a_used_slot_is_told() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    world.settled().await?;
    world.sequin.kill9().await?;
    std::fs::remove_dir_all(world.sequin.data_dir())?;
    world.client.batch_execute("INSERT INTO t VALUES (2, 0)").await?;
    for start in 1..=2 {
        world.sequin.restart().await?;
        until("it to be told", LATER, async || {
            let told = world.sequin.log().matches("slot_of_another").count();
            Ok(if told >= start { Ok(()) } else { Err(told.to_string()) })
        })
        .await?;
        assert_eq!(world.sequin.metric("sequin_slot_connected", &[]).await?, 0.0);
        assert_eq!(world.sequin.health().await?.0, 200, "no crash loop");
    }
    assert_eq!(world.receiver.messages().len(), 1);
    world.sequin.terminate().await?;
    let accepted = world.sequin.command(&["accept-loss", "sequin_it"]).await?;
    assert!(accepted.status.success());
    world.sequin.restart().await?;
    world.receiver.until_messages(2, LATER).await?;
    // Our own restarts are none of that: a graceful one, and a kill before the claim is confirmed.
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    world.sequin.kill9().await?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    world.messages_after("INSERT INTO t VALUES (3, 0)", 3).await?;
    Ok(())
}

/// Two engines with the same data directory, copied, in turn: the one that comes second reads in the
/// log that it is not the only one. The configuration of neither differs.
#[tokio::test(flavor = "multi_thread")]
async fn b193_a_copied_data_directory_is_told() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    world.settled().await?;
    world.sequin.terminate().await?;
    let copied = world.sequin.data_dir().with_file_name("copy");
    copy(&world.sequin.data_dir(), &copied)?;
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    world.sequin.terminate().await?;
    // Nothing was confirmed in between, or what was confirmed is more than the copy knows: it is told
    // either way, by what was claimed or by where the slot stands.
    std::fs::remove_dir_all(world.sequin.data_dir())?;
    std::fs::rename(&copied, world.sequin.data_dir())?;
    world.sequin.restart().await?;
    until("it to be told", LATER, async || {
        let log = world.sequin.log();
        let told = log.contains("data_directory_copied") || log.contains("slot_moved");
        Ok(if told { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await?;
    Ok(())
}

/// With the policy the gap is told and passed.
#[tokio::test(flavor = "multi_thread")]
async fn b192_b193_with_continue_from_slot_the_loss_is_told_and_passed() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    let config = std::fs::read_to_string(world.sequin.config_path())?;
    let policy = "create_if_not_exists: true, on_mismatch: continue_from_slot}";
    let config = config.replacen("create_if_not_exists: true}", policy, 1);
    world.sequin.write_config(&config)?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    world.settled().await?;
    world.sequin.terminate().await?;
    for sql in [
        "INSERT INTO t VALUES (2, 0)",
        "SELECT pg_drop_replication_slot('sequin_it')",
        "SELECT pg_create_logical_replication_slot('sequin_it', 'pgoutput')",
        "INSERT INTO t VALUES (3, 0)",
    ] {
        world.client.batch_execute(sql).await?;
    }
    world.sequin.restart().await?;
    said(&world.sequin, "going on from where the slot stands").await?;
    assert!(world.sequin.log().contains("slot_moved"), "{}", world.sequin.log());
    let messages = world.receiver.until_messages(2, LATER).await?;
    assert_eq!(messages[1]["record"]["id"], 3);
    world.settled().await?;
    // It is passed once.
    world.sequin.restart().await?;
    streaming(&world.sequin).await?;
    let told = world.sequin.log().matches("going on from where the slot stands").count();
    assert_eq!(told, 1);
    Ok(())
}

/// The API says how slot and sink are, and since when; a notice is dismissed for good.
#[tokio::test(flavor = "multi_thread")]
async fn b223_b228_b230_b231_the_api_tells_how_all_of_it_is() -> Result<()> {
    let mut world = World::start(TABLE, "").await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    let url = format!("{}/api/health", world.sequin.url());
    let client = tests::http::client()?;
    let ask = async || -> Result<serde_json::Value> {
        let text = client.get(&url).send().await?.text().await?;
        Ok(serde_json::from_str(&text)?)
    };
    let status = |answer: &serde_json::Value, index: usize| {
        answer["data"][index]["status"].as_str().unwrap_or_default().to_owned()
    };
    let notice = |answer: &serde_json::Value| -> Option<String> {
        let checks = answer["data"][0]["checks"].as_array()?;
        checks.iter().find_map(|check| Some(check["notice"].as_str()?.to_owned()))
    };
    until("all to be well, and the notice", LATER, async || {
        let answer = ask().await?;
        let well = (status(&answer, 0), status(&answer, 1));
        let is = well == ("healthy".to_owned(), "healthy".to_owned())
            && notice(&answer).as_deref() == Some("replica_identity_not_full:public.t");
        Ok(if is { Ok(()) } else { Err(answer.to_string()) })
    })
    .await?;
    let key = ask().await?["data"][0]["key"].as_str().unwrap_or_default().to_owned();
    let body = serde_json::json!({"entity": key, "notice": "replica_identity_not_full:public.t"});
    let dismissed = client.post(format!("{url}/dismiss"));
    let dismissed =
        dismissed.header("content-type", "application/json").body(body.to_string()).send().await?;
    assert_eq!(dismissed.status(), 204);
    until("the notice to be gone", LATER, async || {
        let answer = ask().await?;
        Ok(if notice(&answer).is_none() { Ok(()) } else { Err(answer.to_string()) })
    })
    .await?;

    world.receiver.set_predicate(|_| Some(500));
    world.client.batch_execute("INSERT INTO t VALUES (2, 0)").await?;
    let since = until("the alert", LATER, async || {
        let answer = ask().await?;
        let alert = &answer["flips"][0];
        let is = alert["kind"] == "alert" && alert["entity_kind"] == "sink_consumer";
        let since = answer["data"][1]["erroring_since"].as_str().map(str::to_owned);
        Ok(since.filter(|_| is).ok_or_else(|| answer.to_string()))
    })
    .await?;
    assert_eq!(world.sequin.metric("sequin_alerts_total", &[]).await?, 1.0);
    // Who is to be called does not answer at first.
    let called = tests::Receiver::start().await?;
    called.set_predicate(|_| Some(503));
    world.sequin.set_env("SEQUIN_ALERT_URL", &called.url());
    world.sequin.restart().await?;
    let url = format!("{}/api/health", world.sequin.url());
    until("it to fail again, since the same time", LATER, async || {
        let text = client.get(&url).send().await?.text().await?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let is = answer["data"][1]["erroring_since"] == since.as_str()
            && answer["data"][1]["status"] == "error"
            && answer["flips"].as_array().is_some_and(Vec::is_empty)
            && notice(&answer).is_none();
        Ok(if is { Ok(()) } else { Err(answer.to_string()) })
    })
    .await?;
    world.receiver.clear_predicate();
    until("the end of it", Duration::from_secs(60), async || {
        let text = client.get(&url).send().await?.text().await?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        Ok(if answer["flips"][0]["kind"] == "resolve" { Ok(()) } else { Err(text) })
    })
    .await?;
    until("an attempt to tell it", LATER, async || {
        Ok(if called.requests().is_empty() { Err("none".to_owned()) } else { Ok(()) })
    })
    .await?;
    called.clear_predicate();
    let told = called.until_messages(1, LATER).await?;
    assert_eq!(told.len(), 1, "what was told before the restart is not repeated: {told:?}");
    assert_eq!((&told[0]["event"], &told[0]["name"]), (&"resolve".into(), &"hook".into()));
    let ids: Vec<_> = called.requests().iter().map(|it| it.body["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == told[0]["id"]), "however often it is sent: {ids:?}");
    Ok(())
}
