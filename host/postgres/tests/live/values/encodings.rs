//! Databases that do not keep UTF-8.

use model::source::SourceError;

use super::{database, ends, json};
use crate::cluster::Database;
use crate::support::{broken, connect, read, read_texts};

/// A database with this encoding, on the server of another.
async fn with_encoding(db: &Database, name: &str, encoding: &str) -> Database {
    let mut sql = db.cluster.session("postgres").await;
    sql.run(&format!("create database {name} encoding '{encoding}' template template0 locale 'C'"))
        .await;
    let (cluster, name) = (std::sync::Arc::clone(&db.cluster), name.to_owned());
    let sql = cluster.session(&name).await;
    Database { cluster, name, sql }
}

#[tokio::test]
async fn b040_other_encodings_are_converted() {
    for bin in ends() {
        let server = database(bin).await;
        for (encoding, text) in [
            ("LATIN1", "café ÿ"),
            ("WIN1252", "žlutý “€”"),
            ("EUC_JP", "日本語 カナ"),
            ("KOI8R", "привет"),
            ("UTF8", "日本語 🦀"),
        ] {
            let mut db = with_encoding(&server, &encoding.to_lowercase(), encoding).await;
            db.sql
                .run(&format!(
                    "create type mood as enum ('{text}');
                     create table \"t {text}\" (id int primary key, \"{text}\" text, list text[], doc jsonb, mood mood)"
                ))
                .await;
            let mut source = connect(db.options()).await;
            db.sql
                .run(&format!(
                    "insert into \"t {text}\"
                     values (1, '{text}', '{{\"{text}\"}}', '[\"{text}\"]', '{text}')"
                ))
                .await;
            let (changes, _) = read(&mut *source, 1).await;
            let quoted = format!("\"{text}\"");
            let list = format!("[{quoted}]");
            let row = [1, 2, 3, 4].map(|column| json(&changes[0], column));
            assert_eq!(row, [&*quoted, &list, &list, &quoted], "{encoding}");
            assert_eq!(*changes[0].relation.table, format!("t {text}"));
            assert_eq!(&*changes[0].relation.columns[1].name, text);
        }
    }
}

#[tokio::test]
async fn b040_bytes_without_an_encoding_pass_in_hexadecimal_and_stop_nothing() {
    crate::log::listen();
    for bin in ends() {
        let server = database(bin).await;
        let mut db = with_encoding(&server, "sql_ascii", "SQL_ASCII").await;
        db.sql
            .run(
                "create table t (id int primary key, body text, list text[], doc json, code char(4));
                 create table u (id text primary key)",
            )
            .await;
        let mut source = connect(db.options()).await;
        db.sql.run("insert into t values (1, 'é🦀', '{é}', '[\"é\"]', 'é')").await;
        db.sql
            .run(r#"insert into t values (2, E'caf\xe9', E'{a,\xe9}', E'["\xe9"]'::json, E'\xff')"#)
            .await;
        db.sql.run(r"insert into t values (3, 'plain', '{}', '{}', ''), (4, E'\xe9', null, null, null)").await;
        db.sql.run(r"insert into u values (E'\xe9'); delete from u").await;
        let (changes, _) = read(&mut *source, 4).await;
        let rows: Vec<_> = changes
            .iter()
            .take(4)
            .map(|change| [0, 1, 2, 3, 4].map(|column| json(change, column)))
            .collect();
        assert_eq!(
            rows,
            [
                ["1", r#""é🦀""#, r#"["é"]"#, r#"["é"]"#, r#""é  ""#],
                [
                    "2",
                    r#""\\x636166e9""#,
                    r#""\\x7b612ce97d""#,
                    r#""\\x5b22e9225d""#,
                    r#""\\xff202020""#
                ],
                ["3", r#""plain""#, "[]", "{}", r#""    ""#],
                ["4", r#""\\xe9""#, "null", "null", "null"],
            ]
        );
        let texts: Vec<_> = changes[4..].iter().map(crate::support::text).collect();
        assert_eq!(texts, [r"insert u (\xe9)", r"delete u [\xe9]"]);
        source.close().await.unwrap();
    }
    // Once for each column and connection.
    let said = |column: &str| {
        let lines = crate::log::lines("is not UTF-8");
        let of = |line: &&String| line.contains("public.t") && line.contains(column);
        lines.iter().filter(of).count()
    };
    for column in ["column=body", "column=list", "column=doc", "column=code"] {
        assert_eq!(said(column), ends().len(), "{column}: {:?}", crate::log::lines("UTF-8"));
    }
}

#[tokio::test]
async fn b040_a_text_that_has_no_form_in_utf8_is_a_named_state_with_a_remedy() {
    for bin in ends() {
        let server = database(bin).await;
        let mut db = with_encoding(&server, "win1252", "WIN1252").await;
        db.sql.run("create table t (id int primary key, body text)").await;
        let mut source = connect(db.options()).await;
        db.sql.run("insert into t values (1, 'before')").await;
        // Not assigned in this code page.
        db.sql.run(r"insert into t values (2, 'lost'), (3, E'\x81')").await;
        db.sql.run("insert into t values (4, 'behind')").await;
        let (code, help) = definite(broken(&mut *source).await);
        assert_eq!(code, "encoding", "{help}");
        skip(&mut db, &help).await;
        let mut source = connect(db.options()).await;
        assert_eq!(read_texts(&mut *source, 1).await, ["insert t (4, behind)"]);
    }
}

/// What somebody must act upon.
pub(super) fn definite(error: SourceError) -> (&'static str, String) {
    match error {
        SourceError::Definite { code, message, help } => {
            assert!(message.contains("slot_") || message.contains("slot "), "{message}");
            (code, help)
        }
        SourceError::Transient(text) => panic!("passes by itself: {text}"),
    }
}

/// Does what the help says.
pub(super) async fn skip(db: &mut Database, help: &str) {
    let statement = help.split('`').nth(1).expect("a statement in the help");
    crate::cluster::until("the slot is free", async || {
        let active = "select count(*) from pg_replication_slots where active";
        db.sql.value(active).await == "0"
    })
    .await;
    db.sql.run(statement).await;
}
