//! What crosses the boundary, as the plugin sees it.

use model::change::Operation;
use model::page::Extent;
use model::plugin::{Outcome, PluginError};
use plugin::Role;
use serde_json::{Value, json};

use crate::support::{
    Null, Row, Text, Unchanged, all_told, bind, insert, named, rows_in, rows_of, told,
};

/// What the mirror saw of a row.
fn seen(outcome: &Result<Outcome, PluginError>) -> Value {
    let told = told(outcome);
    let (_, json) = told.split_once("seen=").unwrap_or_else(|| panic!("{told}"));
    serde_json::from_str(json).unwrap()
}

/// An update with its old row, with annotations of its transaction, and an insert without.
async fn hotels(packed: bool) -> [Value; 2] {
    let config = json!({
        "packed": packed,
        "reads": [
            {"table": "*", "columns": ["*"]},
            {
                "table": "public.hotels",
                "columns": ["name", "features", "no such column", "id", "name"],
                "old": ["name"],
                "metadata": [
                    "commit_timestamp", "transaction_annotations", "idempotency_key", "enrichment",
                    "x",
                ],
            },
        ],
    });
    let plugin = bind("mirror", Role::Transform, &config.to_string());
    let cells = [Text("7"), Text("Adlon"), Text("true"), Text("[1]")];
    let before = Some([Text("7"), Text("Žofín"), Null, Null]);
    let updated = Row { operation: Operation::Update, before, ..insert(cells) };
    let mut rows = rows_of(&[updated, insert([Text("8"), Null, Null, Unchanged])]);
    rows.changes[0].annotations = Some(r#"{"by":"me"}"#.into());
    rows.changes[0].enrichment = Some(r#"{"stars":5}"#.into());
    let outcomes = plugin.run(rows).await;
    [seen(&outcomes[0]), seen(&outcomes[1])]
}

/// Both rows, with the names of the shapes of texts and JSON.
fn expected(texts: &str, json: &str) -> [Value; 2] {
    let text = |text: Value| json!([format!("text {texts}"), text]);
    let jsonb = |text: Value| json!([format!("jsonb {json}"), text]);
    let unchanged = || json!({"presence": "unchanged"});
    let row = |action: &str, columns: Value, old: Value, key: &str, known: [Value; 2]| {
        let [annotations, enrichment] = known;
        json!({
            "table": "public.hotels",
            "action": action,
            "columns": columns,
            "old": {"name": old},
            "metadata": {
                "commit_timestamp": ["int8 integers", 0],
                "transaction_annotations": annotations,
                "idempotency_key": text(json!(key)),
                "enrichment": enrichment,
            },
        })
    };
    let id = |id: u8| json!(["int8 integers key", id]);
    let updated = json!({
        "id": id(7), "name": text(json!("Adlon")), "features": jsonb(json!("[1]")),
    });
    let inserted = json!({"id": id(8), "name": text(Value::Null), "features": jsonb(unchanged())});
    let [by, stars] = [r#"{"by":"me"}"#, r#"{"stars":5}"#].map(|known| jsonb(json!(known)));
    // base64 of `97500059720:0` and `:1`.
    let (first, second) = ("OTc1MDAwNTk3MjA6MA==", "OTc1MDAwNTk3MjA6MQ==");
    [
        row("update", updated, text(json!("Žofín")), first, [by, stars]),
        row("insert", inserted, text(unchanged()), second, [(); 2].map(|()| jsonb(Value::Null))),
    ]
}

#[tokio::test]
async fn a_plugin_is_handed_what_it_asked_for_of_this_table_and_no_more() {
    assert_eq!(hotels(false).await, expected("texts", "json"));
}

#[tokio::test]
async fn texts_come_packed_to_a_plugin_that_asked_for_it() {
    assert_eq!(hotels(true).await, expected("packed-texts", "packed-json"));
}

#[tokio::test]
async fn tables_that_it_does_not_name_are_those_of_the_star_or_pass() {
    let cells = [Text("7"), Text("Adlon"), Text("true"), Null];
    let row = || Row { operation: Operation::Delete, extent: Extent::Key, ..insert(cells) };
    let places = || rows_in("other", "hotels", &[row()]);
    let config = r#"{"reads": [{"table": "public.hotels", "columns": ["id"]}]}"#;
    let plugin = bind("mirror", Role::Transform, config);
    assert_eq!(all_told(&plugin.run(places()).await), ["Keep"]);
    let config = r#"{"reads": [{"table": "*", "columns": ["*"]}]}"#;
    let outcomes = bind("mirror", Role::Transform, config).run(places()).await;
    let unchanged = json!({"presence": "unchanged"});
    // Of a row that is no more than its key nothing else is known, whatever stands there.
    let expected = json!({
        "table": "other.hotels",
        "action": "delete",
        "columns": {
            "id": ["int8 integers key", 7],
            "name": ["text texts", unchanged],
            "is_public": ["bool booleans", unchanged],
            "features": ["jsonb json", unchanged],
        },
        "old": {},
        "metadata": {},
    });
    assert_eq!(seen(&outcomes[0]), expected);
}

#[tokio::test]
async fn every_effect_of_a_document_comes_through_beside_columns_of_other_rows() {
    let config = r#"{"reads": [{"table": "*", "columns": ["name"]}], "only": ["id", "name"]}"#;
    let plugin = bind("mirror", Role::Transform, config);
    let names = ["usual", "write", "complete", "remove", "other"];
    let told = all_told(&plugin.run(named(&names)).await);
    let documents = [
        r#"Usual {"row":0}"#,
        r#"Write {"row":1}"#,
        r#"Complete {"row":2}"#,
        r#"Remove {"row":3}"#,
    ];
    assert_eq!(told[..4], documents);
    assert!(told[4].starts_with("set only=id+name seen={"), "{told:?}");
}

#[tokio::test]
async fn b272_what_the_processor_leaves_open_is_the_same_everywhere() {
    let config = r#"{"reads": [{"table": "*", "columns": ["name"]}]}"#;
    let outcomes = bind("mirror", Role::Transform, config).run(named(&["nan"])).await;
    // The sign of the NaN that is the result of 0/0 differs between processors.
    let canonical = format!("set nan={} ", 0x7ff8_0000_0000_0000_i64);
    assert!(told(&outcomes[0]).starts_with(&canonical), "{outcomes:?}");
}
