//! What outlives the process of a backfill: ranges and how far they were read, as JSON.
//!
//! The texts come back from a store, so nothing is taken for granted of them; values in them are
//! sent to the server as parameters.

use model::backfill::{Cursor, Range};
use model::source::SourceError;
use serde::{Deserialize, Serialize};

use crate::error;

/// A part of one table that has rows of its own: all of it, or a piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Postgres' id of the table with the rows: a partition, if the table is partitioned.
    pub(super) table: u32,
    /// Whether it is a partition of the table that is read: one that is dropped has no rows to read.
    #[serde(default)]
    pub(super) partition: bool,
    pub(super) by: By,
}

/// In which order a part is read, and its ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    /// By these columns, which together tell rows apart.
    Columns {
        columns: Vec<String>,
        /// The first column is at least this; from the true beginning without it.
        from: Option<String>,
        /// The first column is below this.
        to: Option<String>,
    },
    /// By this column and then the place on disk: nothing tells rows apart.
    ColumnAndPlace {
        column: String,
        from: Option<String>,
        to: Option<String>,
        /// The file with the rows. In another one they have other places.
        file: u32,
    },
    /// By the place on disk, in blocks.
    Place { from: u32, to: Option<u32>, file: u32 },
}

impl Part {
    pub(super) fn write(&self) -> Range {
        Range(json(self).into())
    }

    pub(super) fn read(range: &Range) -> Result<Self, SourceError> {
        serde_json::from_str(&range.0).map_err(|_| corrupt("range", &range.0))
    }
}

/// How far a part was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reached {
    /// The last row's values of the columns that order it, as the types' own output functions write
    /// them; its place on disk comes last where it is part of the order.
    Values(Vec<String>),
    /// This block is to be read, behind the row of this number in it; 0: from its beginning.
    Place { block: u32, row: u16 },
}

impl Reached {
    pub(super) fn write(&self) -> Cursor {
        Cursor(json(self).into())
    }

    pub(super) fn read(cursor: &Cursor) -> Result<Self, SourceError> {
        serde_json::from_str(&cursor.0).map_err(|_| corrupt("cursor", &cursor.0))
    }

    /// It does not belong to the range that it came with.
    pub(super) fn stray(&self) -> SourceError {
        corrupt("cursor", &json(self))
    }
}

fn json(value: &impl Serialize) -> String {
    // Strings and numbers under known names: there is nothing in them that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

fn corrupt(what: &str, text: &str) -> SourceError {
    /// Of a damaged text that a message repeats, in characters.
    const SHOWN_MAX: usize = 200;
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    error::definite(
        "backfill_state",
        format!("the {what} of a backfill cannot be read: {shown}"),
        "cancel the backfill and start it anew",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b168_places_outlive_the_process_as_they_were() {
        let columns = vec!["id".to_owned(), "\"Q\" ž".to_owned()];
        let orders = [
            By::Columns { columns, from: Some("-1".to_owned()), to: None },
            By::Place { from: 7, to: Some(u32::MAX), file: 3 },
            By::ColumnAndPlace { column: "at".to_owned(), from: None, to: None, file: 3 },
        ];
        for by in orders {
            let part = Part { table: u32::MAX, partition: true, by };
            assert_eq!(Part::read(&part.write()).unwrap(), part);
        }
        for reached in [
            Reached::Values(vec!["a\u{1}\"".to_owned(), String::new()]),
            Reached::Place { block: u32::MAX, row: 291 },
        ] {
            assert_eq!(Reached::read(&reached.write()).unwrap(), reached);
        }
    }

    #[test]
    fn b168_damaged_places_are_refused() {
        let deep = "[".repeat(100_000);
        for bad in
            ["", "null", "{}", "{\"place\":{\"block\":-1,\"row\":0}}", "{\"values\":[1]}", &deep]
        {
            let code = |error| match error {
                SourceError::Definite { code, .. } => code,
                SourceError::Transient(text) => panic!("{text}"),
            };
            assert_eq!(code(Reached::read(&Cursor(bad.into())).unwrap_err()), "backfill_state");
            assert_eq!(code(Part::read(&Range(bad.into())).unwrap_err()), "backfill_state");
        }
    }
}
