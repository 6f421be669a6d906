//! What becomes of lists.

use sequin_plugin::testing::{Cell, Outcome, json, recorded, row, transform};

use super::*;

const CONFIG: &str =
    r#"{"column": "features", "flags": ["wifi", "shower", "café"], "prefix": "has_"}"#;

fn outcomes(config: &str, cells: Vec<Cell>) -> Vec<Result<Outcome, Error>> {
    let rows: Vec<_> = cells.into_iter().map(|cell| row([("features", cell)])).collect();
    transform::<FeatureFlags>(config, &rows).unwrap()
}

fn flags(wifi: bool, shower: bool, cafe: bool) -> Result<Outcome, Error> {
    let set = [("has_wifi", wifi), ("has_shower", shower), ("has_café", cafe)];
    Ok(Outcome::Set(set.map(|(name, value)| (name.to_owned(), value.into())).to_vec()))
}

#[test]
fn one_column_per_flag() {
    let cells = vec![
        json(r#"["shower", "sauna", "wifi"]"#),
        json("[]"),
        json(r#"["caf\u00e9", null, ""]"#),
        Cell::Null,
        json("null"),
    ];
    let none = || flags(false, false, false);
    let expected = [flags(true, true, false), none(), flags(false, false, true), none(), none()];
    assert_eq!(outcomes(CONFIG, cells), expected);
}

#[test]
fn a_list_that_was_not_sent_leaves_the_columns_alone() {
    let cells = vec![Cell::Unchanged, json(r#"["wifi"]"#), Cell::Unchanged];
    let expected = [Ok(Outcome::Keep), flags(true, false, false), Ok(Outcome::Keep)];
    assert_eq!(outcomes(CONFIG, cells), expected);
}

#[test]
fn what_is_no_list_of_texts_fails_its_row_and_names_the_column() {
    let bad = [r#"{"wifi": true}"#, "[1]", r#""wifi""#, r#"["wifi"] 1"#, "", "[["];
    let mut cells: Vec<_> = bad.map(json).to_vec();
    cells.push(json(r#"["wifi"]"#));
    let found = outcomes(CONFIG, cells);
    for (failed, of) in found.iter().zip(bad) {
        let error = failed.as_ref().unwrap_err();
        assert_eq!(error.blamed(), Some("features"), "{of}");
    }
    assert_eq!(found[bad.len()], flags(true, false, false));
    let text = outcomes(CONFIG, vec!["wifi".into()]).remove(0).unwrap_err();
    assert!(text.message().contains("of type text, not JSON"), "{text}");
    let missing = transform::<FeatureFlags>(CONFIG, &[row([("other", Cell::Null)])]).unwrap();
    assert!(missing[0].as_ref().unwrap_err().message().contains("no column features"));
}

#[test]
fn a_text_may_be_a_list_with_a_separator() {
    let config =
        r#"{"column": "features", "flags": ["wifi"], "separator": ",", "unknown": "fail"}"#;
    let wifi = |set: bool| Ok(Outcome::Set(vec![("wifi".to_owned(), set.into())]));
    let cells = vec![" wifi ,".into(), "".into(), Cell::Null];
    assert_eq!(outcomes(config, cells), [wifi(true), wifi(false), wifi(false)]);
    assert!(outcomes(config, vec!["wifi;".into()])[0].is_err());
    assert_eq!(outcomes(config, vec![json(r#"["wifi"]"#)]), [wifi(true)]);
}

#[test]
fn unknown_names_fail_the_row_or_are_listed() {
    let config = r#"{"column": "features", "flags": ["wifi"], "unknown": "fail"}"#;
    let found = outcomes(config, vec![json(r#"["wifi", "secret"]"#), json(r#"["wifi"]"#)]);
    let error = found[0].as_ref().unwrap_err();
    assert_eq!(error.blamed(), Some("features"));
    assert!(!error.message().contains("secret"), "values do not belong into logs: {error}");
    assert!(found[1].is_ok());
    let config = r#"{"column": "features", "flags": ["wifi"], "unknown": {"column": "other"}}"#;
    let cells = vec![json(r#"["wifi", "a\"", "b"]"#), Cell::Null, Cell::Unchanged];
    let set = |wifi: bool, other: &str| {
        let set = vec![("wifi".to_owned(), wifi.into()), ("other".to_owned(), json(other))];
        Ok(Outcome::Set(set))
    };
    let expected = [set(true, r#"["a\"","b"]"#), set(false, "[]"), Ok(Outcome::Keep)];
    assert_eq!(outcomes(config, cells), expected);
}

#[test]
fn all_that_is_wrong_is_told_by_its_field() {
    let told = |config: &str| -> String {
        let errors = transform::<FeatureFlags>(config, &[]).unwrap_err();
        errors.iter().map(|error| format!("{error}; ")).collect()
    };
    for (config, text) in [
        (r#"{"column": "a"}"#, "missing field `flags`"),
        (r#"{"column": "a", "flags": []}"#, "flags: expected one name"),
        (r#"{"column": "a", "flags": ["x", 1]}"#, "flags[1]: invalid type"),
        (r#"{"column": "a", "flags": ["x", "x"]}"#, "flags[1]: expected a name"),
        (r#"{"column": "a", "flags": ["x"], "flag": 1}"#, "unknown field `flag`"),
        (r#"{"column": "a", "flags": ["x"], "unknown": "keep"}"#, "unknown variant `keep`"),
        (r#"{"column": "a", "flags": ["x"], "unknown": {"column": "x"}}"#, "unknown.column: "),
        (r#"{"column": "a", "flags": ["x", ""], "separator": ""}"#, "flags[1]: "),
        (r#"{"column": "a", "flags": ["x", ""], "separator": ""}"#, "separator: "),
    ] {
        assert!(told(config).contains(text), "{config}: {}", told(config));
    }
}

/// In a sink of several tables.
#[test]
fn rows_of_other_tables_pass() {
    let config = r#"{"table": "public.poi", "column": "features", "flags": ["wifi"]}"#;
    let of = |table: &str| row([("features", json("[\"wifi\"]"))]).of_table(table);
    let found = transform::<FeatureFlags>(config, &[of("public.poi"), of("public.review")]);
    let set = Outcome::Set(vec![("wifi".to_owned(), true.into())]);
    assert_eq!(found.unwrap(), [Ok(set), Ok(Outcome::Keep)]);
    let wrong = r#"{"table": "poi", "column": "features", "flags": ["wifi"]}"#;
    let wrong = transform::<FeatureFlags>(wrong, &[]).unwrap_err();
    assert_eq!(wrong, [ConfigError::new("table", "expected a name such as `public.poi`")]);
}

/// What a real server sends; the component makes the same of it.
#[test]
fn recorded_changes_become_what_is_expected() {
    recorded::transform::<FeatureFlags>(
        include_str!("../fixtures/config.json"),
        include_str!("../fixtures/messages.jsonl"),
        include_str!("../fixtures/outcomes.jsonl"),
    );
}
