//! One bad sink and its neighbours.

use anyhow::Result;
use tests::{Cluster, Receiver, until};

use crate::world::{LATER, engine, streaming, yaml};
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
