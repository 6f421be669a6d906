//! The message as the predecessor's consumers know it: `record`, `changes`, `action`, `metadata`.

mod judges;

use std::sync::Arc;

use crate::change::{Change, Operation};
use crate::json::{self, Timestamps};
use crate::message::push_idempotency_key;
use crate::page::{Extent, Row, Value};
use crate::plugin::{Fate, Patch, Plugin};
use crate::relation::Relation;

/// What the messages of one sink share, rendered once.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// JSON text of the database's name.
    database_name: Box<str>,
    /// `"consumer":{…},"database":{…}`.
    tail: Arc<str>,
    /// Whether messages tell the types of their columns.
    types: bool,
    timestamps: Timestamps,
    /// Which sink of which database it is, in few characters.
    scope: Arc<str>,
}

/// The sink as its messages name it.
#[derive(Clone, Debug, Default)]
pub struct Consumer<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// JSON object.
    pub annotations: &'a str,
}

/// The source as messages name it.
#[derive(Clone, Debug, Default)]
pub struct Database<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name in the configuration.
    pub name: &'a str,
    /// JSON object.
    pub annotations: &'a str,
    /// The database on the server.
    pub database: &'a str,
    /// The server.
    pub hostname: &'a str,
}

impl Envelope {
    /// Renders what all messages of a sink share.
    #[must_use]
    pub fn new(consumer: &Consumer<'_>, database: &Database<'_>) -> Self {
        let mut database_name = String::new();
        json::string(&mut database_name, database.name);
        let mut tail = String::from("\"consumer\":{\"id\":");
        json::string(&mut tail, consumer.id);
        tail.push_str(",\"name\":");
        json::string(&mut tail, consumer.name);
        tail.push_str(",\"annotations\":");
        tail.push_str(consumer.annotations);
        tail.push_str("},\"database\":{\"id\":");
        json::string(&mut tail, database.id);
        tail.push_str(",\"name\":");
        json::string(&mut tail, database.name);
        tail.push_str(",\"annotations\":");
        tail.push_str(database.annotations);
        tail.push_str(",\"database\":");
        json::string(&mut tail, database.database);
        tail.push_str(",\"hostname\":");
        json::string(&mut tail, database.hostname);
        tail.push('}');
        Self {
            database_name: database_name.into(),
            tail: tail.into(),
            types: false,
            timestamps: Timestamps::Iso8601,
            scope: scope(database.id, consumer.id).into(),
        }
    }

    /// Writes times in another form: those of the row, old and new, and of the commit. What plugins
    /// see and set stays as it is.
    #[must_use]
    pub fn with_timestamps(self, timestamps: Timestamps) -> Self {
        Self { timestamps, ..self }
    }

    /// The form of times.
    #[must_use]
    pub fn timestamps(&self) -> Timestamps {
        self.timestamps
    }

    /// Tells the messages of this sink of this database from all others: by what the configuration
    /// names them, the same after every restart.
    #[must_use]
    pub fn scope(&self) -> &Arc<str> {
        &self.scope
    }

    /// Has each message tell the columns of its table with their types in `metadata.columns`, so
    /// that [`crate::recorded`] makes the same change of it again.
    #[must_use]
    pub fn with_types(self) -> Self {
        Self { types: true, ..self }
    }

    /// Appends the message of a change. `patch` is what transforms made of its record, `judges` the
    /// plugins that were asked about it.
    pub fn write(
        &self,
        out: &mut String,
        change: &Change,
        patch: Option<&Patch>,
        judges: &[Arc<dyn Plugin>],
    ) {
        let relation = &*change.relation;
        out.push_str("{\"record\":");
        match change.row() {
            Some(row) => {
                out.push('{');
                let mut fields = Fields::new(self.timestamps);
                record_fields(out, &mut fields, relation, row, patch, None);
                out.push('}');
            }
            None => out.push_str("{}"),
        }
        out.push_str(",\"changes\":");
        changes(out, change, patch, self.timestamps);
        out.push_str(",\"action\":\"");
        out.push_str(change.operation.as_str());
        out.push_str("\",\"metadata\":");
        self.metadata(out, change, judges);
        out.push('}');
    }

    fn metadata(&self, out: &mut String, change: &Change, judges: &[Arc<dyn Plugin>]) {
        let relation = &*change.relation;
        out.push('{');
        out.push_str(relation.head());
        match self.timestamps {
            Timestamps::Iso8601 => out.push_str(change.transaction.head()),
            Timestamps::UnixMicroseconds => {
                let (time, lsn) = (change.transaction.committed_at_us, change.position.commit_lsn);
                json::push_fmt(
                    out,
                    format_args!("\"commit_timestamp\":{time},\"commit_lsn\":{},", lsn.0),
                );
            }
        }
        out.push_str("\"commit_idx\":");
        json::number(out, change.position.ordinal);
        out.push_str(",\"database_name\":");
        out.push_str(&self.database_name);
        out.push_str(",\"transaction_annotations\":");
        out.push_str(change.annotations.as_deref().unwrap_or("null"));
        out.push_str(",\"idempotency_key\":\"");
        push_idempotency_key(out, change.position, 0);
        out.push_str("\",\"record_pks\":[");
        // A truncate has no row, and so no key.
        let keys = change.row().map(|row| relation.key().map(|index| row.value(index)));
        for (n, value) in keys.into_iter().flatten().enumerate() {
            if n > 0 {
                out.push(',');
            }
            match value {
                Value::Text(text) => json::string(out, text),
                Value::Null | Value::Unchanged => out.push_str("null"),
            }
        }
        out.push_str("],\"enrichment\":");
        out.push_str(change.enrichment.as_deref().unwrap_or("null"));
        out.push(',');
        if self.types {
            columns(out, relation);
        }
        names(out, "unchanged", relation, change.unsent());
        names(
            out,
            "fetched",
            relation,
            change.fetched.iter().flat_map(|list| list.iter().copied()),
        );
        judges::push(out, judges);
        out.push_str(&self.tail);
        out.push('}');
    }
}

/// Appends a row as a JSON object. Unchanged values have no key; columns of the patch replace the
/// row's own or follow them.
pub fn record(out: &mut String, relation: &Relation, row: &Row, patch: Option<&Patch>) {
    out.push('{');
    let mut fields = Fields::new(Timestamps::Iso8601);
    record_fields(out, &mut fields, relation, row, patch, None);
    out.push('}');
}

/// 64 bits of both ids as hexadecimal digits: FNV-1a, which is the same in every version of ours.
fn scope(database: &str, consumer: &str) -> String {
    let bytes = database.bytes().chain([0]).chain(consumer.bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    format!("{hash:016x}")
}

/// Whether a value of the row was not sent and the patch does not set it either: the record is not
/// all there is of the row.
#[must_use]
pub fn is_partial(relation: &Relation, row: &Row, patch: Option<&Patch>) -> bool {
    relation.columns.iter().enumerate().any(|(index, column)| {
        let kept = patch.is_none_or(|patch| matches!(patch.fate(&column.name), Fate::Kept));
        row.value(index) == Value::Unchanged && kept
    })
}

/// Counts the fields of an object, to set its commas, and knows the form of its values.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    any: bool,
    timestamps: Timestamps,
}

impl Fields {
    pub(crate) fn new(timestamps: Timestamps) -> Self {
        Self { any: false, timestamps }
    }

    /// Begins the next field.
    pub(crate) fn name(&mut self, out: &mut String, name: &str) {
        if std::mem::replace(&mut self.any, true) {
            out.push(',');
        }
        json::string(out, name);
        out.push(':');
    }

    /// Begins the next field, whose name is written already, behind a comma.
    fn rendered(&mut self, out: &mut String, name: &str) {
        let name = if std::mem::replace(&mut self.any, true) { Some(name) } else { name.get(1..) };
        out.push_str(name.unwrap_or_default());
    }
}

/// Appends the fields of a row but for the one named `skip`.
pub(crate) fn record_fields(
    out: &mut String,
    fields: &mut Fields,
    relation: &Relation,
    row: &Row,
    patch: Option<&Patch>,
    skip: Option<&str>,
) {
    for ((column, name), value) in relation.fields().zip(row.values()) {
        if skip == Some(&*column.name) {
            continue;
        }
        if let Some(patch) = patch {
            match patch.fate(&column.name) {
                Fate::Kept => {}
                Fate::Absent => continue,
                Fate::Set(set) => {
                    fields.rendered(out, name);
                    set.write_json(out);
                    continue;
                }
            }
        }
        match value {
            Value::Unchanged => {}
            Value::Null => {
                fields.rendered(out, name);
                out.push_str("null");
            }
            Value::Text(text) => {
                fields.rendered(out, name);
                match fields.timestamps {
                    Timestamps::Iso8601 => json::text(out, column.kind, text),
                    Timestamps::UnixMicroseconds => json::unix_text(out, column, text),
                }
            }
        }
    }
    let Some(patch) = patch else { return };
    patch.for_each_value(|set| {
        let name = &*set.column.name;
        if relation.column(name).is_none() && skip != Some(name) {
            fields.name(out, name);
            set.write_json(out);
        }
    });
}

/// `changes`: null but for updates; then the old values of the columns that differ, as far as the
/// old row is known. Columns that a transform has replaced or taken away have no old value either: it
/// may be just what nobody is to see.
fn changes(out: &mut String, change: &Change, patch: Option<&Patch>, timestamps: Timestamps) {
    let (Operation::Update, Some(after)) = (change.operation, &change.after) else {
        out.push_str("null");
        return;
    };
    out.push('{');
    let mut fields = Fields::default();
    if let Some(before) = &change.before {
        for (index, column) in change.relation.columns.iter().enumerate() {
            if before.extent() == Extent::Key && !column.key {
                continue;
            }
            if patch.is_some_and(|patch| !matches!(patch.fate(&column.name), Fate::Kept)) {
                continue;
            }
            let (old, new) = (before.value(index), after.value(index));
            if old != new && old != Value::Unchanged && new != Value::Unchanged {
                fields.name(out, &column.name);
                match (timestamps, old) {
                    (Timestamps::UnixMicroseconds, Value::Text(text)) => {
                        json::unix_text(out, column, text);
                    }
                    _ => json::value(out, column.kind, old),
                }
            }
        }
    }
    out.push('}');
}

/// `"columns":[{…},…],`.
fn columns(out: &mut String, relation: &Relation) {
    out.push_str("\"columns\":[");
    for (index, column) in relation.columns.iter().enumerate() {
        out.push_str(if index > 0 { ",{\"name\":" } else { "{\"name\":" });
        json::string(out, &column.name);
        out.push_str(",\"type\":");
        json::string(out, &column.type_name);
        let (kind, key) = (column.kind.as_str(), column.key);
        json::push_fmt(out, format_args!(",\"kind\":\"{kind}\",\"key\":{key}}}"));
    }
    out.push_str("],");
}

/// `"key":[…],` with the names of these columns, if there are any.
fn names(
    out: &mut String,
    key: &str,
    relation: &Relation,
    columns: impl IntoIterator<Item = usize>,
) {
    let mut any = false;
    for column in columns.into_iter().filter_map(|index| relation.columns.get(index)) {
        if std::mem::replace(&mut any, true) {
            out.push(',');
        } else {
            json::push_fmt(out, format_args!("\"{key}\":["));
        }
        json::string(out, &column.name);
    }
    if any {
        out.push_str("],");
    }
}

#[cfg(test)]
mod times;

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::plugin::{Data, Presence, SetColumn};
    use crate::sample::Cell::{Null, Text, Unchanged};
    use crate::sample::{change, relation};

    fn written(change: &Change, patch: Option<&Patch>) -> Json {
        let consumer = Consumer { id: "c", name: "poi-search", annotations: "{\"team\":\"geo\"}" };
        let database = Database {
            id: "d",
            name: "camp",
            annotations: "{}",
            database: "camping",
            hostname: "db.internal",
        };
        let mut text = String::new();
        Envelope::new(&consumer, &database).write(&mut text, change, patch, &[]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn an_insert_is_the_predecessors_message_field_by_field() {
        let row = [Text("7"), Text("de"), Text("Hütte \"A\""), Text("[\"wifi\"]")];
        let change = change(&relation(&["id", "lang"]), Operation::Insert, None, Some(row));
        let expected = json!({
            "record": {"id": 7, "lang": "de", "name": "Hütte \"A\"", "tags": ["wifi"]},
            "changes": null,
            "action": "insert",
            "metadata": {
                "table_schema": "camp",
                "table_name": "poi",
                "commit_timestamp": "2024-02-29T12:00:00.000001Z",
                "commit_lsn": 0x16_0000_000B_u64,
                "commit_idx": 3,
                "database_name": "camp",
                "transaction_annotations": null,
                "idempotency_key": "OTQ0ODkyODA1MjM6Mw==",
                "record_pks": ["7", "de"],
                "enrichment": null,
                "consumer": {"id": "c", "name": "poi-search", "annotations": {"team": "geo"}},
                "database": {
                    "id": "d", "name": "camp", "annotations": {}, "database": "camping",
                    "hostname": "db.internal",
                },
            },
        });
        assert_eq!(written(&change, None), expected);
    }

    #[test]
    fn b115_an_enrichment_stands_in_the_metadata_as_it_is() {
        let mut change = change(&relation(&["id"]), Operation::Insert, None, None);
        change.enrichment = Some("{\"id\":7,\"names\":{\"de\":\"Hütte\"}}".into());
        let expected = json!({"id": 7, "names": {"de": "Hütte"}});
        assert_eq!(written(&change, None)["metadata"]["enrichment"], expected);
    }

    #[test]
    fn b019_a_truncate_has_neither_row_nor_key() {
        let change = change(&relation(&["id"]), Operation::Truncate, None, None);
        let message = written(&change, None);
        assert_eq!((&message["action"], &message["record"]), (&json!("truncate"), &json!({})));
        assert_eq!(message["metadata"]["record_pks"], json!([]));
    }

    #[test]
    fn b021_annotations_stand_in_the_message_as_json() {
        let row = [Text("7"), Text("de"), Null, Null];
        let mut change = change(&relation(&["id"]), Operation::Insert, None, Some(row));
        change.annotations = Some("{\"by\": 7}".into());
        let message = written(&change, None);
        assert_eq!(message["metadata"]["transaction_annotations"], json!({"by": 7}));
    }

    #[test]
    fn an_update_names_the_old_values_that_differ() {
        let old = [Text("7"), Text("de"), Null, Text("[]")];
        let new = [Text("7"), Text("de"), Text("a"), Text("[]")];
        let relation = relation(&["id"]);
        let full = change(&relation, Operation::Update, Some((Extent::Full, old)), Some(new));
        assert_eq!(written(&full, None)["changes"], json!({"name": null}));

        let new = [Text("7"), Text("de"), Text("a"), Text("[]")];
        let without = change(&relation, Operation::Update, None, Some(new));
        assert_eq!(written(&without, None)["changes"], json!({}), "empty, not wrong");

        let old = [Text("6"), Null, Null, Null];
        let new = [Text("7"), Text("de"), Text("a"), Text("[]")];
        let key = change(&relation, Operation::Update, Some((Extent::Key, old)), Some(new));
        assert_eq!(written(&key, None)["changes"], json!({"id": 6}), "the old key alone");
    }

    #[test]
    fn a_delete_carries_the_key_and_nothing_stale() {
        let old = [Text("7"), Null, Null, Null];
        let relation = relation(&["id"]);
        let change = change(&relation, Operation::Delete, Some((Extent::Key, old)), None);
        let message = written(&change, None);
        assert_eq!(message["record"], json!({"id": 7, "lang": null, "name": null, "tags": null}));
        assert_eq!(message["changes"], Json::Null);
        assert_eq!(message["metadata"]["record_pks"], json!(["7"]));
    }

    #[test]
    fn an_unchanged_value_has_no_key_and_is_named() {
        let row = [Text("7"), Text("unchanged_toast"), Null, Unchanged];
        let change = change(&relation(&["id"]), Operation::Update, None, Some(row));
        let message = written(&change, None);
        assert_eq!(message["record"], json!({"id": 7, "lang": "unchanged_toast", "name": null}));
        assert_eq!(message["metadata"]["unchanged"], json!(["tags"]));
    }

    #[test]
    fn b071_a_value_that_was_fetched_stands_in_the_record_and_is_named() {
        let row = [Text("7"), Text("de"), Unchanged, Unchanged];
        let change = change(&relation(&["id"]), Operation::Update, None, Some(row));
        let found = crate::sample::change(
            &relation(&["id"]),
            Operation::Read,
            None,
            Some([Null, Text("[1]"), Text("x"), Unchanged]),
        );
        // The columns asked for: `tags`, `name`; one of them is gone by now.
        let found = found.after.unwrap();
        let some = change.clone().filled(&[3], &found);
        assert_eq!(written(&some, None)["record"]["tags"], Json::Null, "null is a value");
        let all = change.filled(&[2, 3], &found);
        let message = written(&all, None);
        assert_eq!(message["record"], json!({"id": 7, "lang": "de", "name": null, "tags": [1]}));
        assert_eq!(message["metadata"]["fetched"], json!(["name", "tags"]));
        assert_eq!(message["metadata"].get("unchanged"), None);
        assert_eq!(all.clone().filled(&[1], &found).fetched, all.fetched, "what was sent stays");
    }

    #[test]
    fn a_patch_replaces_columns_adds_others_and_leaves_the_rest() {
        let row = [Text("7"), Text("de"), Text("a"), Null];
        let change = change(&relation(&["id"]), Operation::Insert, None, Some(row));
        let column = |name: &str, presence, data| SetColumn {
            name: name.into(),
            presence: vec![Presence::Unchanged, presence],
            data,
        };
        let columns = [
            column("name", Presence::Value, Data::Texts(vec!["".into(), "b\"".into()])),
            column("lang", Presence::Unchanged, Data::Texts(vec!["".into(), "".into()])),
            column("has_wifi", Presence::Value, Data::Booleans(vec![false, true])),
            column("stars", Presence::Null, Data::Integers(vec![0, 0])),
            column("score", Presence::Value, Data::Floats(vec![0.0, 2.0])),
            column("raw", Presence::Value, Data::Bytes(vec![vec![], vec![0, 255]])),
        ];
        let patch = Patch { columns: columns.into(), only: None, row: 1, below: None };
        let expected = json!({
            "id": 7, "lang": "de", "name": "b\"", "tags": null, "has_wifi": true, "stars": null,
            "score": 2.0, "raw": "\\x00ff",
        });
        assert_eq!(written(&change, Some(&patch))["record"], expected);
    }

    #[test]
    fn what_a_patch_takes_away_is_not_told_as_an_old_value() {
        let old = [Text("7"), Text("secret"), Text("masked"), Text("[]")];
        let new = [Text("7"), Text("other"), Text("too"), Text("[1]")];
        let relation = relation(&["id"]);
        let change = change(&relation, Operation::Update, Some((Extent::Full, old)), Some(new));
        let column = |name: &str, presence| SetColumn {
            name: name.into(),
            presence: vec![presence],
            data: Data::Texts(vec!["***".into()]),
        };
        let columns = [column("lang", Presence::Absent), column("name", Presence::Value)];
        let patch = Patch { columns: columns.into(), only: None, row: 0, below: None };
        let message = written(&change, Some(&patch));
        assert_eq!(message["record"], json!({"id": 7, "name": "***", "tags": [1]}));
        assert_eq!(message["changes"], json!({"tags": []}));
    }

    #[test]
    fn a_patch_takes_columns_away() {
        let row = [Text("7"), Text("de"), Unchanged, Unchanged];
        let relation = relation(&["id"]);
        let change = change(&relation, Operation::Insert, None, Some(row));
        let lang = SetColumn {
            name: "lang".into(),
            presence: vec![Presence::Absent],
            data: Data::Booleans(vec![false]),
        };
        let packed = |texts: &str, ends: &[u32]| crate::plugin::Packed {
            text: texts.into(),
            ends: ends.into(),
        };
        let new = SetColumn {
            name: "new".into(),
            presence: vec![Presence::Value],
            data: Data::PackedJson(packed("[1]", &[3])),
        };
        let patch = Patch { columns: [lang, new].into(), only: None, row: 0, below: None };
        assert_eq!(written(&change, Some(&patch))["record"], json!({"id": 7, "new": [1]}));
        let row = change.after.as_ref().unwrap();
        assert!(is_partial(&relation, row, Some(&patch)), "name and tags were not sent");
        // Columns of the plugin's own are not the row's.
        let patch = Patch { only: Some(["id".into(), "lang".into()].into()), ..patch };
        assert_eq!(written(&change, Some(&patch))["record"], json!({"id": 7, "new": [1]}));
        assert!(!is_partial(&relation, row, Some(&patch)), "what was not sent is not wanted");
    }
}
