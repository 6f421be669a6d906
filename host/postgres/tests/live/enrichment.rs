//! What an owner's SQL says of rows, asked of real servers.

use std::sync::Arc;
use std::time::Duration;

use model::change::Change;
use model::enrich::{Enrich as _, Enriched};
use model::page::Row;
use model::source::SourceError;
use postgres::{Enrichment, Options};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::cluster::{Cluster, Database, PATIENCE, majors};
use crate::support::{connect, read};

fn options(db: &Database) -> Options {
    Options { slot: "unused".into(), ..db.options() }
}

fn enrichment(db: &Database, sql: &str) -> Enrichment {
    Enrichment::new(options(db), "extra", sql)
}

async fn try_ask(
    enrichment: &Enrichment,
    changes: &[Change],
) -> Result<Vec<Enriched>, SourceError> {
    let rows: Vec<Row> = changes.iter().filter_map(|change| change.row().cloned()).collect();
    let answer = enrichment.enrich(&changes[0].relation, &rows);
    let found = timeout(PATIENCE, answer).await.expect("an answer comes")?;
    assert_eq!(found.len(), changes.len());
    Ok(found)
}

/// Per change, the object or null; an error as its text.
async fn ask(enrichment: &Enrichment, changes: &[Change]) -> Vec<Json> {
    let found = try_ask(enrichment, changes).await.unwrap_or_else(|error| panic!("{error}"));
    let json = |found: &Enriched| match found {
        Ok(None) => Json::Null,
        Ok(Some(text)) => serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}")),
        Err(refused) => Json::from(refused.to_string()),
    };
    found.iter().map(json).collect()
}

/// Code, message and help of what stands in the way.
async fn refusal(enrichment: &Enrichment, changes: &[Change]) -> (&'static str, String, String) {
    let error = try_ask(enrichment, changes).await.unwrap_err();
    let SourceError::Definite { code, message, help } = error else { panic!("{error}") };
    (code, message, help)
}

/// The changes that these statements make, one transaction each.
async fn changes(db: &mut Database, tables: &str, statements: &[&str]) -> Vec<Change> {
    db.sql.run(tables).await;
    let mut source = connect(db.options()).await;
    for statement in statements {
        db.sql.run(statement).await;
    }
    let (changes, _) = read(&mut *source, statements.len()).await;
    source.close().await.unwrap();
    changes
}

const POI: &str = "
    create table poi (id bigint primary key, name text);
    create table text (poi bigint, lang text, name text, primary key (poi, lang))";

/// What the founding story asks: a place with all its texts, by one lookup.
#[tokio::test]
async fn b115_b116_places_get_all_their_texts_by_one_question_on_every_major() {
    for bin in majors() {
        let cluster = Cluster::start_with(bin, &["wal_level=logical"], &[]).await;
        let mut db = Database::create_in(Arc::new(cluster)).await;
        let statements = [
            "insert into poi select n, 'place ' || n from generate_series(1, 250) n",
            "update poi set name = name || '!' where id <= 6",
            "delete from poi where id = 4",
        ];
        let changes = changes(&mut db, POI, &statements).await;
        db.sql.run("insert into text select n, l, l || n from generate_series(1, 250) n, unnest(array['de', 'en']) l").await;
        // Two questions would have two times, and a key that is asked about twice another count.
        let by_lang = enrichment(
            &db,
            "select poi.id, jsonb_object_agg(text.lang, text.name) as names,
                 cardinality($1) as asked, statement_timestamp() as at
             from poi join text on text.poi = poi.id
             where poi.id = any($1) -- one array
             group by poi.id;",
        );
        assert_eq!(by_lang.name(), "extra");
        by_lang.check().await.unwrap();
        let mut found = ask(&by_lang, &changes).await;
        assert_eq!(found.len(), 257);
        let at = found[0]["at"].clone();
        assert!(at.as_str().is_some_and(|at| at.ends_with('Z')), "as in the stream: {at}");
        for (change, found) in changes.iter().zip(&mut found) {
            let id: u64 = match change.row().unwrap().value(0) {
                model::page::Value::Text(id) => id.parse().unwrap(),
                other => panic!("{other:?}"),
            };
            let names = json!({"de": format!("de{id}"), "en": format!("en{id}")});
            let expected = json!({"id": id, "names": names, "asked": 250, "at": at});
            // It is gone by now, whatever the change was.
            assert_eq!(*found, if id == 4 { Json::Null } else { expected });
        }
    }
}

/// A key of many types, in the order of the names; also where the server cannot tell the types.
#[tokio::test]
async fn b115_a_compound_key_is_an_array_per_column_in_the_order_of_names() {
    let mut db = Database::create().await;
    let table =
        "create table \"T a\" (id bigint, flag boolean, at timestamptz, \"Lang \"\"x\" text,
        ref uuid, price numeric, raw bytea, day date, n int,
        primary key (ref, id, flag, at, \"Lang \"\"x\", price, raw, day))";
    let values = |lang: &str, n: u32| {
        format!(
            "insert into \"T a\" values (7, true, '2024-01-02 03:04:05.678+02', {lang},
                 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 1.50, '\\x00ff', '0044-03-15 BC', {n})"
        )
    };
    let odd = r#"e'a"b\\{,}'' NULL'"#;
    let statements = [values("'de'", 1), values(odd, 2), values("''", 3)];
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let changes = changes(&mut db, table, &statements).await;
    let columns = "\"Lang \"\"x\", at, day, flag, id, price, raw, ref";
    let typed = "$1::text[], $2::timestamptz[], $3::date[], $4::boolean[], $5::bigint[],
        $6::numeric[], $7::bytea[], $8::uuid[]";
    for parameters in [typed, "$1, $2, $3, $4, $5, $6, $7, $8"] {
        let sql = format!(
            "select {columns}, n * 10 as tenfold from \"T a\" where ({columns}) in (
                 select k1, k2, k3, k4, k5, k6, k7, k8
                 from unnest({parameters}) as k (k1, k2, k3, k4, k5, k6, k7, k8))"
        );
        let enrichment = enrichment(&db, &sql);
        enrichment.check().await.unwrap();
        let found = ask(&enrichment, &changes).await;
        let tenfold: Vec<_> = found.iter().map(|found| found["tenfold"].clone()).collect();
        assert_eq!(tenfold, [10, 20, 30], "{parameters}");
        assert_eq!(found[1]["Lang \"x"], "a\"b\\{,}' NULL");
        assert_eq!(found[0]["ref"], "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    }
}

/// Each value is written as the stream writes it, whatever stands behind its type.
#[tokio::test]
async fn b115_values_are_those_of_the_stream() {
    let mut db = Database::create().await;
    db.sql.run("create type pair as (n int, t text); create type mood as enum ('sad', 'ok')").await;
    db.sql.run("create domain several as integer[]; create domain small as int").await;
    let columns = [
        ("boolean", "true"),
        ("smallint", "-1"),
        ("bigint", "9223372036854775807"),
        ("real", "0.1"),
        ("float8", "'-Infinity'"),
        ("numeric", "12345678901234567890.10"),
        ("money", "'1,234.50'"),
        ("text", "e'\\u0001 \"\\\\ž'"),
        ("char(5)", "'ab'"),
        ("bytea", "'\\x00ff'"),
        ("date", "'infinity'"),
        ("timestamp", "'2024-01-02 03:04:05.1'"),
        ("timestamptz", "'2024-01-02 03:04:05+02'"),
        ("interval", "'1 mon -2 days'"),
        ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
        ("json", "'{\"b\":1, \"a\": 1e400}'"),
        ("jsonb", "'{\"b\": [1, null]}'"),
        ("text[]", "array['a,\"{}', null]"),
        ("timestamptz[]", "array[timestamptz '2024-01-02 03:04:05+02']"),
        ("mood", "'ok'"),
        ("mood[]", "array['ok', 'sad']::mood[]"),
        ("pair", "row(null, null)"),
        ("pair[]", "array[row(1, 'x')::pair]"),
        ("several", "array[1, 2]"),
        ("small", "7"),
        ("int4range", "'[1,5]'"),
        ("inet", "'10.0.0.1'"),
    ];
    let named: Vec<_> =
        columns.iter().enumerate().map(|(n, (kind, _))| format!("\"C {n}\" {kind}")).collect();
    let literals: Vec<_> = columns.iter().map(|(_, literal)| *literal).collect();
    let table = format!("create table t (id int primary key, {})", named.join(", "));
    let full = format!("insert into t values (1, {})", literals.join(", "));
    let changes = changes(&mut db, &table, &[&full, "insert into t (id) values (2)"]).await;
    let found = try_ask(&enrichment(&db, "select * from t where id = any($1)"), &changes).await;
    for (change, found) in changes.iter().zip(found.unwrap()) {
        let mut record = String::new();
        model::envelope::record(&mut record, &change.relation, change.row().unwrap(), None);
        assert_eq!(found.unwrap().as_deref(), Some(&*record));
    }
}

/// A row that gets two answers, or on which the statement fails, is named; the others go on.
#[tokio::test]
async fn b115_a_row_at_fault_is_named_and_alone() {
    let mut db = Database::create().await;
    let table = "create table t (id int, lang text, n int, primary key (id, lang))";
    let insert = "insert into t select g, 'de', g - 5 from generate_series(1, 9) g";
    let changes = changes(&mut db, table, &[insert]).await;
    let keys = "(t.id, t.lang) in (select * from unnest($1::int[], $2::text[]))";
    let twice = format!(
        "select id, lang, g from t, generate_series(1, case id when 3 then 3 when 8 then 0 else 1 end) g where {keys}"
    );
    let found = ask(&enrichment(&db, &twice), &changes).await;
    let expected = "enrichment `extra`, row of public.t with id = 3, lang = de: gives 3 rows; it may \
                    give one at most";
    for (id, found) in (1..).zip(&found) {
        match id {
            3 => assert_eq!(*found, expected),
            8 => assert_eq!(*found, Json::Null),
            _ => assert_eq!(*found, json!({"id": id, "lang": "de", "g": 1})),
        }
    }
    let divides = format!("select id, lang, 100 / n as part from t where {keys}");
    let found = ask(&enrichment(&db, &divides), &changes).await;
    let expected = "enrichment `extra`, row of public.t with id = 5, lang = de: fails: division by \
                    zero [22012]";
    for (id, found) in (1..).zip(&found) {
        match id {
            5 => assert_eq!(*found, expected),
            _ => assert_eq!(*found, json!({"id": id, "lang": "de", "part": 100 / (id - 5)})),
        }
    }
}

/// What is wrong with the statement is told before a row comes, or at the first one, with what to do.
#[tokio::test]
async fn b115_a_mistake_in_the_sql_is_told_with_its_place() {
    let mut db = Database::create().await;
    let statements = ["insert into poi values (1, 'a')", "insert into text values (1, 'de', 'b')"];
    let both = changes(&mut db, POI, &statements).await;
    let (changes, texts) = both.split_at(1);
    for (sql, message, help) in [
        (
            "select id,\n  nme from poi where id = any($1)",
            "at line 2, column 3: nme from poi",
            "correct the SQL",
        ),
        (
            "select id frm poi where id = any($1)",
            "syntax error at or near \"poi\" [42601] at line 1, column 15",
            "correct",
        ),
        ("select 1; select 2", "multiple commands", "correct"),
        (
            "select name from poi where id = any($1)",
            "no column id, which is of the key of public.poi",
            "select the columns of the key too: id",
        ),
        (
            "select id from poi",
            "has 0 parameters, but the key of public.poi has 1 columns (id)",
            "`$1`",
        ),
        (
            "select id from poi where id = any($1) and id = any($2)",
            "has 2 parameters",
            "parameter for each",
        ),
        ("select id from poi where id = $1", "$1 is used as int8", "`= any($1)`"),
        (
            "select id, 1 as a, 2 as a from poi where id = any($1)",
            "two columns of the name a",
            "another name",
        ),
        (
            "insert into poi select id from poi where id = any($1) returning id",
            "syntax error",
            "SELECT, WITH",
        ),
        (
            "select id, nextval('s') from poi where id = any($1)",
            "read-only transaction",
            "leave out what writes",
        ),
    ] {
        if sql.contains("nextval") {
            db.sql.run("create sequence s").await;
        }
        let (code, told, to_do) = refusal(&enrichment(&db, sql), changes).await;
        assert_eq!(code, "enrichment_sql", "{sql}");
        assert!(
            told.starts_with("enrichment `extra`: ") && told.contains(message),
            "{sql}: {told}"
        );
        assert!(to_do.contains(help), "{sql}: {to_do}");
    }
    let (_, told, _) =
        refusal(&enrichment(&db, "select poi, lang from text where poi = any($1)"), texts).await;
    assert!(told.contains("the key of public.text has 2 columns (lang, poi)"), "{told}");
    // Before there is a row; and it is asked again once the table is there.
    let later = enrichment(&db, "select id, more from later where id = any($1)");
    let error = later.check().await.unwrap_err();
    let SourceError::Definite { code: "enrichment_sql", message, .. } = error else {
        panic!("{error}")
    };
    assert!(message.contains("at line 1, column 22"), "{message}");
    db.sql.run("create table later (id int, more text); insert into later values (1, 'x')").await;
    later.check().await.unwrap();
    assert_eq!(ask(&later, changes).await, [json!({"id": 1, "more": "x"})]);
    // Whatever becomes of the table behind it: names and types are of now.
    let all = enrichment(&db, "select * from later where id = any($1)");
    assert_eq!(ask(&all, changes).await, [json!({"id": 1, "more": "x"})]);
    db.sql
        .run("alter table later rename more to less; alter table later alter less type int using 5")
        .await;
    assert_eq!(ask(&all, changes).await, [json!({"id": 1, "less": 5})]);
    assert_eq!(refusal(&later, changes).await.0, "enrichment_sql");
}

#[tokio::test]
async fn b115_a_right_that_lacks_is_named_and_can_be_given() {
    let mut db = Database::create().await;
    let changes = changes(&mut db, POI, &["insert into poi values (1, 'a')"]).await;
    let role = format!("r_{}", changes[0].relation.oid);
    db.sql.run(&format!("create role {role} login")).await;
    let options = Options { user: role.clone(), ..options(&db) };
    let enrichment = Enrichment::new(options, "extra", "select id from poi where id = any($1)");
    let (code, _, help) = refusal(&enrichment, &changes).await;
    assert_eq!(code, "privilege");
    assert!(help.contains(&format!("grant {role} SELECT")), "{help}");
    db.sql.run(&format!("grant select on poi to {role}")).await;
    assert_eq!(ask(&enrichment, &changes).await, [json!({"id": 1})]);
    db.sql.run(&format!("drop owned by {role}; drop role {role}")).await;
}

/// A statement that takes too long is given up, and asked again.
#[tokio::test]
async fn b117_a_slow_statement_is_given_up_in_time() {
    let mut db = Database::create().await;
    let table = "create table t (id int primary key, seconds float8)";
    let changes = changes(&mut db, table, &["insert into t values (1, 60)"]).await;
    let sql = "select id, pg_sleep(seconds)::text as slept from t where id = any($1)";
    let enrichment = enrichment(&db, sql).with_timeout(Duration::from_millis(200));
    let (code, message, help) = refusal(&enrichment, &changes).await;
    assert_eq!(code, "enrichment_timeout");
    assert!(message.contains("statement timeout") && help.contains("0.2 s"), "{message} {help}");
    db.sql.run("update t set seconds = 0").await;
    assert_eq!(ask(&enrichment, &changes).await, [json!({"id": 1, "slept": ""})]);
}

/// A session that was cut while nobody looked is opened again; a server that is away is told.
#[tokio::test]
async fn b117_a_server_may_be_restarted_between_two_questions() {
    let settings = ["wal_level=logical"];
    let mut cluster = Cluster::start(&settings).await;
    let mut sql = cluster.session("postgres").await;
    sql.run("create table t (id int primary key, name text)").await;
    let mut source = connect(cluster.options("postgres", "s")).await;
    sql.run("insert into t values (1, 'a')").await;
    let (changes, _) = read(&mut *source, 1).await;
    source.close().await.unwrap();
    let options = cluster.options("postgres", "unused");
    let enrichment = Enrichment::new(options, "extra", "select * from t where id = any($1)");
    let expected = [json!({"id": 1, "name": "a"})];
    assert_eq!(ask(&enrichment, &changes).await, expected);
    sql.run(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where pid <> pg_backend_pid() and backend_type = 'client backend'",
    )
    .await;
    assert_eq!(ask(&enrichment, &changes).await, expected);
    drop(sql);
    cluster.stop();
    let error = try_ask(&enrichment, &changes).await.unwrap_err();
    assert!(matches!(error, SourceError::Transient(_)), "{error}");
    assert!(matches!(enrichment.check().await, Err(SourceError::Transient(_))));
    cluster.run(&settings).await;
    assert_eq!(ask(&enrichment, &changes).await, expected);
}
