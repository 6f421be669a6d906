//! A filter that keeps the rows in which one column has one value, and evicts the others.
//!
//! ```json
//! {"column": "is_public"}
//! {"column": "status", "equals": "published"}
//! ```
//!
//! `equals` is `true` if it is left out, and may be a boolean, a whole number or a text. A row with
//! another value, or null, is outside the set: a search index removes its document. A row whose
//! value was not sent, or whose table has no such column, fails: the filter never guesses.

use sequin_plugin::{Datum, Error, Filter, Row, Value, Verdict};
use serde_json::Value as Json;

/// See the documentation of the crate.
#[derive(Debug)]
pub struct PublicRows;

/// What to keep.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column that decides.
    pub column: String,
    /// The value that it has in the rows to keep.
    #[serde(default = "yes")]
    pub equals: Json,
}

impl Filter for PublicRows {
    type Config = Config;

    fn check(config: &Config) -> Result<(), Error> {
        let usable = config.equals.is_boolean() || config.equals.is_i64();
        if usable || config.equals.is_string() {
            return Ok(());
        }
        Err(Error::new("equals: expected a boolean, a whole number or a text"))
    }

    fn columns(config: &Config) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn filter(config: &Config, row: &Row<'_>) -> Result<Verdict, Error> {
        let Config { column, equals } = config;
        let equal = match (row.get(column)?, equals) {
            (Value::Unchanged, _) => return Err(Error::unchanged(column)),
            (Value::Null, _) => false,
            (Value::Known(Datum::Bool(value)), Json::Bool(wanted)) => value == *wanted,
            (Value::Known(Datum::Int(value)), Json::Number(wanted)) => {
                Some(value) == wanted.as_i64()
            }
            (Value::Known(Datum::Text(value)), Json::String(wanted)) => value == wanted,
            (Value::Known(_), _) => {
                let type_name = row.type_name(column)?;
                return Err(Error::new(format!(
                    "column {column} is of type {type_name}, which cannot equal {equals}: set \
                     `equals` to a value of that type"
                )));
            }
        };
        Ok(if equal { Verdict::Keep } else { Verdict::Evict })
    }
}

fn yes() -> Json {
    Json::Bool(true)
}

sequin_plugin::export_filter!(PublicRows);

#[cfg(test)]
mod tests {
    use sequin_plugin::testing::{Cell, filter, json, row};

    use super::*;

    fn verdicts(config: &str, column: &str, cells: Vec<Cell>) -> Vec<Result<Verdict, String>> {
        let rows: Vec<_> = cells.into_iter().map(|cell| row([(column, cell)])).collect();
        let verdicts = filter::<PublicRows>(config, &rows).unwrap();
        verdicts
            .into_iter()
            .map(|verdict| verdict.map_err(|error| error.text().to_owned()))
            .collect()
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
        assert!(found[0].as_ref().unwrap_err().contains("is_public was not sent"), "{found:?}");
        assert_eq!(found[1], Ok(Verdict::Keep));
        let found = verdicts(config, "other", vec![true.into()]);
        assert!(found[0].as_ref().unwrap_err().contains("no column is_public"), "{found:?}");
        let found = verdicts(config, "is_public", vec![json("true")]);
        assert!(found[0].as_ref().unwrap_err().contains("is of type jsonb"), "{found:?}");
    }

    #[test]
    fn a_wrong_configuration_is_told_by_its_field() {
        for (config, text) in [
            ("{}", "missing field `column`"),
            (r#"{"column": 1}"#, "column: invalid type: integer `1`"),
            (r#"{"column": "a", "equal": true}"#, "unknown field `equal`"),
            (r#"{"column": "a", "equals": [1]}"#, "equals: expected a boolean"),
            (r#"{"column": "a", "equals": null}"#, "equals: expected a boolean"),
        ] {
            let error = filter::<PublicRows>(config, &[]).unwrap_err();
            assert!(error.contains(text), "{config}: {error}");
        }
    }
}
