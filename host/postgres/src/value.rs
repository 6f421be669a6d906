//! From Postgres' text form of a value to its canonical text: the one place where a type's looks
//! are decided, streamed or not.
//!
//! | type | canonical text |
//! |---|---|
//! | `bool` | `true`, `false` |
//! | `int2` `int4` `int8` `oid` | digits |
//! | `float4` `float8` | JSON number as Postgres prints it; `NaN`, `Infinity`, `-Infinity` |
//! | `json` `jsonb` | verbatim: no digit, no order and no duplicate key is lost |
//! | `bytea` | `\x` and hexadecimal digits |
//! | `timestamp` `timestamptz` | `2024-01-02T03:04:05.123456`, with `Z`; years that ISO 8601 cannot say in four digits and infinities as Postgres prints them |
//! | `interval` | `{"months":14,"days":-3,"microseconds":1}`; `"infinity"` |
//! | `vector` `halfvec` | JSON array of numbers |
//! | arrays | nested JSON arrays, elements by these same rules, NULL as `null` |
//! | domains | as their base type |
//! | all others | verbatim, also `numeric`, dates, times with their offset, enums, ranges |
//!
//! It relies on the session that `wire` pins: ISO dates, UTC, hexadecimal bytes. It appends to a
//! buffer and allocates nothing but for escaped array elements.

pub(crate) mod array;
pub(crate) mod form;
mod interval;
mod number;
mod time;

use model::json;
use model::relation::Kind;

pub(crate) use form::Form;

/// The text does not have the form its type must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text that is no value of its type")]
pub(crate) struct Unreadable;

/// A value was written although it was [`Unreadable`]: as a JSON string of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    AsIs,
    AsText,
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

    /// Appends the canonical text of `text`. A JSON form takes text that it cannot read as a JSON
    /// string: only that value differs, and the caller can say so.
    ///
    /// # Errors
    /// A form that has no such way out cannot read the text: the frame is corrupt. `out` may have
    /// got a part of it.
    pub(crate) fn write(&self, text: &str, out: &mut String) -> Result<Written, Unreadable> {
        match self {
            Self::Text | Self::Json => out.push_str(text),
            Self::Boolean => out.push_str(boolean(text)?),
            Self::Integer => out.push_str(number::integer(text)?),
            Self::Float => out.push_str(number::float(text)?),
            Self::Bytes if text.starts_with("\\x") => out.push_str(text),
            Self::Bytes => return Err(Unreadable),
            Self::Timestamp | Self::TimestampTz => {
                if !time::write(text, *self == Self::TimestampTz, out) {
                    out.push_str(text);
                }
            }
            Self::Interval | Self::Vector | Self::Array(_) => {
                let start = out.len();
                if self.write_composed(text, out).is_err() {
                    out.truncate(start);
                    json::string(out, text);
                    return Ok(Written::AsText);
                }
            }
        }
        Ok(Written::AsIs)
    }

    /// Appends the value as JSON: an element of an array.
    pub(crate) fn write_json(&self, text: &str, out: &mut String) -> Result<(), Unreadable> {
        match self {
            Self::Text => json::string(out, text),
            Self::Json => out.push_str(text),
            Self::Boolean => out.push_str(boolean(text)?),
            Self::Integer => out.push_str(number::integer(text)?),
            Self::Float => match number::float(text)? {
                "NaN" | "Infinity" | "-Infinity" => json::string(out, text),
                number => out.push_str(number),
            },
            Self::Bytes if text.starts_with("\\x") => json::string(out, text),
            Self::Bytes => return Err(Unreadable),
            Self::Timestamp | Self::TimestampTz => {
                let start = out.len();
                out.push('"');
                if time::write(text, *self == Self::TimestampTz, out) {
                    // Digits and ISO's own signs need no escape.
                    out.push('"');
                } else {
                    out.truncate(start);
                    json::string(out, text);
                }
            }
            Self::Interval | Self::Vector | Self::Array(_) => self.write_composed(text, out)?,
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

fn boolean(text: &str) -> Result<&'static str, Unreadable> {
    match text {
        "t" => Ok("true"),
        "f" => Ok("false"),
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
        assert_eq!(written, Ok(Written::AsIs), "{form:?} of {text}");
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
            assert_eq!(form.write(text, &mut out), Ok(Written::AsText));
            let mut expected = String::from("before");
            json::string(&mut expected, text);
            assert_eq!(out, expected);
        }
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
