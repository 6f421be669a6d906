//! From Postgres' text form of a value to its canonical text: the one place where a type's looks
//! are decided, streamed or not.
//!
//! | type | canonical text | in JSON |
//! |---|---|---|
//! | `bool` | `true`, `false` | boolean |
//! | `int2` `int4` `int8` `oid` | digits | number, exact: `int8` is not rounded to a double |
//! | `float4` `float8` | shortest text that reads back as the same: `0.1`, `1e+300`, `-0` | number |
//! | | `NaN`, `Infinity`, `-Infinity` | string |
//! | `numeric` | digits with the scale kept: `1.50`; `NaN`, `Infinity`, `-Infinity` | string |
//! | `money` | as under `lc_monetary = C`, whatever the server's: `-$1,234.50`. The currency is not part of the value; the digits behind the point are always two, so in a database whose currency has none (`ja_JP`) 1234 reads `$12.34` | string |
//! | `text` `varchar` `name` `citext` | verbatim, case kept | string |
//! | `char(n)` | padded with blanks to its length | string |
//! | `bytea` | `\x` and hexadecimal digits | string |
//! | `date` | `2024-01-02`; `0044-03-15 BC`, `infinity`, `-infinity` | string |
//! | `time` `timetz` | `24:00:00`, `01:02:03.5+05:30`: digits and offset kept | string |
//! | `timestamp` `timestamptz` | `2024-01-02T03:04:05.123456`, with `Z`; years that ISO 8601 cannot say in four digits and infinities as Postgres prints them: `294276-12-31 23:59:59+00`, `0044-03-15 12:00:00 BC`, `infinity` | string |
//! | `interval` | `{"months":14,"days":-3,"microseconds":1}`; `"infinity"` | object; string |
//! | `uuid` | lower-case, with hyphens | string |
//! | `json` `jsonb` | verbatim: no digit, no order and no duplicate key is lost | pasted as it stands |
//! | arrays | nested JSON arrays, elements by these same rules, NULL as `null`; lower bounds are dropped | array |
//! | enums | the label | string |
//! | domains | as their base type | as their base type |
//! | composites | as Postgres prints them: `(1,"a ""b""",)` | string |
//! | ranges, multiranges | as Postgres prints them: `[1,6)`, `empty`, `(,)`, `{[1,2),[5,6)}` | string |
//! | `regclass` and its kin | the name, with its schema but for `pg_catalog` | string |
//! | `vector` `halfvec` (pgvector) | `[1,-2.5]` | array of numbers |
//! | all others | as Postgres prints them: addresses, geometry, bit strings (leading zeros kept), `tsvector`, `xml`, `pg_lsn`, `hstore`, `ltree`, `sparsevec`, PostGIS' (EWKB in hexadecimal), and whatever extensions bring | string |
//! | bytes that are not UTF-8 | `\x` and hexadecimal digits, in a string: only a database with encoding `SQL_ASCII` has such texts, and of any type above that is a string in JSON, or of a composed one as a whole. The log names table and column | string |
//!
//! Forms are those of the predecessor, where it had one that loses nothing.
//!
//! It relies on the session that `wire` pins: ISO dates, UTC, hexadecimal bytes, money as in C. It
//! appends to a buffer and allocates nothing but for escaped array elements.

pub(crate) mod array;
pub(crate) mod form;
mod interval;
mod number;
mod time;

use model::json;
use model::relation::Kind;

pub(crate) use form::Form;
use number::Float;
use time::Iso;

/// No value is written with more bytes than this for each of its own; see [`Form::most`].
pub(crate) const FACTOR_MAX: usize = 9;

/// The text does not have the form its type must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text that is no value of its type")]
pub(crate) struct Unreadable;

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// By the rules of its form.
    Plain,
    /// Although it was [`Unreadable`]: as a JSON string of its text.
    Quoted,
    /// Although it is no UTF-8: its bytes in hexadecimal digits.
    Hexadecimal,
}

/// What becomes of a value's text.
enum Plain {
    AsItStands,
    Word(&'static str),
    Time(Iso),
    /// It is taken apart and written bit by bit.
    Composed,
}

impl Form {
    /// How values of this form are marked for the rest of the engine.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Boolean => Kind::Boolean,
            Self::Integer => Kind::Integer,
            Self::Float => Kind::Float,
            Self::Text | Self::Timestamp | Self::TimestampTz => Kind::Text,
            Self::Bytes => Kind::Bytes,
            Self::Json | Self::Interval | Self::Vector | Self::Array(_) => Kind::Json,
        }
    }

    /// The most bytes that a text of `len` bytes is written with.
    pub(crate) fn most(&self, len: usize) -> usize {
        let factor = match self {
            // `2024-01-02 03:04:05` gains seven; the others nothing.
            Self::Boolean
            | Self::Integer
            | Self::Float
            | Self::Text
            | Self::Json
            | Self::Bytes
            | Self::Timestamp
            | Self::TimestampTz => 2,
            // In an array, `1:1:1,` becomes 49 bytes; a control character becomes six.
            Self::Interval | Self::Vector | Self::Array(_) => FACTOR_MAX,
        };
        // What comes once: quotes and `\x`.
        len.saturating_mul(factor).saturating_add(8)
    }

    /// Appends the canonical text of what the server sent. A value that is not UTF-8 is written in
    /// hexadecimal digits: nothing is lost, only that value differs, and the caller can say so.
    ///
    /// # Errors
    /// As [`Form::write`].
    pub(crate) fn write_bytes(
        &self,
        bytes: &[u8],
        out: &mut String,
    ) -> Result<Written, Unreadable> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return self.write(text, out);
        }
        match self.kind() {
            Kind::Text => out.push_str(&hexadecimal(bytes)),
            Kind::Json => json::string(out, &hexadecimal(bytes)),
            // All their values are ASCII.
            Kind::Boolean | Kind::Integer | Kind::Float | Kind::Bytes => return Err(Unreadable),
        }
        Ok(Written::Hexadecimal)
    }

    /// Appends the canonical text of what the server sent to those of other values, which are checked
    /// to be UTF-8 all together, and later. What is written bit by bit is written into `composed`
    /// first.
    ///
    /// # Errors
    /// As [`Form::write`].
    #[inline(always)]
    pub(crate) fn append(
        &self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        composed: &mut String,
    ) -> Result<Written, Unreadable> {
        match self.read(bytes)? {
            Plain::AsItStands => out.extend_from_slice(bytes),
            Plain::Word(word) => out.extend_from_slice(word.as_bytes()),
            Plain::Time(time) => out.extend_from_slice(time.as_bytes()),
            Plain::Composed => {
                composed.clear();
                let written = self.write_bytes(bytes, composed)?;
                out.extend_from_slice(composed.as_bytes());
                return Ok(written);
            }
        }
        Ok(Written::Plain)
    }

    /// How a value is written. What it says of bytes that are no text is true of those too.
    #[inline(always)]
    fn read(&self, bytes: &[u8]) -> Result<Plain, Unreadable> {
        Ok(match self {
            Self::Text | Self::Json => Plain::AsItStands,
            Self::Boolean => Plain::Word(boolean(bytes)?),
            Self::Integer => number::integer(bytes).map(|()| Plain::AsItStands)?,
            Self::Float => number::float(bytes).map(|_| Plain::AsItStands)?,
            Self::Bytes if bytes.starts_with(b"\\x") => Plain::AsItStands,
            Self::Bytes => return Err(Unreadable),
            Self::Timestamp => time::iso(bytes, false).map_or(Plain::AsItStands, Plain::Time),
            Self::TimestampTz => time::iso(bytes, true).map_or(Plain::AsItStands, Plain::Time),
            Self::Interval | Self::Vector | Self::Array(_) => Plain::Composed,
        })
    }

    /// Appends the canonical text of `text`. A JSON form takes text that it cannot read as a JSON
    /// string: only that value differs, and the caller can say so.
    ///
    /// # Errors
    /// A form that has no such way out cannot read the text: the frame is corrupt. `out` may have
    /// got a part of it.
    fn write(&self, text: &str, out: &mut String) -> Result<Written, Unreadable> {
        match self.read(text.as_bytes())? {
            Plain::AsItStands => out.push_str(text),
            Plain::Word(word) => out.push_str(word),
            Plain::Time(time) => out.push_str(time.as_str()),
            Plain::Composed => {
                let start = out.len();
                if self.write_composed(text, out).is_err() {
                    out.truncate(start);
                    json::string(out, text);
                    return Ok(Written::Quoted);
                }
            }
        }
        Ok(Written::Plain)
    }

    /// Appends the value as JSON: an element of an array.
    pub(crate) fn write_json(&self, text: &str, out: &mut String) -> Result<(), Unreadable> {
        match self {
            Self::Text => json::string(out, text),
            Self::Json => out.push_str(text),
            Self::Float => match number::float(text.as_bytes())? {
                Float::Number => out.push_str(text),
                Float::Word => json::string(out, text),
            },
            Self::Interval | Self::Vector | Self::Array(_) => self.write_composed(text, out)?,
            Self::Boolean | Self::Integer | Self::Bytes | Self::Timestamp | Self::TimestampTz => {
                match (self.read(text.as_bytes())?, self.kind()) {
                    (Plain::AsItStands, Kind::Integer) => out.push_str(text),
                    (Plain::AsItStands | Plain::Composed, _) => json::string(out, text),
                    (Plain::Word(word), _) => out.push_str(word),
                    (Plain::Time(time), _) => json::string(out, time.as_str()),
                }
            }
        }
        Ok(())
    }

    fn write_composed(&self, text: &str, out: &mut String) -> Result<(), Unreadable> {
        match self {
            Self::Interval => interval::write(text, out),
            Self::Vector => number::vector(text, out),
            Self::Array(array) => array::write(array, text, out),
            Self::Boolean
            | Self::Integer
            | Self::Float
            | Self::Text
            | Self::Json
            | Self::Bytes
            | Self::Timestamp
            | Self::TimestampTz => Err(Unreadable),
        }
    }
}

/// Bytes as `bytea` prints them.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xF] {
            out.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    out
}

fn boolean(text: &[u8]) -> Result<&'static str, Unreadable> {
    match text {
        b"t" => Ok("true"),
        b"f" => Ok("false"),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &Form, text: &str, expected: &str) {
        let mut out = String::from("before");
        let written = form.write(text, &mut out);
        assert_eq!(out, format!("before{expected}"), "{form:?} of {text}");
        assert_eq!(written, Ok(Written::Plain), "{form:?} of {text}");
    }

    #[test]
    fn b035_b036_b042_b044_b050_scalars_have_one_text() {
        for (form, text, expected) in [
            (Form::Boolean, "t", "true"),
            (Form::Boolean, "f", "false"),
            (Form::Integer, "-9223372036854775808", "-9223372036854775808"),
            (Form::Integer, "4294967295", "4294967295"),
            (Form::Float, "-0", "-0"),
            (Form::Float, "1e+20", "1e+20"),
            (Form::Float, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (Form::Float, "NaN", "NaN"),
            (Form::Float, "-Infinity", "-Infinity"),
            (Form::Text, "12345678901234567890.10", "12345678901234567890.10"),
            (Form::Text, "", ""),
            (Form::Json, "{\"a\": 1, \"a\": 1e400}", "{\"a\": 1, \"a\": 1e400}"),
            (Form::Bytes, "\\x", "\\x"),
            (Form::Bytes, "\\x00ff", "\\x00ff"),
            (Form::Timestamp, "2024-01-02 03:04:05", "2024-01-02T03:04:05.000000"),
            (Form::TimestampTz, "2024-01-02 03:04:05.12+00", "2024-01-02T03:04:05.120000Z"),
            (Form::TimestampTz, "infinity", "infinity"),
            (Form::Timestamp, "0044-03-15 12:00:00 BC", "0044-03-15 12:00:00 BC"),
            (Form::Vector, "[1,-2.5,3e-05]", "[1,-2.5,3e-05]"),
            (Form::Interval, "1 mon", "{\"months\":1,\"days\":0,\"microseconds\":0}"),
        ] {
            check(&form, text, expected);
        }
    }

    #[test]
    fn b052_unreadable_composed_values_pass_as_text() {
        for (form, text) in [
            (Form::Interval, "soon"),
            (Form::Vector, "[1,\"]"),
            (Form::array(Form::Integer), "{1,\"x\"}"),
        ] {
            let mut out = String::from("before");
            assert_eq!(form.write(text, &mut out), Ok(Written::Quoted));
            let mut expected = String::from("before");
            json::string(&mut expected, text);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn b040_bytes_that_are_no_text_are_written_in_hexadecimal() {
        for (form, expected) in [
            (Form::Text, Ok("\\x61ff")),
            (Form::Json, Ok(r#""\\x61ff""#)),
            (Form::array(Form::Text), Ok(r#""\\x61ff""#)),
            (Form::Integer, Err(Unreadable)),
            (Form::Bytes, Err(Unreadable)),
        ] {
            let mut out = String::new();
            let written = form.write_bytes(b"a\xFF", &mut out);
            assert_eq!(written, expected.map(|_| Written::Hexadecimal), "{form:?}");
            assert_eq!(out, expected.unwrap_or_default(), "{form:?}");
        }
    }

    #[test]
    fn b034_no_value_outgrows_its_bound() {
        for (form, text) in [
            (Form::Text, "\u{1}".as_bytes()),
            (Form::Text, b"\xFF"),
            (Form::Json, b"\xFF"),
            (Form::TimestampTz, b"2024-01-02 03:04:05+00"),
            (Form::Interval, b"1 day"),
            (Form::Interval, b"1 mon"),
            (Form::array(Form::Interval), br#"{"1 day"}"#),
            (Form::array(Form::Text), b"{\"\x01,\x02\"}"),
            (Form::array(Form::Text), b"{\x01\x02"),
            (Form::array(Form::Bytes), br#"{"\\x"}"#),
        ] {
            let mut out = String::new();
            form.write_bytes(text, &mut out).unwrap();
            assert!(out.len() <= form.most(text.len()), "{form:?} of {text:?}");
        }
        // Whatever the server can send of plain values fits a page.
        assert!(Form::Text.most(1 << 30) < model::page::Builder::TEXT_BYTES_MAX);
    }

    #[test]
    fn b029_unreadable_plain_values_are_errors() {
        for (form, text) in [
            (Form::Boolean, "true"),
            (Form::Integer, "1.5"),
            (Form::Integer, "9223372036854775808"),
            (Form::Integer, "+1"),
            (Form::Integer, ""),
            (Form::Float, "1,5"),
            (Form::Float, "nan"),
            (Form::Bytes, "abc"),
        ] {
            assert_eq!(form.write(text, &mut String::new()), Err(Unreadable), "{form:?} of {text}");
        }
    }
}
