//! What becomes of translations.

use sequin_plugin::testing::{Cell, Literal, Outcome, json, recorded, row, transform};

use super::*;

const CONFIG: &str =
    r#"{"column": "t", "fields": ["name", "text"], "languages": ["en", "de", "de-AT"]}"#;
const COLUMNS: [&str; 6] = ["name_en", "name_de", "name_de_at", "text_en", "text_de", "text_de_at"];
const TALL: &str = r#"{
    "table": "public.tr", "fields": ["name", "text"], "languages": ["en", "de"],
    "tall": {"id": "poi_id", "language": "lang", "field": "field", "text": "value"}
}"#;
const WIDE: &str = r#"{
    "fields": ["name", "text"], "languages": ["en", "de"],
    "tall": {"id": "poi_id", "language": "lang"}
}"#;

fn outcomes(config: &str, rows: &[Literal]) -> Vec<Result<Outcome, Error>> {
    transform::<LocalisedFields>(config, rows).unwrap()
}

fn of_lists(config: &str, cells: Vec<Cell>) -> Vec<Result<Outcome, Error>> {
    let rows: Vec<_> = cells.into_iter().map(|cell| row([("t", cell)])).collect();
    outcomes(config, &rows)
}

/// All columns, of which these have texts.
fn set(texts: &[(&str, &str)]) -> Result<Outcome, Error> {
    let text = |column: &str| texts.iter().find(|(of, _)| *of == column);
    let cell = |column: &str| {
        (column.to_owned(), text(column).map_or(Cell::Null, |(_, text)| (*text).into()))
    };
    Ok(Outcome::Set(COLUMNS.map(cell).to_vec()))
}

fn tall(id: i64, lang: &str, field: &str, value: Cell) -> Literal {
    let cells =
        [("poi_id", id.into()), ("lang", lang.into()), ("field", field.into()), ("value", value)];
    row(cells).of_table("public.tr")
}

fn replaced(json: &str) -> Result<Outcome, Error> {
    Ok(Outcome::Sent(vec![(Effect::Complete, json.to_owned())]))
}

#[test]
fn one_column_per_field_and_language_and_null_where_there_is_none() {
    let found = of_lists(
        CONFIG,
        vec![
            json(
                r#"[{"lang": "de", "name": "Dom", "text": "hoch", "x": [{}]}, {"name": "C\"", "lang": "EN"}]"#,
            ),
            json(
                r#"[{"lang": "de_at", "name": null}, {"lang": "fr", "name": "non"}, {"lang": "en", "text": ""}]"#,
            ),
            json("[]"),
            json("null"),
            Cell::Null,
        ],
    );
    let expected = [
        set(&[("name_de", "Dom"), ("text_de", "hoch"), ("name_en", "C\"")]),
        set(&[("text_en", "")]),
        set(&[]),
        set(&[]),
        set(&[]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_list_that_was_not_sent_leaves_the_columns_alone() {
    let found = of_lists(CONFIG, vec![Cell::Unchanged, json("[]")]);
    assert_eq!(found, [Ok(Outcome::Keep), set(&[])]);
    let deleted = row([("t", Cell::Unchanged)]).deleted();
    assert_eq!(outcomes(CONFIG, &[deleted]), [Ok(Outcome::Keep)]);
}

#[test]
fn what_is_no_list_of_translations_fails_its_row_alone() {
    let bad = [
        (r#"[{"lang": "Deutsch!"}]"#, "no BCP 47 tag"),
        (r#"[{"lang": null}]"#, "no BCP 47 tag"),
        (r#"[{"name": "x"}]"#, "without a language"),
        (r#"[{"lang": "de"}, {"lang": "DE"}]"#, "two entries of one language"),
        (r#"[{"lang": "de", "name": 1}]"#, "not of the form"),
        (r#"[{"lang": 1}]"#, "not of the form"),
        (r#"{"lang": "de"}"#, "not of the form"),
        (r#"["de"]"#, "not of the form"),
        ("", "not of the form"),
    ];
    let mut cells: Vec<_> = bad.iter().map(|(text, _)| json(text)).collect();
    cells.push(json("[]"));
    let found = of_lists(CONFIG, cells);
    for (outcome, (of, text)) in found.iter().zip(bad) {
        let error = outcome.as_ref().unwrap_err();
        assert_eq!(error.blamed(), Some("t"), "{of}");
        assert!(error.message().contains(text), "{of}: {error}");
    }
    assert_eq!(found[bad.len()], set(&[]));
}

#[test]
fn the_language_has_a_name_and_others_may_be_refused() {
    let config = r#"{"column": "t", "language": "locale", "fields": ["name"],
                     "languages": ["de"], "unknown": "fail"}"#;
    let found = of_lists(
        config,
        vec![json(r#"[{"locale": "de", "name": "Dom"}]"#), json(r#"[{"locale": "fr"}]"#)],
    );
    assert_eq!(found[0], Ok(Outcome::Set(vec![("name_de".to_owned(), "Dom".into())])));
    assert!(found[1].as_ref().unwrap_err().message().contains("not in `languages`"));
}

#[test]
fn a_row_of_a_table_of_translations_is_a_part_of_a_document() {
    let found = outcomes(
        TALL,
        &[
            tall(7, "de", "name", "D\"om".into()),
            tall(7, "EN", "text", Cell::Null),
            tall(7, "de", "name", "Dom".into()).deleted(),
            tall(7, "fr", "name", "non".into()),
            tall(7, "de", "other", "x".into()),
            tall(7, "de", "name", Cell::Unchanged),
            tall(8, "de", "name", "Dom".into()).of_table("public.other"),
        ],
    );
    let expected = [
        replaced(r#"{"id":7,"name_de":"D\"om"}"#),
        replaced(r#"{"id":7,"text_en":null}"#),
        replaced(r#"{"id":7,"name_de":null}"#),
        Ok(Outcome::Drop),
        Ok(Outcome::Drop),
        Ok(Outcome::Drop),
        Ok(Outcome::Keep),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_row_that_moves_clears_where_it_was() {
    let now = |value: Cell| tall(7, "de", "name", value);
    let many = |first: &str, second: &str| {
        let sent = [first, second].map(|json| (Effect::Complete, json.to_owned()));
        Ok(Outcome::Sent(sent.to_vec()))
    };
    let found = outcomes(
        TALL,
        &[
            now("Dom".into()).updated([("lang", "en".into())]),
            now("Dom".into()).updated([("poi_id", 6.into()), ("field", "text".into())]),
            now("Dom".into()).updated([("lang", "fr".into())]),
            now("Dom".into()).updated([("lang", "de".into()), ("poi_id", 7.into())]),
            tall(7, "fr", "name", "non".into()).updated([("lang", "de".into())]),
            now(Cell::Unchanged).updated([("lang", "en".into())]),
        ],
    );
    let expected = [
        many(r#"{"id":7,"name_en":null}"#, r#"{"id":7,"name_de":"Dom"}"#),
        many(r#"{"id":6,"text_de":null}"#, r#"{"id":7,"name_de":"Dom"}"#),
        replaced(r#"{"id":7,"name_de":"Dom"}"#),
        replaced(r#"{"id":7,"name_de":"Dom"}"#),
        replaced(r#"{"id":7,"name_de":null}"#),
    ];
    assert_eq!(found[..5], expected);
    assert_eq!(found[5].as_ref().unwrap_err().blamed(), Some("value"));
}

#[test]
fn a_row_may_hold_all_fields_of_a_language() {
    let wide = |name: Cell, text: Cell| {
        row([("poi_id", "a".into()), ("lang", "de".into()), ("name", name), ("text", text)])
    };
    let found = outcomes(
        WIDE,
        &[
            wide("Dom".into(), Cell::Null),
            wide("Dom".into(), Cell::Unchanged),
            wide(Cell::Unchanged, Cell::Unchanged).deleted(),
        ],
    );
    let expected = [
        replaced(r#"{"id":"a","name_de":"Dom","text_de":null}"#),
        replaced(r#"{"id":"a","name_de":"Dom"}"#),
        replaced(r#"{"id":"a","name_de":null,"text_de":null}"#),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_row_that_does_not_say_where_it_belongs_fails() {
    let blamed = |column: &str, cell: Cell| {
        let mut row = tall(7, "de", "name", "x".into()).deleted();
        let found = row.columns.iter_mut().find(|(name, _)| name == column);
        found.unwrap().1 = cell;
        let error = outcomes(TALL, &[row]).remove(0).unwrap_err();
        assert_eq!(error.blamed(), Some(column), "{error}");
    };
    for column in ["poi_id", "lang", "field"] {
        blamed(column, Cell::Unchanged);
        blamed(column, Cell::Null);
    }
    blamed("poi_id", true.into());
    blamed("lang", "Deutsch!".into());
}

#[test]
fn all_that_is_wrong_is_told_by_its_field() {
    let told = |config: &str| -> String {
        let errors = transform::<LocalisedFields>(config, &[]).unwrap_err();
        errors.iter().map(|error| format!("{error}; ")).collect()
    };
    for (config, text) in [
        (r#"{"fields": ["a"], "languages": ["de"]}"#, "one of `column`, `embedded` and `tall`"),
        (r#"{"column": "t", "languages": ["de"]}"#, "missing field `fields`"),
        (r#"{"column": "t", "fields": [], "languages": []}"#, "fields: expected one field"),
        (r#"{"column": "t", "fields": [], "languages": []}"#, "languages: expected one"),
        (r#"{"column": "t", "fields": ["a"], "languages": ["de", "DE"]}"#, "languages[1]: "),
        (r#"{"column": "t", "fields": ["a", "a"], "languages": ["!"]}"#, "fields[1]: "),
        (r#"{"column": "t", "fields": ["a", "a"], "languages": ["!"]}"#, "languages[0]: "),
        (
            r#"{"column": "t", "fields": ["a", "a_de"], "languages": ["at", "de-at"]}"#,
            "would make the column a_de_at",
        ),
        (
            r#"{"tall": {"id": "a", "language": "b", "field": "c"}, "fields": ["a"],
                "languages": ["de"], "language": "l", "table": "t"}"#,
            "language: expected the language's column in `tall.language` only; \
             tall: expected both `field` and `text`, or neither; table: ",
        ),
    ] {
        assert!(told(config).contains(text), "{config}: {}", told(config));
    }
}

const POI: &str = r#"{
    "tables": {
        "public.poi": {"embedded": {"enrichment": "translations"}},
        "public.tr": {"tall": {"id": "poi_id", "language": "lang", "field": "field", "text": "value"}}
    },
    "fields": ["name", "text"], "languages": ["en", "de", "de-AT"]
}"#;

fn poi(enrichment: Cell) -> Literal {
    row([("id", 7.into())]).of_table("public.poi").with("enrichment", enrichment)
}

#[test]
fn the_enrichment_may_hold_all_languages() {
    let found = outcomes(
        POI,
        &[
            poi(json(
                r#"{"id": 7, "translations": [{"lang": "de", "name": "Dom"}, {"lang": "EN", "text": ""}]}"#,
            )),
            poi(json(r#"{"translations": []}"#)),
            poi(json(r#"{"translations": null}"#)).updated([]),
            // The row was gone when it was looked for, or the sink looks for nothing.
            poi(Cell::Null),
            poi(Cell::Null).deleted(),
        ],
    );
    let expected = [
        set(&[("name_de", "Dom"), ("text_en", "")]),
        set(&[]),
        set(&[]),
        Ok(Outcome::Keep),
        Ok(Outcome::Keep),
    ];
    assert_eq!(found, expected);
    let failing = [
        poi(json(r#"{"translation": []}"#)),
        poi(json(r#"{"translations": {}}"#)),
        poi(json(r#"{"translations": [{"lang": "de"}, {"lang": "de"}]}"#)),
    ];
    let found = outcomes(POI, &failing);
    for (outcome, text) in found.iter().zip(["has no column translations", "form", "two entries"]) {
        let error = outcome.as_ref().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let without = row([("id", 7.into())]).of_table("public.poi");
    let error = outcomes(POI, &[without]).remove(0).unwrap_err();
    assert!(error.message().contains("was not handed over"), "{error}");
}

/// A translation never makes a document: what a filter keeps out stays out.
#[test]
fn rows_of_two_tables_become_one_document_and_others_pass() {
    // Of the old row nothing is sent, as its key is the same.
    let key = ["poi_id", "lang", "field"].map(|column| (column, Cell::Unchanged));
    let found = outcomes(
        POI,
        &[
            poi(json(r#"{"translations": [{"lang": "de", "name": "Dom"}]}"#)),
            tall(7, "de", "name", "Münster".into()).updated(key),
            tall(7, "de", "name", "x".into()),
            tall(7, "de", "name", "x".into()).read(),
            tall(7, "de", "name", Cell::Unchanged).deleted(),
            row([("id", 7.into())]).of_table("public.review"),
        ],
    );
    let expected = [
        set(&[("name_de", "Dom")]),
        replaced(r#"{"id":7,"name_de":"Münster"}"#),
        replaced(r#"{"id":7,"name_de":"x"}"#),
        replaced(r#"{"id":7,"name_de":"x"}"#),
        replaced(r#"{"id":7,"name_de":null}"#),
        Ok(Outcome::Keep),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_wrong_with_a_table_is_told_with_its_name() {
    let told = |config: &str| -> String {
        let errors = transform::<LocalisedFields>(config, &[]).unwrap_err();
        errors.iter().map(|error| format!("{error}; ")).collect()
    };
    let tables =
        |tables: &str| format!(r#"{{"tables": {tables}, "fields": ["a"], "languages": ["de"]}}"#);
    for (config, text) in [
        (tables(r#"{"poi": {"column": "t"}}"#), "tables.poi: expected a name such as"),
        (tables(r#"{"public.poi": {}}"#), "tables.public.poi: expected one of"),
        (
            tables(r#"{"public.poi": {"column": "t", "embedded": {"enrichment": "t"}}}"#),
            "tables.public.poi: expected one of",
        ),
        (
            tables(r#"{"public.poi": {"tall": {"id": "a", "language": "b", "field": "c"}}}"#),
            "tables.public.poi.tall: expected both",
        ),
        (
            tables(r#"{"public.poi": {"column": "t"}}, "column": "t""#),
            "tables: expected `column`, `embedded`, `language` and `tall` inside of its tables, not beside them",
        ),
        (tables(r#"{"public.poi": {"embedded": {"column": "t"}}}"#), "unknown field `column`"),
    ] {
        assert!(told(&config).contains(text), "{config}: {}", told(&config));
    }
}

/// What a real server sends; the component makes the same of it.
#[test]
fn recorded_changes_become_what_is_expected() {
    recorded::transform::<LocalisedFields>(
        include_str!("../fixtures/config.json"),
        include_str!("../fixtures/messages.jsonl"),
        include_str!("../fixtures/outcomes.jsonl"),
    );
}
