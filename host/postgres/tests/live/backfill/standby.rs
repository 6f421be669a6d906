//! Rows of a standby, marks of its primary.

use model::backfill::Tables as _;
use postgres::Tables;

use super::{SECOND, ask, code, column, options, page, survey, wanted};
use crate::cluster::{Cluster, Database, until};
use crate::support;

#[tokio::test]
async fn b178_b179_a_standby_is_read_when_it_has_what_was_streamed() {
    let settings = ["wal_level=logical"];
    let mut primary = Cluster::start(&settings).await;
    let standby = primary.standby(&settings).await;
    let primary = std::sync::Arc::new(primary);
    let mut db = Database::create_in(std::sync::Arc::clone(&primary)).await;
    db.sql.run("create table t (id int primary key, note text)").await;
    let mut source = support::connect(db.options()).await;
    db.sql.run("insert into t values (1, 'old')").await;
    let of_standby = standby.options(&db.name, "unused");
    let mut replica = None;
    until("the database is there", async || {
        replica = standby.try_session(&db.name).await;
        replica.is_some()
    })
    .await;
    let mut replica = replica.unwrap();
    let tables = Tables::new(
        postgres::Options { publication: db.options().publication, ..of_standby.clone() },
        Some(options(&db)),
    );
    until("the table is there", async || {
        replica.value("select to_regclass('t') is not null").await == "t"
    })
    .await;
    let survey = survey(&tables, &wanted("t")).await;
    let mut ask = ask(&wanted("t"), &survey, &survey.ranges[0], 10);
    // The stream has brought what the standby has not replayed: such a page is never handed out.
    replica.run("select pg_wal_replay_pause()").await;
    until("it stands", async || {
        replica.value("select pg_get_wal_replay_pause_state()").await == "paused"
    })
    .await;
    db.sql.run("update t set note = 'new'").await;
    support::read(&mut *source, 2).await;
    ask.timeout = SECOND;
    assert_eq!(code(tables.page(&ask).await), "transient");
    replica.run("select pg_wal_replay_resume()").await;
    ask.timeout = 20 * SECOND;
    let got = page(&tables, &ask).await;
    assert_eq!(got.rows.len(), 1);
    assert_eq!(got.rows[0].value(1), model::page::Value::Text("new"));
    // A transaction that goes on, of which the standby's snapshot does not tell.
    let mut long = primary.session(&db.name).await;
    long.run("begin; update t set note = 'long'").await;
    db.sql.run("insert into t values (2, 'later')").await;
    let early = page(&tables, &ask).await;
    assert_eq!(early.rows.len(), 2);
    long.run("commit").await;
    let (changes, _) = support::read(&mut *source, 2).await;
    let long = changes
        .iter()
        .find(|it| it.after.as_ref().unwrap().value(0) == model::page::Value::Text("1"));
    assert!(!early.snapshot.shows(long.unwrap().transaction.xid));
    let read = super::read(&tables, &wanted("t"), 1).await;
    assert_eq!(column(&read, 1), ["long", "later"]);
    // The mark goes to the primary.
    tables.mark("here").await.unwrap();
    loop {
        if let model::source::Event::Changes(batch) = support::next(&mut *source).await
            && let Some(mark) = batch.marks.first()
        {
            assert_eq!(&*mark.text, "here");
            break;
        }
    }
    assert_eq!(code(Tables::new(of_standby, None).mark("x").await), "primary_missing");
    source.close().await.unwrap();
}
