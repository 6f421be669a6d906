//! What a plugin is granted, in the running engine: the machine's clock, a store that outlives the
//! process, secrets, requests past the guard, rows of the source; and nothing that is not written.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{Cluster, Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, engine, hook, plugin, streaming, yaml};

const TABLES: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text);
    CREATE TABLE rates (code text PRIMARY KEY, rate numeric);
    INSERT INTO rates VALUES ('eur', 1.50), ('usd', null)";

/// A row's text tells the plugin what to ask; its answer is in the message.
struct Asking {
    sequin: Sequin,
    receiver: Receiver,
    /// What it may ask.
    outside: Receiver,
    client: Client,
    _postgres: Cluster,
    next: i64,
}

impl Asking {
    async fn start(grants: impl Fn(u16) -> String) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLES).await?;
        let (receiver, outside) = (Receiver::start().await?, Receiver::start().await?);
        let config = config(&postgres, &receiver, &grants(outside.port()));
        let sequin = engine(&config).env("ASKS_TOKEN", "hunter2").start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, receiver, outside, client, _postgres: postgres, next: 1 })
    }

    async fn row(&mut self, lines: &str) -> Result<i64> {
        let id = self.next;
        self.next += 1;
        self.client.execute("INSERT INTO t VALUES ($1, $2)", &[&id, &lines]).await?;
        Ok(id)
    }

    /// What the plugin was answered.
    async fn ask(&mut self, lines: &str) -> Result<String> {
        let id = self.row(lines).await?;
        let answer = until("the answer", SOON, async || {
            let messages = self.receiver.messages();
            let found = messages.iter().find(|message| message["record"]["id"] == id);
            Ok(found.map(|it| it["record"]["answer"].clone()).ok_or_else(|| "none".to_owned()))
        });
        let answer = answer.await.with_context(|| lines.to_owned())?;
        Ok(answer.as_str().context("a text")?.to_owned())
    }
}

fn config(postgres: &Cluster, receiver: &Receiver, grants: &str) -> String {
    let sinks = hook("hook", "", "    transform: asks\n    source: {include_tables: [t]}\n");
    let function = format!(
        "functions:
  - {{name: asks, type: transform, file: '{}', config: {{column: name}}, grants: {grants}}}
",
        plugin("asks")
    );
    yaml(postgres.port(), &receiver.url(), &format!("{function}{sinks}"))
}

fn all(port: u16) -> String {
    format!(
        "{{clock: true, random: true, kv: true, secrets: [{{name: token, from: 'env:ASKS_TOKEN'}}],
      http: {{hosts: ['127.0.0.1:{port}'], allow_private: true, timeout_ms: 1000}},
      lookup: {{tables: [public.rates]}}}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn b269_what_is_granted_answers_and_nothing_else_does() -> Result<()> {
    let mut asking = Asking::start(all).await?;
    let now: i64 = asking.ask("clock").await?.parse()?;
    let since = asking.client.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await?;
    let since: i64 = since.get(0);
    assert!((now / 1_000_000 - since).abs() < 60, "{now} {since}");
    assert_ne!(asking.ask("random 16").await?, asking.ask("random 16").await?);
    assert_eq!(asking.ask("secret token").await?, "hunter2");
    let denied = asking.ask("secret other").await?;
    assert_eq!(denied, "Denied: no secret `other` is granted");

    let url = asking.outside.url();
    let answer = asking.ask(&format!("http POST {url}/rate")).await?;
    assert!(answer.starts_with("200 "), "{answer}");
    let asked = asking.outside.requests();
    let asked: Vec<_> = asked.iter().map(|it| (&*it.method, &*it.path, &*it.bytes)).collect();
    assert_eq!(asked, [("POST", "/rate", &b"ping"[..])], "once");
    for (lines, refused) in [
        ("http GET http://127.0.0.1:1/", "Denied: the host 127.0.0.1:1 is not granted"),
        ("http GET http://169.254.169.254/", "Denied: the host 169.254.169.254 is not granted"),
        ("http GET file:///etc/passwd", "Invalid: the URL is neither http nor https"),
        ("rows pg_catalog.pg_authid rolpassword rolname postgres", "Denied: the table "),
        ("rows public.rates rat code eur", "Invalid: public.rates has no column"),
    ] {
        let answer = asking.ask(lines).await?;
        assert!(answer.starts_with(refused), "{lines}: {answer}");
    }
    let rows = asking.ask("rows public.rates rate code usd none eur").await?;
    assert_eq!(rows, r#"[Some([None]), None, Some([Some("1.50")])]"#);

    // A store of its own: of good batches alone, and after a kill.
    assert_eq!(asking.ask("put a 1; get a; delete z; get z").await?, "put; 1; deleted; nothing");
    asking.row("put a 2; put b 2; trap").await?;
    until("the letter", LATER, async || {
        let buried = asking.sequin.metric("sequin_messages_buried_count", &[]).await?;
        Ok(if buried == 1.0 { Ok(()) } else { Err(format!("{buried} letters")) })
    })
    .await?;
    // What a replay would do is not what was done, where something is granted: that is said.
    let dry = asking.sequin.command(&["letters", "replay", "--sink", "hook", "--dry-run"]).await?;
    let told: Value = serde_json::from_slice(&dry.stdout)?;
    assert_eq!(told["functions"][0]["function"], "asks", "{told}");
    assert_eq!(told["functions"][0]["deterministic"], false, "{told}");
    assert_eq!(asking.ask("get a; get b").await?, "1; nothing");
    asking.sequin.kill9().await?;
    asking.sequin.restart().await?;
    streaming(&asking.sequin).await?;
    assert_eq!(asking.ask("get a; get b").await?, "1; nothing");
    assert!(!asking.sequin.log().contains("hunter2"), "no secret in the log");
    Ok(())
}

/// Addresses that are not of the public internet are no plugin's, unless its owner says so; and a host
/// that answers too late harms its row alone.
#[tokio::test(flavor = "multi_thread")]
async fn b269_requests_of_a_plugin_pass_the_guard_and_end_in_time() -> Result<()> {
    let public = |port: u16| all(port).replace("allow_private: true", "allow_private: false");
    let mut asking = Asking::start(public).await?;
    let url = asking.outside.url();
    let answer = asking.ask(&format!("http GET {url}/rate")).await?;
    assert!(answer.starts_with("Denied: 127.0.0.1"), "{answer}");
    assert!(answer.contains("`allow_private: true`"), "what to do: {answer}");
    assert!(asking.outside.requests().is_empty());

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = silent.local_addr()?.port();
    let mut asking = Asking::start(|_| all(port)).await?;
    let answer = asking.ask(&format!("http GET http://127.0.0.1:{port}/")).await?;
    assert_eq!(answer, "Timeout: no answer from 127.0.0.1 within 1000 ms");
    assert_eq!(asking.ask("random 0").await?, "[]", "the next row is none the worse");
    Ok(())
}

/// What is not granted keeps a sink from starting, and is told before anything is applied.
#[tokio::test(flavor = "multi_thread")]
async fn b269_b270_a_plan_shows_grants_and_refuses_a_plugin_that_lacks_one() -> Result<()> {
    let postgres = Cluster::start().await?;
    let receiver = Receiver::start().await?;
    let granted = config(&postgres, &receiver, &all(receiver.port()));
    let validate = |yaml: String| async move {
        let builder = engine(&yaml).env("ASKS_TOKEN", "hunter2");
        let output = builder.command(&["config", "validate", "{config}"]).await?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        anyhow::Ok((output.status.code(), text))
    };
    let (status, text) = validate(granted.clone()).await?;
    assert_eq!(status, Some(0), "{text}");
    let told = "function `asks` is granted clock, random, kv, secrets (token), http (127.0.0.1:";
    assert!(text.contains(told) && !text.contains("hunter2"), "{text}");
    let (status, text) = validate(granted.replace("clock: true, ", "")).await?;
    assert_eq!(status, Some(64), "{text}");
    assert!(text.contains("`clock` (it imports sequin:plugin/clock@0.2.0)"), "{text}");
    let (status, text) = validate(granted.replace("env:ASKS_TOKEN", "env:ASKS_TOKAN")).await?;
    assert!(status == Some(64) && text.contains("`ASKS_TOKAN`"), "{text}");
    Ok(())
}
