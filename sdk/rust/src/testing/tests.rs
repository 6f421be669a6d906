//! The row as plugins see it, however it is handed over.

use super::*;
use crate::{
    COMMIT_TIMESTAMP, Datum, IDEMPOTENCY_KEY, Output, Row, TRANSACTION_ANNOTATIONS, Value,
};

/// Tells what it sees.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tell {
    /// Fails if it is not 0.
    #[serde(default)]
    one: i64,
    /// The one column that goes on.
    only: Option<String>,
}

impl Plugin for Tell {
    fn reads(&self) -> Reads {
        let metadata = [COMMIT_TIMESTAMP, TRANSACTION_ANNOTATIONS, IDEMPOTENCY_KEY];
        Reads::all().old(["a"]).metadata(metadata).of_table("public.test")
    }

    fn check(&self) -> Vec<ConfigError> {
        let wrong = |field: &str| ConfigError::new(field, "expected something else");
        if self.one == 0 { Vec::new() } else { vec![wrong("one"), wrong("two")] }
    }
}

impl Transform for Tell {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let columns = row.columns().map(|field| {
            format!("{} {} {} {:?}", field.name, field.type_name, field.key, field.value)
        });
        out.set_text("columns", columns.collect::<Vec<_>>().join("; "));
        let what = (row.schema(), row.table(), row.action(), row.position());
        out.set_text("what", format!("{what:?}"));
        out.set_text("old", format!("{:?}", row.old().text("a")?));
        let annotations: Option<Vec<i64>> = row.transaction_annotations()?;
        let metadata = (row.commit_timestamp()?, annotations, row.idempotency_key()?);
        out.set_text("metadata", format!("{metadata:?}"));
        Ok(())
    }

    fn only(&self, _schema: &str, _table: &str) -> Option<Vec<String>> {
        self.only.clone().map(|name| vec![name])
    }
}

fn rows() -> Vec<Literal> {
    let first = row([("a", "ž".into()), ("j", json("[1]")), ("n", 7.into())])
        .updated([("a", "before".into())])
        .keyed("n")
        .typed("a", "numeric")
        .with(COMMIT_TIMESTAMP, 12.into())
        .with(TRANSACTION_ANNOTATIONS, json("[1, 2]"))
        .with(IDEMPOTENCY_KEY, "key".into());
    let second = row([("a", "".into()), ("j", Cell::Null), ("n", Cell::Unchanged)]).deleted();
    let third = row([("a", "c".into()), ("f", 1.5.into()), ("b", Cell::Bytes(vec![1]))]).read();
    vec![first, second, third]
}

#[test]
fn a_row_is_the_same_packed_or_not() {
    let rows = rows();
    let plugin = configure::<Tell>("{}").unwrap();
    let told = |packed| {
        let batch = batch::batch(&rows, &plugin.reads(), packed);
        let reply = role::transform(&plugin, &batch).unwrap();
        (0..3).map(|row| set(&reply, row)).collect::<Vec<_>>()
    };
    let packed = told(true);
    assert_eq!(packed, told(false));
    let text = |row: usize, at: usize| match &packed[row][at].1 {
        Cell::Text(text) => text.as_str(),
        other => panic!("{other:?}"),
    };
    let columns = r#"a numeric false Known(Text("ž")); j jsonb false Known(Json("[1]")); n int8 true Known(Int(7)); f float8 false Unchanged; b bytea false Unchanged"#;
    assert_eq!(text(0, 0), columns);
    let what = r#"("public", "test", Update, Position { commit_lsn: 1, ordinal: 0 })"#;
    assert_eq!(text(0, 1), what);
    assert_eq!(text(0, 2), r#"Known("before")"#);
    assert_eq!(text(0, 3), r#"(Some(12), Some([1, 2]), Some("key"))"#);
    assert!(text(1, 0).starts_with(r#"a numeric false Known(Text("")); j jsonb false Null; n"#));
    assert_eq!((text(1, 2), text(1, 3)), ("Unchanged", "(None, None, None)"));
    assert!(
        text(2, 0).ends_with("f float8 false Known(Float(1.5)); b bytea false Known(Bytes([1]))")
    );
    assert!(text(2, 1).contains("Read"));
}

#[test]
fn only_takes_the_row_s_own_columns_away() {
    let outcomes = transform::<Tell>(r#"{"only": "n"}"#, &rows()[..1]).unwrap();
    let Ok(Outcome::Set(set)) = &outcomes[0] else { panic!("{outcomes:?}") };
    let absent: Vec<_> = set.iter().filter(|(_, cell)| *cell == Cell::Absent).collect();
    assert_eq!(absent.iter().map(|(name, _)| name.as_str()).collect::<String>(), "aj");
}

#[test]
fn rows_of_other_tables_pass() {
    let mut rows = rows();
    rows.push(row([("a", "b".into())]).of_table("public.other"));
    let outcomes = transform::<Tell>("{}", &rows).unwrap();
    assert_eq!(outcomes.len(), 4);
    assert_eq!(outcomes[3], Ok(Outcome::Keep));
}

#[test]
fn all_that_is_wrong_with_a_configuration_is_told() {
    let fields = |config: &str| -> Vec<String> {
        let errors = configure::<Tell>(config).unwrap_err();
        errors.into_iter().map(|error| error.field).collect()
    };
    assert_eq!(fields(r#"{"one": 2}"#), ["one", "two"]);
    assert_eq!(fields(r#"{"one": "x"}"#), ["one"]);
    assert_eq!(fields(r#"{"on": 1}"#), ["on"]);
    assert_eq!(fields("[] {}"), [""]);
}

#[test]
fn the_schema_has_fields_comments_and_no_others() {
    let schema: serde_json::Value = serde_json::from_str(&schema::<Tell>()).unwrap();
    assert_eq!(schema["description"], "Tells what it sees.");
    assert_eq!(schema["properties"]["one"]["description"], "Fails if it is not 0.");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn an_access_that_cannot_be_is_an_error_that_names_the_column() {
    let rows = rows();
    let batch = batch::batch(&rows, &Reads::all(), true);
    let view = crate::view::View::new(&batch).unwrap();
    let row = Row::new(&view, 0);
    let missing = row.text("gone").unwrap_err();
    assert!(missing.message().contains("table public.test has no column gone"), "{missing}");
    let other = row.bool("n").unwrap_err();
    assert_eq!((other.blamed(), other.message()), (Some("n"), "it is of type int8, not a boolean"));
    let form = row.json::<Vec<String>>("j").unwrap_err();
    assert_eq!(form.blamed(), Some("j"));
    assert!(form.message().contains("Data error at line 1 column 2"), "{form}");
    assert!(row.commit_timestamp().is_err(), "it was not asked for");
    assert_eq!(row.get("n").unwrap(), Value::Known(Datum::Int(7)));
    let unknown = Row::new(&view, 1).int("n").unwrap().sent("n").unwrap_err();
    assert!(unknown.to_string().starts_with("column n: its value was not sent"), "{unknown}");
}

#[test]
fn values_are_written_as_the_engine_writes_them() {
    let written = [
        (Datum::Bool(true), "true"),
        (Datum::Int(-7), "-7"),
        (Datum::Float(2.0), "2.0"),
        (Datum::Float(f64::NAN), "\"NaN\""),
        (Datum::Float(f64::NEG_INFINITY), "\"-Infinity\""),
        (Datum::Text("a\"\n"), "\"a\\\"\\n\""),
        (Datum::Json("[1.10]"), "[1.10]"),
        (Datum::Bytes(&[0, 255]), "\"\\\\x00ff\""),
    ];
    for (datum, expected) in written {
        let mut out = String::new();
        datum.push_json(&mut out);
        assert_eq!(out, expected);
    }
}
