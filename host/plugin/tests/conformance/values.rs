//! Every case of data, every presence, and everything that is known of a row beside its values.

use model::change::Operation;
use model::page::Extent;
use plugin::Role;

use crate::guests::Guest;
use crate::rows::{
    COLUMNS, COMMITTED_AT_US, Cell, Cells, Change, Null, Text, Unchanged, insert, rows, set,
};

over_each_guest!(
    every_value_comes_back,
    what_is_not_there_is_told_apart,
    a_deleted_row_is_known_by_its_key,
    the_row_before_an_update_is_handed_over,
    actions_and_positions_are_handed_over,
    metadata_is_handed_over,
    many_rows_keep_their_places;
    but javascript: integers_are_exact_to_64_bits
);

/// Rows of extremes: what is written in Postgres' canonical text, and the JSON it comes back as.
const VALUES: [[(&str, &str); 6]; 4] = [
    [
        ("9007199254740992", "9007199254740992"),
        ("true", "true"),
        ("1.7976931348623157e308", "1.7976931348623157e308"),
        ("1e1000", r#""1e1000""#),
        ("{\"a\": [1, 2.50, \"ž\"]}", "{\"a\": [1, 2.50, \"ž\"]}"),
        ("\\x00ff80", r#""\\x00ff80""#),
    ],
    [
        ("-9007199254740992", "-9007199254740992"),
        ("false", "false"),
        ("-0", "-0.0"),
        ("", r#""""#),
        ("null", "null"),
        ("\\x", r#""\\x""#),
    ],
    [
        ("-1", "-1"),
        ("true", "true"),
        ("NaN", r#""NaN""#),
        ("žluťoučký \u{1F9A6} \"\\\n", r#""žluťoučký 🦦 \"\\\n""#),
        ("\"\u{10FFFF}\"", "\"\u{10FFFF}\""),
        ("\\x0a", r#""\\x0a""#),
    ],
    [
        ("0", "0"),
        ("false", "false"),
        ("-Infinity", r#""-Infinity""#),
        ("\u{FEFF}\u{E000}", "\"\u{FEFF}\u{E000}\""),
        ("12345678901234567890.123", "12345678901234567890.123"),
        ("\\xc328", r#""\\xc328""#),
    ],
];

/// The columns of [`VALUES`].
const PLACES: [usize; 6] = [0, 2, 3, 4, 5, 6];

fn echoing(texts: [Cell; 6]) -> Cells {
    let mut cells = [Text("echo"); COLUMNS.len()];
    for (place, text) in PLACES.into_iter().zip(texts) {
        cells[place] = text;
    }
    cells
}

fn case(column: &str, packed: bool) -> String {
    let &(_, kind, type_name) = COLUMNS.iter().find(|(name, ..)| *name == column).unwrap();
    use model::relation::Kind;
    let case = match kind {
        Kind::Boolean => "booleans",
        Kind::Integer => "integers",
        Kind::Float => "floats",
        Kind::Text if packed => "packed-texts",
        Kind::Text => "texts",
        Kind::Json if packed => "packed-json",
        Kind::Json => "json",
        Kind::Bytes => "bytes",
    };
    let key = if column == "id" { "key" } else { "no-key" };
    format!("{case} {type_name} {key}")
}

async fn every_value_comes_back(guest: &Guest) {
    for packed in [false, true] {
        let plugin = guest.bind(Role::Transform, &format!(r#"{{"packed": {packed}}}"#));
        let changes = VALUES.map(|row| insert(echoing(row.map(|(text, _)| Text(text)))));
        let outcomes = plugin.run(rows(&changes)).await;
        for (outcome, row) in outcomes.iter().zip(VALUES) {
            let set = set(outcome);
            for (place, (_, json)) in PLACES.into_iter().zip(row) {
                let name = COLUMNS[place].0;
                assert_eq!(set[&format!("new.{name}")], json, "{name}, packed: {packed}");
                let seen = format!(r#""{} value""#, case(name, packed));
                assert_eq!(set[&format!("new.{name}.seen")], seen);
            }
        }
    }
}

async fn what_is_not_there_is_told_apart(guest: &Guest) {
    for packed in [false, true] {
        let plugin = guest.bind(Role::Transform, &format!(r#"{{"packed": {packed}}}"#));
        let changes = [insert(echoing([Null; 6])), insert(echoing([Unchanged; 6]))];
        let outcomes = plugin.run(rows(&changes)).await;
        for (outcome, presence) in outcomes.iter().zip(["null", "unchanged"]) {
            let set = set(outcome);
            for name in PLACES.map(|place| COLUMNS[place].0) {
                let seen = format!(r#""{} {presence}""#, case(name, packed));
                assert_eq!(set[&format!("new.{name}.seen")], seen);
                let back = set.get(&format!("new.{name}")).map(String::as_str);
                assert_eq!(back, (presence == "null").then_some("null"), "{name}");
            }
        }
    }
}

async fn a_deleted_row_is_known_by_its_key(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    // Its other columns were not sent, so it cannot say `echo`: it is kept.
    let key = Change {
        operation: Operation::Delete,
        extent: Extent::Key,
        ..insert(echoing([Text("7"), Null, Null, Null, Null, Null]))
    };
    let full = Change { extent: Extent::Full, ..key.clone() };
    let outcomes = plugin.run(rows(&[key, full])).await;
    assert!(matches!(outcomes[0], Ok(model::plugin::Outcome::Keep)), "{outcomes:?}");
    let set = set(&outcomes[1]);
    assert_eq!(set["new.id.seen"], r#""integers int8 key value""#);
    assert_eq!(set["new.wide.seen"], r#""texts numeric no-key null""#);
    assert!(set["row"].contains(" delete "), "{set:?}");
}

async fn the_row_before_an_update_is_handed_over(guest: &Guest) {
    for packed in [false, true] {
        let plugin = guest.bind(Role::Transform, &format!(r#"{{"packed": {packed}}}"#));
        let [first, second, ..] = VALUES.map(|row| echoing(row.map(|(text, _)| Text(text))));
        let mut change = Change { operation: Operation::Update, ..insert(first) };
        let without = change.clone();
        change.before = Some(second);
        let outcomes = plugin.run(rows(&[change, without])).await;
        let (with, without) = (set(&outcomes[0]), set(&outcomes[1]));
        for (place, (_, json)) in PLACES.into_iter().zip(VALUES[1]) {
            let name = COLUMNS[place].0;
            assert_eq!(with[&format!("old.{name}")], json, "{name}");
            let seen = |presence: &str| format!(r#""{} {presence}""#, case(name, packed));
            assert_eq!(with[&format!("old.{name}.seen")], seen("value"));
            assert_eq!(without[&format!("old.{name}.seen")], seen("unchanged"));
        }
    }
}

/// A row with nothing but a key.
const BARE: [Cell; 6] = [Text("1"), Null, Null, Null, Null, Null];

async fn actions_and_positions_are_handed_over(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let change = |operation, position| Change { operation, position, ..insert(echoing(BARE)) };
    let changes = [
        change(Operation::Insert, (0, 0)),
        change(Operation::Update, (0x16_B374_D848, 1)),
        change(Operation::Delete, (0x16_B374_D848, 1 << 32)),
        change(Operation::Read, (1 << 53, 3)),
    ];
    let outcomes = plugin.run(rows(&changes)).await;
    let told: Vec<_> = outcomes.iter().map(|outcome| set(outcome)["row"].clone()).collect();
    let expected = [
        r#""public all insert 0 0""#,
        r#""public all update 97500059720 1""#,
        r#""public all delete 97500059720 4294967296""#,
        r#""public all read 9007199254740992 3""#,
    ];
    assert_eq!(told, expected);
}

async fn integers_are_exact_to_64_bits(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    for text in ["9223372036854775807", "-9223372036854775808", "9007199254740993"] {
        let mut cells = BARE;
        cells[0] = Text(text);
        let position = (u64::MAX - 1, u64::MAX);
        let outcomes = plugin.run(rows(&[Change { position, ..insert(echoing(cells)) }])).await;
        let set = set(&outcomes[0]);
        assert_eq!(set["new.id"], text);
        let row = r#""public all insert 18446744073709551614 18446744073709551615""#;
        assert_eq!(set["row"], row);
    }
}

async fn metadata_is_handed_over(guest: &Guest) {
    for packed in [false, true] {
        let plugin = guest.bind(Role::Transform, &format!(r#"{{"packed": {packed}}}"#));
        let plain = insert(echoing(BARE));
        let annotated = Change { annotations: Some(r#"{"by": "ž"}"#), ..plain.clone() };
        let changes = rows(&[plain, annotated]);
        let key = model::message::idempotency_key(changes.changes[0].position, 0);
        let outcomes = plugin.run(changes).await;
        let (plain, annotated) = (set(&outcomes[0]), set(&outcomes[1]));
        assert_eq!(plain["meta.commit_timestamp"], COMMITTED_AT_US.to_string());
        assert_eq!(plain["meta.commit_timestamp.seen"], r#""integers int8 no-key value""#);
        assert_eq!(plain["meta.idempotency_key"], format!(r#""{key}""#));
        let [texts, json] =
            if packed { ["packed-texts", "packed-json"] } else { ["texts", "json"] };
        assert_eq!(plain["meta.idempotency_key.seen"], format!(r#""{texts} text no-key value""#));
        let seen = |presence: &str| format!(r#""{json} jsonb no-key {presence}""#);
        assert_eq!(plain["meta.transaction_annotations.seen"], seen("null"));
        assert_eq!(annotated["meta.transaction_annotations.seen"], seen("value"));
        assert_eq!(annotated["meta.transaction_annotations"], r#"{"by": "ž"}"#);
    }
}

async fn many_rows_keep_their_places(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, r#"{"packed": true}"#);
    let row = |index: usize| VALUES[index % VALUES.len()];
    let change = |index| insert(echoing(row(index).map(|(text, _)| Text(text))));
    let changes: Vec<_> = (0..1000).map(change).collect();
    let outcomes = plugin.run(rows(&changes)).await;
    assert_eq!(outcomes.len(), changes.len());
    for (index, outcome) in outcomes.iter().enumerate() {
        let set = set(outcome);
        for (place, (_, json)) in PLACES.into_iter().zip(row(index)) {
            assert_eq!(set[&format!("new.{}", COLUMNS[place].0)], json, "row {index}");
        }
    }
}
