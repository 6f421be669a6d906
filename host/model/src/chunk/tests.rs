use proptest::prelude::*;

use super::*;
use crate::change::{Change, Operation, Transaction};
use crate::lsn::Lsn;
use crate::page::{Builder, Extent, RowSpan, Value};
use crate::position::Position;

/// A chunk of version 1, as it was when that was released. Never edited.
const FIXTURE: &[u8] = include_bytes!("tests/chunk-1.bin");
/// The relation that it needs.
const RELATION: &[u8] = include_bytes!("tests/relation-1.bin");

/// Columns of a row: none is a null, an empty list a value that was not sent.
type Cells = Vec<Option<Vec<String>>>;

fn push(builder: &mut Builder, cells: &Cells, extent: Extent) -> RowSpan {
    let first = builder.begin_row();
    for cell in cells {
        match cell.as_deref() {
            None => builder.null(),
            Some([]) => builder.unchanged(),
            Some([text, ..]) => builder.copy(Value::Text(text)),
        }
    }
    builder.end_row(first, extent)
}

fn text(text: &str) -> Option<Vec<String>> {
    Some(vec![text.to_owned()])
}

fn sample() -> Vec<Change> {
    let relation = Arc::new(crate::sample::relation(&["id"]).as_ref().clone());
    let mut builder = Builder::default();
    let operations = [
        (Operation::Insert, None, Some(vec![text("1"), text("é\u{0}"), None, text("")])),
        (
            Operation::Update,
            Some((Extent::Key, vec![text("1"), None, None, None])),
            Some(vec![text("2"), Some(Vec::new()), None, text("{}")]),
        ),
        (
            Operation::Delete,
            Some((Extent::Full, vec![text("2"), text("x"), text("y"), None])),
            None,
        ),
        (Operation::Truncate, None, None),
        (Operation::Read, None, Some(vec![text("-9223372036854775808"), None, None, None])),
    ];
    for (n, (operation, before, after)) in (0_u64..).zip(operations) {
        let commit_lsn = Lsn(0x16B_3748 + n / 2);
        let transaction =
            Arc::new(Transaction::new(commit_lsn, 7 + n as u32, -1_000_000 * n as i64));
        let annotations: Option<Arc<str>> = (n == 1 || n == 2).then(|| "{\"by\":1}".into());
        builder.annotate(annotations.as_ref());
        let before = before.map(|(extent, cells)| push(&mut builder, &cells, extent));
        let after = after.map(|cells| push(&mut builder, &cells, Extent::Full));
        let position = Position::new(commit_lsn, n * 300);
        let relation = Arc::clone(&relation);
        builder.change(position, operation, relation, transaction, before, after);
    }
    builder.finish()
}

fn hash(relation: &Arc<Relation>) -> RelationHash {
    RelationHash::of(&relation.to_bytes())
}

fn written(changes: &[Change], sinks: usize, owners: impl Fn(usize) -> Vec<usize>) -> Written {
    let names = (0..sinks).map(|n| format!("sink-{n}").into()).collect();
    let mut writer = Writer::new(names);
    for (n, change) in changes.iter().enumerate() {
        writer.push(change, owners(n), hash);
    }
    writer.finish().unwrap()
}

/// Everything of a change that a chunk keeps.
fn shown(change: &Change) -> String {
    let cells = |row: &Option<crate::page::Row>| {
        let row = row.as_ref()?;
        let cells: Vec<_> = (0..row.len()).map(|n| format!("{:?}", row.value(n))).collect();
        Some((row.extent(), cells))
    };
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        change.position,
        change.operation,
        change.relation,
        change.transaction,
        cells(&change.before),
        cells(&change.after),
        change.annotations
    )
}

fn read(written: &Written, sink: &str) -> Vec<String> {
    let chunk = Chunk::open(&written.bytes).unwrap();
    let relations: Vec<_> =
        written.relations.iter().map(|(_, relation)| Arc::clone(relation)).collect();
    let (changes, _) = chunk.changes_of(sink, &relations, |_| true).unwrap();
    assert_eq!(
        changes.iter().map(|change| change.position).collect::<Vec<_>>(),
        chunk.positions_of(sink).unwrap()
    );
    changes.iter().map(shown).collect()
}

#[test]
fn a_sink_with_another_name_owes_what_it_owed() {
    let changes = sample();
    let mut written = written(&changes, 3, |n| vec![n % 3]);
    let (before, other) = (read(&written, "sink-1"), read(&written, "sink-2"));
    let name = |known: &str| (known == "sink-1").then(|| "a longer name".to_owned());
    written.bytes = renamed(&written.bytes, name).unwrap().unwrap();
    assert_eq!(read(&written, "a longer name"), before);
    assert!(!before.is_empty() && read(&written, "sink-1").is_empty());
    assert_eq!(read(&written, "sink-2"), other);
    assert_eq!(renamed(&written.bytes, |_| None), Ok(None));
    assert!(renamed(&[1, 200], |_| None).is_err());
}

#[test]
fn each_sink_reads_what_it_owes_as_it_was() {
    let changes = sample();
    let written = written(&changes, 10, |n| if n % 2 == 0 { vec![0, 9] } else { vec![9] });
    let all: Vec<_> = changes.iter().map(shown).collect();
    assert_eq!(read(&written, "sink-9"), all);
    assert_eq!(read(&written, "sink-0"), [0, 2, 4].map(|n: usize| all[n].clone()));
    assert!(read(&written, "sink-1").is_empty() && read(&written, "nobody").is_empty());
    assert_eq!(written.span, (changes[0].position, changes[4].position));
    assert_eq!(written.relations.len(), 1);
    let chunk = Chunk::open(&written.bytes).unwrap();
    let relations = [Arc::clone(&changes[0].relation)];
    let third = changes[2].position;
    let (only, _) = chunk.changes_of("sink-9", &relations, |at| at == third).unwrap();
    assert_eq!(only.iter().map(shown).collect::<Vec<_>>(), [shown(&changes[2])]);
}

#[test]
fn what_the_first_version_wrote_is_still_read() {
    let changes = sample();
    let written = written(&changes, 2, |n| if n == 0 { vec![0, 1] } else { vec![1] });
    assert_eq!(written.bytes, FIXTURE, "a new version needs a new fixture");
    let relation = Arc::new(Relation::from_bytes(RELATION).unwrap());
    assert_eq!(relation, changes[0].relation);
    let chunk = Chunk::open(FIXTURE).unwrap();
    assert_eq!(chunk.relations(), [RelationHash::of(RELATION)]);
    let (read, _) = chunk.changes_of("sink-1", &[relation], |_| true).unwrap();
    let expected: Vec<_> = changes.iter().map(shown).collect();
    assert_eq!(read.iter().map(shown).collect::<Vec<_>>(), expected);
}

proptest! {
    /// Whatever stands on a disk, it is read or refused.
    #[test]
    fn damage_is_no_panic(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
        for source in [FIXTURE, RELATION] {
            let mut bytes = source.to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut % bytes.len()));
            let _relation = Relation::from_bytes(&bytes);
            if let Ok(chunk) = Chunk::open(&bytes) {
                let relation = Arc::new(Relation::from_bytes(RELATION).unwrap());
                let _changes = chunk.changes_of("sink-1", &[relation], |_| true);
                let _positions = chunk.positions_of("sink-1");
            }
        }
    }

    #[test]
    fn numbers_of_all_sizes_come_back(number: u64, signed: i64) {
        let mut out = Vec::new();
        bytes::push_number(&mut out, number);
        bytes::push_signed(&mut out, signed);
        let mut read = bytes::Bytes(&out);
        prop_assert_eq!(read.number(), Ok(number));
        prop_assert_eq!(read.signed(), Ok(signed));
        prop_assert!(read.0.is_empty());
    }
}
