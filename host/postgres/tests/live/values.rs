//! Every type's text, through the server's own output functions.

use model::page::Value;
use model::relation::Kind;

use crate::cluster::Database;
use crate::support::{connect, read, read_texts};

/// Type, literal, kind, canonical text.
const VALUES: &[(&str, &str, Kind, &str)] = &[
    // b035
    ("bool", "true", Kind::Boolean, "true"),
    ("int2", "-32768", Kind::Integer, "-32768"),
    ("int4", "2147483647", Kind::Integer, "2147483647"),
    ("int8", "9223372036854775807", Kind::Integer, "9223372036854775807"),
    // b036
    ("float4", "0.1", Kind::Float, "0.1"),
    ("float8", "0.30000000000000004", Kind::Float, "0.30000000000000004"),
    ("float8", "1e300", Kind::Float, "1e+300"),
    ("float8", "-0", Kind::Float, "-0"),
    ("float8", "NaN", Kind::Float, "NaN"),
    ("float4", "-Infinity", Kind::Float, "-Infinity"),
    // b037
    (
        "numeric",
        "12345678901234567890.12345678901234567890",
        Kind::Text,
        "12345678901234567890.12345678901234567890",
    ),
    ("numeric(5,-2)", "12345", Kind::Text, "12300"),
    ("numeric", "NaN", Kind::Text, "NaN"),
    ("numeric", "Infinity", Kind::Text, "Infinity"),
    // b038
    ("money", "1234.5", Kind::Text, "$1,234.50"),
    // b039, b041
    ("text", "žluťoučký 🦀 \"q\" \\ \n", Kind::Text, "žluťoučký 🦀 \"q\" \\ \n"),
    ("char(5)", "ab", Kind::Text, "ab   "),
    ("varchar(5)", "ab", Kind::Text, "ab"),
    ("name", "ab", Kind::Text, "ab"),
    ("\"char\"", "x", Kind::Text, "x"),
    ("citext", "AbC", Kind::Text, "AbC"),
    // b042
    ("bytea", "", Kind::Bytes, "\\x"),
    ("bytea", "\\x00ff5c", Kind::Bytes, "\\x00ff5c"),
    // b044
    ("timestamp", "2024-01-02 03:04:05.1", Kind::Text, "2024-01-02T03:04:05.100000"),
    ("timestamptz", "2024-01-02 03:04:05.123456+02", Kind::Text, "2024-01-02T01:04:05.123456Z"),
    ("timestamp", "0044-03-15 12:00:00 BC", Kind::Text, "0044-03-15 12:00:00 BC"),
    ("timestamptz", "294276-12-31 23:59:59+00", Kind::Text, "294276-12-31 23:59:59+00"),
    ("timestamptz", "infinity", Kind::Text, "infinity"),
    ("timestamp", "-infinity", Kind::Text, "-infinity"),
    // b046
    ("date", "0001-01-01", Kind::Text, "0001-01-01"),
    ("date", "0044-03-15 BC", Kind::Text, "0044-03-15 BC"),
    ("date", "infinity", Kind::Text, "infinity"),
    // b047
    ("time", "24:00:00", Kind::Text, "24:00:00"),
    ("timetz", "01:02:03.5+05:30", Kind::Text, "01:02:03.5+05:30"),
    // b048
    (
        "interval",
        "1 year 2 mons -3 days 04:05:06.789",
        Kind::Json,
        r#"{"months":14,"days":-3,"microseconds":14706789000}"#,
    ),
    (
        "interval",
        "-1 mon +2 days -00:00:00.000001",
        Kind::Json,
        r#"{"months":-1,"days":2,"microseconds":-1}"#,
    ),
    ("interval", "0", Kind::Json, r#"{"months":0,"days":0,"microseconds":0}"#),
    // b049
    (
        "uuid",
        "018F4E6A-0000-7000-8000-0123456789AB",
        Kind::Text,
        "018f4e6a-0000-7000-8000-0123456789ab",
    ),
    // b050, b051
    ("json", r#"{"a": 1, "a": 1e999, "b":[ ]}"#, Kind::Json, r#"{"a": 1, "a": 1e999, "b":[ ]}"#),
    (
        "jsonb",
        r#"{"a":12345678901234567890.123456789}"#,
        Kind::Json,
        r#"{"a": 12345678901234567890.123456789}"#,
    ),
    // b053 to b056
    ("int4[]", "{}", Kind::Json, "[]"),
    ("int4[]", "{1,NULL,-3}", Kind::Json, "[1,null,-3]"),
    ("int4[]", "[0:1]={1,2}", Kind::Json, "[1,2]"),
    ("int4[]", "{{1,2},{3,4}}", Kind::Json, "[[1,2],[3,4]]"),
    (
        "text[]",
        r#"{a,"NULL",NULL,"","b,c","d\"e","{f}","g\\h"}"#,
        Kind::Json,
        r#"["a","NULL",null,"","b,c","d\"e","{f}","g\\h"]"#,
    ),
    ("bool[]", "{t,f}", Kind::Json, "[true,false]"),
    ("jsonb[]", r#"{"{\"a\": [1]}",NULL,"\"x\""}"#, Kind::Json, r#"[{"a": [1]},null,"x"]"#),
    (
        "uuid[]",
        "{018F4E6A-0000-7000-8000-0123456789AB}",
        Kind::Json,
        r#"["018f4e6a-0000-7000-8000-0123456789ab"]"#,
    ),
    ("bytea[]", r#"{"\\x00ff"}"#, Kind::Json, r#"["\\x00ff"]"#),
    (
        "timestamptz[]",
        r#"{"2024-01-02 03:04:05+00",infinity}"#,
        Kind::Json,
        r#"["2024-01-02T03:04:05.000000Z","infinity"]"#,
    ),
    ("numeric[]", "{1.50,NaN}", Kind::Json, r#"["1.50","NaN"]"#),
    ("float8[]", "{1.5,NaN}", Kind::Json, r#"[1.5,"NaN"]"#),
    ("interval[]", r#"{"1 day"}"#, Kind::Json, r#"[{"months":0,"days":1,"microseconds":0}]"#),
    ("box[]", "{(1,1),(0,0);(2,2),(1,1)}", Kind::Json, r#"["(1,1),(0,0)","(2,2),(1,1)"]"#),
    // b057
    ("mood", "ok", Kind::Text, "ok"),
    ("mood[]", "{ok,sad}", Kind::Json, r#"["ok","sad"]"#),
    // b058
    ("positive", "7", Kind::Integer, "7"),
    ("very_positive", "7", Kind::Integer, "7"),
    ("positive[]", "{7,8}", Kind::Json, "[7,8]"),
    ("positives", "{7,8}", Kind::Json, "[7,8]"),
    ("positives[]", r#"{"{7,8}","{}"}"#, Kind::Json, "[[7,8],[]]"),
    ("moment", "2024-01-02 03:04:05+00", Kind::Text, "2024-01-02T03:04:05.000000Z"),
    ("information_schema.cardinal_number", "3", Kind::Integer, "3"),
    // b059
    ("pair", r#"(1,"a ""b""")"#, Kind::Text, r#"(1,"a ""b""")"#),
    // b060
    ("int4range", "[1,5]", Kind::Text, "[1,6)"),
    ("int4range", "empty", Kind::Text, "empty"),
    ("tstzrange", "[2024-01-01 00:00:00+00,)", Kind::Text, "[\"2024-01-01 00:00:00+00\",)"),
    ("int4multirange", "{[1,2),[5,6)}", Kind::Text, "{[1,2),[5,6)}"),
    // b061
    ("inet", "10.0.0.1", Kind::Text, "10.0.0.1"),
    ("cidr", "10.0.0.0/8", Kind::Text, "10.0.0.0/8"),
    ("macaddr", "08-00-2B-01-02-03", Kind::Text, "08:00:2b:01:02:03"),
    ("macaddr8", "08:00:2b:01:02:03:04:05", Kind::Text, "08:00:2b:01:02:03:04:05"),
    // b062
    ("point", "(1,2)", Kind::Text, "(1,2)"),
    ("line", "{1,2,3}", Kind::Text, "{1,2,3}"),
    ("polygon", "((0,0),(1,1))", Kind::Text, "((0,0),(1,1))"),
    ("circle", "<(0,0),1>", Kind::Text, "<(0,0),1>"),
    // b063
    ("bit(8)", "00000101", Kind::Text, "00000101"),
    ("varbit", "001", Kind::Text, "001"),
    // b064
    ("tsvector", "b a", Kind::Text, "'a' 'b'"),
    ("tsquery", "a & b", Kind::Text, "'a' & 'b'"),
    ("xml", "<a/>", Kind::Text, "<a/>"),
    ("pg_lsn", "16/B374D848", Kind::Text, "16/B374D848"),
    ("oid", "4294967295", Kind::Integer, "4294967295"),
    ("regclass", "pg_class", Kind::Text, "pg_class"),
    ("xid8", "12", Kind::Text, "12"),
    ("int2vector", "1 2 3", Kind::Text, "1 2 3"),
    ("jsonpath", "$.a", Kind::Text, "$.\"a\""),
    // b065, b066
    ("hstore", "a=>1", Kind::Text, "\"a\"=>\"1\""),
    ("ltree", "a.b", Kind::Text, "a.b"),
    ("hstore[]", r#"{"\"a\"=>\"1\""}"#, Kind::Json, r#"["\"a\"=>\"1\""]"#),
    ("isbn", "0-306-40615-2", Kind::Text, "0-306-40615-2"),
];

#[tokio::test]
async fn b035_to_b066_every_type_has_its_canonical_text() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create extension citext; create extension hstore; create extension ltree;
             create extension isn;
             create type mood as enum ('sad', 'ok');
             create domain positive as int check (value > 0);
             create domain very_positive as positive;
             create domain positives as positive[];
             create domain moment as timestamptz;
             create type pair as (a int, b text);",
        )
        .await;
    // b043, b045: settings of the database do not change a text.
    for setting in [
        "DateStyle to 'SQL, DMY'",
        "IntervalStyle to 'sql_standard'",
        "TimeZone to 'Asia/Tokyo'",
        "bytea_output to 'escape'",
        "extra_float_digits to -10",
    ] {
        db.sql.run(&format!("alter database {} set {setting}", db.name)).await;
    }
    let columns: Vec<String> =
        VALUES.iter().enumerate().map(|(n, (kind, ..))| format!("c{n} {kind}")).collect();
    db.sql.run(&format!("create table t ({})", columns.join(", "))).await;
    let mut source = connect(db.options()).await;
    let values: Vec<String> =
        VALUES.iter().map(|(_, text, ..)| format!("'{}'", text.replace('\'', "''"))).collect();
    db.sql.run(&format!("insert into t values ({})", values.join(", "))).await;
    // b057: a label that is younger than the slot and the definition.
    db.sql.run("alter type mood add value 'new'").await;
    let young = VALUES.iter().position(|(kind, ..)| *kind == "mood").unwrap();
    db.sql.run(&format!("insert into t (c{young}) values ('new')")).await;

    let (changes, _) = read(&mut *source, 2).await;
    let row = changes[0].after.as_ref().unwrap();
    for (n, (type_name, literal, kind, expected)) in VALUES.iter().enumerate() {
        let what = format!("{type_name} '{literal}'");
        assert_eq!(row.value(n), Value::Text(expected), "{what}");
        assert_eq!(changes[0].relation.columns[n].kind, *kind, "{what}");
    }
    let names = |name: &str| {
        let n = VALUES.iter().position(|(kind, ..)| *kind == name).unwrap();
        changes[0].relation.columns[n].type_name.to_string()
    };
    assert_eq!(names("timestamptz"), "timestamptz");
    assert_eq!(names("very_positive"), "very_positive");
    assert_eq!(names("int4[]"), "_int4");
    assert_eq!(changes[1].after.as_ref().unwrap().value(young), Value::Text("new"));
    assert_eq!(changes[1].after.as_ref().unwrap().value(0), Value::Null);
}

#[tokio::test]
async fn b067_b068_only_published_columns_and_rows_come() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (id int primary key, secret text, twice int generated always as (id * 2) stored, name text);
             create publication p for table t (id, name) where (id < 10);
             create table g (id int primary key, twice int generated always as (id * 2) stored, name text);
             alter publication p add table g;",
        )
        .await;
    let mut options = db.options();
    options.publication = "p".to_owned();
    let mut source = connect(options).await;
    db.sql.run("insert into t (id, secret, name) values (1, 's', 'a'), (11, 's', 'b')").await;
    db.sql.run("insert into g (id, name) values (1, 'a')").await;
    let texts = read_texts(&mut *source, 2).await;
    assert_eq!(texts, ["insert t (1, a)", "insert g (1, a)"]);
}
