//! What becomes of columns.

use sequin_plugin::testing::{Cell, Literal, Outcome, json, recorded, row, transform};

use super::*;

fn outcomes(config: &str, rows: &[Literal]) -> Vec<Result<Outcome, Error>> {
    transform::<Pick>(config, rows).unwrap()
}

fn set<const N: usize>(cells: [(&str, Cell); N]) -> Result<Outcome, Error> {
    Ok(Outcome::Set(cells.map(|(name, cell)| (name.to_owned(), cell)).to_vec()))
}

#[test]
fn columns_are_renamed_whatever_their_type() {
    let config = r#"{"rename": {"a": "x", "b": "a"}}"#;
    let cells: [Cell; 6] =
        [true.into(), 7.into(), 1.5.into(), "t".into(), json("[1.10]"), Cell::Bytes(vec![1])];
    for cell in cells {
        let known = row([("a", cell.clone()), ("b", Cell::Null)]);
        let found = outcomes(config, &[known]);
        let Ok(Outcome::Set(mut found)) = found[0].clone() else { panic!("{found:?}") };
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [("a", Cell::Null), ("b", Cell::Absent), ("x", cell)];
        assert_eq!(found, expected.map(|(name, cell)| (name.to_owned(), cell)));
    }
}

#[test]
fn names_may_change_places() {
    let config = r#"{"rename": {"a": "b", "b": "a"}}"#;
    let found = outcomes(config, &[row([("a", 1.into()), ("b", 2.into())])]);
    let Ok(Outcome::Set(mut found)) = found[0].clone() else { panic!("{found:?}") };
    found.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(found, [("a".to_owned(), 2.into()), ("b".to_owned(), 1.into())]);
}

#[test]
fn what_was_not_sent_stays_absent_and_never_becomes_null() {
    let config = r#"{"rename": {"a": "x"}, "nest": {"o": ["b", "c"]}}"#;
    let cells = |a: Cell, b: Cell, c: Cell| row([("a", a), ("b", b), ("c", c)]);
    let found = outcomes(
        config,
        &[
            cells("a".into(), "b\"".into(), 3.into()),
            cells(Cell::Unchanged, Cell::Unchanged, Cell::Null),
            cells(Cell::Unchanged, Cell::Unchanged, Cell::Unchanged),
        ],
    );
    let absent = || Cell::Absent;
    let all = json(r#"{"b":"b\"","c":3}"#);
    let first = [("a", absent()), ("b", absent()), ("c", absent()), ("x", "a".into()), ("o", all)];
    assert_eq!(found[0], set(first));
    assert_eq!(found[1], set([("c", absent()), ("o", json(r#"{"c":null}"#))]));
    assert_eq!(found[2], Ok(Outcome::Keep));
}

#[test]
fn only_some_go_on_and_those_that_are_renamed_or_nested() {
    let config = r#"{"only": ["id"], "rename": {"a": "x"}, "nest": {"o": ["b"]}}"#;
    let row =
        row([("id", 1.into()), ("a", Cell::Unchanged), ("b", 2.into()), ("secret", "s".into())]);
    let found = outcomes(config, &[row]);
    let expected = [("b", Cell::Absent), ("o", json(r#"{"b":2}"#)), ("secret", Cell::Absent)];
    assert_eq!(found, [set(expected)], "a is still missed, so the document is not complete");
}

#[test]
fn columns_are_dropped_and_set_also_in_deletes() {
    let config = r#"{"drop": ["a", "gone"],
                     "set": {"s": "app", "n": 3, "f": 0.5, "b": true, "z": null, "j": [1]}}"#;
    let found = outcomes(config, &[row([("a", 1.into())]).deleted()]);
    let expected = [
        ("a", Cell::Absent),
        ("gone", Cell::Absent),
        ("b", true.into()),
        ("f", 0.5.into()),
        ("j", json("[1]")),
        ("n", 3.into()),
        ("s", "app".into()),
        ("z", Cell::Null),
    ];
    assert_eq!(found, [set(expected)]);
}

#[test]
fn each_table_has_rules_of_its_own() {
    let config = r#"{"tables": {"public.a": {"set": {"x": 1}}, "other.a": {}},
                     "set": {"y": 2}}"#;
    let of = |table: &str| row([("id", 1.into())]).of_table(table);
    let found = outcomes(config, &[of("public.a"), of("other.a"), of("public.b")]);
    assert_eq!(found, [set([("x", 1.into())]), Ok(Outcome::Keep), set([("y", 2.into())])]);
    let config = r#"{"tables": {"public.a": {"only": ["id"]}}}"#;
    let found = outcomes(config, &[of("public.b")]);
    assert_eq!(found, [Ok(Outcome::Keep)]);
}

#[test]
fn a_column_that_is_not_there_fails_the_row() {
    let found = outcomes(r#"{"rename": {"no_such": "x"}}"#, &[row([("a", 1.into())])]);
    assert!(found[0].as_ref().unwrap_err().message().contains("no column no_such"));
}

#[test]
fn all_that_is_wrong_is_told_by_its_place() {
    let told = |config: &str| -> String {
        let errors = transform::<Pick>(config, &[]).unwrap_err();
        errors.iter().map(|error| format!("{error}; ")).collect()
    };
    for (config, text) in [
        ("{}", "expected a rule"),
        (r#"{"only": ["a"], "drop": ["b"]}"#, "drop: expected nothing beside `only`"),
        (r#"{"rename": {"a": "x", "b": "x"}}"#, "expected one value for the column `x`"),
        (r#"{"rename": {"a": "x"}, "set": {"x": 1}}"#, "expected one value for the column `x`"),
        (r#"{"rename": {"a": "x"}, "nest": {"o": ["a"]}}"#, "expected column `a` in one of"),
        (r#"{"nest": {"o": []}}"#, "nest.o: expected one column"),
        (r#"{"drop": ["a"], "set": {"a": 1}}"#, "drop: expected `a` not to be set"),
        (r#"{"renam": {}}"#, "unknown field `renam`"),
        (r#"{"tables": {"poi": {"drop": ["a", "a"]}}}"#, "tables.poi: expected a name such as"),
        (r#"{"tables": {"poi": {"drop": ["a", "a"]}}}"#, "tables.poi: expected column `a` in one"),
        (r#"{"tables": {"p.t": {"set": 1}}}"#, "tables.p.t.set: invalid type"),
    ] {
        assert!(told(config).contains(text), "{config}: {}", told(config));
    }
}

/// What a real server sends; the component makes the same of it.
#[test]
fn recorded_changes_become_what_is_expected() {
    recorded::transform::<Pick>(
        include_str!("../fixtures/config.json"),
        include_str!("../fixtures/messages.jsonl"),
        include_str!("../fixtures/outcomes.jsonl"),
    );
}
