//! `sequin doctor` and the API's test of a connection: each thing that is wrong has its own message.

use anyhow::Result;
use serde_json::{Value, json};
use tests::postgres::Setup;
use tests::{Cluster, Receiver, Sequin, http};

use crate::world::{engine, hook, streaming, yaml};

async fn doctor(sequin: &Sequin, config: &str) -> Result<(Option<i32>, Value)> {
    sequin.write_config(config)?;
    let output = sequin.command(&["doctor", "{config}", "--json"]).await?;
    let told = String::from_utf8(output.stdout)?;
    let told = serde_json::from_str(&told).unwrap_or_else(|_| {
        panic!("{told}{}", String::from_utf8_lossy(&output.stderr));
    });
    Ok((output.status.code(), told))
}

/// The messages of what is of this level, with their checks.
fn of_level(told: &Value, level: &str) -> Vec<String> {
    let checks = told["checks"].as_array().unwrap().iter();
    let found = checks.filter(|it| it["level"] == level);
    found.map(|it| format!("{}: {}", it["check"].as_str().unwrap(), it["message"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b263_whatever_is_wrong_with_a_source_has_its_own_message() -> Result<()> {
    let setup = Setup { password: Some("postgres"), ..Setup::default() };
    let postgres = Cluster::start_as(setup).await?;
    let client = postgres.client("postgres").await?;
    client
        .batch_execute(
            "CREATE TABLE t (id bigint PRIMARY KEY); CREATE TABLE bare (id bigint);
             CREATE USER weak PASSWORD 'weak'; CREATE PUBLICATION there FOR TABLE t, bare;
             ALTER TABLE bare REPLICA IDENTITY FULL",
        )
        .await?;
    let receiver = Receiver::start().await?;
    let sinks = hook("hook", "", "    source: {include_tables: [public.t]}\n");
    let good = yaml(postgres.port(), &receiver.url(), &sinks);
    let sequin = engine(&good).prepare()?;
    let (status, told) = doctor(&sequin, &good).await?;
    assert_eq!((status, &told["good"]), (Some(0), &json!(true)), "{told}");
    let fine = of_level(&told, "ok").join("\n");
    for expected in [
        "postgres may replicate",
        "wal_level = logical",
        "slot sequin_it is not there, and is created",
        "publication sequin_it is not there, and is created",
        "destination: \"it answers",
    ] {
        assert!(fine.contains(expected), "{expected}: {fine}");
    }
    let login = "username: postgres\n    password: postgres";
    let port = format!("port: {}", postgres.port());
    let created = "{name: sequin_it, create_if_not_exists: true}";
    let cases = [
        (port.as_str(), "port: 1", "refused"),
        ("password: postgres", "password: wrong", "authentication failed"),
        ("database: postgres", "database: nowhere", "create database nowhere"),
        ("password: postgres", "password: postgres\n    sslmode: require", "TLS"),
        (login, "username: weak\n    password: weak", "REPLICATION"),
        (&format!("slot: {created}"), "slot: {name: gone}", "there is no slot gone"),
        (&format!("publication: {created}"), "publication: {name: gone}", "gone"),
    ];
    let mut seen = Vec::new();
    for (from, to, expected) in cases {
        let config = good.replacen(from, to, 1);
        assert_ne!(config, good, "{from}");
        let (status, told) = doctor(&sequin, &config).await?;
        assert_eq!((status, &told["good"]), (Some(1), &json!(false)), "{to}: {told}");
        let wrong = of_level(&told, "fail").join("\n");
        assert!(wrong.contains(expected), "{to}: {wrong}");
        assert!(!seen.contains(&wrong), "each has its own: {wrong}");
        seen.push(wrong);
    }
    // As the start would be refused, because the applications' own updates would be.
    client.batch_execute("ALTER TABLE bare REPLICA IDENTITY DEFAULT").await?;
    let (status, told) = doctor(&sequin, &good).await?;
    assert_eq!(status, Some(1), "{told}");
    assert!(of_level(&told, "fail")[0].contains("public.bare"), "{told}");
    // What works and may hurt, and what is not there yet.
    let config = good
        .replacen(&format!("publication: {created}"), "publication: {name: there}", 1)
        .replace("public.t]", "public.tt]");
    let (status, told) = doctor(&sequin, &config).await?;
    assert_eq!(status, Some(0), "{told}");
    let doubtful = of_level(&told, "warn").join("\n");
    assert!(doubtful.contains("public.bare") && doubtful.contains("public.tt"), "{doubtful}");
    assert!(doubtful.contains("max_slot_wal_keep_size"), "{doubtful}");
    let slots = client.query("SELECT FROM pg_replication_slots", &[]).await?;
    assert!(slots.is_empty(), "nothing was created");

    let made = client.query("SELECT FROM pg_publication WHERE pubname <> 'there'", &[]).await?;
    assert!(made.is_empty(), "nothing was created");
    client.batch_execute("ALTER TABLE bare REPLICA IDENTITY FULL").await?;

    // The same of an engine that runs, for clients of the predecessor; and its sinks.
    let sequin = engine(&good).start().await?;
    streaming(&sequin).await?;
    let url = format!("{}/api/postgres_databases/source", sequin.url());
    let post = async |url: String| {
        let answer = http::client()?.post(url).send().await?;
        Ok::<Value, anyhow::Error>(serde_json::from_str(&answer.text().await?)?)
    };
    let told = post(format!("{url}/test_connection")).await?;
    assert_eq!((&told["success"], &told["reason"]), (&json!(true), &Value::Null), "{told}");
    let told = post(format!("{url}/refresh_tables")).await?;
    assert_eq!(told["tables"], json!(["public.bare", "public.t"]));
    let run = async |arguments: &[&str]| {
        let output = sequin.command(arguments).await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok::<_, anyhow::Error>(String::from_utf8(output.stdout)?)
    };
    run(&["sink", "pause", "hook"]).await?;
    let listed = run(&["sink", "list"]).await?;
    assert_eq!(listed, "name  type     status  database\nhook  webhook  paused  source\n");
    run(&["sink", "resume", "hook"]).await?;
    let shown: Value = serde_json::from_str(&run(&["sink", "show", "hook"]).await?)?;
    assert_eq!(shown["status"], "active");
    Ok(())
}
