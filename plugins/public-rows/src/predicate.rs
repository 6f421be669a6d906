//! One predicate on one column.

use std::cmp::Ordering;

use sequin_plugin::prelude::*;
use sequin_plugin::serde::{Deserialize, Deserializer};
use sequin_plugin::serde_json::Value as Json;

use crate::number::Number;
use crate::time::Time;

sequin_plugin::config! {
    /// A predicate on a column; with nothing beside the column, that it is true.
    #[derive(Default)]
    pub(crate) struct Fields {
        /// The column.
        pub(crate) column: String,
        /// It equals this boolean, number or text.
        #[serde(default, deserialize_with = "given")]
        pub(crate) equals: Option<Json>,
        /// It equals one of these.
        #[serde(rename = "in")]
        pub(crate) one_of: Option<Vec<Json>>,
        /// It is null, or it is not.
        pub(crate) null: Option<bool>,
        /// It is beyond this number or time.
        #[serde(default, deserialize_with = "given")]
        pub(crate) above: Option<Json>,
        /// It is beyond this number or time, or equals it.
        #[serde(default, deserialize_with = "given")]
        pub(crate) at_least: Option<Json>,
        /// It is before this number or time.
        #[serde(default, deserialize_with = "given")]
        pub(crate) below: Option<Json>,
        /// It is before this number or time, or equals it.
        #[serde(default, deserialize_with = "given")]
        pub(crate) at_most: Option<Json>,
    }
}

/// A field that is there, also if it is null: `equals: null` is a mistake and not the default.
pub(crate) fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

/// A predicate, ready for use.
#[derive(Debug)]
pub(crate) struct Predicate {
    pub(crate) column: String,
    tests: Vec<Test>,
}

#[derive(Debug)]
enum Test {
    OneOf(Vec<Constant>),
    Null(bool),
    Bound(Side, Bound),
}

#[derive(Debug)]
enum Constant {
    Bool(bool),
    Number(Number),
    Text(String),
}

#[derive(Debug)]
enum Bound {
    Number(Number),
    Time(Time),
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Whether a predicate holds of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    /// The value was not sent.
    Unknown,
}

impl Predicate {
    /// `place` is where the predicate stands, for what is wrong with it.
    pub(crate) fn new(fields: Fields, place: &str, wrong: &mut Vec<ConfigError>) -> Self {
        let Fields { column, equals, one_of, null, above, at_least, below, at_most } = fields;
        let mut tests = Vec::new();
        let mut test = |field: &str, test: Result<Test, &str>| match test {
            Ok(test) => tests.push(test),
            Err(message) => wrong.push(ConfigError::new(format!("{place}{field}"), message)),
        };
        if let Some(value) = equals {
            test("equals", constant(&value).map(|constant| Test::OneOf(vec![constant])));
        }
        if let Some(values) = one_of {
            test("in", constants(&values).map(Test::OneOf));
        }
        if let Some(null) = null {
            test("null", Ok(Test::Null(null)));
        }
        let sides = [
            ("above", above, Side::Above),
            ("at_least", at_least, Side::AtLeast),
            ("below", below, Side::Below),
            ("at_most", at_most, Side::AtMost),
        ];
        for (field, value, side) in sides {
            if let Some(value) = value {
                test(field, bound(&value).map(|bound| Test::Bound(side, bound)));
            }
        }
        if column.is_empty() {
            wrong.push(ConfigError::new(format!("{place}column"), "expected a name"));
        }
        if tests.is_empty() {
            tests.push(Test::OneOf(vec![Constant::Bool(true)]));
        }
        Self { column, tests }
    }

    /// # Errors
    /// If the table has no such column, or its values cannot be compared so.
    pub(crate) fn of(&self, row: &Row<'_>) -> Result<Truth, Error> {
        let field = row.field(&self.column)?;
        let value = match (field.value, &self.tests[..]) {
            (Value::Unchanged, _) => return Ok(Truth::Unknown),
            // Nearly all there is to be asked.
            (Value::Known(Datum::Bool(value)), [Test::OneOf(constants)])
                if let [Constant::Bool(wanted)] = &constants[..] =>
            {
                return Ok(if value == *wanted { Truth::True } else { Truth::False });
            }
            (Value::Null, _) => None,
            (Value::Known(value), _) => Some(value),
        };
        for test in &self.tests {
            if !self.holds(field.type_name, test, value)? {
                return Ok(Truth::False);
            }
        }
        Ok(Truth::True)
    }

    fn holds(&self, type_name: &str, test: &Test, value: Option<Datum<'_>>) -> Result<bool, Error> {
        let value = match (test, value) {
            (Test::Null(null), value) => return Ok(value.is_none() == *null),
            (_, None) => return Ok(false),
            (_, Some(value)) => value,
        };
        let held = match test {
            Test::Null(_) => None,
            // Of one type all of them, so the first says whether they can be compared.
            Test::OneOf(constants) => constants.iter().try_fold(false, |found, constant| {
                Some(found || equal(value, type_name, constant)?)
            }),
            Test::Bound(side, bound) => {
                compare(value, type_name, bound).map(|ordering| side.holds(ordering))
            }
        };
        held.ok_or_else(|| {
            let with = match test {
                Test::OneOf(constants) => constants.first().map_or("this", Constant::what),
                Test::Bound(_, Bound::Number(_)) => "a number",
                Test::Bound(_, Bound::Time(_)) | Test::Null(_) => "a time",
            };
            Error::column(
                &self.column,
                format!(
                    "it is of type {type_name}, or has a value, that cannot be compared with {with}"
                ),
            )
        })
    }
}

impl Side {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Above => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
            Self::Below => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
        }
    }
}

impl Constant {
    fn what(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
        }
    }
}

fn equal(value: Datum<'_>, type_name: &str, constant: &Constant) -> Option<bool> {
    match (value, constant) {
        (Datum::Bool(value), Constant::Bool(wanted)) => Some(value == *wanted),
        (Datum::Text(value), Constant::Text(wanted)) => Some(value == wanted),
        (_, Constant::Number(wanted)) => number(value, type_name, wanted).map(Ordering::is_eq),
        _ => None,
    }
}

fn compare(value: Datum<'_>, type_name: &str, bound: &Bound) -> Option<Ordering> {
    match (bound, value) {
        (Bound::Number(bound), value) => number(value, type_name, bound),
        (Bound::Time(bound), Datum::Text(value)) => match type_name {
            "date" | "timestamp" | "timestamptz" => Some(Time::read(value)?.cmp(bound)),
            _ => None,
        },
        (Bound::Time(_), _) => None,
    }
}

fn number(value: Datum<'_>, type_name: &str, with: &Number) -> Option<Ordering> {
    match value {
        Datum::Int(value) => Some(with.than_int(value)),
        Datum::Float(value) => Some(with.than_float(value)),
        Datum::Text(value) if type_name == "numeric" => with.than_text(value),
        _ => None,
    }
}

fn constant(value: &Json) -> Result<Constant, &'static str> {
    let number = || Number::read(&value.to_string()).map(Constant::Number);
    match value {
        Json::Bool(value) => Ok(Constant::Bool(*value)),
        Json::String(value) => Ok(Constant::Text(value.clone())),
        Json::Number(_) => number().ok_or("expected a number without an exponent"),
        _ => Err("expected a boolean, a number or a text"),
    }
}

fn constants(values: &[Json]) -> Result<Vec<Constant>, &'static str> {
    if values.is_empty() {
        return Err("expected one value or more");
    }
    let constants: Vec<_> = values.iter().map(constant).collect::<Result<_, _>>()?;
    let mixed = constants.iter().any(|constant| constant.what() != constants[0].what());
    if mixed { Err("expected values of one type") } else { Ok(constants) }
}

fn bound(value: &Json) -> Result<Bound, &'static str> {
    let read = match value {
        Json::Number(_) => Number::read(&value.to_string()).map(Bound::Number),
        Json::String(text) => Time::read(text).map(Bound::Time),
        _ => None,
    };
    read.ok_or("expected a number without an exponent, or a time such as 2024-01-02T03:04:05Z")
}
