//! The form of each type.

use model::json;
use model::page::Value;
use model::relation::Kind;

use super::facts;
use super::json::{array_depth, is_valid};
use crate::value::form::DEPTH_MAX;
use crate::value::{Form, Written};
use crate::wire::cursor::Cursor;

/// What a byte of text becomes at most: in an array of intervals, six bytes (`1:1:1,`) become an
/// object of up to 49. A form that grows more would fill pages with what is nothing on the wire.
const GROWTH_MAX: usize = 9;

/// In front of each value of a row: its tag and its length.
const HEAD_BYTES: usize = 5;

/// Postgres' own limit of dimensions (`MAXDIM`).
const DIMENSIONS_MAX: usize = 6;

/// What is in the page already: it must stay as it is.
const BEFORE: &str = "[before, \"";

pub(super) fn run(input: &[u8]) {
    let mut cursor = Cursor::new(input, "input");
    let facts = facts::read(&mut cursor);
    let Ok(oid) = cursor.u32() else { return };
    let bytes = cursor.rest();
    let (form, _) = Form::of(oid, &facts.types);
    check_row(&form, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return check_bytes(&form, bytes) };
    check(&form, text);
    check_element(&form, text);
}

/// A column's value.
fn check(form: &Form, text: &str) {
    let mut out = String::from(BEFORE);
    let written = form.write_bytes(text.as_bytes(), &mut out);
    let (before, canonical) = out.split_at_checked(BEFORE.len()).unwrap_or_default();
    assert_eq!(before, BEFORE, "{form:?} of {text:?}: only appended");
    let Ok(written) = written else {
        assert_ne!(form.kind(), Kind::Text, "any text is a text");
        return;
    };
    let most = (text.len() + HEAD_BYTES) * GROWTH_MAX;
    assert!(canonical.len() <= most, "{form:?} of {text:?} grew to {}", canonical.len());
    if written == Written::Quoted {
        assert_eq!(form.kind(), Kind::Json, "only JSON has this way out");
        let back: Option<String> = serde_json::from_str(canonical).ok();
        assert_eq!(back.as_deref(), Some(text), "{form:?}");
        return;
    }
    match form {
        Form::Text | Form::Json | Form::Bytes => assert_eq!(canonical, text, "verbatim"),
        _ => {}
    }
    if !holds_json(form) {
        let mut document = String::new();
        json::value(&mut document, form.kind(), Value::Text(canonical));
        assert!(is_valid(&document), "{form:?} of {text:?} is {document}");
    }
    if is_valid(canonical) && !holds_json(form) {
        let most = usize::try_from(DEPTH_MAX).unwrap_or(usize::MAX) * DIMENSIONS_MAX;
        assert!(array_depth(canonical) <= most, "{form:?} of {text:?}");
    }
}

/// In a row that is checked as a whole it is the same, or the row is no text, or it is no value
/// either way.
fn check_row(form: &Form, bytes: &[u8]) {
    let (mut alone, mut row) = (String::new(), Vec::new());
    let written = form.write_bytes(bytes, &mut alone);
    let appended = form.append(bytes, &mut row, &mut "what was here".to_owned());
    match std::str::from_utf8(&row) {
        Ok(row) => {
            assert_eq!(appended, written, "{form:?} of {bytes:?}");
            assert!(appended.is_err() || row == alone, "{form:?} of {bytes:?}: {row}");
        }
        Err(_) => assert!(matches!(written, Ok(Written::Hexadecimal) | Err(_)), "{form:?}"),
    }
}

/// What is not UTF-8 is written in digits, or is no value of its type.
fn check_bytes(form: &Form, bytes: &[u8]) {
    let mut out = String::new();
    match form.write_bytes(bytes, &mut out) {
        Ok(written) => assert_eq!(written, Written::Hexadecimal, "{form:?}"),
        Err(_) => return assert!(!matches!(form.kind(), Kind::Text | Kind::Json), "{form:?}"),
    }
    let text = match form.kind() {
        Kind::Json => serde_json::from_str(&out).unwrap_or_default(),
        _ => out,
    };
    let digits = text.strip_prefix("\\x").unwrap_or_default();
    assert_eq!(digits.len(), bytes.len() * 2, "{form:?} of {bytes:?}");
}

/// The same as an element of an array.
fn check_element(form: &Form, text: &str) {
    let mut out = String::from(BEFORE);
    let written = form.write_json(text, &mut out);
    let (before, element) = out.split_at_checked(BEFORE.len()).unwrap_or_default();
    assert_eq!(before, BEFORE, "{form:?} of {text:?}: only appended");
    if written.is_err() {
        return;
    }
    if !holds_json(form) {
        assert!(is_valid(element), "{form:?} of {text:?} is {element}");
    }
    if *form == Form::Text {
        let back: Option<String> = serde_json::from_str(element).ok();
        assert_eq!(back.as_deref(), Some(text));
    }
}

/// Whether the server's own JSON is part of it: that is taken at its word.
fn holds_json(form: &Form) -> bool {
    match form {
        Form::Json => true,
        Form::Array(array) => holds_json(&array.element),
        _ => false,
    }
}
