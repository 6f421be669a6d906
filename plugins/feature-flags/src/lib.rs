//! A transform that turns a JSON list of names, or a text array, into one boolean column per name.
//!
//! ```json
//! {"column": "features", "flags": ["wifi", "shower"], "prefix": "has_"}
//! ```
//!
//! makes of `["wifi", "sauna"]` the columns `has_wifi` true and `has_shower` false. Names that are
//! not in `flags` are passed over; `prefix` may be left out. A null list has none of the flags. A
//! list that was not sent leaves the columns alone. What is not a list of texts fails the row, as
//! does a table that has no such column.

use std::borrow::Cow;
use std::collections::HashSet;

use sequin_plugin::{Error, Output, Row, Transform, Value};

/// See the documentation of the crate.
#[derive(Debug)]
pub struct FeatureFlags;

/// Which columns to make of what.
#[derive(Debug, serde::Deserialize)]
#[serde(from = "Fields")]
pub struct Config {
    column: String,
    /// Names as they stand in the list, and the column of each.
    flags: Vec<(String, String)>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    column: String,
    flags: Vec<String>,
    #[serde(default)]
    prefix: String,
}

impl From<Fields> for Config {
    fn from(Fields { column, flags, prefix }: Fields) -> Self {
        let column_of = |flag: String| {
            let column = format!("{prefix}{flag}");
            (flag, column)
        };
        Self { column, flags: flags.into_iter().map(column_of).collect() }
    }
}

impl Transform for FeatureFlags {
    type Config = Config;

    fn check(config: &Config) -> Result<(), Error> {
        if config.flags.is_empty() {
            return Err(Error::new("flags: expected one name or more"));
        }
        let mut names = HashSet::new();
        match config.flags.iter().position(|(flag, _)| flag.is_empty() || !names.insert(flag)) {
            None => Ok(()),
            Some(index) => Err(Error::new(format!(
                "flags[{index}]: expected a name that is not empty and occurs once"
            ))),
        }
    }

    fn columns(config: &Config) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Config, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let list: Vec<Name<'_>> = match row.json(&config.column)? {
            Value::Unchanged => return Ok(()),
            Value::Null => Vec::new(),
            Value::Known(list) => list,
        };
        for (flag, column) in &config.flags {
            out.set_bool(column, list.iter().any(|Name(name)| name == flag));
        }
        Ok(())
    }
}

/// Borrowed from the row wherever the JSON has no escape in it.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

sequin_plugin::export_transform!(FeatureFlags);

#[cfg(test)]
mod tests {
    use sequin_plugin::testing::{Cell, Outcome, json, row, transform};

    use super::*;

    const CONFIG: &str =
        r#"{"column": "features", "flags": ["wifi", "shower", "café"], "prefix": "has_"}"#;

    fn outcomes(cells: Vec<Cell>) -> Vec<Result<Outcome, String>> {
        let rows: Vec<_> = cells.into_iter().map(|cell| row([("features", cell)])).collect();
        let outcomes = transform::<FeatureFlags>(CONFIG, &rows).unwrap();
        outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(|error| error.text().to_owned()))
            .collect()
    }

    fn flags(wifi: bool, shower: bool, cafe: bool) -> Result<Outcome, String> {
        let set = [("has_wifi", wifi), ("has_shower", shower), ("has_café", cafe)];
        Ok(Outcome::Set(set.map(|(name, value)| (name.to_owned(), value.into())).to_vec()))
    }

    #[test]
    fn one_column_per_flag() {
        let found = outcomes(vec![
            json(r#"["shower", "sauna", "wifi"]"#),
            json("[]"),
            json(r#"["caf\u00e9"]"#),
            Cell::Null,
        ]);
        let expected = [
            flags(true, true, false),
            flags(false, false, false),
            flags(false, false, true),
            flags(false, false, false),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_list_that_was_not_sent_leaves_the_columns_alone() {
        let found = outcomes(vec![Cell::Unchanged, json(r#"["wifi"]"#), Cell::Unchanged]);
        assert_eq!(found, [Ok(Outcome::Keep), flags(true, false, false), Ok(Outcome::Keep)]);
    }

    #[test]
    fn what_is_no_list_of_texts_fails_its_row_and_names_the_column() {
        let found = outcomes(vec![json(r#"{"wifi": true}"#), json("[1]"), json("[\"wifi\"]")]);
        for failed in &found[..2] {
            let text = failed.as_ref().unwrap_err();
            assert!(text.contains("column features"), "{text}");
        }
        assert_eq!(found[2], flags(true, false, false));
    }

    #[test]
    fn a_wrong_configuration_is_told_by_its_field() {
        for (config, text) in [
            (r#"{"column": "a"}"#, "missing field `flags`"),
            (r#"{"column": "a", "flags": []}"#, "flags: expected one name"),
            (r#"{"column": "a", "flags": ["x", 1]}"#, "flags[1]: invalid type"),
            (r#"{"column": "a", "flags": ["x", "x"]}"#, "flags[1]: expected a name"),
            (r#"{"column": "a", "flags": ["x"], "flag": 1}"#, "unknown field `flag`"),
        ] {
            let error = transform::<FeatureFlags>(config, &[]).unwrap_err();
            assert!(error.contains(text), "{config}: {error}");
        }
    }
}
