//! From a guest's answer to outcomes.
//!
//! Guarantees one outcome per row whatever the guest answers, and that what leaves is well-formed:
//! lengths match, JSON is JSON, no row sets a column twice, columns are in the order of their names.
//! What is wrong with one row fails that row; what is wrong with the answer as a whole fails it all,
//! and the caller tries again row by row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::plugin::{
    self, Data, DocumentEffect, Fault, Outcome, Packed, Patch, PluginError, Presence, SetColumn,
};
use serde_json::value::RawValue;

use crate::bindings::{self, ColumnOut, DataOut, Document, Reply, RowError, Verdict};
use crate::fault::fault;
use crate::program::Role;

/// What belongs to a row, by its index.
type ByRow<T> = HashMap<usize, Vec<T>>;

/// The outcomes of the rows, or what is wrong with the answer as a whole.
pub(crate) fn outcomes(
    role: Role,
    rows: usize,
    reply: Reply,
) -> Result<Vec<Result<Outcome, PluginError>>, PluginError> {
    let Reply { verdicts, columns, only, documents, errors } = reply;
    if verdicts.len() != rows {
        return Err(output(format!("{} verdicts for {rows} rows", verdicts.len())));
    }
    if role == Role::Filter && !(columns.is_empty() && only.is_none() && documents.is_empty()) {
        return Err(output("columns or documents from a filter".to_owned()));
    }
    if role == Role::Route && !(only.is_none() && documents.is_empty()) {
        return Err(output("documents, or columns taken away, from a router".to_owned()));
    }
    let only = only.map(|names| names.into_iter().map(String::into_boxed_str).collect());
    let documents = documents.into_iter().map(|document| (document.row, document));
    let errors = errors.into_iter().map(|error| (error.row, error.text()));
    let columns = columns.into_iter().map(|column| set_column(column, rows));
    let mut columns: Vec<SetColumn> = columns.collect::<Result<_, _>>()?;
    // A guest names them as its rows come, and the same row may come in other company another time:
    // what is sent for it must be the same to the byte.
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let columns: Arc<[SetColumn]> = columns.into();
    let mut sheet = Sheet {
        role,
        twins: has_twins(&columns),
        json: holding_json(&columns),
        columns,
        only,
        documents: by_row("a document", documents, rows)?,
        errors: by_row("an error", errors, rows)?,
    };
    let outcome = |(row, verdict)| sheet.outcome(row, verdict);
    Ok(verdicts.into_iter().enumerate().map(outcome).collect())
}

impl RowError {
    fn text(self) -> String {
        let Self { column, message, .. } = self;
        if column.is_empty() { message } else { format!("column {column}: {message}") }
    }
}

/// An answer whose lengths were found to match.
struct Sheet {
    role: Role,
    columns: Arc<[SetColumn]>,
    only: Option<Arc<[Box<str>]>>,
    /// Whether some name occurs twice among the columns.
    twins: bool,
    /// Which of the columns hold JSON, which is looked at before it goes on.
    json: Vec<usize>,
    documents: ByRow<Document>,
    errors: ByRow<String>,
}

impl Sheet {
    fn outcome(&mut self, row: usize, verdict: Verdict) -> Result<Outcome, PluginError> {
        let documents = take(&mut self.documents, row);
        let errors = take(&mut self.errors, row);
        let takes_documents = matches!(verdict, Verdict::Replace | Verdict::Many);
        let allowed = match self.role {
            Role::Filter => !takes_documents,
            Role::Route => matches!(verdict, Verdict::Keep | Verdict::Error),
            Role::Transform => true,
        };
        if !allowed {
            return Err(output(format!("the verdict {verdict:?} from a {}", self.role)));
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
            Verdict::Replace => match <[Document; 1]>::try_from(documents) {
                Ok([one]) => Ok(Outcome::Replace(document("the document", one)?)),
                Err(documents) => {
                    Err(output(format!("{} documents to replace one row", documents.len())))
                }
            },
            Verdict::Many if documents.is_empty() => Err(output("many of no document".to_owned())),
            Verdict::Many => {
                let documents = documents.into_iter().map(|one| document("a document", one));
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
        if self.only.is_none() && self.set(row).next().is_none() {
            return Ok(Outcome::Keep);
        }
        if self.twins {
            let mut names = HashSet::new();
            if let Some(twice) = self.set(row).find(|column| !names.insert(&column.name)) {
                return Err(output(format!("column {} set twice", twice.name)));
            }
        }
        for column in self.json.iter().filter_map(|index| self.columns.get(*index)) {
            let value = match &column.data {
                Data::Json(values) => values.get(row).map(String::as_str),
                Data::PackedJson(values) => values.get(row),
                _ => None,
            };
            if column.presence.get(row) == Some(&Presence::Value)
                && let Some(value) = value
                && let Err(error) = serde_json::from_str::<&RawValue>(value)
            {
                return Err(output(format!("column {} that is no JSON: {error}", column.name)));
            }
        }
        let (columns, only) = (Arc::clone(&self.columns), self.only.clone());
        Ok(Outcome::Set(Patch { columns, only, row, below: None }))
    }

    fn set(&self, row: usize) -> impl Iterator<Item = &SetColumn> {
        self.columns.iter().filter(move |column| column.touches(row))
    }
}

fn set_column(column: ColumnOut, rows: usize) -> Result<SetColumn, PluginError> {
    let ColumnOut { name, presence, data } = column;
    let packed =
        |packed| unpack(packed).map_err(|what| output(format!("column {name} that {what}")));
    let (length, data) = match data {
        DataOut::Booleans(values) => (values.len(), Data::Booleans(values)),
        DataOut::Integers(values) => (values.len(), Data::Integers(values)),
        DataOut::Floats(values) => (values.len(), Data::Floats(values)),
        DataOut::Texts(values) => (values.len(), Data::Texts(values)),
        DataOut::Json(values) => (values.len(), Data::Json(values)),
        DataOut::Bytes(values) => (values.len(), Data::Bytes(values)),
        DataOut::PackedTexts(values) => (values.ends.len(), Data::PackedTexts(packed(values)?)),
        DataOut::PackedJson(values) => (values.ends.len(), Data::PackedJson(packed(values)?)),
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
        bindings::Presence::Absent => Presence::Absent,
    });
    Ok(SetColumn { name: name.into(), presence: presence.collect(), data })
}

/// Checked once, so that each text can be read without another look.
fn unpack(packed: bindings::Packed) -> Result<Packed, String> {
    let bindings::Packed { bytes, ends } = packed;
    let text = String::from_utf8(bytes).map_err(|error| format!("is no UTF-8: {error}"))?;
    let mut start = 0;
    for end in &ends {
        let end = *end as usize;
        if text.get(start..end).is_none() {
            return Err(format!("has a text from {start} to {end} of {} bytes", text.len()));
        }
        start = end;
    }
    Ok(Packed { text, ends })
}

fn has_twins(columns: &[SetColumn]) -> bool {
    let mut names = HashSet::new();
    !columns.iter().all(|column| names.insert(&column.name))
}

fn holding_json(columns: &[SetColumn]) -> Vec<usize> {
    let json = |column: &SetColumn| matches!(column.data, Data::Json(_) | Data::PackedJson(_));
    columns.iter().enumerate().filter(|(_, column)| json(column)).map(|(index, _)| index).collect()
}

/// What belongs to a row. Nearly always there is nothing of any, and to hash the row's number would
/// be half of what is done for a row that is kept.
fn take<T>(by_row: &mut ByRow<T>, row: usize) -> Vec<T> {
    if by_row.is_empty() { Vec::new() } else { by_row.remove(&row).unwrap_or_default() }
}

/// All of them must be of a row.
fn by_row<T>(
    what: &str,
    list: impl Iterator<Item = (u32, T)>,
    rows: usize,
) -> Result<ByRow<T>, PluginError> {
    let mut found: ByRow<T> = HashMap::new();
    for (row, item) in list {
        let row = row as usize;
        if row >= rows {
            return Err(output(format!("{what} of row {row}, of {rows} rows")));
        }
        found.entry(row).or_default().push(item);
    }
    Ok(found)
}

fn document(what: &str, document: Document) -> Result<plugin::Document, PluginError> {
    let Document { effect, json, .. } = document;
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(_) => Ok(plugin::Document {
            effect: match effect {
                bindings::Effect::Usual => DocumentEffect::Usual,
                bindings::Effect::Write => DocumentEffect::Write,
                bindings::Effect::Complete => DocumentEffect::Complete,
                bindings::Effect::Remove => DocumentEffect::Remove,
            },
            json: json.into_boxed_str(),
        }),
        Err(error) => Err(output(format!("{what} that is no JSON: {error}"))),
    }
}

fn output(what: String) -> PluginError {
    fault(Fault::Output, format!("the plugin answered with {what}"))
}

#[cfg(test)]
mod tests {
    use model::plugin::Fate;

    use super::*;
    use bindings::Presence::{Null, Unchanged, Value};

    fn reply(verdicts: &[Verdict]) -> Reply {
        let (columns, documents, errors) = (Vec::new(), Vec::new(), Vec::new());
        Reply { verdicts: verdicts.to_vec(), columns, only: None, documents, errors }
    }

    fn flag(name: &str, presence: &[bindings::Presence]) -> ColumnOut {
        let data = DataOut::Booleans(vec![true; presence.len()]);
        let (name, presence) = (name.to_owned(), presence.to_vec());
        ColumnOut { name, presence, data }
    }

    fn document(row: u32, json: &str) -> Document {
        Document { row, effect: bindings::Effect::Usual, json: json.to_owned() }
    }

    fn error(row: u32, message: &str) -> RowError {
        RowError { row, column: String::new(), message: message.to_owned(), _retry: false }
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
        let documents = vec![document(2, "{}")];
        whole(Role::Transform, Reply { documents, ..reply(&keep) }, "a document of row 2, of 2");
        let errors = vec![error(u32::MAX, "")];
        whole(Role::Filter, Reply { errors, ..reply(&keep) }, "an error of row 4294967295");
        let columns = vec![flag("a", &[Unchanged, Unchanged])];
        whole(Role::Filter, Reply { columns, ..reply(&keep) }, "columns or documents");
        let only = Some(Vec::new());
        whole(Role::Filter, Reply { only: only.clone(), ..reply(&keep) }, "columns or documents");
        whole(Role::Route, Reply { only, ..reply(&keep) }, "from a router");
        for (bytes, ends, expected) in [
            ("ab", [1, 3], "a text from 1 to 3 of 2 bytes"),
            ("ab", [2, 1], "a text from 2 to 1 of 2 bytes"),
            ("ž", [1, 2], "a text from 0 to 1 of 2 bytes"),
        ] {
            let mut column = flag("a", &[Value, Value]);
            let packed = bindings::Packed { bytes: bytes.into(), ends: ends.into() };
            column.data = DataOut::PackedTexts(packed);
            whole(Role::Transform, Reply { columns: vec![column], ..reply(&keep) }, expected);
        }
        let mut column = flag("a", &[Value, Value]);
        let packed = bindings::Packed { bytes: vec![0xff], ends: vec![1, 1] };
        column.data = DataOut::PackedJson(packed);
        whole(Role::Transform, Reply { columns: vec![column], ..reply(&keep) }, "is no UTF-8");
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
        let documents = vec![
            document(1, "1"),
            document(1, "2"),
            document(3, "1"),
            document(3, "}"),
            document(4, "{}"),
        ];
        let errors = vec![error(5, "x"), error(8, "why"), error(8, "and why")];
        let mut columns = vec![flag("a", &[Unchanged; 10]), flag("a", &[Unchanged; 10])];
        columns[0].presence[6] = Null;
        columns[0].presence[9] = Null;
        columns[1].presence[9] = Value;
        let reply = Reply { verdicts: verdicts.to_vec(), columns, only: None, documents, errors };
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

    #[test]
    fn columns_can_be_taken_away() {
        let mut absent = flag("a", &[bindings::Presence::Absent, Unchanged]);
        absent.data = DataOut::PackedTexts(bindings::Packed { bytes: vec![], ends: vec![0, 0] });
        let given = Reply { columns: vec![absent], ..reply(&[Verdict::Keep; 2]) };
        let found = outcomes(Role::Transform, 2, given).unwrap();
        let [Ok(Outcome::Set(first)), Ok(Outcome::Keep)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(matches!(first.fate("a"), Fate::Absent));
        let only = Some(vec!["b".to_owned()]);
        let given = Reply { only, ..reply(&[Verdict::Keep, Verdict::Drop]) };
        let found = outcomes(Role::Transform, 2, given).unwrap();
        let [Ok(Outcome::Set(first)), Ok(Outcome::Drop)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(matches!(first.fate("a"), Fate::Absent));
        assert!(matches!(first.fate("b"), Fate::Kept));
    }

    #[test]
    fn a_router_gives_columns_or_fails() {
        let columns = vec![flag("topic", &[Value, Unchanged, Unchanged])];
        let verdicts = [Verdict::Keep, Verdict::Error, Verdict::Drop];
        let mut given = Reply { columns, ..reply(&verdicts) };
        given.errors.push(RowError { column: "region".to_owned(), ..error(1, "no such") });
        let found = outcomes(Role::Route, 3, given).unwrap();
        assert!(matches!(&found[0], Ok(Outcome::Set(_))));
        assert_eq!(found[1].as_ref().unwrap_err().message, "column region: no such");
        assert!(found[2].as_ref().unwrap_err().message.contains("Drop from a route"));
    }
}
