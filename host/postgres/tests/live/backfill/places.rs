//! Tables without a key, by the places of their rows; and what comes between two pages.

use model::backfill::{Cursor, Order, Range, Tables as _, Wanted};
use model::source::SourceError;

use super::{ask, code, column, numbers, page, read, sorted, survey, tables, wanted};
use crate::cluster::Database;

#[tokio::test]
async fn b167_a_table_without_a_key_is_read_by_place() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id int, note text);
             alter table t replica identity full;
             insert into t select n, repeat('x', 100) from generate_series(1, 6000) n;
             delete from t where id > 5000;
             create table nothing (id int);
             create table one (id int); insert into one values (1)",
        )
        .await;
    db.sql.run("vacuum t").await;
    let tables = tables(&db);
    for ranges in [1, 3, 1_000] {
        let wanted = Wanted { ranges, ..wanted("t") };
        for rows_max in [97, 1_000, 100_000] {
            let got = read(&tables, &wanted, rows_max).await;
            assert_eq!(got.survey.order, Order::Place);
            assert!(got.survey.ranges.len() <= ranges.max(1));
            assert_eq!(sorted(column(&got, 0)), numbers(5_000), "{ranges} by {rows_max}");
        }
    }
    assert_eq!(read(&tables, &wanted("nothing"), 5).await.rows.len(), 0);
    assert_eq!(read(&tables, &Wanted { ranges: 9, ..wanted("one") }, 5).await.rows.len(), 1);
    // In another file its rows have other places.
    let survey = survey(&tables, &wanted("t")).await;
    let mut ask = ask(&wanted("t"), &survey, &survey.ranges[0], 10);
    ask.after = page(&tables, &ask).await.next;
    db.sql.run("vacuum full t").await;
    assert_eq!(code(tables.page(&ask).await), "backfill_rewritten");
}

#[tokio::test]
async fn b167_the_index_of_the_identity_orders_rows() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id int, code text not null, other int not null);
             create unique index partial on t (other) where id > 0;
             create unique index by_code on t (code);
             alter table t replica identity using index by_code;
             insert into t select n, 'c' || n, n from generate_series(1, 30) n",
        )
        .await;
    let got = read(&tables(&db), &wanted("t"), 7).await;
    assert_eq!(got.survey.order, Order::Key);
    let mut codes = column(&got, 1);
    assert!(codes.is_sorted() && codes.len() == 30);
    codes.dedup();
    assert_eq!(codes.len(), 30);
}

/// Whatever stands in the store is no value of the key.
#[tokio::test]
async fn b168_a_damaged_place_is_refused() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key); insert into t values (1), (2), (3)").await;
    let tables = tables(&db);
    let wanted = wanted("t");
    let survey = survey(&tables, &wanted).await;
    let good = ask(&wanted, &survey, &survey.ranges[0], 1);
    for cursor in [
        "",
        "{}",
        "{\"values\":[]}",
        "{\"values\":[\"1\",\"2\"]}",
        "{\"place\":{\"block\":0,\"row\":1}}",
    ] {
        let mut ask = good.clone();
        ask.after = Some(Cursor(cursor.into()));
        assert_eq!(code(tables.page(&ask).await), "backfill_state", "{cursor}");
    }
    for value in ["x", "1; drop table t", "1' or true --", "\\u0000"] {
        let mut ask = good.clone();
        ask.after = Some(Cursor(format!("{{\"values\":[\"{value}\"]}}").into()));
        assert_ne!(code(tables.page(&ask).await), "ok", "{value}");
    }
    let mut stray = good.clone();
    stray.range = Range("nonsense".into());
    assert_eq!(code(tables.page(&stray).await), "backfill_state");
    assert_eq!(db.sql.value("select count(*) from t").await, "3");
}

#[tokio::test]
async fn b168_what_becomes_of_a_table_between_two_pages() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id int primary key, note text); insert into t
              select n, 'a' from generate_series(1, 9) n",
        )
        .await;
    let tables = tables(&db);
    let survey = survey(&tables, &wanted("t")).await;
    let mut ask = ask(&wanted("t"), &survey, &survey.ranges[0], 2);
    let first = page(&tables, &ask).await;
    assert_eq!(first.relation.columns.len(), 2);
    ask.after = first.next;
    // Another name, another column, rewritten; the sessions are cut while nobody looks.
    db.sql
        .run(
            "alter table t rename to u; alter table u add more int default 7;
             alter table u alter note type json using to_json(note);
             select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
    let second = page(&tables, &ask).await;
    assert_eq!((&*second.relation.table, second.relation.columns.len()), ("u", 3));
    let values: Vec<_> = (0..3).map(|index| second.rows[0].value(index)).collect();
    let text = model::page::Value::Text;
    assert_eq!(values, [text("3"), text("\"a\""), text("7")]);
    // Locked by somebody: it is not waited for without end.
    let mut other = db.cluster.session(&db.name).await;
    other.run("begin; lock table u in access exclusive mode").await;
    assert_eq!(code(tables.page(&ask).await), "transient");
    other.run("rollback").await;
    db.sql.run("alter table u drop constraint t_pkey").await;
    assert_eq!(code(tables.page(&ask).await), "backfill_key_changed");
    db.sql.run("alter table u add primary key (id)").await;
    assert_eq!(page(&tables, &ask).await.rows.len(), 2);
    db.sql.run("drop table u").await;
    let error = tables.page(&ask).await;
    let Err(SourceError::Definite { code: "table_missing", .. }) = error else {
        panic!("{error:?}")
    };
}
