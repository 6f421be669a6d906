//! What is kept.

use sequin_plugin::testing::{Cell, Literal, filter, json, recorded, row, schema};

use super::*;

fn judged(config: &str, rows: &[Literal]) -> Vec<Result<Verdict, Error>> {
    filter::<PublicRows>(config, rows).unwrap()
}

fn verdicts(config: &str, column: &str, cells: Vec<Cell>) -> Vec<Result<Verdict, String>> {
    let rows: Vec<_> = cells.into_iter().map(|cell| row([(column, cell)])).collect();
    let verdicts = judged(config, &rows).into_iter();
    verdicts.map(|verdict| verdict.map_err(|error| error.to_string())).collect()
}

#[test]
fn true_is_kept_and_false_and_null_are_evicted() {
    let cells = vec![true.into(), false.into(), Cell::Null];
    let expected = [Ok(Verdict::Keep), Ok(Verdict::Evict), Ok(Verdict::Evict)];
    assert_eq!(verdicts(r#"{"column": "is_public"}"#, "is_public", cells), expected);
}

#[test]
fn a_text_or_a_number_may_decide() {
    let expected = [Ok(Verdict::Keep), Ok(Verdict::Evict)];
    let cells = vec!["published".into(), "draft".into()];
    let config = r#"{"column": "status", "equals": "published"}"#;
    assert_eq!(verdicts(config, "status", cells), expected);
    let cells = vec![2.into(), 1.into()];
    assert_eq!(verdicts(r#"{"column": "state", "equals": 2}"#, "state", cells), expected);
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let config = r#"{"column": "is_public"}"#;
    let found = verdicts(config, "is_public", vec![Cell::Unchanged, true.into()]);
    let text = found[0].as_ref().unwrap_err();
    assert!(text.starts_with("column is_public: its value was not sent"), "{text}");
    assert_eq!(found[1], Ok(Verdict::Keep));
    let found = verdicts(config, "other", vec![true.into()]);
    assert!(found[0].as_ref().unwrap_err().contains("no column is_public"), "{found:?}");
    let found = verdicts(config, "is_public", vec![json("true")]);
    assert!(found[0].as_ref().unwrap_err().contains("is of type jsonb"), "{found:?}");
}

#[test]
fn each_kind_of_predicate_holds_when_it_says() {
    let keeps = |predicate: &str, type_name: &str, cell: Cell| {
        let config = format!(r#"{{"all": [{{"column": "c", {predicate}}}], "otherwise": "drop"}}"#);
        let row = row([("c", cell)]).typed("c", type_name);
        match judged(&config, &[row]).remove(0) {
            Ok(verdict) => Some(verdict == Verdict::Keep),
            Err(_) => None,
        }
    };
    let numeric = |text: &str| Cell::from(text);
    for (predicate, type_name, cell, kept) in [
        (r#""in": ["a", "b"]"#, "text", "b".into(), Some(true)),
        (r#""in": ["a", "b"]"#, "text", "c".into(), Some(false)),
        (r#""in": ["a", "b"]"#, "int8", 1.into(), None),
        (r#""in": [1, 2]"#, "int8", 2.into(), Some(true)),
        (r#""in": [true, false]"#, "bool", Cell::Null, Some(false)),
        (r#""null": true"#, "text", Cell::Null, Some(true)),
        (r#""null": true"#, "jsonb", json("null"), Some(false)),
        (r#""null": false"#, "text", "".into(), Some(true)),
        (r#""above": 3.5"#, "int8", 4.into(), Some(true)),
        (r#""above": 3.5"#, "int8", 3.into(), Some(false)),
        (r#""above": 3.5"#, "float8", f64::NAN.into(), Some(true)),
        (r#""above": 3.5"#, "numeric", numeric("3.50"), Some(false)),
        (r#""above": 3.5"#, "text", "4".into(), None),
        (r#""equals": 1.1"#, "numeric", numeric("1.10"), Some(true)),
        (r#""at_least": 1, "below": 2"#, "float8", 1.0.into(), Some(true)),
        (r#""at_least": 1, "below": 2"#, "float8", 2.0.into(), Some(false)),
        (r#""at_most": "2024-01-02""#, "timestamptz", "2024-01-02T00:00:00Z".into(), Some(true)),
        (r#""at_most": "2024-01-02""#, "timestamptz", "2024-01-02T00:00:00.1Z".into(), Some(false)),
        (r#""at_most": "2024-01-02""#, "date", "infinity".into(), Some(false)),
        (r#""at_most": "2024-01-02""#, "date", "nonsense".into(), None),
        (r#""at_most": "2024-01-02""#, "text", "2024-01-01".into(), None),
        (r#""at_most": "2024-01-02""#, "bool", true.into(), None),
        (r#""at_most": 1"#, "numeric", Cell::Null, Some(false)),
    ] {
        assert_eq!(keeps(predicate, type_name, cell.clone()), kept, "{predicate} of {cell:?}");
    }
}

#[test]
fn what_was_not_sent_matters_only_if_nothing_else_decides() {
    let config = r#"{"all": [{"column": "a"}, {"column": "b"}],
                     "any": [{"column": "c"}, {"column": "d"}]}"#;
    let cell = |letter| match letter {
        't' => Cell::Bool(true),
        'f' => Cell::Bool(false),
        'n' => Cell::Null,
        _ => Cell::Unchanged,
    };
    let unknown = |column: &str| Err(Error::unchanged(column));
    for (cells, expected) in [
        ("tttt", Ok(Verdict::Keep)),
        ("ttft", Ok(Verdict::Keep)),
        ("ttff", Ok(Verdict::Evict)),
        ("tttu", Ok(Verdict::Keep)),
        ("ttut", Ok(Verdict::Keep)),
        ("ttuf", unknown("c")),
        ("ttnu", unknown("d")),
        ("fuuu", Ok(Verdict::Evict)),
        ("ufuu", Ok(Verdict::Evict)),
        ("utff", Ok(Verdict::Evict)),
        ("utft", unknown("a")),
        ("tutu", unknown("b")),
        ("uutt", unknown("a")),
    ] {
        let names = ["a", "b", "c", "d"];
        // A row that has them all gives the columns their type.
        let typed = row(names.map(|name| (name, true.into())));
        let row = row(names.into_iter().zip(cells.chars().map(cell)));
        assert_eq!(judged(config, &[typed, row]).remove(1), expected, "{cells}");
    }
}

#[test]
fn all_that_is_wrong_is_told_by_its_field() {
    let told = |config: &str| -> String {
        let errors = filter::<PublicRows>(config, &[]).unwrap_err();
        errors.iter().map(|error| format!("{error}; ")).collect()
    };
    for (config, text) in [
        ("{}", "expected `column`, or predicates"),
        (r#"{"column": 1}"#, "column: invalid type: integer `1`"),
        (r#"{"column": "a", "equal": true}"#, "unknown field `equal`"),
        (r#"{"column": "a", "equals": [1]}"#, "equals: expected a boolean"),
        (r#"{"column": "a", "equals": null}"#, "equals: expected a boolean"),
        (r#"{"equals": true}"#, "equals: expected `column`"),
        (r#"{"any": [{"column": "a", "above": 1e400}]}"#, "any[0].above: number out of range"),
        (r#"{"any": [{"column": "a", "above": 1e40}]}"#, "any[0].above: expected a number without"),
        (r#"{"column": "a", "otherwise": "keep"}"#, "otherwise: unknown variant `keep`"),
    ] {
        assert!(told(config).contains(text), "{config}: {}", told(config));
    }
    let several = r#"{"all": [{"column": "a", "in": [], "at_least": "soon"}],
                      "any": [{"column": "", "in": [1, "1"]}]}"#;
    let found = told(several);
    for text in
        ["all[0].in: ", "all[0].at_least: ", "any[0].column: ", "any[0].in: expected values of"]
    {
        assert!(found.contains(text), "{found}");
    }
}

#[test]
fn the_schema_is_that_of_what_is_written() {
    let schema: Json = sequin_plugin::serde_json::from_str(&schema::<PublicRows>()).unwrap();
    assert!(schema["properties"]["all"].is_object(), "{schema}");
    assert_eq!(schema["additionalProperties"], false);
}

/// In a sink of several tables.
#[test]
fn rows_of_other_tables_pass() {
    let config = r#"{"table": "public.poi", "column": "is_public"}"#;
    let of = |table: &str, shown: Cell| row([("is_public", shown)]).of_table(table);
    let found = judged(
        config,
        &[
            of("public.poi", false.into()),
            of("public.poi_translation", false.into()),
            of("other.poi", false.into()),
            row([("text", "x".into())]).of_table("public.review"),
            of("public.poi", Cell::Null),
        ],
    );
    let expected = [
        Ok(Verdict::Evict),
        Ok(Verdict::Keep),
        Ok(Verdict::Keep),
        Ok(Verdict::Keep),
        Ok(Verdict::Evict),
    ];
    assert_eq!(found, expected);
    let wrong = filter::<PublicRows>(r#"{"table": "poi", "column": "a"}"#, &[]).unwrap_err();
    assert_eq!(wrong, [ConfigError::new("table", "expected a name such as `public.poi`")]);
}

/// What a real server sends; the component makes the same of it.
#[test]
fn recorded_changes_become_what_is_expected() {
    recorded::filter::<PublicRows>(
        include_str!("../fixtures/config.json"),
        include_str!("../fixtures/messages.jsonl"),
        include_str!("../fixtures/outcomes.jsonl"),
    );
}
