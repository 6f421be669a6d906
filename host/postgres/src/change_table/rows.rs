//! Messages as the columns of one statement.

use std::borrow::Cow;
use std::sync::Arc;

use model::message::Message;
use model::sink::{Retry, Verdict};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::types::Type;

use crate::sql::Parameter;

/// Places between the commit records of two positions that are a byte of the log apart.
///
/// `seq` orders changes and tells those of one row apart that were committed in the same microsecond.
/// The predecessor adds the number of the change to the position of the commit, where the numbers of
/// one transaction run into the next one. With 1,024 places a byte, and at least some 90 bytes from
/// one commit with changes to the next, they do so only behind 90,000 changes; even then row,
/// microsecond and number would all have to be the same, and a row cannot be changed by two
/// transactions at once. 63 bits are enough for 8 PiB of log; behind it `seq` begins at 0 again.
const PLACES_BITS: u32 = 10;

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    #[serde(borrow)]
    changes: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    table_schema: Cow<'a, str>,
    #[serde(borrow)]
    table_name: Cow<'a, str>,
    #[serde(borrow)]
    commit_timestamp: Cow<'a, str>,
    commit_lsn: u64,
    commit_idx: u64,
    #[serde(borrow)]
    transaction_annotations: Option<&'a RawValue>,
    record_pks: Vec<Option<String>>,
    #[serde(borrow)]
    database: Database<'a>,
}

#[derive(Deserialize)]
struct Database<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// The columns of some rows, in the order of [`super::shape::WRITTEN`].
#[derive(Default)]
pub(super) struct Columns<'a> {
    seq: Vec<i64>,
    source_database_id: Vec<Cow<'a, str>>,
    source_table_oid: Vec<i64>,
    source_table_schema: Vec<Cow<'a, str>>,
    source_table_name: Vec<Cow<'a, str>>,
    record_pk: Vec<String>,
    record: Vec<&'a str>,
    changes: Vec<Option<&'a str>>,
    action: Vec<Cow<'a, str>>,
    committed_at: Vec<Cow<'a, str>>,
    transaction_annotations: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    /// The rows of messages that have one, and what becomes of each message if those are written.
    pub(super) fn of(messages: &'a [Arc<Message>]) -> (Self, Vec<Verdict>) {
        let mut columns = Self::default();
        let verdicts = messages.iter().map(|message| {
            match serde_json::from_str(&message.payload) {
                Ok(payload) => columns.push(message, payload),
                // A letter that somebody has edited: the engine writes no such message.
                Err(error) => {
                    let error = format!("this is no message of a change: {:?}", error.classify());
                    return Verdict::Rejected { retry: Retry::Never, error };
                }
            }
            Verdict::Delivered
        });
        let verdicts = verdicts.collect();
        (columns, verdicts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seq.is_empty()
    }

    fn push(&mut self, message: &Message, payload: Payload<'a>) {
        let Payload { record, changes, action, metadata } = payload;
        self.seq.push(seq(metadata.commit_lsn, metadata.commit_idx));
        self.source_database_id.push(metadata.database.id);
        // Not known of a letter of a table that is gone.
        self.source_table_oid.push(message.relation.as_ref().map_or(0, |it| it.oid.into()));
        self.source_table_schema.push(metadata.table_schema);
        self.source_table_name.push(metadata.table_name);
        let keys = metadata.record_pks.into_iter().map(Option::unwrap_or_default);
        self.record_pk.push(keys.collect::<Vec<_>>().join(","));
        self.record.push(record.get());
        self.changes.push(changes.map(RawValue::get));
        self.action.push(action);
        self.committed_at.push(metadata.commit_timestamp);
        self.transaction_annotations.push(metadata.transaction_annotations.map(RawValue::get));
    }

    pub(super) fn parameters(&self, has_annotations: bool) -> Vec<Parameter<'_>> {
        let mut all: Vec<Parameter<'_>> = vec![
            (&self.seq, Type::INT8_ARRAY),
            (&self.source_database_id, Type::TEXT_ARRAY),
            (&self.source_table_oid, Type::INT8_ARRAY),
            (&self.source_table_schema, Type::TEXT_ARRAY),
            (&self.source_table_name, Type::TEXT_ARRAY),
            (&self.record_pk, Type::TEXT_ARRAY),
            (&self.record, Type::TEXT_ARRAY),
            (&self.changes, Type::TEXT_ARRAY),
            (&self.action, Type::TEXT_ARRAY),
            (&self.committed_at, Type::TEXT_ARRAY),
        ];
        if has_annotations {
            all.push((&self.transaction_annotations, Type::TEXT_ARRAY));
        }
        all
    }
}

/// See [`PLACES_BITS`].
fn seq(commit_lsn: u64, commit_idx: u64) -> i64 {
    let place = (commit_lsn << PLACES_BITS).wrapping_add(commit_idx);
    (place & i64::MAX.unsigned_abs()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_neighbouring_transactions_stay_apart() {
        let (first, next) = (0x16_B374_D848, 0x16_B374_D848 + 96);
        assert!(seq(first, 0) < seq(first, 1));
        assert!(seq(first, 90_000) < seq(next, 0));
        assert!(seq((1 << 53) - 8, 1023) > 0, "the last of 8 PiB");
        assert_eq!(seq(1 << 53, 7), 7, "and from the beginning again");
    }
}
