//! The primary dies and its standby takes over, with the slot and without.

use std::time::Duration;

use model::lsn::Lsn;
use model::source::{Connect as _, Event, Missing, Source, SourceError};
use postgres::{Address, Connector, Options};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, PATIENCE, majors, until};
use crate::support::{next, read_texts};

/// Servers of these majors keep slots on their standbys.
fn with_synced_slots() -> impl Iterator<Item = (u32, std::path::PathBuf)> {
    [15, 16, 17, 18].into_iter().zip(majors()).filter(|(major, _)| *major >= 17)
}

/// Reads and confirms until so many changes came.
async fn read_and_confirm(source: &mut dyn Source, changes: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < changes {
        if let Event::Changes(batch) = next(source).await {
            texts.extend(batch.changes.iter().map(crate::support::text));
            for commit in batch.commits {
                source.confirm(commit.end_lsn);
            }
        }
    }
    texts
}

/// Goes on as the engine does, until the stream is open.
async fn reopen(connector: &Connector) -> Box<dyn Source> {
    let opened = timeout(PATIENCE, async {
        loop {
            match connector.connect(Missing::Refuse).await {
                Ok(source) => return source,
                Err(SourceError::Transient(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    opened.await.expect("it is opened again")
}

#[tokio::test]
async fn b186_a_promoted_standby_with_the_slot_is_read_on_without_loss() {
    for (major, bin) in with_synced_slots() {
        let settings = ["wal_level=logical"];
        let mut primary = Cluster::start_with(bin, &settings, &[]).await;
        primary
            .session("postgres")
            .await
            .run(
                "create table t (n int primary key);
                 select pg_create_physical_replication_slot('standby')",
            )
            .await;
        let synced = [
            "wal_level=logical",
            "primary_slot_name=standby",
            "sync_replication_slots=on",
            "wal_retrieve_retry_interval=100",
        ];
        let mut standby = primary.standby(&synced).await;
        let mut sql = primary.session("postgres").await;
        let mut other = standby.session("postgres").await;
        let primary_options = primary.options("postgres", "s");
        let standby_host = standby.options("postgres", "s").host;
        let options = Options {
            slot_failover: true,
            more_hosts: vec![Address { host: standby_host.clone(), port: standby.port }],
            ..primary_options
        };
        let connector = Connector::new(options.clone());
        let mut source = connector.connect(Missing::Create).await.unwrap();
        let before = source.origin().to_owned();

        // The copy becomes one to stay once the slot has moved beyond where the standby is.
        let mut written = 0;
        let ready = "select synced and not temporary and invalidation_reason is null
            from pg_replication_slots where slot_name = 's'";
        let start = Instant::now();
        while other.value(ready).await != "t" {
            assert!(start.elapsed() < 4 * PATIENCE, "{major}: the slot is not synced");
            written += 1;
            sql.run(&format!("insert into t values ({written})")).await;
            sql.run("select pg_log_standby_snapshot()").await;
            assert_eq!(
                read_and_confirm(&mut *source, 1).await,
                [format!("insert t ({written})")],
                "{major}"
            );
        }
        // A copy on a standby cannot be read, which passes.
        let standby_only = Options {
            host: standby_host,
            port: standby.port,
            more_hosts: Vec::new(),
            ..options.clone()
        };
        let refused = Connector::new(standby_only).connect(Missing::Refuse).await.map(drop);
        match refused.unwrap_err() {
            SourceError::Transient(text) => {
                assert!(text.contains("once this server is promoted"), "{text}");
            }
            error => panic!("{major}: {error}"),
        }
        // Delivered and not confirmed; and not even read, but on the standby.
        sql.run("insert into t values (100001)").await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (100001)"]);
        let end: Lsn = sql.value("select pg_current_wal_lsn()::text").await.parse().unwrap();
        until("the standby has it", async || {
            let has = format!("select pg_last_wal_replay_lsn() >= '{end}'");
            other.value(&has).await == "t"
        })
        .await;
        drop(sql);
        primary.kill();
        let error = crate::support::broken(&mut *source).await;
        assert!(matches!(error, SourceError::Transient(_)), "{major}: {error}");
        other.run("select pg_promote()").await;
        other.run("insert into t values (100002)").await;

        let mut source = reopen(&connector).await;
        assert_ne!(source.origin(), before, "{major}: another timeline is another stream");
        assert!(source.slot_position() <= end, "{major}");
        let mut texts = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while texts.last().map(String::as_str) != Some("insert t (100002)") {
            assert!(Instant::now() < deadline, "{major}: {texts:?}");
            texts.extend(read_and_confirm(&mut *source, 1).await);
        }
        let at = texts.iter().position(|text| text == "insert t (100001)");
        let at = at.unwrap_or_else(|| panic!("{major}: it is lost: {texts:?}"));
        assert_eq!(texts[at + 1..], ["insert t (100002)"], "{major}");
        // What comes before is what was confirmed behind the copy's position, without a gap.
        let numbers: Vec<u32> = texts[..at]
            .iter()
            .map(|text| text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{major}: {numbers:?}");
        assert!(numbers.last().is_none_or(|last| *last == written), "{major}: {numbers:?}");
        source.close().await.unwrap();
        standby.stop();
    }
}

/// Without the slot the loss is told, with how far it goes, and nothing is made in its place.
#[tokio::test]
async fn b186_b187_a_promoted_standby_without_the_slot_tells_the_loss() {
    let (_, bin) = with_synced_slots().next().expect("a server of 17");
    let settings = ["wal_level=logical"];
    let mut primary = Cluster::start_with(bin, &settings, &[]).await;
    primary.session("postgres").await.run("create table t (n int primary key)").await;
    let standby = primary.standby(&settings).await;
    let host = standby.options("postgres", "s").host;
    let options = Options {
        more_hosts: vec![Address { host, port: standby.port }],
        ..primary.options("postgres", "s")
    };
    let connector = Connector::new(options);
    let source = connector.connect(Missing::Create).await.unwrap();
    source.close().await.unwrap();
    let mut other = standby.session("postgres").await;
    until("the publication is replayed", async || {
        other.value("select count(*) from pg_publication").await == "1"
    })
    .await;
    primary.kill();
    other.run("select pg_promote()").await;
    let at: Lsn = other.value("select pg_current_wal_lsn()::text").await.parse().unwrap();
    let error = timeout(PATIENCE + Duration::from_secs(1), connector.connect(Missing::Refuse));
    let error = error.await.unwrap().map(drop).unwrap_err();
    let SourceError::Definite { code, message, help } = error else { panic!("{error}") };
    assert_eq!(code, "slot_missing");
    let told: Lsn =
        message.rsplit("up to ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(told >= at, "{message}");
    assert!(help.contains("accept-loss s") && help.contains("backfill"), "{help}");
    assert_eq!(other.value("select count(*) from pg_replication_slots").await, "0");
}
