//! What a page shows of what the stream brings.

use std::sync::Arc;

use super::{ask, column, page, read, survey, tables, wanted};
use crate::cluster::{Cluster, Database, until};
use crate::support;

#[tokio::test]
async fn b176_a_transaction_that_goes_on_is_not_shown() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key, note text)").await;
    let mut source = support::connect(db.options()).await;
    db.sql.run("insert into t values (1, 'before')").await;
    let mut long = db.cluster.session(&db.name).await;
    long.run("begin; update t set note = 'long' where id = 1").await;
    // Committed while the other goes on: shown, although it began later.
    db.sql.run("insert into t values (2, 'later')").await;
    let tables = tables(&db);
    let survey = survey(&tables, &wanted("t")).await;
    let ask = ask(&wanted("t"), &survey, &survey.ranges[0], 10);
    let early = page(&tables, &ask).await;
    assert_eq!(early.rows.len(), 2);
    long.run("commit").await;
    db.sql.run("insert into t values (3, 'last')").await;
    let (changes, _) = support::read(&mut *source, 4).await;
    let shown = |note: &str| {
        let of = |change: &&model::change::Change| {
            change.after.as_ref().unwrap().value(1) == model::page::Value::Text(note)
        };
        early.snapshot.shows(changes.iter().find(of).unwrap().transaction.xid)
    };
    assert!(shown("before") && shown("later"));
    assert!(!shown("long") && !shown("last"));
    let late = page(&tables, &ask).await;
    assert!(changes.iter().all(|change| late.snapshot.shows(change.transaction.xid)));
    source.close().await.unwrap();
}

/// A commit that waits for a synchronous standby is in the stream, and nobody sees it yet.
#[tokio::test]
async fn b176_a_commit_in_the_log_that_nobody_sees_yet_is_not_shown() {
    let settings = ["wal_level=logical"];
    let cluster = Arc::new(Cluster::start(&settings).await);
    let mut db = Database::create_in(cluster).await;
    db.sql.run("create table t (id int primary key, note text)").await;
    let mut source = support::connect(db.options()).await;
    db.sql.run("insert into t values (1, 'old')").await;
    support::read(&mut *source, 1).await;
    db.sql.run("alter system set synchronous_standby_names = 'nobody'").await;
    db.sql.run("select pg_reload_conf()").await;
    until("it is set", async || {
        let mut fresh = db.cluster.session(&db.name).await;
        fresh.value("show synchronous_standby_names").await == "nobody"
    })
    .await;
    let mut waiting = db.cluster.session(&db.name).await;
    let tables = tables(&db);
    let work = async {
        let (changes, _) = support::read(&mut *source, 1).await;
        let got = read(&tables, &wanted("t"), 10).await;
        assert_eq!(column(&got, 1), ["old"], "not visible, though it came");
        let survey = &got.survey;
        let page = page(&tables, &ask(&wanted("t"), survey, &survey.ranges[0], 10)).await;
        assert!(!page.snapshot.shows(changes[0].transaction.xid));
    };
    tokio::select! {
        () = work => {}
        _ = waiting.run("update t set note = 'new'") => panic!("it was confirmed by nobody"),
    }
    db.sql.run("alter system reset synchronous_standby_names").await;
    db.sql.run("select pg_reload_conf()").await;
    source.close().await.unwrap();
}
