//! One bad sink and its neighbours.

use anyhow::Result;
use tests::{Cluster, Receiver};

use crate::checker;
use crate::world::{LATER, engine, streaming, yaml};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_sink_does_not_hold_back_its_neighbour_while_the_budget_lasts() -> Result<()> {
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
        let pending = sequin.metric("sequin_messages_pending", &labels).await?;
        assert_eq!((delivered, pending), (0.0, 10_000.0), "{name} keeps all it owes");
    }
    // What the others owe is not confirmed to the server.
    let row = client
        .query_one(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
             FROM pg_replication_slots",
            &[],
        )
        .await?;
    let owed: i64 = row.get(0);
    assert!(owed > 100_000, "{owed} bytes of WAL kept");
    Ok(())
}
