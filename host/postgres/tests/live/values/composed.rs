//! Types that users make: enums, domains, composites, ranges.

use model::relation::Kind::{Boolean, Bytes, Float, Integer, Json, Text};

use super::{check, database, ends, json};
use crate::support::{connect, next, read};
use model::source::Event;

#[tokio::test]
async fn b057_labels_are_texts_also_those_that_are_younger_than_the_slot() {
    for bin in ends() {
        let mut db = database(bin).await;
        db.sql
            .run(
                "create type mood as enum ('sad', 'it''s \"ok\", 🦀');
                 create domain good_mood as mood;
                 create table t (id int primary key, mood mood, moods mood[], good good_mood);",
            )
            .await;
        let mut source = connect(db.options()).await;
        let label = "it''s \"ok\", 🦀";
        let insert = |id: u32, label: &str| {
            format!("insert into t values ({id}, '{label}', array['{label}']::mood[], '{label}')")
        };
        db.sql.run(&insert(1, label)).await;
        // Behind a definition and a row that were sent already.
        read(&mut *source, 1).await;
        db.sql.run("alter type mood add value 'new' before 'sad'").await;
        db.sql.run(&insert(2, "new")).await;
        db.sql.run("alter type mood rename value 'sad' to 'blue'").await;
        db.sql.run(&insert(3, "blue")).await;
        db.sql.run(&insert(4, label)).await;
        let mut changes = Vec::new();
        while changes.len() < 3 {
            // The changes of the type are transactions too, which older servers tell of.
            if let Event::Changes(batch) = next(&mut *source).await {
                changes.extend(batch.changes);
            }
        }
        let rows: Vec<_> =
            changes.iter().map(|change| [1, 2, 3].map(|column| json(change, column))).collect();
        let row = |label: &str| [label.to_owned(), format!("[{label}]"), label.to_owned()];
        assert_eq!(rows, [row(r#""new""#), row(r#""blue""#), row(r#""it's \"ok\", 🦀""#)]);
        assert_eq!(&*changes[0].relation.columns[1].type_name, "mood");
    }
}

#[tokio::test]
async fn b058_domains_are_their_base_type() {
    check(
        "create type mood as enum ('sad');
         create type pair as (a int, b text);
         create domain flag as bool;
         create domain positive as int check (value > 0);
         create domain very_positive as positive not null;
         create domain big as int8;
         create domain ratio as float8;
         create domain amount as numeric(10, 2);
         create domain blob as bytea;
         create domain moment as timestamptz;
         create domain span as interval;
         create domain doc as jsonb;
         create domain label as varchar(10);
         create domain code as char(3);
         create domain id as uuid;
         create domain feeling as mood;
         create domain couple as pair;
         create domain within as int4range;
         create domain positives as positive[];
         create domain grid as float8[][];
         create domain lists as positives[];
         create domain outer_lists as lists;",
        &[
            ("flag", "t", Boolean, "true"),
            ("positive", "7", Integer, "7"),
            ("very_positive", "7", Integer, "7"),
            ("big", "9223372036854775807", Integer, "9223372036854775807"),
            ("ratio", "NaN", Float, r#""NaN""#),
            ("ratio", "1.5", Float, "1.5"),
            ("amount", "1.5", Text, r#""1.50""#),
            ("blob", "\\x00ff", Bytes, r#""\\x00ff""#),
            ("moment", "2024-01-02 03:04:05+00", Text, r#""2024-01-02T03:04:05.000000Z""#),
            ("span", "1 mon", Json, r#"{"months":1,"days":0,"microseconds":0}"#),
            ("doc", r#"{"a":1.50}"#, Json, r#"{"a": 1.50}"#),
            ("label", "true", Text, r#""true""#),
            ("code", "a", Text, r#""a  ""#),
            (
                "id",
                "018F4E6A-0000-7000-8000-0123456789AB",
                Text,
                r#""018f4e6a-0000-7000-8000-0123456789ab""#,
            ),
            ("feeling", "sad", Text, r#""sad""#),
            ("couple", "(1,a)", Text, r#""(1,a)""#),
            ("within", "[1,5]", Text, r#""[1,6)""#),
            ("positives", "{7,8}", Json, "[7,8]"),
            ("positive[]", "{7,NULL}", Json, "[7,null]"),
            ("grid", "{{1,NaN}}", Json, r#"[[1,"NaN"]]"#),
            ("positives[]", r#"{"{7,8}","{}"}"#, Json, "[[7,8],[]]"),
            ("lists", r#"{"{7,8}",NULL}"#, Json, "[[7,8],null]"),
            ("outer_lists", r#"{"{7}"}"#, Json, "[[7]]"),
            ("moment[]", "{infinity}", Json, r#"["infinity"]"#),
            ("information_schema.cardinal_number", "3", Integer, "3"),
        ],
    )
    .await;
}

#[tokio::test]
async fn b059_composites_are_as_postgres_prints_them() {
    check(
        "create type pair as (a int, b text);
         create type nested as (pair pair, moods text[], at timestamptz);
         create type nothing as ();",
        &[
            ("pair", r#"(1,"a ""b"" \\ , )")"#, Text, r#""(1,\"a \"\"b\"\" \\\\ , )\")""#),
            ("pair", "(,)", Text, r#""(,)""#),
            ("pair", r#"(1,"")"#, Text, r#""(1,\"\")""#),
            (
                "nested",
                r#"("(1,x)","{a,""b c""}","2024-01-02 03:04:05+02")"#,
                Text,
                r#""(\"(1,x)\",\"{a,\"\"b c\"\"}\",\"2024-01-02 01:04:05+00\")""#,
            ),
            ("nothing", "()", Text, r#""()""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b060_ranges_are_as_postgres_prints_them() {
    check(
        "create type floats as range (subtype = float8);",
        &[
            ("int4range", "[1,5]", Text, r#""[1,6)""#),
            ("int4range", "empty", Text, r#""empty""#),
            ("int4range", "(,)", Text, r#""(,)""#),
            ("int8range", "[1,)", Text, r#""[1,)""#),
            ("numrange", "(1.50,2]", Text, r#""(1.50,2]""#),
            ("daterange", "[2024-01-01,infinity)", Text, r#""[2024-01-01,infinity)""#),
            ("tsrange", "[2024-01-01 00:00:00,]", Text, r#""[\"2024-01-01 00:00:00\",)""#),
            ("tstzrange", "[2024-01-01 00:00:00+02,)", Text, r#""[\"2023-12-31 22:00:00+00\",)""#),
            ("floats", "[0.1,NaN]", Text, r#""[0.1,NaN]""#),
            ("int4multirange", "{}", Text, r#""{}""#),
            ("int4multirange", "{[5,6),[1,2)}", Text, r#""{[1,2),[5,6)}""#),
            ("int4multirange", "{(,)}", Text, r#""{(,)}""#),
            ("nummultirange", "{[1.0,2.0)}", Text, r#""{[1.0,2.0)}""#),
        ],
    )
    .await;
}
