//! Types whose text is passed through: what of it is stable, and what extensions bring.

use model::relation::Kind::{Integer, Json, Text};

use super::{check, database, ends, json};
use crate::support::{connect, read};

#[tokio::test]
async fn b061_addresses_are_canonical() {
    check(
        "",
        &[
            ("inet", "10.0.0.1", Text, r#""10.0.0.1""#),
            ("inet", "10.0.0.1/8", Text, r#""10.0.0.1/8""#),
            ("inet", "2001:DB8:0:0:0:0:0:1", Text, r#""2001:db8::1""#),
            ("inet", "::ffff:1.2.3.4", Text, r#""::ffff:1.2.3.4""#),
            ("cidr", "10", Text, r#""10.0.0.0/8""#),
            ("cidr", "2001:db8::/32", Text, r#""2001:db8::/32""#),
            ("macaddr", "08-00-2B-01-02-03", Text, r#""08:00:2b:01:02:03""#),
            ("macaddr8", "08002b0102030405", Text, r#""08:00:2b:01:02:03:04:05""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b062_geometry_is_as_postgres_prints_it() {
    check(
        "",
        &[
            ("point", "1.5,-0", Text, r#""(1.5,-0)""#),
            ("point", "(NaN,Infinity)", Text, r#""(NaN,Infinity)""#),
            ("line", "{1,2,3}", Text, r#""{1,2,3}""#),
            ("lseg", "((0,0),(0.1,1))", Text, r#""[(0,0),(0.1,1)]""#),
            ("box", "((0,0),(1,1))", Text, r#""(1,1),(0,0)""#),
            ("path", "[(0,0),(1,1)]", Text, r#""[(0,0),(1,1)]""#),
            ("path", "((0,0),(1,1))", Text, r#""((0,0),(1,1))""#),
            ("polygon", "((0,0),(1,1))", Text, r#""((0,0),(1,1))""#),
            ("circle", "((0,0),1)", Text, r#""<(0,0),1>""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b063_bits_keep_their_leading_zeros() {
    check(
        "",
        &[
            ("bit(8)", "00000101", Text, r#""00000101""#),
            ("bit", "0", Text, r#""0""#),
            ("varbit", "001", Text, r#""001""#),
            ("varbit", "", Text, r#""""#),
            ("varbit(70)", &"0".repeat(70), Text, &format!("\"{}\"", "0".repeat(70))),
        ],
    )
    .await;
}

#[tokio::test]
async fn b064_other_types_pass_through() {
    check(
        "create table \"Odd T\" (); create schema s; create table s.t ();",
        &[
            ("tsvector", "b:2A a", Text, r#""'a' 'b':2A""#),
            ("tsquery", "a & !b", Text, r#""'a' & !'b'""#),
            ("xml", "<a b=\"1\">é</a>", Text, r#""<a b=\"1\">é</a>""#),
            ("xml", "some <b/> content", Text, r#""some <b/> content""#),
            ("pg_lsn", "16/B374D848", Text, r#""16/B374D848""#),
            ("oid", "0", Integer, "0"),
            ("xid", "4294967295", Text, r#""4294967295""#),
            ("xid8", "18446744073709551615", Text, r#""18446744073709551615""#),
            ("tid", "(0,1)", Text, r#""(0,1)""#),
            ("txid_snapshot", "10:20:10,14", Text, r#""10:20:10,14""#),
            ("pg_snapshot", "10:20:", Text, r#""10:20:""#),
            ("regclass", "pg_class", Text, r#""pg_class""#),
            ("regclass", "\"Odd T\"", Text, r#""public.\"Odd T\"""#),
            ("regclass", "s.t", Text, r#""s.t""#),
            ("regclass", "999999", Text, r#""999999""#),
            ("regtype", "int", Text, r#""integer""#),
            ("regproc", "now", Text, r#""now""#),
            ("regrole", "postgres", Text, r#""postgres""#),
            ("aclitem", "postgres=r/postgres", Text, r#""postgres=r/postgres""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b065_b066_what_extensions_bring_is_their_own_text() {
    check(
        "create extension hstore; create extension ltree; create extension cube;
         create extension seg; create extension isn; create extension intarray;
         -- Not pgvector's, though it is called so.
         create type vector as enum ('[1,2]', 'up');",
        &[
            ("hstore", "b=>NULL,a=>\"x,\\\"y\"", Text, r#""\"a\"=>\"x,\\\"y\", \"b\"=>NULL""#),
            ("ltree", "Top.a_b", Text, r#""Top.a_b""#),
            ("lquery", "Top.*{1}", Text, r#""Top.*{1}""#),
            ("ltree[]", "{a.b,c}", Json, r#"["a.b","c"]"#),
            ("cube", "(1,2.5),(3,4)", Text, r#""(1, 2.5),(3, 4)""#),
            ("cube[]", r#"{"(1)"}"#, Json, r#"["(1)"]"#),
            ("seg", "1.50 .. 2", Text, r#""1.50 .. 2""#),
            ("isbn", "0-306-40615-2", Text, r#""0-306-40615-2""#),
            ("query_int", "1&(2|3)", Text, r#""1 & ( 2 | 3 )""#),
            ("vector", "[1,2]", Text, r#""[1,2]""#),
            ("vector", "up", Text, r#""up""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b066_a_type_that_is_gone_passes_as_text() {
    let mut db = database(ends().remove(0)).await;
    db.sql
        .run(
            "create type mood as enum ('ok'); create domain small as int;
             create table t (id int primary key, mood mood, moods mood[], small small);",
        )
        .await;
    connect(db.options()).await.close().await.unwrap();
    db.sql.run("insert into t values (1, 'ok', '{ok}', 7)").await;
    db.sql.run("drop table t; drop type mood; drop domain small").await;
    let mut source = connect(db.options()).await;
    let (changes, _) = read(&mut *source, 1).await;
    let row = [0, 1, 2, 3].map(|column| json(&changes[0], column));
    assert_eq!(row, ["1", r#""ok""#, r#""{ok}""#, r#""7""#]);
    assert_eq!(&*changes[0].relation.columns[1].type_name, "unknown");
}
