//! Plugins that behave.

use model::change::Operation;
use model::page::Extent;
use model::plugin::{Fault, Outcome};
use plugin::Role;

use crate::support::{
    Null, Row, Text, Unchanged, all_told, bind, component, host, insert, named, rows_of, told,
};

#[tokio::test]
async fn a_filter_keeps_evicts_and_never_guesses() {
    let plugin = bind("public-rows", Role::Filter, r#"{"column": "is_public"}"#);
    let rows = [Text("true"), Text("false"), Null, Unchanged]
        .map(|cell| insert([Text("1"), Text("Adlon"), cell, Null]));
    let outcomes = plugin.run(rows_of(&rows)).await;
    assert!(matches!(
        outcomes[..],
        [Ok(Outcome::Keep), Ok(Outcome::Evict), Ok(Outcome::Evict), Err(_)]
    ));
    let error = outcomes[3].as_ref().unwrap_err();
    assert_eq!(error.fault, Fault::Guest);
    assert!(error.message.contains("column is_public: its value was not sent"), "{error}");
}

#[tokio::test]
async fn a_column_that_the_table_does_not_have_is_told_to_the_plugin() {
    let plugin = bind("public-rows", Role::Filter, r#"{"column": "no_such"}"#);
    let outcomes = plugin.run(named(&["a"])).await;
    assert!(told(&outcomes[0]).contains("table public.hotels has no column no_such"));
}

#[tokio::test]
async fn a_transform_sets_columns_of_the_rows_it_can() {
    let config = r#"{"column": "features", "flags": ["wifi", "pool"], "prefix": "has_"}"#;
    let plugin = bind("feature-flags", Role::Transform, config);
    let row = |features| insert([Text("1"), Text("Adlon"), Null, features]);
    let mut rows = vec![
        row(Text(r#"["wifi", "sauna"]"#)),
        row(Null),
        row(Unchanged),
        row(Text(r#"{"wifi": true}"#)),
    ];
    // The old row of a delete is no more than its key; its other cells mean nothing.
    let cells = [Text("1"), Null, Null, Null];
    rows.push(Row { operation: Operation::Delete, extent: Extent::Key, cells, before: None });
    let outcomes = plugin.run(rows_of(&rows)).await;
    let told = all_told(&outcomes);
    assert_eq!(told[0], "set has_pool=false has_wifi=true");
    assert_eq!(told[1], "set has_pool=false has_wifi=false");
    assert_eq!(told[2], "Keep");
    assert!(told[3].starts_with("plugin_error: column features"), "{told:?}");
    assert_eq!(told[4], "Keep");
    // Three rows, one list of columns between them.
    let (Ok(Outcome::Set(one)), Ok(Outcome::Set(other))) = (&outcomes[0], &outcomes[1]) else {
        panic!("{outcomes:?}");
    };
    assert!(std::sync::Arc::ptr_eq(&one.columns, &other.columns));
}

#[tokio::test]
async fn a_truncate_fails_and_its_neighbours_do_not() {
    let plugin = bind("public-rows", Role::Filter, r#"{"column": "is_public"}"#);
    let cells = [Text("1"), Null, Text("true"), Null];
    let truncate =
        Row { operation: Operation::Truncate, extent: Extent::Full, cells, before: None };
    let outcomes = plugin.run(rows_of(&[insert(cells), truncate, insert(cells)])).await;
    assert!(matches!(outcomes[..], [Ok(Outcome::Keep), Err(_), Ok(Outcome::Keep)]));
}

#[tokio::test]
async fn a_value_that_is_not_of_its_kind_fails_its_row() {
    let plugin = bind("public-rows", Role::Filter, r#"{"column": "is_public"}"#);
    let rows = ["true", "t", "false"].map(|text| insert([Text("1"), Null, Text(text), Null]));
    let told = all_told(&plugin.run(rows_of(&rows)).await);
    let malformed = "plugin_host: the value of column is_public is no Boolean";
    assert_eq!(told, ["Keep", malformed, "Evict"]);
}

#[tokio::test]
async fn b273_b274_every_verdict_comes_through_and_what_is_no_json_does_not() {
    let config = r#"{"column": "name", "when": "panic"}"#;
    let plugin = bind("every-verdict", Role::Transform, config);
    let names = [
        "keep",
        "drop",
        "evict",
        "replace",
        "many",
        "error",
        "set-bool",
        "set-text",
        "set-json",
        "set-null",
        "bad-document",
        "bad-json",
    ];
    let told = all_told(&plugin.run(named(&names)).await);
    let expected = [
        "Keep",
        "Drop",
        "Evict",
        r#"Usual {"only": 1}"#,
        r#"Usual {"first": 1}, Usual {"second": 2}"#,
        "plugin_error: the row says so",
        "set set=true",
        r#"set set="set-text""#,
        "set set=[1, 2]",
        "set set=null",
    ];
    assert_eq!(told[..10], expected);
    let documents = "plugin_output: the plugin answered with the document that is no JSON";
    assert!(told[10].starts_with(documents), "{told:?}");
    let column = "plugin_output: the plugin answered with column set that is no JSON";
    assert!(told[11].starts_with(column), "{told:?}");
}

#[tokio::test]
async fn a_plugin_is_told_what_happened_where_and_what_was_before() {
    let plugin = bind("every-verdict", Role::Transform, r#"{"column": "name", "when": "panic"}"#);
    let cells = [Text("1"), Text("tell"), Null, Null];
    let before = Some([Text("1"), Text("Adlon"), Null, Null]);
    let updated = Row { operation: Operation::Update, before, ..insert(cells) };
    let read = Row { operation: Operation::Read, ..insert(cells) };
    let told = all_told(&plugin.run(rows_of(&[updated, read])).await);
    let position = "Position { commit_lsn: 97500059720, ordinal";
    let expected = [
        format!(r#"set set="hotels Update {position}: 0 }} was Known(\"Adlon\")""#),
        format!(r#"set set="hotels Read {position}: 1 }} was Unchanged""#),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn one_component_may_have_both_roles() {
    let program = host().load(&component("every-verdict")).unwrap();
    assert_eq!(program.roles().collect::<Vec<_>>(), [Role::Filter, Role::Transform]);
    let plugin = bind("every-verdict", Role::Filter, r#"{"column": "name", "when": "panic"}"#);
    let told = all_told(&plugin.run(named(&["keep", "drop", "evict", "error"])).await);
    assert_eq!(told, ["Keep", "Drop", "Evict", "plugin_error: the row says so"]);
}

#[tokio::test]
async fn a_router_gives_keys_or_fails_its_row() {
    let plugin = bind("every-route", Role::Route, r#"{"column": "name", "when": "panic"}"#);
    let names = ["path", "error", "nothing", "many-types", "unknown", "sink", "panic"];
    let told = all_told(&plugin.run(named(&names)).await);
    let expected = [
        r#"set endpoint_path="/hotels" method="PUT""#,
        "plugin_error: column name: the row says so",
        "Keep",
        "set endpoint_path=7",
        r#"set no_such_key="x""#,
        r#"set endpoint_path="/webhook""#,
    ];
    assert_eq!(told[..6], expected);
    assert!(told[6].starts_with("plugin_trap: "), "{told:?}");
}

#[tokio::test]
async fn columns_are_taken_away_and_others_left() {
    let plugin = bind("every-verdict", Role::Transform, r#"{"column": "name", "when": "panic"}"#);
    let outcomes = plugin.run(named(&["remove", "keep"])).await;
    assert_eq!(all_told(&outcomes), ["set -name", "Keep"]);
    let config = r#"{"only": ["id"], "set": {"source": "app"}}"#;
    let outcomes = bind("pick", Role::Transform, config).run(named(&["Adlon"])).await;
    let Ok(Outcome::Set(patch)) = &outcomes[0] else { panic!("{outcomes:?}") };
    use model::plugin::Fate;
    assert!(matches!(patch.fate("id"), Fate::Kept), "{patch:?}");
    assert!(!matches!(patch.fate("name"), Fate::Kept), "{patch:?}");
    assert!(told(&outcomes[0]).contains(r#"source="app""#), "{outcomes:?}");
}
