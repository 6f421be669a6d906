//! What the values of a row must be like: conditions over single columns, judged exactly, without a
//! sandbox.
//!
//! All must hold. As in SQL, a comparison with null is neither true nor false, so the row does not
//! pass: `!=` and `not in` included. What was not sent (columns of a deleted row that are not part of
//! its replica identity, values that an update did not touch) is not null but not known, and such a
//! condition lets the row pass: nothing is left out by guessing. A value that cannot be compared (a
//! text with a condition over numbers, say) is an error of its row.

mod decimal;
mod found;
mod instant;

use std::cmp::Ordering;

use crate::BoxFuture;
use crate::change::Change;
use crate::plugin::{Fault, Outcome, Plugin, PluginError, Rows};
use decimal::Decimal;
use found::Found;
use instant::Instant;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    column: Box<str>,
    /// Keys and indexes that lead into a JSON document; none: the value of the column itself.
    path: Vec<Box<str>>,
    test: Test,
}

/// What values are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Texts, character by character.
    Text,
    /// Texts, where upper and lower case are the same.
    CaseInsensitive,
    /// Numbers of any size, without rounding.
    Number,
    /// `true` and `false`.
    Boolean,
    /// Points in time; one without an offset is in UTC, a date is its first moment.
    Time,
    /// Arrays of texts.
    List,
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `in`: it is one of several; of an array, one of its items is.
    In,
    /// `not in`.
    NotIn,
    /// `is null`; also where nothing stands at a path.
    IsNull,
    /// `is not null`.
    IsNotNull,
}

/// What a value is compared with, as its owner wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Nothing: for `is null` and `is not null`.
    None,
    /// One value.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// Why there is no such condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// This operator makes no sense of values of this type.
    #[error("`{operator}` does not go with {field_type}")]
    Operator {
        /// The operator.
        operator: &'static str,
        /// The type.
        field_type: &'static str,
    },
    /// The operand is none for this operator.
    #[error("`{operator}` takes {wanted}")]
    Operand {
        /// The operator.
        operator: &'static str,
        /// What it takes.
        wanted: &'static str,
    },
    /// An operand is none of this type. It may be a secret, and is not shown.
    #[error("what it is compared with is no {field_type}")]
    Value {
        /// The type.
        field_type: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Null(bool),
    Compare(Operator, Typed),
    /// Whether it must be among them.
    OneOf(bool, Vec<Typed>),
    /// Whether the array must be the same.
    Same(bool, Vec<Box<str>>),
}

/// An operand by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Typed {
    Text(Box<str>),
    Lower(Box<str>),
    Number(Decimal),
    Boolean(bool),
    Time(Instant),
}

/// What a condition says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// The value was not sent.
    Unsent,
}

/// A value that cannot be compared; says nothing of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mismatch(&'static str);

impl FieldType {
    /// As configurations have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::CaseInsensitive => "cistring",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Time => "datetime",
            Self::List => "list",
        }
    }
}

impl Operator {
    /// As configurations have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::IsNull => "is null",
            Self::IsNotNull => "is not null",
        }
    }

    const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::In | Self::NotIn | Self::IsNull | Self::IsNotNull => false,
        }
    }
}

impl Condition {
    /// A condition over a column, or over what stands at `path` in its JSON: keys of objects, indexes
    /// of arrays from 0.
    ///
    /// # Errors
    /// Type, operator and operand do not go together.
    pub fn new(
        column: &str,
        path: Vec<Box<str>>,
        field_type: FieldType,
        operator: Operator,
        operand: &Operand,
    ) -> Result<Self, InvalidCondition> {
        let test = Test::new(field_type, operator, operand)?;
        Ok(Self { column: column.into(), path, test })
    }

    /// The column that it is about.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }

    fn judge(&self, change: &Change) -> Result<Answer, Mismatch> {
        let Some(row) = change.row() else { return Ok(Answer::Yes) };
        let found = found::find(&change.relation, row, &self.column, &self.path)?;
        Ok(match (self.test.judge(&found)?, found) {
            (_, Found::Unsent) => Answer::Unsent,
            (true, _) => Answer::Yes,
            (false, _) => Answer::No,
        })
    }
}

impl Test {
    fn new(
        field_type: FieldType,
        operator: Operator,
        operand: &Operand,
    ) -> Result<Self, InvalidCondition> {
        use Operator::{Equal, In, IsNotNull, IsNull, NotEqual, NotIn};
        let wanted = |wanted| InvalidCondition::Operand { operator: operator.as_str(), wanted };
        match operator {
            IsNull | IsNotNull => match operand {
                Operand::None => Ok(Self::Null(operator == IsNull)),
                _ => Err(wanted("no comparison_value")),
            },
            In | NotIn => match operand {
                Operand::Several(values) if !values.is_empty() => {
                    let of =
                        if field_type == FieldType::List { FieldType::Text } else { field_type };
                    let typed: Result<_, _> =
                        values.iter().map(|value| Typed::new(of, value)).collect();
                    Ok(Self::OneOf(operator == In, typed?))
                }
                _ => Err(wanted("a list with at least one value")),
            },
            _ if field_type == FieldType::List => match (operator, operand) {
                (Equal | NotEqual, Operand::Several(values)) => {
                    let values = values.iter().map(|value| value.as_str().into()).collect();
                    Ok(Self::Same(operator == Equal, values))
                }
                (Equal | NotEqual, _) => Err(wanted("a list, as it is of field_type list")),
                _ => Err(not_with(operator, field_type)),
            },
            _ if field_type == FieldType::Boolean && !matches!(operator, Equal | NotEqual) => {
                Err(not_with(operator, field_type))
            }
            _ => match operand {
                Operand::One(value) => Ok(Self::Compare(operator, Typed::new(field_type, value)?)),
                _ => Err(wanted("one value")),
            },
        }
    }

    /// False also of a comparison with null.
    fn judge(&self, found: &Found<'_>) -> Result<bool, Mismatch> {
        Ok(match (self, found) {
            (Self::Null(wanted), found) => *wanted == matches!(found, Found::Null),
            (_, Found::Null | Found::Unsent) => false,
            (Self::Compare(operator, typed), Found::One(text)) => {
                operator.holds(typed.order(text)?)
            }
            (Self::OneOf(wanted, all), Found::One(text)) => is_one_of(all, text)? == *wanted,
            (Self::OneOf(wanted, all), Found::Many(items)) => {
                // As in SQL: with a null among them it is not known whether one is.
                let mut any = false;
                for item in items.iter().flatten() {
                    any = any || is_one_of(all, item)?;
                }
                any == *wanted && (any || !items.iter().any(Option::is_none))
            }
            (Self::Same(wanted, all), Found::Many(items)) => {
                let same = items.len() == all.len()
                    && items.iter().zip(all).all(|(item, wanted)| item.as_deref() == Some(wanted));
                same == *wanted
            }
            (Self::Same(..), Found::One(_)) => return Err(Mismatch("no array")),
            (Self::Compare(..), Found::Many(_)) => return Err(Mismatch("an array")),
            (_, Found::Object) => return Err(Mismatch("a JSON object")),
        })
    }
}

fn not_with(operator: Operator, field_type: FieldType) -> InvalidCondition {
    InvalidCondition::Operator { operator: operator.as_str(), field_type: field_type.as_str() }
}

fn is_one_of(all: &[Typed], text: &str) -> Result<bool, Mismatch> {
    for typed in all {
        if typed.order(text)?.is_eq() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Typed {
    fn new(field_type: FieldType, written: &str) -> Result<Self, InvalidCondition> {
        let read = match field_type {
            FieldType::Text | FieldType::List => Some(Self::Text(written.into())),
            FieldType::CaseInsensitive => Some(Self::Lower(written.to_lowercase().into())),
            FieldType::Number => Decimal::read(written).map(Self::Number),
            FieldType::Boolean => boolean(written).map(Self::Boolean),
            FieldType::Time => Instant::read(written).map(Self::Time),
        };
        read.ok_or(InvalidCondition::Value { field_type: field_type.as_str() })
    }

    /// Where the value of the row stands beside this.
    fn order(&self, text: &str) -> Result<Ordering, Mismatch> {
        Ok(match self {
            Self::Text(wanted) => text.cmp(wanted),
            Self::Lower(wanted) => text.to_lowercase().as_str().cmp(wanted),
            Self::Number(wanted) => Decimal::read(text).ok_or(Mismatch("no number"))?.cmp(wanted),
            Self::Boolean(wanted) => boolean(text).ok_or(Mismatch("no boolean"))?.cmp(wanted),
            Self::Time(wanted) => Instant::read(text).ok_or(Mismatch("no time"))?.cmp(wanted),
        })
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Conditions in the place of a filter: rows that meet all of them are kept.
#[derive(Debug)]
pub struct Conditions {
    all: Vec<Condition>,
    digest: String,
}

impl Conditions {
    /// The name that they have in letters and metrics: no function can have it.
    pub const NAME: &'static str = "column filters";

    /// All of these.
    #[must_use]
    pub fn new(all: Vec<Condition>) -> Self {
        use sha2::Digest as _;
        let hash: [u8; 32] = sha2::Sha256::digest(format!("{all:?}")).into();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { all, digest: format!("sha256:{hex}") }
    }

    fn judge(&self, change: &Change) -> Result<Outcome, PluginError> {
        let mut wrong = None;
        for condition in &self.all {
            match condition.judge(change) {
                Ok(Answer::Yes | Answer::Unsent) => {}
                // As in SQL: what is false stays so, whatever the others are.
                Ok(Answer::No) => return Ok(Outcome::Drop),
                Err(Mismatch(what)) => _ = wrong.get_or_insert((&condition.column, what)),
            }
        }
        match wrong {
            None => Ok(Outcome::Keep),
            Some((column, what)) => {
                let message =
                    format!("the column `{column}` holds {what}: its filter cannot compare it");
                Err(PluginError { fault: Fault::Guest, message })
            }
        }
    }
}

impl Plugin for Conditions {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn judges_deletes(&self) -> bool {
        true
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        Box::pin(async move { rows.changes.iter().map(|change| self.judge(change)).collect() })
    }
}

#[cfg(test)]
mod tests;
