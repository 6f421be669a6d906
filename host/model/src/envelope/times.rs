//! Times in messages.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Consumer, Database, Envelope};
use crate::change::Operation;
use crate::json::Timestamps;
use crate::page::Extent;
use crate::sample::Cell::Text;
use crate::sample::{change, relation};

#[test]
fn b111_old_times_and_the_commits_are_microseconds_too_and_keys_stay_texts() {
    let mut relation = (*relation(&["lang"])).clone();
    relation.columns[1].type_name = "timestamptz".into();
    relation.columns[2].type_name = "timestamp".into();
    relation.columns[3].type_name = "_timestamp".into();
    let time = "1970-01-01T00:00:01.000000Z";
    let old = [Text("7"), Text("0044-03-15 12:00:00+00 BC"), Text("infinity"), Text("[null]")];
    let new = [Text("7"), Text(time), Text("date"), Text("[\"1970-01-01T00:00:02.000000\"]")];
    let change =
        change(&Arc::new(relation), Operation::Update, Some((Extent::Full, old)), Some(new));
    let envelope = Envelope::new(
        &Consumer { annotations: "{}", ..Consumer::default() },
        &Database { annotations: "{}", ..Database::default() },
    );
    let mut text = String::new();
    envelope.with_timestamps(Timestamps::UnixMicroseconds).write(&mut text, &change, None, &[]);
    let message: Json = serde_json::from_str(&text).unwrap();
    let record = json!({"id": 7, "lang": 1_000_000, "name": "date", "tags": [2_000_000]});
    assert_eq!(message["record"], record);
    let changes = json!({"lang": -63_517_780_800_000_000_i64, "name": "infinity", "tags": [null]});
    assert_eq!(message["changes"], changes);
    let metadata = &message["metadata"];
    assert_eq!(metadata["commit_timestamp"], json!(1_709_208_000_000_001_i64));
    assert_eq!(metadata["commit_lsn"], json!(0x16_0000_000B_u64));
    assert_eq!(metadata["record_pks"], json!([time]), "by them a row is known");
}
