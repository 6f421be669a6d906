//! Slots and publications that are not as they should be, on every major that is installed.

use std::sync::Arc;
use std::time::Duration;

use model::lsn::Lsn;
use model::source::{Connect as _, Event, Missing, SourceError};
use postgres::{Connector, Options, Origin};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, Database, PATIENCE, majors, until};
use crate::connect::failure;
use crate::log;
use crate::support::{broken, connect, next, read_texts, try_connect};

/// A database on a server of its own, of each major, with its number.
async fn each_major(settings: &[&str]) -> Vec<(u32, Database)> {
    let mut databases = Vec::new();
    for bin in majors() {
        let settings = [&["wal_level=logical"], settings].concat();
        let cluster = Arc::new(Cluster::start_with(bin, &settings, &[]).await);
        let mut db = Database::create_in(cluster).await;
        let version: u32 = db.sql.value("show server_version_num").await.parse().unwrap();
        databases.push((version / 10_000, db));
    }
    databases
}

/// Code, message and help of the definite error.
fn definite(error: SourceError) -> (&'static str, String, String) {
    match error {
        SourceError::Definite { code, message, help } => (code, message, help),
        SourceError::Transient(text) => panic!("transient: {text}"),
    }
}

async fn refusal(options: Options) -> (&'static str, String, String) {
    definite(try_connect(options).await.map(drop).unwrap_err())
}

/// Writes log and checkpoints until the server has given up the slot.
async fn lose(db: &mut Database) {
    let status =
        format!("select wal_status from pg_replication_slots where slot_name = '{}'", db.slot());
    until("the slot has lost its log", async || {
        db.sql.run("create table if not exists w (n int); insert into w values (1)").await;
        db.sql.run("select pg_switch_wal()").await;
        db.sql.run("checkpoint").await;
        db.sql.value(&status).await == "lost"
    })
    .await;
}

#[tokio::test]
async fn b188_a_slot_without_its_log_says_why_how_much_and_what_to_do() {
    for (major, mut db) in each_major(&["max_slot_wal_keep_size=1MB"]).await {
        connect(db.options()).await.close().await.unwrap();
        lose(&mut db).await;
        let (code, message, help) = refusal(db.options()).await;
        assert_eq!(code, "slot_lost", "{major}");
        let slot = db.slot();
        assert!(message.contains(&format!("given up slot {slot} (wal_removed)")), "{message}");
        let confirmed = format!(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{slot}'"
        );
        let confirmed = db.sql.value(&confirmed).await;
        assert!(message.contains(&format!("changes from {confirmed} on are lost")), "{message}");
        let bytes = message.split("in ").last().unwrap().split(' ').next().unwrap();
        assert!(bytes.parse::<u64>().unwrap() > 1 << 20, "{message}");
        for part in ["pg_drop_replication_slot", "backfill", "max_slot_wal_keep_size"] {
            assert!(help.contains(part), "{help}");
        }
    }
}

/// The server ends the stream, and the next attempt says why.
#[tokio::test]
async fn b188_a_slot_that_is_given_up_under_the_stream_is_told() {
    for (major, mut db) in each_major(&["max_slot_wal_keep_size=1MB"]).await {
        let mut source = connect(db.options()).await;
        lose(&mut db).await;
        let error = broken(&mut *source).await;
        assert!(matches!(error, SourceError::Transient(_)), "{major}: {error}");
        drop(source);
        let (code, message, _) = refusal(db.options()).await;
        assert_eq!(code, "slot_lost", "{major}: {message}");
    }
}

/// From 18 on, a slot that nobody reads is given up after a while.
#[tokio::test]
async fn b188_a_slot_that_was_idle_for_too_long_says_so() {
    for (major, mut db) in each_major(&[]).await {
        if major < 18 {
            continue;
        }
        connect(db.options()).await.close().await.unwrap();
        db.sql.run("alter system set idle_replication_slot_timeout = '1s'").await;
        db.sql.run("select pg_reload_conf()").await;
        let slot = db.slot();
        let reason = format!(
            "select invalidation_reason from pg_replication_slots where slot_name = '{slot}'"
        );
        until("the slot is given up", async || {
            db.sql.run("checkpoint").await;
            db.sql.value(&reason).await == "idle_timeout"
        })
        .await;
        let (code, message, help) = refusal(db.options()).await;
        assert_eq!(code, "slot_lost");
        assert!(message.contains("(idle_timeout)"), "{message}");
        assert!(help.contains("idle_replication_slot_timeout"), "{help}");
    }
}

/// Whoever reads it is named, and it is taken over once it is free.
#[tokio::test]
async fn b189_a_slot_that_is_read_elsewhere_names_the_reader_and_is_taken_over() {
    for (major, mut db) in each_major(&[]).await {
        db.sql.run("create table t (n int primary key)").await;
        let other = Options { application_name: "the other".to_owned(), ..db.options() };
        let other = connect(other).await;
        let pid = format!(
            "select active_pid from pg_replication_slots where slot_name = '{}'",
            db.slot()
        );
        let pid = db.sql.value(&pid).await;
        let error = failure(db.options()).await.unwrap_err();
        let named = format!("process {pid}, application the other, user postgres");
        assert!(error.contains(&named), "{major}: {error}");
        other.close().await.unwrap();
        let mut source = connect(db.options()).await;
        db.sql.run("insert into t values (1)").await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (1)"]);
    }
}

/// Postgres from 18 on would go on without the publication and leave changes out. Here it is an
/// error on all of them, before anything that was left out could be confirmed.
#[tokio::test]
async fn b190_a_publication_that_is_dropped_under_the_stream_ends_it() {
    for (major, mut db) in each_major(&[]).await {
        db.sql.run("create table t (n int primary key)").await;
        let mut source = connect(db.options()).await;
        db.sql.run("insert into t values (1)").await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (1)"], "{major}");
        db.drop_publication().await;
        db.sql.run("insert into t values (2)").await;
        let left_out: Lsn =
            db.sql.value("select pg_current_wal_lsn()::text").await.parse().unwrap();
        let end = timeout(PATIENCE, async {
            loop {
                match source.next().await {
                    Ok(Event::Idle(at)) => assert!(at < left_out, "{major}: {at} passes a change"),
                    Ok(Event::Changes(batch)) => assert!(batch.changes.is_empty(), "{major}"),
                    Err(error) => return error,
                }
            }
        });
        let (code, _, help) = definite(end.await.expect("the stream ends"));
        assert_eq!(code, "publication_missing", "{major}");
        assert!(help.contains("pg_drop_replication_slot"), "{major}: {help}");
        drop(source);

        // It is not made again for this slot, although that is allowed in general.
        let connector = Connector::new(db.options());
        let slot = db.slot();
        let active = format!("select active from pg_replication_slots where slot_name = '{slot}'");
        until("the slot is free", async || db.sql.value(&active).await == "f").await;
        for missing in [Missing::Create, Missing::Refuse] {
            let (code, message, _) =
                definite(connector.connect(missing).await.map(drop).unwrap_err());
            assert_eq!(code, "publication_missing", "{major}");
            assert!(message.contains(&format!("but slot {slot} does")), "{major}: {message}");
        }
    }
}

/// The same with a slot that was there first, and a publication that somebody made later.
#[tokio::test]
async fn b191_a_slot_that_is_older_than_its_publication_is_told_what_to_do() {
    for (major, mut db) in each_major(&[]).await {
        db.sql.run("create table t (n int primary key)").await;
        db.drop_publication().await;
        let slot = db.slot();
        let create = format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')");
        db.sql.run(&create).await;
        db.sql.run("insert into t values (1)").await;
        db.sql.run("create publication late for table t").await;
        db.sql.run("insert into t values (2)").await;
        let options = Options { publication: "late".to_owned(), ..db.options() };
        let mut source = connect(options.clone()).await;
        let (code, _, help) = definite(broken(&mut *source).await);
        assert_eq!(code, "publication_missing", "{major}");
        assert!(help.contains(&format!("pg_drop_replication_slot('{slot}')")), "{major}: {help}");
        drop(source);
        let active = format!("select active from pg_replication_slots where slot_name = '{slot}'");
        until("the slot is free", async || db.sql.value(&active).await == "f").await;
        // The advice is good.
        db.sql.run(&format!("select pg_drop_replication_slot('{slot}')")).await;
        let mut source = connect(options).await;
        db.sql.run("insert into t values (3)").await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (3)"], "{major}");
    }
}

/// A slot that was used is not made again, and neither is its publication for its sake.
#[tokio::test]
async fn b187_nothing_is_made_for_a_slot_that_was_used_before() {
    let mut db = Database::create().await;
    db.drop_publication().await;
    let connector = Connector::new(db.options());
    let (code, ..) = definite(connector.connect(Missing::Refuse).await.map(drop).unwrap_err());
    assert_eq!(code, "slot_missing");
    assert_eq!(db.sql.value("select count(*) from pg_publication").await, "0");
}

/// Where the stream begins is what the server says after the start.
#[tokio::test]
async fn b192_the_position_of_the_slot_is_the_servers() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let slot = db.slot();
    let position = format!(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{slot}'"
    );
    let source = connect(db.options()).await;
    let first: Lsn = db.sql.value(&position).await.parse().unwrap();
    assert_eq!(source.slot_position(), first);
    source.close().await.unwrap();
    // Somebody else reads it.
    db.sql.run("insert into t values (1)").await;
    let advance = format!("select pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
    db.sql.run(&advance).await;
    let mut source = connect(db.options()).await;
    let second: Lsn = db.sql.value(&position).await.parse().unwrap();
    assert!(second > first);
    assert_eq!(source.slot_position(), second);
    db.sql.run("insert into t values (2)").await;
    assert_eq!(read_texts(&mut *source, 1).await, ["insert t (2)"]);
}

/// A server that shuts down ends its streams only when all it has sent is confirmed. The engine may
/// be far from that: it must not keep the server from shutting down.
#[tokio::test]
async fn b185_a_server_that_shuts_down_is_let_go_although_nothing_is_confirmed() {
    for bin in majors() {
        let place = bin.display().to_string();
        let mut cluster = Cluster::start_with(bin, &["wal_level=logical"], &[]).await;
        let mut sql = cluster.session("postgres").await;
        sql.run("create table t (n int primary key, v text)").await;
        let options = cluster.options("postgres", "s");
        let mut source = connect(options.clone()).await;
        // More than the queue and the sockets hold, and nobody takes it.
        sql.run("insert into t select n, repeat('x', 1000) from generate_series(1, 24000) n").await;
        while !matches!(next(&mut *source).await, Event::Changes(_)) {}
        drop(sql);
        let start = Instant::now();
        cluster.stop_fast().await;
        assert!(start.elapsed() < Duration::from_secs(15), "{place}: {:?}", start.elapsed());
        let error = broken(&mut *source).await;
        assert!(matches!(error, SourceError::Transient(_)), "{place}: {error}");
        drop(source);

        cluster.run(&["wal_level=logical"]).await;
        let mut source = connect(options).await;
        assert_eq!(read_texts(&mut *source, 1).await.len(), 24_000, "{place}: nothing is lost");
    }
}

/// Slots that a failover leaves alive: made so, or changed, where the server knows them.
#[tokio::test]
async fn b254_b264_a_failover_slot_takes_postgres_17() {
    for (major, mut db) in each_major(&[]).await {
        let failover = Options { slot_failover: true, ..db.options() };
        if major < 17 {
            let (code, message, _) = refusal(failover).await;
            assert_eq!(code, "server_version", "{major}");
            assert!(message.contains("17") && message.contains(&major.to_string()), "{message}");
            let none = db.sql.value("select count(*) from pg_replication_slots").await;
            assert_eq!(none, "0", "{major}");
            continue;
        }
        let slot = db.slot();
        let is = format!("select failover from pg_replication_slots where slot_name = '{slot}'");
        connect(db.options()).await.close().await.unwrap();
        assert_eq!(db.sql.value(&is).await, "f", "{major}: not by default");
        connect(failover.clone()).await.close().await.unwrap();
        assert_eq!(db.sql.value(&is).await, "t", "{major}: changed");
        db.sql.run(&format!("select pg_drop_replication_slot('{slot}')")).await;
        connect(failover).await.close().await.unwrap();
        assert_eq!(db.sql.value(&is).await, "t", "{major}: created");
    }
}

/// Changes that were replicated to this server from elsewhere are left out, where the server can.
#[tokio::test]
async fn b026_b264_changes_from_elsewhere_can_be_left_out() {
    for (major, mut db) in each_major(&[]).await {
        db.sql.run("create table t (n int primary key)").await;
        db.sql.run("select pg_replication_origin_create('elsewhere')").await;
        let local = Options { origin: Origin::None, ..db.options() };
        if major < 16 {
            assert_eq!(refusal(local).await.0, "server_version", "{major}");
            continue;
        }
        let mut source = connect(local).await;
        assert!(source.origin().ends_with("/origin=none"), "{}", source.origin());
        db.sql.run("select pg_replication_origin_session_setup('elsewhere')").await;
        db.sql.run("insert into t values (1)").await;
        db.sql.run("select pg_replication_origin_session_reset()").await;
        db.sql.run("insert into t values (2)").await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (2)"], "{major}");
        source.close().await.unwrap();
        let mut source = connect(db.options()).await;
        assert_eq!(
            read_texts(&mut *source, 2).await,
            ["insert t (1)", "insert t (2)"],
            "{major}: from anywhere by default"
        );
    }
}

/// Messages that the stream of a slot of our own sees in the log.
async fn heartbeats(db: &mut Database, slot: &str) -> usize {
    let seen = format!(
        "select data from pg_logical_slot_peek_binary_changes('{slot}', null, null,
             'proto_version', '1', 'publication_names', 'none', 'messages', 'true')
         where position('sequin.heartbeat'::bytea in data) > 0"
    );
    db.sql.run(&seen).await.len()
}

#[tokio::test]
async fn b032_a_heartbeat_is_written_when_wanted_and_nothing_else_comes() {
    let mut db = Database::create().await;
    db.sql.run("create publication none").await;
    let watcher = format!("watch_{}", db.name);
    let create = format!("select pg_create_logical_replication_slot('{watcher}', 'pgoutput')");
    db.sql.run(&create).await;
    let beating = Options { heartbeat: Some(Duration::from_millis(100)), ..db.options() };
    let mut source = connect(beating).await;
    until("heartbeats come", async || heartbeats(&mut db, &watcher).await >= 3).await;
    // They are not changes, and what they stand at can be confirmed.
    assert!(matches!(next(&mut *source).await, Event::Idle(_)));
    source.close().await.unwrap();
    // The last one may be under way in a session whose client is gone.
    let others = "select count(*) from pg_stat_activity where datname = current_database() \
                  and backend_type = 'client backend' and pid <> pg_backend_pid()";
    until("its session ends", async || db.sql.value(others).await == "0").await;
    let count = heartbeats(&mut db, &watcher).await;
    let mut source = connect(db.options()).await;
    db.sql.run("create table t (n int primary key); insert into t values (1)").await;
    assert_eq!(read_texts(&mut *source, 1).await, ["insert t (1)"]);
    assert_eq!(heartbeats(&mut db, &watcher).await, count, "none by default");
    db.sql.run(&format!("select pg_drop_replication_slot('{watcher}')")).await;
}

/// A standby can write nothing, neither a heartbeat nor a publication, and its slot follows all the
/// same. From 16 on it can be decoded.
#[tokio::test]
async fn b033_a_standby_is_read_and_its_slot_follows_what_is_not_published() {
    log::listen();
    for (slot, bin) in ["s16", "s17", "s18"].into_iter().zip(majors().into_iter().skip(1)) {
        let place = bin.display().to_string();
        let settings = ["wal_level=logical"];
        let mut primary = Cluster::start_with(bin, &settings, &[]).await;
        let schema = "create table t (n int primary key); create table other (v text)";
        primary.session("postgres").await.run(schema).await;
        let standby = primary.standby(&settings).await;
        let mut sql = primary.session("postgres").await;
        let options = Options {
            publication: "p".to_owned(),
            heartbeat: Some(Duration::from_millis(100)),
            ..standby.options("postgres", slot)
        };
        let (code, _, help) = refusal(options.clone()).await;
        assert_eq!(code, "read_only", "{place}");
        assert!(help.contains("on the primary"), "{help}");

        sql.run("create publication p for table t").await;
        let mut other = standby.session("postgres").await;
        until("the publication is replayed", async || {
            other.value("select count(*) from pg_publication").await == "1"
        })
        .await;
        // The slot begins where the primary says which transactions run.
        let connector = Connector::new(options);
        let mut connect = connector.connect(Missing::Create);
        let mut source = timeout(PATIENCE, async {
            loop {
                sql.run("select pg_log_standby_snapshot()").await;
                if let Ok(source) = timeout(Duration::from_millis(200), &mut connect).await {
                    return source.unwrap_or_else(|error| panic!("{place}: {error}"));
                }
            }
        })
        .await
        .expect("the slot is created");
        assert_eq!(source.server_position(), None, "{place}");
        sql.run("insert into t values (1)").await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (1)"], "{place}");
        sql.run("insert into other select repeat('x', 1000) from generate_series(1, 5000)").await;
        let end: Lsn = sql.value("select pg_current_wal_lsn()::text").await.parse().unwrap();
        let idle = timeout(PATIENCE, async {
            loop {
                match next(&mut *source).await {
                    Event::Idle(at) if at >= end => return at,
                    Event::Idle(_) => {}
                    Event::Changes(batch) => assert!(batch.changes.is_empty(), "{place}"),
                }
            }
        });
        let idle = idle.await.expect("the position passes what is not published");
        source.confirm(idle);
        let follows = format!(
            "select confirmed_flush_lsn >= '{end}' from pg_replication_slots where slot_name = '{slot}'"
        );
        until("the slot follows", async || other.value(&follows).await == "t").await;
        let told = format!("no heartbeat can be written slot.name=\"{slot}\"");
        until("the heartbeat's failure is told", async || !log::lines(&told).is_empty()).await;
        let held = source.held().unwrap();
        until("the standby says what it keeps", async || held.get().is_some()).await;
        source.close().await.unwrap();
        let told = log::lines(&told);
        assert!(told.iter().all(|line| line.contains("during recovery")), "{told:?}");
        assert_eq!(told.len(), 1, "once: {told:?}");
    }
}
