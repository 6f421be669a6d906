//! The stream itself: confirmation, idleness, back-pressure, and its ends.

use std::time::Duration;

use model::lsn::Lsn;
use model::source::{Connect as _, Event, Missing, SourceError};
use postgres::{Connector, Options};
use tokio::time::timeout;

use crate::cluster::{Database, PATIENCE, until};
use crate::support::{broken, connect, next, read, read_texts, text};

async fn confirmed(db: &mut Database) -> Lsn {
    let slot = db.slot();
    let query = format!(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{slot}'"
    );
    db.sql.value(&query).await.parse().unwrap()
}

#[tokio::test]
async fn what_was_confirmed_is_not_repeated_and_nothing_else_is_lost() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let mut source = connect(db.options()).await;
    for n in 1..=3 {
        db.sql.run(&format!("insert into t values ({n})")).await;
    }
    let (_, commits) = read(&mut *source, 3).await;
    source.confirm(commits[1].end_lsn);
    until("the confirmed position arrives", async || {
        confirmed(&mut db).await == commits[1].end_lsn
    })
    .await;
    // An older position does not move it back, one that was not received is not believed.
    source.confirm(commits[0].end_lsn);
    source.close().await.unwrap();
    assert_eq!(confirmed(&mut db).await, commits[1].end_lsn);

    let mut source = connect(db.options()).await;
    db.sql.run("insert into t values (4)").await;
    let (changes, commits) = read(&mut *source, 2).await;
    assert_eq!(changes.iter().map(text).collect::<Vec<_>>(), ["insert t (3)", "insert t (4)"]);
    source.confirm(commits[1].end_lsn);
    // Sent with the goodbye, without waiting for the clock.
    source.close().await.unwrap();
    assert_eq!(confirmed(&mut db).await, commits[1].end_lsn);
}

#[tokio::test]
async fn a_position_that_was_not_received_is_not_confirmed() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let mut source = connect(db.options()).await;
    source.confirm(Lsn(u64::MAX));
    db.sql.run("insert into t values (1)").await;
    let (_, commits) = read(&mut *source, 1).await;
    until("everything received is confirmed", async || {
        confirmed(&mut db).await >= commits[0].end_lsn
    })
    .await;
    let end: Lsn = db.sql.value("select pg_current_wal_lsn()::text").await.parse().unwrap();
    assert!(confirmed(&mut db).await <= end);
}

#[tokio::test]
async fn b032_b033_an_idle_stream_says_how_far_the_server_is() {
    let mut db = Database::create().await;
    db.sql.run("create table other (v text); create table t (n int primary key);").await;
    db.sql.run("create publication p for table t").await;
    let mut options = db.options();
    options.publication = "p".to_owned();
    let mut source = connect(options).await;
    db.sql.run("insert into t values (1)").await;
    db.sql.run("insert into other select repeat('x', 1000) from generate_series(1, 5000)").await;
    let end: Lsn = db.sql.value("select pg_current_wal_insert_lsn()::text").await.parse().unwrap();
    let mut delivered = 0;
    let idle = timeout(PATIENCE, async {
        loop {
            match next(&mut *source).await {
                Event::Changes(batch) => delivered += batch.changes.len(),
                Event::Idle(lsn) if lsn >= end => return lsn,
                Event::Idle(_) => {}
            }
        }
    });
    let idle = idle.await.expect("the server's position passes the unpublished rows");
    assert_eq!(delivered, 1, "not idle before everything was handed over");
    source.confirm(idle);
    until("the idle position is confirmed", async || confirmed(&mut db).await >= end).await;
    source.close().await.unwrap();
}

#[tokio::test]
async fn b031_back_pressure_keeps_the_connection() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key, v text)").await;
    let database = db.name.clone();
    db.sql.run(&format!("alter database {database} set wal_sender_timeout = '1s'")).await;
    let mut source = connect(db.options()).await;
    let slot = db.slot();
    let pid = format!("select active_pid from pg_replication_slots where slot_name = '{slot}'");
    let before = db.sql.value(&pid).await;
    // Far more than the queue and the sockets hold: 24 MB.
    db.sql.run("insert into t select n, repeat('x', 1000) from generate_series(1, 24000) n").await;
    // Nothing to wait for: the time itself is what is tested.
    let never = std::future::pending::<()>();
    assert!(timeout(Duration::from_millis(3500), never).await.is_err());
    assert_eq!(db.sql.value(&pid).await, before, "the connection lives");
    let (changes, _) = read(&mut *source, 1).await;
    assert_eq!(changes.len(), 24_000);
    assert!(changes.is_sorted_by(|a, b| a.position < b.position));
    assert_eq!(db.sql.value(&pid).await, before);
}

#[tokio::test]
async fn b029_a_broken_stream_is_an_error_after_its_events_and_resumes() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let mut source = connect(db.options()).await;
    db.sql.run("insert into t values (1)").await;
    assert_eq!(read_texts(&mut *source, 1).await, ["insert t (1)"]);
    let slot = db.slot();
    let kill = format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{slot}'"
    );
    db.sql.run(&kill).await;
    let SourceError::Transient(error) = broken(&mut *source).await else { panic!("definite") };
    assert!(error.contains("57P01"), "{error}");
    assert!(matches!(source.next().await, Err(SourceError::Transient(_))), "and stays broken");
    assert!(source.close().await.is_err(), "nothing was confirmed by this close");
    let active = format!("select active from pg_replication_slots where slot_name = '{slot}'");
    until("the slot is free", async || db.sql.value(&active).await == "f").await;
    let mut source = connect(db.options()).await;
    assert_eq!(read_texts(&mut *source, 1).await, ["insert t (1)"], "not confirmed, so repeated");
}

#[tokio::test]
async fn a_dropped_source_frees_the_slot() {
    let mut db = Database::create().await;
    let source = connect(db.options()).await;
    let active =
        format!("select active from pg_replication_slots where slot_name = '{}'", db.slot());
    assert_eq!(db.sql.value(&active).await, "t");
    drop(source);
    until("the slot is free", async || db.sql.value(&active).await == "f").await;
}

#[tokio::test]
async fn a_dropped_connect_gives_up_although_the_server_is_busy() {
    let mut db = Database::create().await;
    let mut other = db.cluster.session(&db.name).await;
    // A slot is not created before this ends.
    other.run("begin; select pg_current_xact_id();").await;
    let connector = Connector::new(db.options());
    let ours = format!(
        "select count(*) from pg_stat_activity
         where datname = '{}' and application_name = 'sequin' and backend_type = 'walsender'",
        db.name
    );
    let mut connect = connector.connect(Missing::Create);
    let waiting = "select count(*) from pg_replication_slots where database = current_database()";
    until("the slot is being created", async || {
        assert!(timeout(Duration::from_millis(1), &mut connect).await.is_err());
        db.sql.value(waiting).await == "1"
    })
    .await;
    assert_eq!(db.sql.value(&ours).await, "1");
    drop(connect);
    until("the connection is gone", async || db.sql.value(&ours).await == "0").await;
    other.run("commit").await;
}

#[tokio::test]
async fn next_is_cancel_safe() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let mut source = connect(db.options()).await;
    let mut got = Vec::new();
    for n in 0..200 {
        db.sql.run(&format!("insert into t values ({n})")).await;
        // Often dropped before, during and after the event comes.
        if let Ok(event) = timeout(Duration::from_micros(n % 7 * 100), source.next()).await
            && let Event::Changes(batch) = event.unwrap()
        {
            got.extend(batch.changes);
        }
    }
    while got.len() < 200 {
        if let Event::Changes(batch) = next(&mut *source).await {
            got.extend(batch.changes);
        }
    }
    let texts: Vec<String> = got.iter().map(text).collect();
    assert_eq!(texts, (0..200).map(|n| format!("insert t ({n})")).collect::<Vec<_>>());
}

/// Seen also while nobody reads the stream. There is nothing to see
/// before the server was asked.
#[tokio::test]
async fn the_server_says_how_much_log_it_keeps_for_the_slot() {
    let mut db = Database::create().await;
    db.sql.run("create table t (v text)").await;
    let options = Options { heartbeat: Some(Duration::from_millis(100)), ..db.options() };
    let source = connect(options).await;
    let held = source.held().unwrap();
    db.sql.run("insert into t select repeat('x', 1000) from generate_series(1, 3000)").await;
    until("the log is counted", async || held.get().is_some_and(|held| held > 3_000_000)).await;
    let query = format!(
        "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint::text
         from pg_replication_slots where slot_name = '{}'",
        db.slot()
    );
    // Others write on the same server.
    let kept: u64 = db.sql.value(&query).await.parse().unwrap();
    assert!(held.get().unwrap() <= kept, "{held:?} of {kept}");
}
