//! The stream under harm.

use anyhow::Result;
use tests::{Cluster, Harm, Proxy, Receiver};

use crate::checker;
use crate::world::{LATER, engine, hook, streaming, yaml};

/// Corrupt and cut frames: the connection is dropped and resumed, nothing is lost, and the process
/// is the same as before.
#[tokio::test(flavor = "multi_thread")]
async fn b029_a_corrupt_frame_is_survived_without_loss() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, value bigint)").await?;
    let receiver = Receiver::start().await?;
    let proxy = Proxy::start(postgres.port()).await?;
    let sequin =
        engine(&yaml(proxy.port(), &receiver.url(), &hook("hook", "", ""))).start().await?;
    streaming(&sequin).await?;
    let mut rows = 0;
    for (round, harm) in (1..).zip([Harm::Garbage, Harm::Payload, Harm::Truncate]) {
        proxy.harm(harm);
        let sql =
            format!("INSERT INTO t SELECT generate_series({}, {}), {round}", rows + 1, rows + 200);
        client.batch_execute(&sql).await?;
        rows += 200;
        let messages = receiver.until_messages(rows, LATER).await?;
        assert_eq!(proxy.harms_done(), round, "{harm:?} was done");
        assert_eq!(checker::distinct(&messages), rows);
        checker::check_order(&messages);
        streaming(&sequin).await?;
    }
    let connects = sequin.metric("sequin_slot_connects_count", &[]).await?;
    assert!(connects >= 4.0, "{connects} connects of one process");
    Ok(())
}
