//! Keys of any type and collation, from their true beginning.

use std::sync::Arc;

use model::backfill::Order;
use model::page::Value;

use super::{column, numbers, read, sorted, tables, wanted};
use crate::cluster::{Cluster, Database};
use crate::support;
use crate::values::ends;

/// Type of a key, and its values in their order, which a first page must not leave out.
const KEYS: &[(&str, &[&str])] = &[
    ("bigint", &["-9223372036854775808", "-5", "0", "1", "9223372036854775807"]),
    ("smallint", &["-32768", "-1", "0", "32767"]),
    ("numeric", &["-Infinity", "-12345678901234567890.5", "0", "0.10", "1e30", "NaN"]),
    ("numeric(10,2)", &["-1.50", "0.00", "2.25"]),
    ("float8", &["-Infinity", "-1.5e300", "0", "0.1", "0.30000000000000004", "NaN"]),
    ("boolean", &["f", "t"]),
    ("text", &["", " ", "A", "B'\\\"", "a", "b", "ž", "日本"]),
    ("varchar(9)", &["", "x", "y z"]),
    ("char(3)", &["", "a", "ab", "abc"]),
    ("\"char\"", &["", "a", "z"]),
    ("name", &["", "A", "a"]),
    ("bytea", &["\\x", "\\x00", "\\x00ff", "\\xff"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("date", &["-infinity", "0044-03-15 BC", "2024-01-02", "infinity"]),
    ("timestamp", &["-infinity", "0044-03-15 12:00:00.5 BC", "2024-01-02 03:04:05", "infinity"]),
    (
        "timestamptz",
        &["-infinity", "4713-01-01 00:00:00+00 BC", "2024-01-02 03:04:05.123456+02", "infinity"],
    ),
    ("time", &["00:00:00", "12:00:00.000001", "24:00:00"]),
    ("interval", &["-1 mon", "-1 day", "0", "1 day 00:00:01", "1 year 2 mons"]),
    ("inet", &["10.0.0.1", "10.0.0.0/8", "192.168.0.1/24", "::1"]),
    ("macaddr", &["08:00:2b:01:02:03", "08:00:2b:01:02:04"]),
    ("bit varying", &["", "0", "01", "1"]),
    ("money", &["-1.00", "0.00", "1234.50"]),
    ("pg_lsn", &["0/0", "16/B374D848"]),
    ("oid", &["0", "4294967295"]),
    ("mood", &["sad", "it's ok", "Happy"]),
    ("pair", &["(,)", "(1,)", "(-1,\"a b\")", "(2,\"q\"\"\")"]),
    ("positive", &["1", "2", "30"]),
    ("int[]", &["{}", "{-1,NULL}", "{1,2}", "{{1,2},{3,4}}"]),
    ("text[]", &["{}", "{\"a,b\",\"\\\"\"}", "{NULL}"]),
    ("moods", &["{sad}", "{\"it's ok\",Happy}"]),
    ("int4range", &["empty", "[,5)", "[1,2)", "[1,)"]),
    ("tstzrange", &["empty", "[-infinity,2024-01-01 00:00:00+00)"]),
    ("jsonb", &["null", "\"a\"", "1", "{\"a\": [1, null]}"]),
    ("citext", &["", "A", "b", "C"]),
    ("weird.citext", &["", "A", "b", "C"]),
];

const TYPES: &str = "
    create type mood as enum ('sad', 'it''s ok', 'Happy');
    create type pair as (n int, t text);
    create domain positive as int check (value > 0);
    create domain moods as mood[];";

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[tokio::test]
async fn b161_b162_b163_every_key_is_read_once_as_the_stream_brings_it() {
    for bin in ends() {
        let settings = ["wal_level=logical"];
        let cluster = Arc::new(Cluster::start_with(bin, &settings, &[]).await);
        let mut db = Database::create_in(cluster).await;
        db.sql.run(TYPES).await;
        let extension = db
            .sql
            .value("select count(*) from pg_available_extensions where name = 'citext'")
            .await;
        let keys: Vec<_> =
            KEYS.iter().filter(|(kind, _)| extension == "1" || !kind.contains("citext")).collect();
        if extension == "1" {
            db.sql.run("create schema weird; create extension citext schema weird").await;
            db.sql.run("create domain citext as weird.citext").await;
        }
        let mut source = support::connect(db.options()).await;
        for (n, (kind, values)) in keys.iter().enumerate() {
            let table = format!("Key \"{n}");
            let quoted = format!("\"Key \"\"{n}\"");
            db.sql
                .run(&format!(
                    "create table {quoted} (n int, \"K k\" {kind}, e {kind}, primary key (\"K k\"))"
                ))
                .await;
            // Backwards.
            let rows = values.iter().enumerate().rev();
            let rows: Vec<_> =
                rows.map(|(at, value)| format!("({at}, {0}, {0})", literal(value))).collect();
            db.sql.run(&format!("insert into {quoted} values {}", rows.join(", "))).await;
            let (changes, _) = support::read(&mut *source, 1).await;
            let expected =
                db.sql.run(&format!("select n from {quoted} order by \"K k\"")).await.concat();
            for rows_max in [1, 2, 100] {
                let got = read(&tables(&db), &wanted(&table), rows_max).await;
                assert_eq!(got.survey.order, Order::Key, "{kind}");
                assert_eq!(column(&got, 0), expected, "{kind} by {rows_max}");
                for (relation, row) in &got.rows {
                    let change = changes
                        .iter()
                        .find(|it| it.after.as_ref().unwrap().value(0) == row.value(0))
                        .unwrap();
                    assert_eq!(*relation, change.relation, "{kind}");
                    for index in 0..relation.columns.len() {
                        let sent = change.after.as_ref().unwrap().value(index);
                        assert_eq!(row.value(index), sent, "{kind}");
                    }
                }
            }
        }
        source.close().await.unwrap();
    }
}

#[tokio::test]
async fn b162_keys_of_several_columns_are_compared_as_a_whole() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (n int, a int, b text, c timestamptz, primary key (c, a, b));
             insert into t select row_number() over (), a, b, c
             from generate_series(-2, 2) a, unnest(array['', 'x', 'Y']) b,
                 unnest(array['-infinity', 'epoch', 'infinity']::timestamptz[]) c",
        )
        .await;
    for rows_max in [1, 2, 7, 45, 46] {
        let got = read(&tables(&db), &wanted("t"), rows_max).await;
        assert_eq!(sorted(column(&got, 0)), numbers(45), "{rows_max}");
    }
}

/// Under ICU's order `a < A < b`, under C's `A < a`; two are equal where case does not count.
#[tokio::test]
async fn b165_text_keys_under_any_collation_are_read_once() {
    let mut db = Database::create().await;
    let icu = "select count(*) from pg_collation where collname = 'und-x-icu'";
    if db.sql.value(icu).await == "0" {
        panic!("this server has no ICU collations");
    }
    db.sql
        .run(
            "create collation no_case
                 (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create table icu (n int, k text collate \"und-x-icu\" primary key);
             create table folded (n int, k text collate no_case primary key);
             create table other (n int not null, k text not null);
             create unique index on other (k collate \"und-x-icu\");
             insert into icu select row_number() over (), c || d
             from unnest(array['a', 'A', 'á', 'b', 'B', '-', ' ', 'z', 'ž', 'Ž']) c,
                 unnest(array['', 'a', 'A', '-b', '_']) d;
             insert into other select n, k from icu;
             insert into folded select row_number() over (), k
             from (select distinct lower(k) collate \"C\" k from icu) s",
        )
        .await;
    for table in ["icu", "other", "folded"] {
        let rows = db.sql.value(&format!("select count(*) from {table}")).await;
        let rows: usize = rows.parse().unwrap();
        assert!(rows > 20);
        for rows_max in [1, 3, 10] {
            let got = read(&tables(&db), &wanted(table), rows_max).await;
            assert_eq!(got.survey.order, Order::Key);
            assert_eq!(sorted(column(&got, 0)), numbers(rows), "{table} by {rows_max}");
        }
    }
}

/// In several ranges, and no row is counted for it.
#[tokio::test]
async fn b155_b181_each_row_is_read_once_in_ranges() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id bigint primary key, note text) with (autovacuum_enabled = off);
             insert into t select n * 3 - 300000, 'x' from generate_series(1, 200000) n",
        )
        .await;
    let tables = tables(&db);
    let four = model::backfill::Wanted { ranges: 4, ..wanted("t") };
    let blank = super::survey(&tables, &four).await;
    assert_eq!((blank.rows_estimate, blank.ranges.len()), (None, 1), "no statistics");
    db.sql.run("analyze t").await;
    let got = read(&tables, &four, 7_000).await;
    assert_eq!(got.survey.ranges.len(), 4);
    assert_eq!(got.survey.rows_estimate, Some(200_000));
    let mut ids: Vec<i64> = got
        .rows
        .iter()
        .map(|(_, row)| match row.value(0) {
            Value::Text(text) => text.parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(ids.is_sorted(), "the ranges are in order, too");
    ids.dedup();
    assert_eq!(ids.len(), 200_000);
    assert_eq!((ids[0], ids[199_999]), (-299_997, 300_000));
    assert!((29..=36).contains(&got.pages), "{}", got.pages);
}
