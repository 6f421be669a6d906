//! Only some rows: by a position in a column, or by a condition.

use model::backfill::{Order, Tables as _, Wanted};
use model::source::SourceError;

use super::{SECOND, ask, code, column, numbers, page, read, sorted, survey, tables, wanted};
use crate::cluster::Database;

fn by(table: &str, sort_column: &str, from: Option<&str>) -> Wanted {
    let from = from.map(Into::into);
    Wanted { sort_column: Some(sort_column.into()), from, ..wanted(table) }
}

/// 75 rows at three times, and some at none.
#[tokio::test]
async fn b163_b164_b166_ties_and_nulls_in_the_sort_column() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id int, at timestamptz);
             insert into t select n, (array['-infinity', '0044-03-15 BC', '2024-01-01',
                 null])[n % 4 + 1]::timestamptz from generate_series(0, 99) n;
             create table keyed (id int primary key, at timestamptz);
             insert into keyed select * from t;
             create index on keyed (at)",
        )
        .await;
    let tables = tables(&db);
    let expected = |times: &[usize]| {
        let ids = (0..100).filter(|n| times.contains(&(n % 4)));
        sorted(ids.map(|n| n.to_string()).collect())
    };
    for table in ["keyed", "t"] {
        for rows_max in [1, 7, 100] {
            let all = read(&tables, &by(table, "at", None), rows_max).await;
            assert_eq!(all.survey.order, Order::Column);
            assert_eq!(sorted(column(&all, 0)), expected(&[0, 1, 2]), "{table} by {rows_max}");
            let some = by(table, "at", Some("0044-03-15 BC"));
            let some = read(&tables, &some, rows_max).await;
            assert_eq!(sorted(column(&some, 0)), expected(&[1, 2]), "{table} by {rows_max}");
        }
    }
    db.sql.run("analyze keyed; analyze t").await;
    for table in ["keyed", "t"] {
        let ranges = Wanted { ranges: 3, ..by(table, "at", Some("0044-03-15 BC")) };
        assert_eq!(sorted(column(&read(&tables, &ranges, 7).await, 0)), expected(&[1, 2]));
    }
}

/// A composite value that is all nulls is none, although SQL's `is null` is true of it.
#[tokio::test]
async fn b164_a_composite_of_nulls_is_no_null() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create type pair as (a int, b int);
             create table t (id int primary key, p pair);
             insert into t values (1, row(null, null)), (2, row(1, null)), (3, null), (4, row(1, 1))",
        )
        .await;
    let got = read(&tables(&db), &by("t", "p", None), 1).await;
    assert_eq!(column(&got, 0), ["4", "2", "1"]);
}

#[tokio::test]
async fn b164_a_condition_chooses_rows_and_an_empty_page_goes_on() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table \"T t\" (id int primary key, note text); insert into \"T t\"
              select n, nullif('n' || n % 50, 'n1') from generate_series(1, 1000) n",
        )
        .await;
    let tables = tables(&db);
    let with = |condition: &str| Wanted { condition: Some(condition.into()), ..wanted("T t") };
    for (condition, rows) in [
        ("note = 'n7'", 20),
        ("\"T t\".id < 0 or note = 'n7' -- and more", 20),
        ("note is null", 20),
        ("note <> 'n7'", 960),
        ("true) or (true", 1_000),
        ("id > 999", 1),
    ] {
        let got = read(&tables, &with(condition), 10).await;
        assert_eq!(got.rows.len(), rows, "{condition}");
        assert!(got.pages >= 100, "ten rows are looked at each time, wanted or not");
    }
    for bad in ["note =", "nothing = 1", "1", "note = 'x'; drop table \"T t\"", "id = 'x'"] {
        let error = tables.survey(&with(bad)).await;
        let Err(SourceError::Definite { code, message, .. }) = error else { panic!("{error:?}") };
        assert_eq!(code, "backfill_condition", "{bad}: {message}");
        assert!(message.contains("public.T t"), "{message}");
    }
    // Only some row shows it.
    let wanted = with("1 / (id - 5) > 0");
    let survey = survey(&tables, &wanted).await;
    let ask = ask(&wanted, &survey, &survey.ranges[0], 10);
    assert_eq!(code(tables.page(&ask).await), "backfill_condition");
    for (sort_column, from) in [("nothing", None), ("id", Some("x")), ("note", Some("\0"))] {
        let error = tables.survey(&by("T t", sort_column, from)).await;
        assert_ne!(code(error), "ok", "{sort_column} {from:?}");
    }
    assert_eq!(code(tables.survey(&by("T t", "id", Some("x"))).await), "backfill_sort_column");
}

#[tokio::test]
async fn b168_a_page_over_its_time_says_so_and_is_ended_at_the_server() {
    let mut db = Database::create().await;
    db.sql
        .run("create table t (id int primary key); insert into t select generate_series(1, 20)")
        .await;
    let tables = tables(&db);
    let slow = "pg_sleep(0.2) is not null and id > 0";
    let wanted = Wanted { condition: Some(slow.into()), ..wanted("t") };
    let survey = survey(&tables, &wanted).await;
    let mut ask = ask(&wanted, &survey, &survey.ranges[0], 20);
    ask.timeout = SECOND;
    assert_eq!(code(tables.page(&ask).await), "backfill_timeout");
    ask.rows_max = 2;
    let short = page(&tables, &ask).await;
    assert_eq!(short.rows.len(), 2, "a shorter one is in time");
    assert!(short.took >= SECOND * 2 / 5 && short.took < SECOND);
    // Whoever gives up has the server give up.
    ask.timeout = 25 * SECOND;
    ask.rows_max = 20;
    ask.wanted.condition = Some("pg_sleep(20) is not null".into());
    let running = "select count(*) from pg_stat_activity
        where state = 'active' and query like 'fetch forward % from page' and pid <> pg_backend_pid()";
    {
        let pages = tables.page(&ask);
        tokio::pin!(pages);
        tokio::select! {
            page = &mut pages => panic!("{page:?}"),
            () = crate::cluster::until("it runs", async || db.sql.value(running).await == "1") => {}
        }
    }
    let started = tokio::time::Instant::now();
    crate::cluster::until("it ended", async || db.sql.value(running).await == "0").await;
    assert!(started.elapsed() < 10 * SECOND, "its sleep takes twice that");
    assert_eq!(sorted(column(&read(&tables, &super::wanted("t"), 5).await, 0)), numbers(20));
}

/// A thousand rows of a megabyte are not read at once, and none is left out.
#[tokio::test]
async fn b172_a_page_ends_where_its_bytes_do() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id int primary key, note text);
             insert into t select n, repeat('x', case when n <= 60 then 300000 else 10 end)
             from generate_series(1, 260) n;
             create table p (note text);
             alter table p replica identity full;
             insert into p select note || id from t",
        )
        .await;
    let tables = tables(&db);
    for table in ["t", "p"] {
        let wanted = wanted(table);
        let survey = survey(&tables, &wanted).await;
        let mut ask = ask(&wanted, &survey, &survey.ranges[0], 1_000);
        ask.bytes_max = 2 << 20;
        let (mut rows, mut most, mut pages) = (0, 0, 0);
        loop {
            let page = page(&tables, &ask).await;
            (rows, most, pages) = (rows + page.rows.len(), most.max(page.bytes), pages + 1);
            ask.after = page.next;
            if ask.after.is_none() {
                break;
            }
        }
        assert_eq!(rows, 260, "{table}");
        assert!(most < 3 << 20 && pages >= 6, "{table}: {most} bytes in one of {pages} pages");
    }
    // One that is larger than a page is a page.
    let wanted = wanted("t");
    let survey = survey(&tables, &wanted).await;
    let mut ask = ask(&wanted, &survey, &survey.ranges[0], 1_000);
    ask.bytes_max = 1;
    assert!((1..=8).contains(&page(&tables, &ask).await.rows.len()));
}
