//! The stream under harm.

use anyhow::{Context as _, Result};
use tests::postgres::Setup;
use tests::{Cluster, Harm, Proxy, Receiver, until};

use crate::world::{LATER, SOON, World, engine, hook, streaming, yaml};
use tests::checker;

/// Somebody drops the slot while the engine is away: it says what is lost, and makes no new slot
/// that would hide it.
#[tokio::test(flavor = "multi_thread")]
async fn b187_a_dropped_slot_is_told_and_not_recreated() -> Result<()> {
    let schema = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint)";
    let mut world = World::start(schema, "").await?;
    world.messages_after("INSERT INTO t VALUES (1, 0)", 1).await?;
    world.settled().await?;
    world.sequin.terminate().await?;
    world.client.batch_execute("SELECT pg_drop_replication_slot('sequin_it')").await?;
    world.client.batch_execute("INSERT INTO t VALUES (2, 0)").await?;
    world.sequin.restart().await?;
    until("the loss to be told", SOON, async || {
        let told = world.sequin.log().contains("slot sequin_it was used before and is gone");
        Ok(if told { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await?;
    let slots = world.client.query("SELECT 1 FROM pg_replication_slots", &[]).await?;
    assert!(slots.is_empty(), "none was created");
    assert_eq!(world.sequin.metric("sequin_slot_connected", &[]).await?, 0.0);
    Ok(())
}

/// Corrupt and cut frames: the connection is dropped and resumed, nothing is lost, and the process
/// is the same as before.
#[tokio::test(flavor = "multi_thread")]
async fn b029_b030_a_corrupt_frame_is_survived_without_loss() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, value bigint)").await?;
    let receiver = Receiver::start().await?;
    let proxy = Proxy::start(postgres.port()).await?;
    let sequin =
        engine(&yaml(proxy.port(), &receiver.url(), &hook("hook", "", ""))).start().await?;
    streaming(&sequin).await?;
    let mut rows = 0;
    for (round, harm) in (1..).zip([Harm::Garbage, Harm::Payload, Harm::Truncate, Harm::Repeat]) {
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
    assert!(connects >= 5.0, "{connects} connects of one process");
    Ok(())
}

/// TLS from the configuration to the server, on every major that is installed: verified, with a
/// password, for both connections. A server that is not whom it should be is told, and not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_verified_tls_source_delivers_and_an_unknown_one_is_told() -> Result<()> {
    let password = "postgres";
    for major in [None, Some(18)] {
        let setup = Setup { major, tls: true, password: Some(password), ..Setup::default() };
        let postgres = Cluster::start_as(setup).await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
        let receiver = Receiver::start().await?;
        let plain = yaml(postgres.port(), &receiver.url(), &hook("hook", "", ""));
        let authority = postgres.certificates().context("it has TLS")?.authority();
        let with =
            |lines: &str| plain.replace("    username:", &format!("    {lines}\n    username:"));

        let verified =
            with(&format!("sslmode: verify-full\n    sslrootcert: {}", authority.display()));
        let sequin = engine(&verified).start().await?;
        streaming(&sequin).await?;
        client.batch_execute("INSERT INTO t VALUES (1)").await?;
        receiver.until_messages(1, SOON).await?;
        let sql = "SELECT bool_and(s.ssl), count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a
                   USING (pid) WHERE a.application_name = 'sequin' AND a.client_addr IS NOT NULL";
        let row = client.query_one(sql, &[]).await?;
        let (encrypted, connections): (bool, i64) = (row.get(0), row.get(1));
        assert!(encrypted && connections >= 2, "{connections} connections");
        drop(sequin);

        let unknown = with("sslmode: verify-full\n    sslrootcert: system");
        let sequin = engine(&unknown).start().await?;
        until("the certificate to be refused", SOON, async || {
            let told = sequin.log().contains("tls_certificate");
            Ok(if told { Ok(()) } else { Err("not yet".to_owned()) })
        })
        .await?;
        assert_eq!(sequin.metric("sequin_slot_connected", &[]).await?, 0.0);
    }
    Ok(())
}
