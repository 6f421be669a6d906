//! One bad sink and its neighbours.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{Cluster, Receiver, until};

use crate::world::{LATER, engine, settled, streaming, yaml};
use tests::checker;

#[tokio::test(flavor = "multi_thread")]
async fn b200_a_failing_sink_holds_back_neither_its_neighbour_nor_the_slot() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, value bigint)").await?;
    let receiver = Receiver::start().await?;
    // The first refuses everything, the second is not even there.
    receiver.set_predicate(|body| {
        (body["data"][0]["metadata"]["consumer"]["name"] == "bad").then_some(500)
    });
    let nobody = tests::ports::free()?;
    let sinks = format!(
        "  - name: absent
    url: http://127.0.0.1:{nobody}
sinks:
  - {{name: bad, database: source, batch_size: 20,
     destination: {{type: webhook, http_endpoint: receiver}}}}
  - {{name: gone, database: source, batch_size: 20,
     destination: {{type: webhook, http_endpoint: absent}}}}
  - {{name: good, database: source, batch_size: 20,
     destination: {{type: webhook, http_endpoint: receiver}}}}
"
    );
    let sequin = engine(&yaml(postgres.port(), &receiver.url(), &sinks)).start().await?;
    streaming(&sequin).await?;
    for round in 0..10 {
        let sql =
            format!("INSERT INTO t SELECT {round} * 1000 + n, 0 FROM generate_series(1, 1000) n");
        client.batch_execute(&sql).await?;
    }
    let messages = receiver.until_messages(10_000, LATER).await?;
    assert!(messages.iter().all(|message| message["metadata"]["consumer"]["name"] == "good"));
    assert_eq!(checker::distinct(&messages), 10_000);
    for name in ["bad", "gone"] {
        let labels = [("consumer_name", name)];
        let delivered = sequin.metric("sequin_message_deliver_success_count", &labels).await?;
        let caught_up = sequin.metric("sequin_sink_caught_up", &labels).await?;
        assert_eq!((delivered, caught_up), (0.0, 0.0), "{name} owes all of it");
    }
    // What they owe is in the change log: the server need not keep it.
    let inserted: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    until("the slot to be confirmed past it", LATER, async || {
        let sql = format!(
            "SELECT pg_wal_lsn_diff('{inserted}', confirmed_flush_lsn)::bigint
             FROM pg_replication_slots"
        );
        let behind: i64 = client.query_one(&sql, &[]).await?.get(0);
        Ok(if behind <= 0 { Ok(()) } else { Err(format!("{behind} bytes behind")) })
    })
    .await?;
    assert!(sequin.metric("sequin_changes_logged_count", &[]).await? > 0.0);
    // Once they answer they get all of it.
    receiver.set_predicate(|_| None);
    let messages = receiver.until_messages(20_000, LATER).await?;
    assert_eq!(messages.len(), 20_000, "each once for each of the two");
    Ok(())
}

/// A row is refused, and so much comes of it that it does not fit into memory: it waits on the disk,
/// and the other rows of the same sink flow. Once the row is taken it comes in order.
#[tokio::test(flavor = "multi_thread")]
async fn b093_what_waits_behind_a_refused_row_goes_to_the_disk_and_other_rows_flow() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    let schema = "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, pad text);
                  ALTER TABLE t ALTER pad SET STORAGE plain";
    client.batch_execute(schema).await?;
    let receiver = Receiver::start().await?;
    let sinks = "sinks:
  - {name: hook, database: source, batch_size: 1,
     destination: {type: webhook, http_endpoint: receiver}}
";
    let config = yaml(postgres.port(), &receiver.url(), sinks);
    let sequin = engine(&config).env("SEQUIN_MEMORY_MB", "4").start().await?;
    streaming(&sequin).await?;
    receiver.set_predicate(|body| {
        let message = if body["data"].is_array() { &body["data"][0] } else { body };
        (message["record"]["id"] == 3).then_some(400)
    });
    let work = "INSERT INTO t VALUES (3, 0, '');
                DO $$ BEGIN FOR i IN 1..3000 LOOP
                  UPDATE t SET n = i, pad = repeat('x', 3000) WHERE id = 3;
                  INSERT INTO t VALUES (1000 + i, i, '');
                END LOOP; END $$";
    client.batch_execute(work).await?;
    let messages = receiver.until_messages(3_000, LATER).await?;
    assert!(messages.iter().all(|message| message["record"]["id"] != 3));
    let metric = async |name: &str| sequin.metric(name, &[("consumer_name", "hook")]).await;
    assert!(metric("sequin_messages_spilled").await? > 1_000.0);
    assert!(metric("sequin_messages_spilled_count").await? > 1_000.0);
    assert!(metric("sequin_messages_pending_bytes").await? < f64::from(4 << 20));
    receiver.clear_predicate();
    let messages = receiver.until_messages(6_001, LATER).await?;
    assert_eq!(messages.len(), 6_001, "each once");
    let of_row = messages.iter().filter(|message| message["record"]["id"] == 3);
    let numbers: Vec<_> = of_row.filter_map(|message| message["record"]["n"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(0..=3_000), "in order");
    until("nothing to be on the disk", LATER, async || {
        let left = metric("sequin_messages_spilled").await?;
        Ok(if left == 0.0 { Ok(()) } else { Err(format!("{left}")) })
    })
    .await
}

/// A sink whose component is not there, and one whose address is forbidden, stand beside one that
/// runs, and say why; the slot forgets what is logged for them. The first starts by itself once its
/// file is there, also after a restart, with all that it missed.
#[tokio::test(flavor = "multi_thread")]
async fn b201_a_sink_that_cannot_start_stands_alone() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, shown boolean)").await?;
    let receiver = Receiver::start().await?;
    let dir = tempfile::tempdir()?;
    let component = dir.path().join("filter.wasm");
    let rest = format!(
        "  - name: metadata
    url: http://169.254.169.254/
functions:
  - {{name: absent, type: filter, file: '{}', config: {{column: shown}}}}
sinks:
  - {{name: good, database: source, destination: {{type: webhook, http_endpoint: receiver}}}}
  - {{name: forbidden, database: source, destination: {{type: webhook, http_endpoint: metadata}}}}
  - {{name: broken, database: source, filter: absent,
     destination: {{type: webhook, http_endpoint: receiver}}}}
",
        component.display()
    );
    let config = yaml(postgres.port(), &receiver.url(), &rest);
    let told = engine(&config).command(&["config", "validate", "{config}", "--json"]).await?;
    assert_eq!(told.status.code(), Some(64));
    let told: Value = serde_json::from_slice(&told.stdout)?;
    assert_eq!(told["cannot_start"][0]["code"], "plugin_unusable", "{told}");
    assert_eq!(told["cannot_start"][1]["code"], "destination_unusable", "{told}");

    let mut sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    let insert = async |from: u32, to: u32| {
        let sql = format!("INSERT INTO t SELECT n, true FROM generate_series({from}, {to}) n");
        client.batch_execute(&sql).await
    };
    let of = |name: &str| {
        let messages = receiver.messages().into_iter();
        let own = messages.filter(|message| message["metadata"]["consumer"]["name"] == name);
        own.filter_map(|message| message["record"]["id"].as_u64()).collect::<Vec<_>>()
    };
    let arrive = async |name: &str, count: u64| {
        until(name, LATER, async || {
            let ids = of(name);
            Ok(if ids.len() as u64 == count { Ok(()) } else { Err(format!("{}", ids.len())) })
        })
        .await
    };
    insert(1, 1_000).await?;
    arrive("good", 1_000).await?;
    settled(&client).await?;
    for name in ["forbidden", "broken"] {
        let labels = [("consumer_name", name)];
        assert_eq!(sequin.metric("sequin_sink_up", &labels).await?, 0.0, "{name}");
    }
    assert_eq!(sequin.metric("sequin_sink_up", &[("consumer_name", "good")]).await?, 1.0);
    let url = format!("{}/api/health", sequin.url());
    let api = tests::http::client()?;
    let all = ["plugin_unusable", "filter.wasm", "destination_unusable", "SEQUIN_HTTP_GUARD"];
    until("the faults to be shown", LATER, async || {
        let text = api.get(&url).send().await?.text().await?;
        Ok(if all.iter().all(|shown| text.contains(shown)) { Ok(()) } else { Err(text) })
    })
    .await?;

    sequin.kill9().await?;
    insert(1_001, 1_100).await?;
    sequin.restart().await?;
    streaming(&sequin).await?;
    arrive("good", 1_100).await?;
    std::fs::copy(crate::world::plugin("public-rows"), &component)?;
    arrive("broken", 1_100).await.with_context(|| sequin.log())?;
    let mut ids = of("broken");
    ids.sort_unstable();
    assert_eq!(ids, (1..=1_100).collect::<Vec<_>>(), "each once");
    assert_eq!(sequin.metric("sequin_sink_up", &[("consumer_name", "broken")]).await?, 1.0);
    // What runs goes on where an edit would break it, and the edit is refused.
    std::fs::write(&component, "no component")?;
    until("the refusal", LATER, async || {
        let failed = sequin.metric("sequin_config_reload_failed", &[]).await?;
        Ok(if failed == 1.0 { Ok(()) } else { Err(failed.to_string()) })
    })
    .await?;
    insert(1_101, 1_110).await?;
    arrive("broken", 1_110).await?;
    Ok(())
}
