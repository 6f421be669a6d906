use std::collections::HashMap;

use model::change::Change;
use model::page::{Row, Value};
use model::relation::{Ancestor, Kind};

use super::*;
use crate::lineage::Place;

/// Builds messages as pgoutput does.
struct Frame(Vec<u8>);

impl Frame {
    fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0])
    }

    /// `None` is null, `"?"` unchanged.
    fn tuple(mut self, tag: u8, values: &[Option<&str>]) -> Self {
        self = self.bytes(&[tag]).bytes(&u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            self = match value {
                None => self.bytes(b"n"),
                Some("?") => self.bytes(b"u"),
                Some(text) => {
                    let len = u32::try_from(text.len()).unwrap();
                    self.bytes(b"t").u32(len).bytes(text.as_bytes())
                }
            };
        }
        self
    }
}

fn begin(lsn: u64) -> Vec<u8> {
    Frame::new(b'B').u64(lsn).u64(1_000_000).u32(741).0
}

fn commit(lsn: u64) -> Vec<u8> {
    Frame::new(b'C').bytes(&[0]).u64(lsn).u64(lsn + 8).u64(1_000_000).0
}

/// A table of these columns: name, type, part of the identity.
pub(super) fn relation(oid: u32, identity: u8, columns: &[(&str, u32, bool)]) -> Vec<u8> {
    let mut frame = Frame::new(b'R').u32(oid).text("public").text("t").bytes(&[identity]);
    frame = frame.bytes(&u16::try_from(columns.len()).unwrap().to_be_bytes());
    for (name, type_oid, key) in columns {
        frame = frame.bytes(&[u8::from(*key)]).text(name).u32(*type_oid).u32(u32::MAX);
    }
    frame.0
}

/// `id int4` and `body text`, key `id`.
fn plain(identity: u8) -> Vec<u8> {
    let full = identity == b'f';
    relation(7, identity, &[("id", 23, true), ("body", 25, full)])
}

pub(super) fn insert(oid: u32, values: &[Option<&str>]) -> Vec<u8> {
    Frame::new(b'I').u32(oid).tuple(b'N', values).0
}

fn feed(decoder: &mut Decoder, frames: &[Vec<u8>]) {
    for frame in frames {
        assert_eq!(try_feed(decoder, frame), Ok(Step::Taken), "answered and asked again");
    }
}

/// The catalog knows nothing.
fn try_feed(decoder: &mut Decoder, frame: &[u8]) -> Result<Step, Fault> {
    match decoder.feed(frame)? {
        Step::Taken => Ok(Step::Taken),
        Step::NeedCatalog(question) => {
            decoder.answer(&question, &Facts::default());
            decoder.feed(frame)
        }
    }
}

fn decode(frames: &[Vec<u8>]) -> (Vec<Change>, Vec<Commit>) {
    let mut decoder = Decoder::default();
    feed(&mut decoder, frames);
    let Changes { changes, commits, .. } = decoder.seal();
    (changes, commits)
}

fn values(row: Option<&Row>) -> Option<Vec<Value<'_>>> {
    row.map(|row| (0..2).map(|index| row.value(index)).collect())
}

#[test]
fn b001_an_insert_has_its_position_and_time() {
    let frames = [begin(16), plain(b'd'), insert(7, &[Some("1"), None]), commit(16)];
    let (changes, commits) = decode(&frames);
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(change.operation, Operation::Insert);
    assert_eq!(change.position, Position::new(Lsn(16), 0));
    assert_eq!(values(change.after.as_ref()), Some(vec![Value::Text("1"), Value::Null]));
    assert!(change.before.is_none());
    let expected = Transaction::new(Lsn(16), 741, EPOCH_US + 1_000_000);
    assert_eq!(*change.transaction, expected);
    assert_eq!(commits, [Commit { commit_lsn: Lsn(16), end_lsn: Lsn(24) }]);
    let relation = &change.relation;
    assert_eq!((&*relation.schema, &*relation.table, relation.oid), ("public", "t", 7));
    assert_eq!(relation.key().collect::<Vec<_>>(), [0]);
    assert_eq!(
        relation.columns.iter().map(|c| c.kind).collect::<Vec<_>>(),
        [Kind::Integer, Kind::Text]
    );
}

#[test]
fn b004_b006_old_keys_are_known_as_keys() {
    let key = [Some("1"), None];
    let update = Frame::new(b'U').u32(7).tuple(b'K', &key).tuple(b'N', &[Some("2"), Some("?")]).0;
    let delete = Frame::new(b'D').u32(7).tuple(b'K', &key).0;
    let (changes, _) = decode(&[begin(16), plain(b'd'), update, delete, commit(16)]);
    let [update, delete] = &changes[..] else { panic!("{changes:?}") };
    for change in [update, delete] {
        let before = change.before.as_ref().unwrap();
        assert_eq!(before.extent(), Extent::Key);
        assert_eq!(before.value(0), Value::Text("1"));
    }
    assert_eq!(values(update.after.as_ref()), Some(vec![Value::Text("2"), Value::Unchanged]));
    assert!(delete.after.is_none());
}

#[test]
fn b069_an_unsent_value_is_taken_from_the_whole_old_row() {
    let old = [Some("1"), Some("long")];
    let update = Frame::new(b'U').u32(7).tuple(b'O', &old).tuple(b'N', &[Some("2"), Some("?")]).0;
    let (changes, _) = decode(&[begin(16), plain(b'f'), update, commit(16)]);
    let [update] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(update.before.as_ref().unwrap().extent(), Extent::Full);
    assert_eq!(values(update.after.as_ref()), Some(vec![Value::Text("2"), Value::Text("long")]));
}

#[test]
fn b011_b019_b020_b024_ordinals_count_what_is_the_same_on_each_replay() {
    let message =
        |transactional: u8| Frame::new(b'M').bytes(&[transactional]).u64(1).text("p").u32(0).0;
    let (changes, _) = decode(&[
        message(0),
        begin(16),
        Frame::new(b'O').u64(1).text("origin").0,
        Frame::new(b'Y').u32(90_000).text("public").text("mood").0,
        plain(b'd'),
        relation(8, b'd', &[("id", 23, true)]),
        insert(7, &[Some("1"), None]),
        message(0),
        message(1),
        insert(8, &[Some("1")]),
        Frame::new(b'T').u32(2).bytes(&[0]).u32(7).u32(8).0,
        insert(8, &[Some("1")]),
        commit(16),
        begin(32),
        insert(8, &[Some("2")]),
        commit(32),
    ]);
    let got: Vec<_> = changes
        .iter()
        .map(|c| (c.position.commit_lsn.0, c.position.ordinal, c.operation, c.relation.oid))
        .collect();
    use Operation::{Insert, Truncate};
    assert_eq!(
        got,
        [
            (16, 0, Insert, 7),
            (16, 2, Insert, 8),
            (16, 3, Truncate, 7),
            (16, 4, Truncate, 8),
            (16, 5, Insert, 8),
            (32, 0, Insert, 8)
        ]
    );
    assert!(changes[2].before.is_none() && changes[2].after.is_none());
}

#[test]
fn b021_b022_b023_b024_b025_annotations_belong_to_the_changes_behind_them() {
    let said = |transactional: u8, prefix: &str, content: &str| {
        let len = u32::try_from(content.len()).unwrap();
        let frame = Frame::new(b'M').bytes(&[transactional]).u64(1).text(prefix);
        frame.u32(len).bytes(content.as_bytes()).0
    };
    let set = |content: &str| said(1, "sequin:transaction_annotations.set", content);
    let clear = || said(1, "sequin:transaction_annotations.clear", "");
    let row = || insert(7, &[Some("1"), None]);
    let (changes, _) = decode(&[
        said(0, "sequin:transaction_annotations.set", "0"),
        begin(16),
        plain(b'd'),
        row(),
        set("1"),
        said(1, "someone", "9"),
        said(0, "sequin:transaction_annotations.set", "9"),
        row(),
        row(),
        set("{\"n\": 2}"),
        row(),
        set("{no json"),
        row(),
        set("3"),
        clear(),
        row(),
        set("4"),
        commit(16),
        begin(32),
        row(),
        commit(32),
    ]);
    let got: Vec<_> =
        changes.iter().map(|c| (c.position.ordinal, c.annotations.as_deref())).collect();
    let expected = [
        (0, None),
        (3, Some("1")),
        (4, Some("1")),
        (6, Some("{\"n\": 2}")),
        (8, None),
        (11, None),
        (0, None),
    ];
    assert_eq!(got, expected);
}

#[test]
fn b021_annotations_reach_over_the_end_of_a_batch_and_are_counted() {
    let text = format!("\"{}\"", "x".repeat(10_000));
    let len = u32::try_from(text.len()).unwrap();
    let message = Frame::new(b'M').bytes(&[1]).u64(1).text("sequin:transaction_annotations.set");
    let message = message.u32(len).bytes(text.as_bytes()).0;
    let mut decoder = Decoder::default();
    let row = || insert(7, &[Some("1"), None]);
    feed(&mut decoder, &[begin(16), plain(b'd'), message, row(), row()]);
    for _ in 0..2 {
        let bytes = decoder.bytes();
        assert!((10_000..11_000).contains(&bytes), "once for both rows: {bytes}");
        let changes = decoder.seal().changes;
        assert_eq!(changes.len(), 2);
        assert!(changes.iter().all(|change| change.annotations.as_deref() == Some(&*text)));
        feed(&mut decoder, &[row(), row()]);
    }
}

#[test]
fn b015_an_empty_transaction_is_only_a_commit() {
    let (changes, commits) = decode(&[begin(16), commit(16), begin(32), commit(32)]);
    assert!(changes.is_empty());
    assert_eq!(commits.iter().map(|c| c.end_lsn.0).collect::<Vec<_>>(), [24, 40]);
}

#[test]
fn b030_impossible_orders_are_faults() {
    let row = || insert(7, &[Some("1"), None]);
    for (what, frames) in [
        ("a begin below the last commit", vec![begin(32), commit(32), begin(16)]),
        ("the same commit again", vec![begin(16), commit(16), begin(16)]),
        ("a begin inside", vec![begin(16), begin(32)]),
        ("a commit outside", vec![commit(16)]),
        ("another commit", vec![begin(16), commit(32)]),
        ("a row outside", vec![plain(b'd'), row()]),
        ("a row of nothing", vec![begin(16), row()]),
        ("a truncate of nothing", vec![begin(16), Frame::new(b'T').u32(1).bytes(&[0]).u32(7).0]),
        ("a short row", vec![begin(16), plain(b'd'), insert(7, &[Some("1")])]),
        ("no integer", vec![begin(16), plain(b'd'), insert(7, &[Some("x"), None])]),
        ("noise", vec![b"?".to_vec()]),
        ("nothing", vec![vec![]]),
    ] {
        let mut decoder = Decoder::default();
        let (last, first) = frames.split_last().unwrap();
        feed(&mut decoder, first);
        assert!(try_feed(&mut decoder, last).is_err(), "{what}");
    }
}

#[test]
fn b040_b052_a_value_that_cannot_be_read_hurts_no_other() {
    let mut bytes = insert(7, &[Some("1"), Some("x"), Some("{1}")]);
    let at = bytes.iter().position(|byte| *byte == b'x').unwrap();
    bytes[at] = 0xFF;
    let (changes, commits) = decode(&[
        begin(16),
        relation(7, b'd', &[("id", 23, true), ("body", 25, false), ("numbers", 1007, false)]),
        bytes,
        insert(7, &[Some("2"), Some("y"), Some("{oops")]),
        insert(7, &[Some("3"), Some("z"), Some("{3}")]),
        commit(16),
    ]);
    let values = |change: &Change, column: usize| {
        let mut out = String::new();
        let row = change.after.as_ref().unwrap();
        model::json::value(&mut out, change.relation.columns[column].kind, row.value(column));
        out
    };
    let bodies: Vec<_> = changes.iter().map(|change| values(change, 1)).collect();
    assert_eq!(bodies, [r#""\\xff""#, r#""y""#, r#""z""#]);
    let numbers: Vec<_> = changes.iter().map(|change| values(change, 2)).collect();
    assert_eq!(numbers, ["[1]", r#""{oops""#, "[3]"]);
    assert_eq!(commits.len(), 1);
}

/// Values are checked together, which must not make one text of two that are none; a long row is
/// taken value by value.
#[test]
fn b040_what_is_text_only_together_with_its_neighbour_is_none() {
    let columns = [("id", 23, true), ("a", 25, false), ("b", 25, false), ("c", 25, false)];
    for more in [String::new(), "é".repeat(100_000)] {
        let mut row = insert(7, &[Some("1"), Some("aé"), Some("éb"), Some(more.as_str())]);
        // Of the first two the middle is taken out: half a character at each border.
        for (from, to) in [("aé".as_bytes(), &b"ax\xC3"[..]), ("éb".as_bytes(), b"\xA9xb")] {
            let at = row.windows(3).position(|part| part == from).unwrap();
            row[at..at + 3].copy_from_slice(to);
        }
        let whole = insert(7, &[Some("2"), Some("é"), Some(""), Some("č")]);
        let frames = [begin(16), relation(7, b'd', &columns), row, whole, commit(16)];
        let (changes, _) = decode(&frames);
        let row = |index: usize| changes[index].after.as_ref().unwrap();
        let texts = |index| [0, 1, 2, 3].map(|column| row(index).value(column));
        let hurt = ["1", "\\x6178c3", "\\xa97862", more.as_str()];
        assert_eq!(texts(0), hurt.map(Value::Text));
        assert_eq!(texts(1), ["2", "é", "", "č"].map(Value::Text));
    }
}

#[test]
fn b074_b076_each_row_has_the_table_of_its_own_place() {
    let (changes, _) = decode(&[
        begin(16),
        plain(b'd'),
        insert(7, &[Some("1"), Some("a")]),
        // Sent again without a change: the same version.
        plain(b'd'),
        insert(7, &[Some("2"), Some("b")]),
        relation(7, b'd', &[("id", 23, true), ("renamed", 25, false)]),
        insert(7, &[Some("3"), Some("c")]),
        commit(16),
    ]);
    let [first, second, third] = &changes[..] else { panic!("{changes:?}") };
    assert!(Arc::ptr_eq(&first.relation, &second.relation));
    assert_eq!(&*first.relation.columns[1].name, "body");
    assert_eq!(&*third.relation.columns[1].name, "renamed");
}

#[test]
fn b029_a_table_that_is_named_twice_is_asked_for_once() {
    let mut decoder = Decoder::default();
    feed(&mut decoder, &[begin(16), plain(b'f')]);
    let truncate = Frame::new(b'T').u32(3).bytes(&[0]).u32(7).u32(7).u32(7).0;
    let question = Question { waiting: vec![7], tables: vec![7], types: vec![] };
    assert_eq!(decoder.feed(&truncate), Ok(Step::NeedCatalog(question)));
}

#[test]
fn b086_a_partition_that_was_detached_is_asked_for_again_behind_the_answer() {
    let mut decoder = Decoder::default();
    let row = || insert(7, &[Some("1"), None]);
    let root = Ancestor { oid: 9, schema: "public".into(), table: "root".into() };
    // The catalog's answer at a position.
    let says = |ancestors: Vec<Ancestor>, asked_at: u64| Facts {
        places: HashMap::from([(7, Place { ancestors, changed_by: 700 })]),
        asked_at: Lsn(asked_at),
        ..Facts::default()
    };
    let mut ask = |frames: &[Vec<u8>], answer: Option<Facts>| {
        for frame in frames {
            match (decoder.feed(frame).unwrap(), &answer) {
                (Step::Taken, _) => {}
                (Step::NeedCatalog(question), Some(facts)) => {
                    decoder.answer(&question, facts);
                    assert_eq!(decoder.feed(frame), Ok(Step::Taken));
                }
                (Step::NeedCatalog(_), None) => panic!("known already"),
            }
        }
        let changes = decoder.seal().changes;
        changes.iter().map(|change| change.relation.ancestors.len()).collect::<Vec<_>>()
    };
    let frames = [begin(16), plain(b'd'), row(), commit(16)];
    assert_eq!(ask(&frames, Some(says(vec![root], 20))), [1]);
    // The definition comes again, early or not: the server stands at 64 when it is asked.
    let frames = [begin(32), plain(b'd'), row(), commit(32)];
    assert_eq!(ask(&frames, Some(says(vec![], 64))), [1]);
    assert_eq!(ask(&[begin(64), row(), row(), commit(64)], None), [1, 1]);
    assert_eq!(ask(&[begin(80), row(), commit(80)], Some(says(vec![], 96))), [0]);
    assert_eq!(ask(&[begin(96), row(), commit(96)], None), [0]);
}

#[test]
fn b081_the_catalog_is_asked_again_when_the_key_may_have_changed() {
    let mut decoder = Decoder::default();
    feed(&mut decoder, &[begin(16), plain(b'f')]);
    let row = insert(7, &[Some("1"), Some("a")]);
    let question = Question { waiting: vec![7], tables: vec![7], types: vec![] };
    let key = |name: &str| Facts {
        primary_keys: HashMap::from([(7, [name.to_owned()].into())]),
        ..Facts::default()
    };
    assert_eq!(decoder.feed(&row), Ok(Step::NeedCatalog(question.clone())));
    assert_eq!(decoder.waiting(), 0, "a question leaves no trace");
    decoder.answer(&question, &key("id"));
    feed(&mut decoder, &[row.clone(), row.clone(), plain(b'f')]);
    assert_eq!(decoder.feed(&row), Ok(Step::NeedCatalog(question.clone())));
    decoder.answer(&question, &key("body"));
    feed(&mut decoder, &[row, commit(16)]);
    let keys: Vec<Vec<usize>> =
        decoder.seal().changes.iter().map(|change| change.relation.key().collect()).collect();
    assert_eq!(keys, [[0], [0], [1]]);
}
