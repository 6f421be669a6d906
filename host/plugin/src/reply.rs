//! From a guest's answer to outcomes.
//!
//! Guarantees one outcome per row whatever the guest answers, and that what leaves is well-formed:
//! lengths match, JSON is JSON, no row sets a column twice. What is wrong with one row fails that
//! row; what is wrong with the answer as a whole fails it all, and the caller tries again row by
//! row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::plugin::{Data, Fault, Outcome, Patch, PluginError, Presence, SetColumn};
use serde_json::value::RawValue;

use crate::bindings::{self, ColumnOut, DataOut, Reply, Verdict};
use crate::fault::fault;
use crate::program::Role;

type Texts = HashMap<usize, Vec<String>>;

/// The outcomes of the rows, or what is wrong with the answer as a whole.
pub(crate) fn outcomes(
    role: Role,
    rows: usize,
    reply: Reply,
) -> Result<Vec<Result<Outcome, PluginError>>, PluginError> {
    let Reply { verdicts, columns, documents, errors } = reply;
    if verdicts.len() != rows {
        return Err(output(format!("{} verdicts for {rows} rows", verdicts.len())));
    }
    if role == Role::Filter && !(columns.is_empty() && documents.is_empty()) {
        return Err(output("columns or documents from a filter".to_owned()));
    }
    let columns = columns.into_iter().map(|column| set_column(column, rows));
    let columns: Arc<[SetColumn]> = columns.collect::<Result<_, _>>()?;
    let mut sheet = Sheet {
        role,
        twins: has_twins(&columns),
        columns,
        documents: texts("a document", documents, rows)?,
        errors: texts("an error", errors, rows)?,
    };
    let outcome = |(row, verdict)| sheet.outcome(row, verdict);
    Ok(verdicts.into_iter().enumerate().map(outcome).collect())
}

/// An answer whose lengths were found to match.
struct Sheet {
    role: Role,
    columns: Arc<[SetColumn]>,
    /// Whether some name occurs twice among the columns.
    twins: bool,
    documents: Texts,
    errors: Texts,
}

impl Sheet {
    fn outcome(&mut self, row: usize, verdict: Verdict) -> Result<Outcome, PluginError> {
        let documents = self.documents.remove(&row).unwrap_or_default();
        let errors = self.errors.remove(&row).unwrap_or_default();
        let takes_documents = matches!(verdict, Verdict::Replace | Verdict::Many);
        if takes_documents && self.role == Role::Filter {
            return Err(output(format!("the verdict {verdict:?} from a filter")));
        }
        if !takes_documents && !documents.is_empty() {
            return Err(output(format!("documents with the verdict {verdict:?}")));
        }
        if verdict != Verdict::Error && !errors.is_empty() {
            return Err(output(format!("an error with the verdict {verdict:?}")));
        }
        if verdict != Verdict::Keep && self.set(row).next().is_some() {
            return Err(output(format!("columns with the verdict {verdict:?}")));
        }
        match verdict {
            Verdict::Keep => self.kept(row),
            Verdict::Drop => Ok(Outcome::Drop),
            Verdict::Evict => Ok(Outcome::Evict),
            Verdict::Replace => match <[String; 1]>::try_from(documents) {
                Ok([document]) => Ok(Outcome::Replace(json("the document", document)?)),
                Err(documents) => {
                    Err(output(format!("{} documents to replace one row", documents.len())))
                }
            },
            Verdict::Many if documents.is_empty() => Err(output("many of no document".to_owned())),
            Verdict::Many => {
                let documents = documents.into_iter().map(|document| json("a document", document));
                Ok(Outcome::Many(documents.collect::<Result<_, _>>()?))
            }
            Verdict::Error if errors.is_empty() => {
                Err(fault(Fault::Guest, "the plugin failed the row and did not say why".to_owned()))
            }
            Verdict::Error => Err(fault(Fault::Guest, errors.join("; "))),
        }
    }

    /// A row that goes on, with the columns that were set for it.
    fn kept(&self, row: usize) -> Result<Outcome, PluginError> {
        let mut names = HashSet::new();
        let mut any = false;
        for column in self.set(row) {
            any = true;
            if self.twins && !names.insert(&column.name) {
                return Err(output(format!("column {} set twice", column.name)));
            }
            if column.presence.get(row) == Some(&Presence::Value)
                && let Data::Json(values) = &column.data
                && let Some(value) = values.get(row)
                && let Err(error) = serde_json::from_str::<&RawValue>(value)
            {
                return Err(output(format!("column {} that is no JSON: {error}", column.name)));
            }
        }
        if !any {
            return Ok(Outcome::Keep);
        }
        Ok(Outcome::Set(Patch { columns: Arc::clone(&self.columns), row }))
    }

    fn set(&self, row: usize) -> impl Iterator<Item = &SetColumn> {
        let touched = move |column: &&SetColumn| {
            matches!(column.presence.get(row), Some(Presence::Value | Presence::Null))
        };
        self.columns.iter().filter(touched)
    }
}

fn set_column(column: ColumnOut, rows: usize) -> Result<SetColumn, PluginError> {
    let ColumnOut { name, presence, data, .. } = column;
    let (length, data) = match data {
        DataOut::Booleans(values) => (values.len(), Data::Booleans(values)),
        DataOut::Integers(values) => (values.len(), Data::Integers(values)),
        DataOut::Floats(values) => (values.len(), Data::Floats(values)),
        DataOut::Texts(values) => (values.len(), Data::Texts(values)),
        DataOut::Json(values) => (values.len(), Data::Json(values)),
        DataOut::Bytes(values) => (values.len(), Data::Bytes(values)),
    };
    if length != rows || presence.len() != rows {
        let entries = length.min(presence.len());
        return Err(output(format!("{entries} entries of column {name} for {rows} rows")));
    }
    if name.is_empty() {
        return Err(output("a column without a name".to_owned()));
    }
    let presence = presence.into_iter().map(|presence| match presence {
        bindings::Presence::Value => Presence::Value,
        bindings::Presence::Null => Presence::Null,
        bindings::Presence::Unchanged => Presence::Unchanged,
    });
    Ok(SetColumn { name: name.into(), presence: presence.collect(), data })
}

fn has_twins(columns: &[SetColumn]) -> bool {
    let mut names = HashSet::new();
    !columns.iter().all(|column| names.insert(&column.name))
}

/// Texts by row; all of them must be of a row.
fn texts(what: &str, list: Vec<(u32, String)>, rows: usize) -> Result<Texts, PluginError> {
    let mut texts = Texts::new();
    for (row, text) in list {
        let row = row as usize;
        if row >= rows {
            return Err(output(format!("{what} of row {row}, of {rows} rows")));
        }
        texts.entry(row).or_default().push(text);
    }
    Ok(texts)
}

fn json(what: &str, text: String) -> Result<Box<str>, PluginError> {
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => Ok(text.into_boxed_str()),
        Err(error) => Err(output(format!("{what} that is no JSON: {error}"))),
    }
}

fn output(what: String) -> PluginError {
    fault(Fault::Output, format!("the plugin answered with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindings::Presence::{Null, Unchanged, Value};

    fn reply(verdicts: &[Verdict]) -> Reply {
        let (columns, documents, errors) = (Vec::new(), Vec::new(), Vec::new());
        Reply { verdicts: verdicts.to_vec(), columns, documents, errors }
    }

    fn flag(name: &str, presence: &[bindings::Presence]) -> ColumnOut {
        let data = DataOut::Booleans(vec![true; presence.len()]);
        let (name, presence) = (name.to_owned(), presence.to_vec());
        ColumnOut { name, _type_name: String::new(), presence, data }
    }

    fn text(row: u32, text: &str) -> (u32, String) {
        (row, text.to_owned())
    }

    /// The answer as a whole fails with this text.
    fn whole(role: Role, reply: Reply, expected: &str) {
        let error = outcomes(role, 2, reply).unwrap_err();
        assert_eq!(error.fault, Fault::Output);
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn lengths_and_indexes_must_match() {
        let keep = [Verdict::Keep; 2];
        whole(Role::Filter, reply(&keep[..1]), "1 verdicts for 2 rows");
        whole(Role::Filter, reply(&[Verdict::Keep; 3]), "3 verdicts for 2 rows");
        let columns = vec![flag("a", &[Value])];
        whole(Role::Transform, Reply { columns, ..reply(&keep) }, "1 entries of column a");
        let mut uneven = flag("a", &[Value, Value]);
        uneven.data = DataOut::Texts(Vec::new());
        let columns = vec![uneven];
        whole(Role::Transform, Reply { columns, ..reply(&keep) }, "0 entries of column a");
        let columns = vec![flag("", &[Value, Value])];
        whole(Role::Transform, Reply { columns, ..reply(&keep) }, "without a name");
        let documents = vec![text(2, "{}")];
        whole(Role::Transform, Reply { documents, ..reply(&keep) }, "a document of row 2, of 2");
        let errors = vec![text(u32::MAX, "")];
        whole(Role::Filter, Reply { errors, ..reply(&keep) }, "an error of row 4294967295");
        let columns = vec![flag("a", &[Unchanged, Unchanged])];
        whole(Role::Filter, Reply { columns, ..reply(&keep) }, "columns or documents");
    }

    #[test]
    fn what_is_wrong_with_one_row_fails_that_row() {
        let verdicts = [
            Verdict::Replace,
            Verdict::Replace,
            Verdict::Many,
            Verdict::Many,
            Verdict::Keep,
            Verdict::Drop,
            Verdict::Evict,
            Verdict::Error,
            Verdict::Error,
            Verdict::Keep,
        ];
        let documents = vec![text(1, "1"), text(1, "2"), text(3, "1"), text(3, "}"), text(4, "{}")];
        let errors = vec![text(5, "x"), text(8, "why"), text(8, "and why")];
        let mut columns = vec![flag("a", &[Unchanged; 10]), flag("a", &[Unchanged; 10])];
        columns[0].presence[6] = Null;
        columns[0].presence[9] = Null;
        columns[1].presence[9] = Value;
        let reply = Reply { verdicts: verdicts.to_vec(), columns, documents, errors };
        let outcomes = outcomes(Role::Transform, 10, reply).unwrap();
        let expected = [
            "0 documents to replace one row",
            "2 documents to replace one row",
            "many of no document",
            "a document that is no JSON",
            "documents with the verdict Keep",
            "an error with the verdict Drop",
            "columns with the verdict Evict",
            "did not say why",
            "why; and why",
            "column a set twice",
        ];
        for (outcome, expected) in outcomes.iter().zip(expected) {
            let error = outcome.as_ref().unwrap_err();
            let guest = expected.contains("why");
            assert_eq!(error.fault, if guest { Fault::Guest } else { Fault::Output }, "{error}");
            assert!(error.message.contains(expected), "{error}");
        }
        let filtered = super::outcomes(Role::Filter, 1, self::reply(&[Verdict::Replace])).unwrap();
        assert!(filtered[0].as_ref().unwrap_err().message.contains("Replace from a filter"));
    }

    #[test]
    fn a_name_may_have_columns_of_two_types_for_different_rows() {
        let mut null = flag("a", &[Unchanged, Null]);
        null.data = DataOut::Texts(vec![String::new(); 2]);
        let columns = vec![flag("a", &[Value, Unchanged]), null];
        let reply = Reply { columns, ..reply(&[Verdict::Keep; 2]) };
        let outcomes = outcomes(Role::Transform, 2, reply).unwrap();
        let [Ok(Outcome::Set(first)), Ok(Outcome::Set(second))] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(first.column("a").unwrap().data, Data::Booleans(vec![true; 2]));
        assert_eq!(second.column("a").unwrap().presence[1], Presence::Null);
    }
}
