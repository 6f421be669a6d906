//! What an apply waits for, and what becomes of it beside its record.

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::{Proxy, until};

use crate::apply::{Applying, many};
use crate::world::{LATER, streaming, yaml};

/// What an apply does beside its record is told one by one: a slot that cannot be had, and then is.
#[tokio::test(flavor = "multi_thread")]
async fn b238_what_becomes_of_an_apply_is_told_one_by_one() -> Result<()> {
    let it = Applying::start().await?;
    let text = yaml(it.postgres.port(), &it.receiver.url(), &many(1));
    let without = text
        .replace("slot: {name: sequin_it, create_if_not_exists: true}", "slot: {name: sequin_it}");
    let file = it.write("sequin.yaml", &without)?;
    let told = it.run(&["config", "apply", &file, "--auto-approve", "--wait", "8"]).await?;
    let said = String::from_utf8(told.stderr)?;
    assert_eq!(told.status.code(), Some(1), "{said}");
    assert!(said.contains("database `source` is error: ") && said.contains("sequin_it"), "{said}");
    // The same apply again does nothing, and what it began goes on.
    let file = it.write("sequin.yaml", &text)?;
    let apply = ["config", "apply", &file, "--auto-approve", "--json", "--wait", "60"];
    let told = it.json(&apply).await?;
    let outcome = told["outcome"].as_array().context("an outcome")?;
    assert_eq!(outcome.len(), 1, "{told}");
    assert_eq!(
        (&outcome[0]["name"], &outcome[0]["well"]),
        (&json!("source"), &json!(true)),
        "{told}"
    );
    assert_eq!(it.insert(1, "true, 'a'", 1).await?[0]["record"]["id"], 1);
    Ok(())
}

/// A database that is new and not up yet is waited for, and nothing is done if it does not come.
#[tokio::test(flavor = "multi_thread")]
async fn b253_an_apply_waits_for_a_new_database_and_fails_clearly() -> Result<()> {
    let it = Applying::start().await?;
    let proxy = Proxy::start(it.postgres.port()).await?;
    proxy.cut();
    let file = |awaits: &str| {
        let text = yaml(proxy.port(), &it.receiver.url(), &many(1));
        let at = text.find("    hostname").context("a database")?;
        it.write(
            "sequin.yaml",
            &format!("{}    await_database: {awaits}\n{}", &text[..at], &text[at..]),
        )
    };
    let never = file("{timeout_ms: 300, interval_ms: 50}")?;
    let told = it.run(&["config", "apply", &never, "--auto-approve"]).await?;
    let said = String::from_utf8(told.stderr)?;
    assert_eq!(told.status.code(), Some(70), "{said}");
    assert!(said.contains("database `source` did not answer within 0.3 s"), "{said}");
    assert_eq!(it.sinks().await?, Vec::<String>::new());
    // It comes while it is waited for.
    let soon = file("{timeout_ms: 60000, interval_ms: 100}")?;
    let before = proxy.refused();
    let mut applying = it.sequin.executable();
    applying.args(["config", "apply", &soon, "--auto-approve", "--json"]);
    applying.stdout(std::process::Stdio::null());
    let mut applying = applying.spawn()?;
    until("an attempt that is refused", LATER, async || {
        Ok(if proxy.refused() > before { Ok(()) } else { Err("none".to_owned()) })
    })
    .await?;
    proxy.heal();
    until("the apply to end", LATER, async || {
        Ok(applying.try_wait()?.ok_or_else(|| "it waits".to_owned()))
    })
    .await?;
    streaming(&it.sequin).await?;
    assert_eq!(it.insert(1, "true, 'a'", 1).await?[0]["record"]["id"], 1);
    // Who runs already is not waited for.
    proxy.cut();
    let again = it.apply(&file("{timeout_ms: 1}")?).await?;
    assert_eq!(again["changes"][0]["effect"], "in_place", "{again}");
    Ok(())
}
