//! The harness itself: a test that trusts it must be able to.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests::{Behaviour, Cluster, Receiver, Sequin, http, receiver::Outcome, typesense, until};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_as_soon_as_it_can_and_otherwise_says_why_not() -> Result<()> {
    let mut count = 0;
    let value = until("a count of three", SOON, async || {
        count += 1;
        if count == 2 {
            anyhow::bail!("an error is not the end");
        }
        Ok(if count == 3 { Ok("done") } else { Err(format!("{count}")) })
    })
    .await?;
    assert_eq!((value, count), ("done", 3));

    let late = until("pigs to fly", Duration::from_millis(60), async || {
        Ok(Err::<(), _>(String::from("on the ground")))
    });
    let message = late.await.unwrap_err().to_string();
    assert!(message.contains("pigs to fly") && message.contains("on the ground"), "{message}");

    let hanging = until("an answer", Duration::from_millis(60), async || {
        std::future::pending::<Result<Result<(), String>>>().await
    });
    assert!(hanging.await.unwrap_err().to_string().contains("hangs"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_ready_for_logical_replication_and_keeps_what_is_committed() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let client = cluster.client("postgres").await?;
    let row = client.query_one("show wal_level", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), "logical");

    cluster.create_database("shop").await?;
    let client = cluster.client("shop").await?;
    client.batch_execute("create table t (id int primary key); insert into t values (1)").await?;
    cluster.kill().await?;
    // A backend that is busy notices a little later that its postmaster is gone.
    until("the session to end", Duration::from_secs(10), async || {
        let answer = client.query_one("select 1", &[]).await;
        Ok(if answer.is_err() { Ok(()) } else { Err("it still answers".to_owned()) })
    })
    .await?;
    cluster.start_again().await?;
    let client = cluster.client("shop").await?;
    client.batch_execute("insert into t values (2)").await?;
    cluster.stop().await?;
    cluster.start_again().await?;
    let row = cluster.client("shop").await?.query_one("select count(*) from t", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::start_with(&[("max_replication_slots", "3")]).await?;
    let row =
        cluster.client("postgres").await?.query_one("show max_replication_slots", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), "3");
    let (dir, url) = (cluster.socket_dir().to_path_buf(), cluster.url("postgres"));
    drop(cluster);
    assert!(!dir.exists());
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn typesense_keeps_documents_over_a_kill() -> Result<()> {
    let mut server = typesense::Server::start().await?;
    let schema = json!({ "name": "products", "fields": [{ "name": "name", "type": "string" }] });
    server.create_collection(&schema).await?;
    assert_eq!(server.document("products", "a/b c?").await?, None);

    let url = format!("{}/collections/products/documents", server.url());
    let document = json!({ "id": "a/b c?", "name": "chair" });
    let response = http::client()?
        .post(url)
        .header("x-typesense-api-key", server.api_key())
        .body(document.to_string())
        .send()
        .await?;
    assert_eq!(response.status(), 201);
    assert_eq!(server.document("products", "a/b c?").await?, Some(document.clone()));
    server.kill().await?;
    assert!(server.documents("products").await.is_err());
    server.start_again().await?;
    assert_eq!(server.documents("products").await?, [document]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_fails_as_told_and_recovers() -> Result<()> {
    let mut receiver = Receiver::start().await?;
    let post = async |id: u32, url: &str| {
        let body = json!({ "data": [{ "id": id }] }).to_string();
        http::client().unwrap().post(url).header("x-id", id).body(body).send().await
    };
    let url = format!("{}/hook?a=b", receiver.url());

    receiver.set(Behaviour::FailFirst(1));
    assert_eq!(post(1, &url).await?.status(), 500);
    assert_eq!(post(2, &url).await?.status(), 200);
    receiver.set(Behaviour::RetryAfter { seconds: 7, status: 429 });
    let response = post(3, &url).await?;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"] == "7"),
        (429, true)
    );
    receiver.set(Behaviour::Redirect);
    assert_eq!(post(4, &url).await?.status(), 307);
    receiver.set(Behaviour::Ok);
    receiver.set_predicate(|body| (body["data"][0]["id"] == 5).then_some(422));
    assert_eq!(post(5, &url).await?.status(), 422);
    assert_eq!(post(6, &url).await?.status(), 200);
    receiver.clear_predicate();
    receiver.set(Behaviour::Hang(SOON));
    let impatient = tokio::time::timeout(Duration::from_millis(200), post(7, &url)).await;
    assert!(impatient.is_err());

    receiver.stop();
    assert!(post(8, &url).await.unwrap_err().is_connect());
    receiver.restart().await?;
    receiver.set(Behaviour::Ok);
    assert_eq!(post(9, &url).await?.status(), 200);

    let messages = receiver.until_messages(3, SOON).await?;
    assert_eq!(messages, [json!({ "id": 2 }), json!({ "id": 6 }), json!({ "id": 9 })]);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 8, "the one that was refused a connection is not among them");
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?a=b"));
    assert_eq!(request.header("x-id"), Some("1"));
    assert_eq!((request.outcome, requests[6].outcome), (Outcome::Refused(500), Outcome::Waiting));
    assert!(receiver.until_messages(4, Duration::from_millis(50)).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flaky_receiver_tells_senders_less_than_it_took_in() -> Result<()> {
    let receiver = Receiver::start().await?;
    receiver.set(Behaviour::Flaky { seed: 1, percent: 60 });
    let mut answered = 0;
    for id in 0..60 {
        let body = json!({ "id": id }).to_string();
        let response = http::client()?.post(receiver.url()).body(body).send().await;
        answered += usize::from(response.is_ok_and(|response| response.status() == 200));
    }
    let count = |outcome| receiver.requests().iter().filter(|r| r.outcome == outcome).count();
    assert_eq!(receiver.requests().len(), 60);
    assert_eq!(answered, count(Outcome::Accepted));
    assert!(count(Outcome::Lost) > 0 && count(Outcome::Dropped) > 0);
    assert_eq!(receiver.messages().len(), answered + count(Outcome::Lost));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_ends_at_its_start_is_reported_with_its_words() -> Result<()> {
    let script = tempfile::NamedTempFile::with_suffix(".sh")?;
    let text = "#!/bin/sh\necho \"$1 $2 port $SERVER_PORT\"\ncat \"$3\" >&2\nexit 64\n";
    std::fs::write(script.path(), text)?;
    let script = script.into_temp_path();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;

    let builder = Sequin::builder().config("databases: []\n").binary(&script);
    let message = format!("{:#}", builder.clone().start().await.err().unwrap());
    assert!(message.contains("serve --config port "), "{message}");
    let (status, output) = builder.clone().start_expecting_failure().await?;
    assert_eq!(status.code(), Some(64));
    assert!(output.contains("databases: []"), "{output}");
    let output = builder.command(&["config", "check", "{config}"]).await?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "databases: []\n");
    Ok(())
}
