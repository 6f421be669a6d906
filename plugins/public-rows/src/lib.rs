//! A filter that keeps the rows for which predicates on their columns hold, and evicts the others.
//!
//! ```yaml
//! functions:
//!   - name: public-pois
//!     type: filter
//!     file: plugins/public-rows.wasm
//!     config:
//!       table: public.poi
//!       all:
//!         - {column: is_public}                            # is true
//!         - {column: status, in: [published, featured]}
//!         - {column: deleted_at, "null": true}
//!         - {column: published_at, at_least: "2024-01-01"}
//!       any:
//!         - {column: rating, above: 3.5}
//!         - {column: name, "null": false}
//!       otherwise: evict
//! ```
//!
//! All those in `all` must hold, and at least one of those in `any`. A single predicate may stand by
//! itself: `{column: is_public}`, or `{column: status, equals: published}`; it belongs to `all`.
//!
//! | in a predicate | holds if the value of `column` |
//! |---|---|
//! | nothing | is `true` |
//! | `equals` | is this boolean, number or text |
//! | `in` | is one of these |
//! | `null` | is null (`true`), or is not (`false`) |
//! | `above`, `at_least`, `below`, `at_most` | is beyond this number or this time; two of them make a range |
//!
//! Numbers are compared with whole numbers, floats and `numeric`, exactly as they are written;
//! `NaN` is above all, as in Postgres. Times are compared with `date`, `timestamp` and `timestamptz`
//! and are written as in ISO 8601 or as Postgres does: `2024-01-02`, `2024-01-02T03:04:05.6+01:00`,
//! `infinity`. One without a zone is taken for UTC.
//!
//! - **table**: only rows of this table are judged, named `schema.table`; those of others pass.
//!   Without it, rows of every table are.
//! - **Null**: only `null: true` holds of it.
//! - **Not sent** (an unchanged TOAST value): never guessed at. If another predicate decides, it does
//!   not matter; if not, the row fails and the error names the column.
//! - **A column that the table does not have**, or a value that cannot be compared: the row fails.
//! - **Delete**: the engine lets deletes pass every filter.
//! - **otherwise**: what becomes of the other rows. `evict` (the default) takes their documents out
//!   of a destination that holds state; `drop` says nothing and leaves there what is there.

mod number;
mod predicate;
#[cfg(test)]
mod tests;
mod time;

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use sequin_plugin::serde_json::Value as Json;

use predicate::{Predicate, Truth};

/// See the documentation of the crate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", from = "Fields")]
#[schemars(crate = "sequin_plugin::schemars", into = "Fields")]
pub struct PublicRows {
    table: Option<String>,
    all: Vec<Predicate>,
    any: Vec<Predicate>,
    otherwise: Verdict,
    wrong: Vec<ConfigError>,
}

sequin_plugin::config! {
    /// Which rows to keep: those of which all predicates in `all` hold and at least one in `any`.
    struct Fields {
        /// Only rows of this table are judged, named `schema.table`.
        table: Option<String>,
        /// The column of a predicate that stands by itself.
        column: Option<String>,
        /// What that column must equal: true, if nothing is said.
        #[serde(default, deserialize_with = "predicate::given")]
        equals: Option<Json>,
        /// All of these must hold.
        #[serde(default)]
        all: Vec<predicate::Fields>,
        /// At least one of these must hold, if there are any.
        #[serde(default)]
        any: Vec<predicate::Fields>,
        /// What becomes of the other rows.
        #[serde(default)]
        otherwise: Otherwise,
    }
}

sequin_plugin::config! {
    /// What becomes of a row that is not kept.
    #[derive(Clone, Copy, Default)]
    #[serde(rename_all = "lowercase")]
    enum Otherwise {
        /// A destination that holds state removes its document.
        #[default]
        Evict,
        /// Nothing is said of it.
        Drop,
    }
}

impl From<Fields> for PublicRows {
    fn from(Fields { table, column, equals, all, any, otherwise }: Fields) -> Self {
        let mut wrong = Vec::new();
        if table.as_ref().is_some_and(|table| !table.contains('.')) {
            wrong.push(ConfigError::new("table", "expected a name such as `public.poi`"));
        }
        let several = |name: &str, list: Vec<predicate::Fields>, wrong: &mut Vec<ConfigError>| {
            let numbered = list.into_iter().enumerate();
            let read = |(at, fields)| Predicate::new(fields, &format!("{name}[{at}]."), wrong);
            numbered.map(read).collect::<Vec<_>>()
        };
        let mut all = several("all", all, &mut wrong);
        let any = several("any", any, &mut wrong);
        match column {
            Some(column) => {
                let fields = predicate::Fields { column, equals, ..predicate::Fields::default() };
                all.push(Predicate::new(fields, "", &mut wrong));
            }
            None if equals.is_some() => {
                wrong.push(ConfigError::new("equals", "expected `column` beside it"));
            }
            None if all.is_empty() && any.is_empty() => {
                let message = "expected `column`, or predicates in `all` or `any`";
                wrong.push(ConfigError::new("", message));
            }
            None => {}
        }
        let otherwise = match otherwise {
            Otherwise::Evict => Verdict::Evict,
            Otherwise::Drop => Verdict::Drop,
        };
        Self { table, all, any, otherwise, wrong }
    }
}

impl Plugin for PublicRows {
    // What is kept is the configuration, and nothing changes it.
    const WARM: bool = true;

    fn reads(&self) -> Reads {
        let predicates = self.all.iter().chain(&self.any);
        let reads = Reads::columns(predicates.map(|predicate| &predicate.column));
        match &self.table {
            Some(table) => reads.of_table(table),
            None => reads,
        }
    }

    fn check(&self) -> Vec<ConfigError> {
        self.wrong.clone()
    }
}

impl Filter for PublicRows {
    fn filter(&self, row: &Row<'_>) -> Result<Verdict, Error> {
        let mut unknown = None;
        for predicate in &self.all {
            match predicate.of(row)? {
                Truth::True => {}
                Truth::False => return Ok(self.otherwise),
                Truth::Unknown => unknown = unknown.or(Some(predicate)),
            }
        }
        let mut one = self.any.is_empty();
        let mut unknown_one = None;
        for predicate in &self.any {
            match predicate.of(row)? {
                Truth::True => {
                    one = true;
                    break;
                }
                Truth::False => {}
                Truth::Unknown => unknown_one = unknown_one.or(Some(predicate)),
            }
        }
        match (one, unknown_one, unknown) {
            // Whatever was not sent, none of these can hold.
            (false, None, _) => Ok(self.otherwise),
            (false, Some(predicate), _) | (true, _, Some(predicate)) => {
                Err(Error::unchanged(&predicate.column))
            }
            (true, _, None) => Ok(Verdict::Keep),
        }
    }
}

sequin_plugin::export_filter!(PublicRows);
