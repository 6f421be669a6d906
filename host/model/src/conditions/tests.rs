use std::sync::Arc;

use super::*;
use crate::change::{Operation, Transaction};
use crate::lsn::Lsn;
use crate::page::Builder;
use crate::page::Extent;
use crate::position::Position;
use crate::relation::{Column, Identity, Kind, Relation, Rendered};

/// A column and what stands in it: None is null.
type Cell<'a> = (Kind, Option<&'a str>);

/// A change of a table with a key `id` of 1 and a column `c`.
fn change(operation: Operation, extent: Extent, (kind, text): Cell<'_>, sent: bool) -> Change {
    let column =
        |name: &str, kind, key| Column { name: name.into(), kind, type_name: "t".into(), key };
    let relation = Arc::new(Relation {
        rendered: Rendered::default(),
        oid: 7,
        schema: "public".into(),
        table: "t".into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: vec![column("id", Kind::Integer, true), column("c", kind, false)],
    });
    let mut builder = Builder::default();
    let first = builder.begin_row();
    let mut push = |text: &str| {
        let written: Result<(), ()> = builder.value(|out| {
            out.push_str(text);
            Ok(())
        });
        written.unwrap();
    };
    push("1");
    match text {
        Some(text) if sent => push(text),
        None if sent => builder.null(),
        _ => builder.unchanged(),
    }
    let row = builder.end_row(first, extent);
    let (before, after) = match operation {
        Operation::Delete => (Some(row), None),
        _ => (None, Some(row)),
    };
    let transaction = Arc::new(Transaction::new(Lsn(8), 1, 0));
    builder.change(Position::new(Lsn(8), 0), operation, relation, transaction, before, after);
    builder.finish().remove(0)
}

fn insert(cell: Cell<'_>) -> Change {
    change(Operation::Insert, Extent::Full, cell, true)
}

fn operand(written: &[&str]) -> Operand {
    Operand::Several(written.iter().map(|it| (*it).to_owned()).collect())
}

fn one(written: &str) -> Operand {
    Operand::One(written.to_owned())
}

fn condition(path: &str, of: FieldType, operator: Operator, operand: &Operand) -> Condition {
    let path = path.split('.').filter(|key| !key.is_empty()).map(Into::into).collect();
    Condition::new("c", path, of, operator, operand).unwrap()
}

/// What becomes of a row: kept, dropped, or why it cannot be compared.
fn judge(conditions: Vec<Condition>, change: &Change) -> Result<bool, String> {
    match Conditions::new(conditions).judge(change) {
        Ok(Outcome::Keep) => Ok(true),
        Ok(Outcome::Drop) => Ok(false),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.message),
    }
}

use FieldType::{Boolean, CaseInsensitive, List, Number, Text, Time};
use Operator::{
    Equal, Greater, GreaterOrEqual, In, IsNotNull, IsNull, Less, LessOrEqual, NotEqual, NotIn,
};

#[test]
fn each_operator_of_each_type() {
    let holds = |kind, of, written: &str, value: &str, wanted: &[Operator]| {
        for operator in [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual] {
            let made = Condition::new("c", Vec::new(), of, operator, &one(written));
            let Ok(made) = made else {
                assert!(of == Boolean && ![Equal, NotEqual].contains(&operator), "{operator:?}");
                continue;
            };
            let said = judge(vec![made.clone()], &insert((kind, Some(value))));
            assert_eq!(said, Ok(wanted.contains(&operator)), "{value} {operator:?} {written}");
            let said = judge(vec![made], &insert((kind, None)));
            assert_eq!(said, Ok(false), "null {operator:?} {written}");
        }
        for operator in [In, NotIn] {
            let made = condition("", of, operator, &operand(&[written]));
            let is_in = wanted.contains(&Equal);
            let said = judge(vec![made.clone()], &insert((kind, Some(value))));
            assert_eq!(said, Ok(is_in == (operator == In)), "{value} {operator:?} {written}");
            assert_eq!(judge(vec![made], &insert((kind, None))), Ok(false), "null {operator:?}");
        }
    };
    let (less, equal, greater) = (
        [NotEqual, Less, LessOrEqual].as_slice(),
        [Equal, LessOrEqual, GreaterOrEqual].as_slice(),
        [NotEqual, Greater, GreaterOrEqual].as_slice(),
    );
    for (of, written, value, wanted) in [
        (Text, "b", "a", less),
        (Text, "b", "b", equal),
        (Text, "b", "B", less),
        (Text, "9", "10", less),
        (CaseInsensitive, "Straße", "STRASSE", less),
        (CaseInsensitive, "ČÁP", "čáp", equal),
        (CaseInsensitive, "b", "C", greater),
        (Number, "9", "10", greater),
        (Number, "1.50", "1.5", equal),
        (Number, "0.1", "0.10000000000000000001", greater),
        (Number, "5", "NaN", greater),
        (Boolean, "true", "true", equal),
        (Boolean, "true", "false", less),
        (Time, "2024-01-01T00:00:00+02:00", "2023-12-31T22:00:00.000000Z", equal),
        (Time, "2024-01-01", "2024-01-01T00:00:00.000001", greater),
        (Time, "2024-01-01", "-infinity", less),
    ] {
        holds(Kind::Text, of, written, value, wanted);
    }
    holds(Kind::Integer, Number, "9007199254740993", "9007199254740992", less);
    holds(Kind::Boolean, Boolean, "false", "false", equal);
}

#[test]
fn null_is_only_found_by_asking_for_it() {
    for (operator, of_null, of_value) in [(IsNull, true, false), (IsNotNull, false, true)] {
        for of in [Text, CaseInsensitive, Number, Boolean, Time, List] {
            let made = || vec![condition("", of, operator, &Operand::None)];
            assert_eq!(judge(made(), &insert((Kind::Text, None))), Ok(of_null));
            assert_eq!(judge(made(), &insert((Kind::Text, Some("")))), Ok(of_value));
        }
        let made = || vec![condition("a.b", Text, operator, &Operand::None)];
        for (json, is_null) in [
            ("{}", true),
            (r#"{"a":null}"#, true),
            (r#"{"a":{"b":null}}"#, true),
            (r#"{"a":[]}"#, true),
            (r#"{"a":{"b":""}}"#, false),
            (r#"{"a":{"b":{}}}"#, false),
        ] {
            let wanted = if is_null { of_null } else { of_value };
            assert_eq!(judge(made(), &insert((Kind::Json, Some(json)))), Ok(wanted), "{json}");
        }
    }
}

#[test]
fn a_path_leads_into_json() {
    let json = r#" {"a": {"b": [1, {"c": 12345678901234567890.10}], "t": "h\u00e9"}, "x.y": 1}"#;
    for (path, of, operator, written, wanted) in [
        ("a.b.1.c", Number, Equal, "12345678901234567890.1", true),
        ("a.b.1.c", Number, Greater, "12345678901234567890.1", false),
        ("a.b.0", Number, Equal, "1", true),
        ("a.b.0", Text, Equal, "1", true),
        ("a.b.2", Number, Equal, "1", false),
        ("a.t", Text, Equal, "hé", true),
        ("a.t.u", Text, Equal, "hé", false),
    ] {
        let made = vec![condition(path, of, operator, &one(written))];
        assert_eq!(judge(made, &insert((Kind::Json, Some(json)))), Ok(wanted), "{path} {written}");
    }
}

#[test]
fn items_of_arrays() {
    let array = |json| insert((Kind::Json, Some(json)));
    for (operator, written, json, wanted) in [
        (In, ["a", "b"].as_slice(), r#"["x","b"]"#, true),
        (In, &["a"], r#"["x",null]"#, false),
        (In, &["a"], "[]", false),
        (NotIn, &["a"], r#"["x"]"#, true),
        (NotIn, &["a"], r#"["x","a"]"#, false),
        (NotIn, &["a"], r#"["x",null]"#, false),
        (NotIn, &["a"], "[]", true),
        (In, &["7"], "[1,7]", true),
        (Equal, &["a", "b"], r#"["a","b"]"#, true),
        (Equal, &["a", "b"], r#"["b","a"]"#, false),
        (NotEqual, &["a", "b"], r#"["a"]"#, true),
        (Equal, &[], "[]", true),
    ] {
        let made = vec![condition("", List, operator, &operand(written))];
        assert_eq!(judge(made, &array(json)), Ok(wanted), "{operator:?} {written:?} {json}");
    }
    let made = vec![condition("", Number, In, &operand(&["7.0"]))];
    assert_eq!(judge(made, &array("[1, 7]")), Ok(true), "items have the type that is named");
    // As the predecessor has it: a list of texts beside a single one.
    let made = vec![condition("", List, In, &operand(&["a", "b"]))];
    assert_eq!(judge(made, &insert((Kind::Text, Some("b")))), Ok(true));
}

#[test]
fn what_was_not_sent_holds_nothing_back() {
    let made = || vec![condition("", Text, Equal, &one("x"))];
    let unsent = change(Operation::Update, Extent::Full, (Kind::Text, None), false);
    assert_eq!(judge(made(), &unsent), Ok(true));
    let key_alone = change(Operation::Delete, Extent::Key, (Kind::Text, None), true);
    assert_eq!(judge(made(), &key_alone), Ok(true));
    let whole = |text| change(Operation::Delete, Extent::Full, (Kind::Text, Some(text)), true);
    assert_eq!(judge(made(), &whole("x")), Ok(true));
    assert_eq!(judge(made(), &whole("y")), Ok(false));
    let of_key = Condition::new("id", Vec::new(), Number, Equal, &one("2")).unwrap();
    assert_eq!(judge(vec![of_key], &key_alone), Ok(false), "the key is known");
}

#[test]
fn all_must_hold_and_what_cannot_be_compared_is_told() {
    let text = insert((Kind::Text, Some("x")));
    let (yes, no) = (condition("", Text, Equal, &one("x")), condition("", Text, Equal, &one("y")));
    let wrong = condition("", Number, Greater, &one("1"));
    assert_eq!(judge(vec![yes.clone(), no.clone()], &text), Ok(false));
    assert_eq!(judge(vec![], &text), Ok(true));
    let told = judge(vec![wrong.clone(), yes], &text).unwrap_err();
    assert_eq!(told, "the column `c` holds no number: its filter cannot compare it");
    assert_eq!(judge(vec![wrong.clone(), no], &text), Ok(false), "false and unknown is false");
    for (of, operator, written, cell) in [
        (Number, In, operand(&["1"]), (Kind::Text, "x")),
        (Boolean, Equal, one("true"), (Kind::Text, "t")),
        (Time, Less, one("2024-01-01"), (Kind::Text, "x")),
        (Text, Equal, one("x"), (Kind::Json, "[1]")),
        (Text, Equal, one("x"), (Kind::Json, "{}")),
        (List, Equal, operand(&["x"]), (Kind::Text, "x")),
        (Text, Equal, one("x"), (Kind::Json, "[")),
    ] {
        let made = vec![condition("", of, operator, &written)];
        assert!(judge(made, &insert((cell.0, Some(cell.1)))).is_err(), "{of:?} {cell:?}");
    }
    let path = vec![condition("a", Text, Equal, &one("x"))];
    assert!(judge(path, &text).is_err());
    let missing = Condition::new("d", Vec::new(), Text, IsNull, &Operand::None).unwrap();
    assert!(judge(vec![missing], &text).unwrap_err().contains("no such column"));
}

#[test]
fn what_does_not_go_together_is_no_condition() {
    let said = |of, operator, operand: &Operand| {
        Condition::new("c", Vec::new(), of, operator, operand).unwrap_err().to_string()
    };
    assert_eq!(said(Boolean, Less, &one("true")), "`<` does not go with boolean");
    assert_eq!(said(List, Less, &operand(&["a"])), "`<` does not go with list");
    assert_eq!(said(Text, Equal, &operand(&["a"])), "`==` takes one value");
    assert_eq!(said(Text, In, &one("a")), "`in` takes a list with at least one value");
    assert_eq!(said(Text, In, &operand(&[])), "`in` takes a list with at least one value");
    assert_eq!(said(List, Equal, &one("a")), "`==` takes a list, as it is of field_type list");
    assert_eq!(said(Text, IsNull, &one("a")), "`is null` takes no comparison_value");
    assert_eq!(said(Number, Equal, &one("ten")), "what it is compared with is no number");
    assert_eq!(
        said(Time, In, &operand(&["2024-01-01", "x"])),
        "what it is compared with is no datetime"
    );
}

proptest::proptest! {
    /// Of two rows that differ in the value alone, each comparison says what its opposite denies.
    #[test]
    fn an_operator_denies_its_opposite(value in "-?[0-9]{1,25}(\\.[0-9]{1,5})?", written in "-?[0-9]{1,25}") {
        let row = insert((Kind::Text, Some(&value)));
        for of in [Text, CaseInsensitive, Number] {
            for (operator, opposite) in
                [(Equal, NotEqual), (Less, GreaterOrEqual), (Greater, LessOrEqual)]
            {
                let say = |operator| judge(vec![condition("", of, operator, &one(&written))], &row);
                let (said, denied) = (say(operator).unwrap(), say(opposite).unwrap());
                proptest::prop_assert_ne!(said, denied);
            }
        }
    }
}
