//! Texts and bytes.

use model::page::Value;
use model::relation::Kind::{Bytes, Text};

use super::{check, check_in, database, ends};
use crate::support::{connect, read};

#[tokio::test]
async fn b039_every_character_arrives() {
    for bin in ends() {
        let mut db = database(bin).await;
        let values = [
            ("text", "", Text, r#""""#),
            ("text", "NULL", Text, r#""NULL""#),
            ("text", "žluťoučký 🦀👩‍👩‍👧", Text, r#""žluťoučký 🦀👩‍👩‍👧""#),
            (
                "text",
                "\"q\" \\ \n\r\t\u{1}\u{7f}",
                Text,
                "\"\\\"q\\\" \\\\ \\n\\r\\t\\u0001\u{7f}\"",
            ),
        ];
        check_in(&mut db, "", &values).await;
        // All that there are but NUL and surrogates.
        let mut source = connect(db.options()).await;
        db.sql
            .run(
                "insert into t select string_agg(chr(n), '' order by n)
                 from generate_series(1, 1114111) n where n not between 55296 and 57343",
            )
            .await;
        let expected: String = ('\u{1}'..=char::MAX).collect();
        // The first row comes again: nothing was confirmed.
        let (changes, _) = read(&mut *source, 2).await;
        let row = changes.last().unwrap().after.as_ref().unwrap();
        assert!(row.value(0) == Value::Text(&expected), "not every character came through");
    }
}

#[tokio::test]
async fn b041_padding_and_case_are_as_postgres_prints_them() {
    check(
        "create extension citext",
        &[
            ("char(5)", "ab", Text, r#""ab   ""#),
            ("char(3)", "ž🦀", Text, r#""ž🦀 ""#),
            ("varchar(5)", "ab ", Text, r#""ab ""#),
            ("varchar", "Ab", Text, r#""Ab""#),
            ("name", "Ab", Text, r#""Ab""#),
            ("\"char\"", "x", Text, r#""x""#),
            ("citext", "AbC ", Text, r#""AbC ""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b042_bytes_come_whole_and_as_a_query_prints_them() {
    for bin in ends() {
        let mut db = database(bin).await;
        let values =
            [("bytea", "", Bytes, r#""\\x""#), ("bytea", "\\x00ff5c0A", Bytes, r#""\\x00ff5c0a""#)];
        check_in(&mut db, "", &values).await;
        let mut source = connect(db.options()).await;
        for megabytes in [1, 10] {
            db.sql
                .run(&format!(
                    "truncate t; insert into t select decode(repeat(string_agg(md5(n::text), ''),
                     {megabytes} * 64), 'hex') from generate_series(1, 1024) n"
                ))
                .await;
            let mut got = String::new();
            while got.is_empty() {
                let (changes, _) = read(&mut *source, 1).await;
                // The truncation, which has no row, may come in a read of its own.
                let Some(row) = changes.last().unwrap().after.as_ref() else { continue };
                let Value::Text(text) = row.value(0) else { panic!("a value") };
                got = text.strip_prefix("\\x").unwrap().to_owned();
            }
            assert_eq!(got.len(), 2 * megabytes * 1024 * 1024);
            assert!(got == db.sql.value("select encode(c0, 'hex') from t").await);
        }
    }
}
