//! Frames as PostgreSQL 15 sent them, whole and cut.

use super::*;

/// `hex` with spaces, as bytes.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn texts<'a>(tuple: &Tuple<'a>) -> Vec<Option<&'a str>> {
    tuple
        .values()
        .map(|value| match value {
            Value::Null => None,
            Value::Unchanged => Some("(unchanged)"),
            Value::Text(text) => Some(std::str::from_utf8(text).unwrap()),
        })
        .collect()
}

const BEGIN: &str = "42 00000000015498b0 00029c3ad0ae2f5a 000002e5";
const COMMIT: &str = "43 00 00000000015498b0 00000000015498e0 00029c3ad0ae2f5a";
const RELATION: &str = "52 00004002 7075626c696300 7400 64 0002 \
                        01 696400 00000017 ffffffff 00 6e616d6500 00000019 ffffffff";
const RELATION_OF_CATALOG: &str = "52 00000001 00 7400 6e 0000";
const TYPE: &str = "59 00004009 7075626c696300 6d6f6f6400";
const INSERT: &str = "49 00004002 4e 0002 74 00000001 31 6e";
const UPDATE: &str = "55 00004002 4e 0002 74 00000001 31 75";
const UPDATE_KEY: &str =
    "55 00004002 4b 0002 74 00000001 31 6e 4e 0002 74 00000001 32 74 00000001 61";
const UPDATE_FULL: &str =
    "55 00004002 4f 0002 74 00000001 31 74 00000001 61 4e 0002 74 00000001 31 75";
const DELETE_KEY: &str = "44 00004002 4b 0002 74 00000001 31 6e";
const DELETE_FULL: &str = "44 00004002 4f 0002 74 00000001 31 74 00000000";
const TRUNCATE: &str = "54 00000002 01 00004002 00004009";
const ORIGIN: &str = "4f 00000000015498b0 6f7468657200";
const MESSAGE: &str = "4d 01 00000000015498b0 70726566697800 00000003 610062";
const MESSAGE_AT_ONCE: &str = "4d 00 00000000015498b0 00 00000000";

const ALL: [&str; 15] = [
    BEGIN,
    COMMIT,
    RELATION,
    RELATION_OF_CATALOG,
    TYPE,
    INSERT,
    UPDATE,
    UPDATE_KEY,
    UPDATE_FULL,
    DELETE_KEY,
    DELETE_FULL,
    TRUNCATE,
    ORIGIN,
    MESSAGE,
    MESSAGE_AT_ONCE,
];

#[test]
fn transactions_are_read() {
    let bytes = hex(BEGIN);
    let Ok(Message::Begin { commit_lsn, committed_at_us, xid }) = Message::parse(&bytes) else {
        panic!("not a Begin");
    };
    assert_eq!((commit_lsn, committed_at_us, xid), (Lsn(0x154_98B0), 0x2_9C3A_D0AE_2F5A, 741));
    let expected = Message::Commit { commit_lsn: Lsn(0x154_98B0), end_lsn: Lsn(0x154_98E0) };
    assert_eq!(Message::parse(&hex(COMMIT)), Ok(expected));
}

#[test]
fn b026_b027_what_is_not_a_row_is_read() {
    let Ok(Message::Relation(relation)) = Message::parse(&hex(RELATION)) else {
        panic!("not a Relation");
    };
    assert_eq!((relation.oid, &*relation.schema, &*relation.table), (0x4002, "public", "t"));
    assert_eq!(relation.identity, Identity::Default);
    let column = |name: &str, type_oid, identity| ColumnDefinition {
        name: name.to_owned(),
        type_oid,
        type_modifier: -1,
        identity,
    };
    assert_eq!(relation.columns, [column("id", 23, true), column("name", 25, false)]);
    let Ok(Message::Relation(relation)) = Message::parse(&hex(RELATION_OF_CATALOG)) else {
        panic!("not a Relation");
    };
    assert_eq!((&*relation.schema, relation.identity), ("pg_catalog", Identity::Nothing));
    let relations = vec![0x4002, 0x4009];
    assert_eq!(Message::parse(&hex(TRUNCATE)), Ok(Message::Truncate { relations }));
    assert_eq!(Message::parse(&hex(TYPE)), Ok(Message::Type));
    assert_eq!(Message::parse(&hex(ORIGIN)), Ok(Message::Origin));
    let logical = Message::Logical { transactional: true, prefix: b"prefix", content: b"a\0b" };
    assert_eq!(Message::parse(&hex(MESSAGE)), Ok(logical));
    let at_once = Message::Logical { transactional: false, prefix: b"", content: b"" };
    assert_eq!(Message::parse(&hex(MESSAGE_AT_ONCE)), Ok(at_once));
}

#[test]
fn rows_are_read_with_what_is_known_of_the_old_one() {
    let bytes = hex(INSERT);
    let Ok(Message::Insert { relation: 0x4002, new }) = Message::parse(&bytes) else {
        panic!("not an Insert");
    };
    assert_eq!(texts(&new), [Some("1"), None]);
    for (frame, old_key, old_full, new_row) in [
        (UPDATE, None, None, Some([Some("1"), Some("(unchanged)")])),
        (UPDATE_KEY, Some([Some("1"), None]), None, Some([Some("2"), Some("a")])),
        (UPDATE_FULL, None, Some([Some("1"), Some("a")]), Some([Some("1"), Some("(unchanged)")])),
        (DELETE_KEY, Some([Some("1"), None]), None, None),
        (DELETE_FULL, None, Some([Some("1"), Some("")]), None),
    ] {
        let bytes = hex(frame);
        let (old, new) = match Message::parse(&bytes).unwrap() {
            Message::Update { relation: 0x4002, old, new } => (old, Some(new)),
            Message::Delete { relation: 0x4002, old } => (Some(old), None),
            other => panic!("{other:?}"),
        };
        let (key, full) = match old {
            Some(Old::Key(tuple)) => (Some(texts(&tuple)), None),
            Some(Old::Full(tuple)) => (None, Some(texts(&tuple))),
            None => (None, None),
        };
        assert_eq!(key, old_key.map(Vec::from), "{frame}");
        assert_eq!(full, old_full.map(Vec::from), "{frame}");
        assert_eq!(new.map(|tuple| texts(&tuple)), new_row.map(Vec::from), "{frame}");
    }
}

#[test]
fn b029_every_cut_of_every_frame_is_an_error() {
    for frame in ALL {
        let bytes = hex(frame);
        assert!(Message::parse(&bytes).is_ok(), "{frame}");
        for cut in 0..bytes.len() {
            assert!(Message::parse(&bytes[..cut]).is_err(), "{frame} cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Message::parse(&longer).is_err(), "{frame} with a byte too many");
    }
}

#[test]
fn b029_every_flipped_byte_is_a_message_or_an_error() {
    for frame in ALL {
        let bytes = hex(frame);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                // What it is does not matter: that it returns does.
                drop(Message::parse(&bytes));
            }
        }
    }
    for bad in ["", "51", "49 00004002 4b 0000", "49 00004002 4e 0001 62 00000001 31"] {
        assert!(Message::parse(&hex(bad)).is_err(), "{bad}");
    }
}
