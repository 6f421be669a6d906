//! The API of single resources, as clients of the predecessor call it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Receiver, Sequin, http, until};

use crate::world::{LATER, SOON, engine, hook, streaming, yaml};

struct Client<'a> {
    sequin: &'a Sequin,
    http: reqwest::Client,
}

impl Client<'_> {
    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Value,
        if_match: &str,
    ) -> Result<(u16, String, Value)> {
        let url = format!("{}/api/{path}", self.sequin.url());
        let mut asked = self.http.request(method.parse()?, url);
        if !body.is_null() {
            asked = asked.header("content-type", "application/json").body(body.to_string());
        }
        if !if_match.is_empty() {
            asked = asked.header("if-match", if_match);
        }
        let answer = asked.send().await?;
        let status = answer.status().as_u16();
        let etag = answer.headers().get("etag").map_or("", |it| it.to_str().unwrap()).to_owned();
        Ok((status, etag, serde_json::from_str(&answer.text().await?)?))
    }

    /// The answer, which is to be a good one.
    async fn good(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let (status, _, told) = self.send(method, path, body, "").await?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: {status} {told}\n{}",
            self.sequin.log()
        );
        Ok(told)
    }

    /// The status and the text of a refusal.
    async fn bad(&self, method: &str, path: &str, body: Value) -> Result<String> {
        let (status, _, told) = self.send(method, path, body, "").await?;
        ensure!(status >= 400, "{method} {path}: {status} {told}");
        Ok(format!("{status} {told}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b257_b259_b262_resources_are_created_changed_and_deleted_one_by_one() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    client.batch_execute("CREATE PUBLICATION sequin_it FOR ALL TABLES").await?;
    let slot = "SELECT pg_create_logical_replication_slot('sequin_it', 'pgoutput')";
    client.batch_execute(slot).await?;
    let receiver = Receiver::start().await?;
    let sequin = engine("").without_config().start().await?;
    let api = Client { sequin: &sequin, http: http::client()? };
    assert_eq!(api.good("GET", "sinks", Value::Null).await?, json!({"data": [], "next": null}));

    assert_eq!(api.good("GET", "local_tunnels", Value::Null).await?, json!({"data": []}));
    let database = json!({
        "name": "main", "hostname": "127.0.0.1", "port": postgres.port(), "database": "postgres",
        "username": "postgres", "password": "postgres", "ssl": false,
        "replication_slots": [{"publication_name": "sequin_it", "slot_name": "sequin_it"}],
    });
    let (status, _, told) = api.send("POST", "postgres_databases", database.clone(), "").await?;
    assert_eq!(status, 201, "{told}");
    assert_eq!(told["password"], "(secret)");
    assert_eq!(told["replication_slots"][0]["slot_name"], "sequin_it");
    // Asked again because no answer came, it is the one that was made; another one is refused.
    let again = async |body: &Value| {
        let url = format!("{}/api/postgres_databases", sequin.url());
        let asked = api.http.post(url).header("content-type", "application/json");
        let asked = asked.header("idempotency-key", "1").body(body.to_string()).send().await?;
        let status = asked.status().as_u16();
        Ok::<_, anyhow::Error>((status, serde_json::from_str::<Value>(&asked.text().await?)?))
    };
    let (status, same) = again(&database).await?;
    assert_eq!((status, &same["id"]), (201, &told["id"]), "{same}");
    let mut other = database.clone();
    other["username"] = json!("somebody");
    assert_eq!(again(&other).await?.0, 422);
    let taken = api.bad("POST", "postgres_databases", database).await?;
    assert!(taken.starts_with("422") && taken.contains("name_taken"), "{taken}");
    let shown = api.good("GET", "postgres_databases/main?show_sensitive=true", Value::Null).await?;
    assert_eq!(shown["password"], "postgres");
    let slots = api.good("GET", "postgres_replications", Value::Null).await?;
    assert_eq!(slots["data"][0]["slot_name"], "sequin_it", "{slots}");
    assert_eq!(slots["data"][0]["postgres_database_name"], "main", "{slots}");
    let id = slots["data"][0]["id"].as_str().unwrap();
    let slot = format!("postgres_replications/{id}");
    assert_eq!(api.good("GET", &slot, Value::Null).await?, slots["data"][0]);
    let told = api.bad("DELETE", &slot, Value::Null).await?;
    assert!(told.starts_with("422") && told.contains("of_database"), "{told}");
    let hook = json!({
        "name": "hook", "url": receiver.url(), "encrypted_headers": {"Authorization": "Bearer hidden"},
    });
    let told = api.good("POST", "destinations/http_endpoints", hook).await?;
    assert_eq!(told["encrypted_headers"]["Authorization"], "(secret)");
    let sink = json!({
        "name": "orders", "database": "main", "source": {"include_tables": ["public.t"]},
        "destination": {"type": "webhook", "http_endpoint": "hook"}, "batch_size": 5,
        // Of whoever wrote it: it means nothing.
        "account_id": "0c1f6f0a-0d6e-4f3a-9d6a-6d1f4c1c9a55",
    });
    let (status, _, told) = api.send("POST", "sinks", sink, "").await?;
    assert_eq!(status, 200, "{told}");
    let id = told["id"].as_str().unwrap().to_owned();
    assert_eq!((&told["status"], &told["filter"]), (&json!("active"), &json!("none")), "{told}");
    assert_eq!(told.get("account_id"), None);
    streaming(&sequin).await?;
    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    receiver.until_messages(1, SOON).await?;
    until("its health", LATER, async || {
        let shown = api.good("GET", &format!("sinks/{id}"), Value::Null).await?;
        Ok(if shown["health"]["status"] == "healthy" { Ok(()) } else { Err(shown.to_string()) })
    })
    .await?;

    // The same on the command line.
    let run = async |arguments: &[&str]| {
        let output = sequin.command(arguments).await?;
        Ok::<_, anyhow::Error>((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let (code, listed) = run(&["database", "list"]).await?;
    assert!(code == Some(0) && listed.contains("\nmain  127.0.0.1  "), "{listed}");
    let (code, tested) = run(&["database", "test", "main"]).await?;
    assert!(code == Some(0) && tested.contains("wal_level    ok "), "{tested}");
    assert_eq!(run(&["database", "tables", "main"]).await?, (Some(0), "public.t\n".to_owned()));
    let (_, listed) = run(&["sink", "list"]).await?;
    assert_eq!(listed, "name    type     status  database\norders  webhook  active  main\n");

    // What was shown can be sent back: nothing is other, secrets neither.
    let (_, etag, shown) = api.send("GET", "sinks/orders", Value::Null, "").await?;
    let (status, same, told) = api.send("PUT", "sinks/orders", shown, &etag).await?;
    assert!(status == 200 && same == etag, "{status} {told}");
    let shown = api.good("GET", "destinations/http_endpoints/hook", Value::Null).await?;
    api.good("PUT", "destinations/http_endpoints/hook", shown).await?;
    let kept = api.good("GET", "destinations/http_endpoints/hook?show_sensitive=true", Value::Null);
    assert_eq!(kept.await?["encrypted_headers"]["Authorization"], "Bearer hidden");
    // A change of one field, and of what was read meanwhile by another.
    let paused = api.good("PATCH", &format!("sinks/{id}"), json!({"status": "paused"})).await?;
    assert_eq!((&paused["status"], &paused["batch_size"]), (&json!("paused"), &json!(5)));
    let (status, _, told) =
        api.send("PATCH", "sinks/orders", json!({"batch_size": 6}), &etag).await?;
    assert_eq!((status, &told["code"]), (412, &json!("changed_meanwhile")), "{told}");
    client.batch_execute("INSERT INTO t VALUES (2)").await?;
    api.good("PATCH", "sinks/orders", json!({"status": "active"})).await?;
    receiver.until_messages(2, SOON).await?;

    for wrong in [json!(0), json!(-1), json!(1001), json!("ten")] {
        let told = api.bad("PATCH", "sinks/orders", json!({"batch_size": wrong})).await?;
        assert!(told.starts_with("422") && told.contains("batch_size"), "{wrong}: {told}");
    }
    for (method, path, body, expected) in [
        ("GET", "sinks/none", Value::Null, "404"),
        ("DELETE", "sinks/none", Value::Null, "404"),
        ("PATCH", "sinks/orders", json!({"name": "other"}), "422"),
        ("POST", "sinks", json!({}), "422"),
        ("POST", "sinks", json!([]), "400"),
        ("DELETE", "destinations/http_endpoints/hook", Value::Null, "422"),
    ] {
        let told = api.bad(method, path, body).await?;
        assert!(told.starts_with(expected), "{method} {path}: {told}");
    }
    let told = api.bad("DELETE", "postgres_databases/main", Value::Null).await?;
    assert!(told.starts_with("422") && told.contains("is needed by sink `orders`"), "{told}");
    let told = api.good("DELETE", "sinks/orders", Value::Null).await?;
    assert_eq!((&told["id"], &told["deleted"]), (&json!(id), &json!(true)));
    let told = api.good("DELETE", "postgres_databases/main", Value::Null).await?;
    assert_eq!(told["success"], true);
    api.good("DELETE", "destinations/http_endpoints/hook", Value::Null).await?;
    for kind in ["sinks", "postgres_databases", "destinations/http_endpoints", "functions"] {
        assert_eq!(
            api.good("GET", kind, Value::Null).await?,
            json!({"data": [], "next": null}),
            "{kind}"
        );
    }
    Ok(())
}

/// A number out of its bounds is told by its field; what is somebody else's is as what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn b258_b260_bounds_are_told_by_field_and_what_is_not_ours_is_not_found() -> Result<()> {
    let postgres = Cluster::start().await?;
    let config = yaml(postgres.port(), "http://127.0.0.1:1", &hook("hook", "", ""));
    let sequin = engine(&config).start().await?;
    let api = Client { sequin: &sequin, http: http::client()? };
    let stream = |field: &str, value: Value| {
        let mut sink = json!({
            "name": "stream", "database": "source", "destination": {"type": "sequin_stream"},
        });
        match field {
            "max_retry_count" | "max_memory_mb" | "ack_wait_ms" => sink[field] = value,
            _ => sink["destination"][field] = value,
        }
        sink
    };
    for (field, value) in [
        // What the predecessor calls the time to acknowledge.
        ("visibility_timeout_ms", json!(499)),
        ("max_ack_pending", json!(0)),
        ("max_retry_count", json!(0)),
        ("max_retry_count", json!(-1)),
        // No sink has one of its own here, and none could be set there: never passed over in silence.
        ("max_memory_mb", json!(127)),
        ("ack_wait_ms", json!(499)),
    ] {
        let told = api.bad("POST", "sinks", stream(field, value.clone())).await?;
        assert!(told.starts_with("422") && told.contains(field), "{field} {value}: {told}");
    }
    api.good("POST", "sinks", stream("visibility_timeout_ms", json!(500))).await?;

    let ids = ["0c1f6f0a-0d6e-4f3a-9d6a-6d1f4c1c9a55", "theirs"];
    for kind in ["sinks", "postgres_databases", "destinations/http_endpoints", "functions"] {
        for id in ids {
            for method in ["GET", "PUT", "PATCH", "DELETE"] {
                let body = if matches!(method, "PUT" | "PATCH") { json!({}) } else { Value::Null };
                let told = api.bad(method, &format!("{kind}/{id}"), body).await?;
                assert!(told.starts_with("404"), "{method} {kind}/{id}: {told}");
            }
        }
    }
    for (method, path) in [
        ("POST", "postgres_databases/theirs/test_connection"),
        ("POST", "postgres_databases/theirs/refresh_tables"),
        ("GET", "sinks/theirs/backfills"),
        ("GET", "sinks/theirs/messages"),
        ("GET", "sinks/theirs/letters"),
        ("POST", "sinks/theirs/resume"),
        ("GET", "letters/9999"),
    ] {
        let told = api.bad(method, path, Value::Null).await?;
        assert!(told.starts_with("404"), "{method} {path}: {told}");
    }
    Ok(())
}
