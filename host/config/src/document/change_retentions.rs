//! `change_retentions[]`.

use std::fmt;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::keys;
use super::sinks::{Action, Status};
use crate::diagnostic::Report;
use crate::tree::{self, Node};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRetention {
    #[serde(rename = "name")]
    _name: String,
    pub(crate) status: Option<Status>,
    pub(crate) source_database: String,
    pub(crate) source_table_schema: Option<String>,
    pub(crate) source_table_name: String,
    pub(crate) destination_database: String,
    pub(crate) destination_table_schema: Option<String>,
    pub(crate) destination_table_name: String,
    /// Ours.
    #[serde(default)]
    pub(crate) create_if_not_exists: bool,
    pub(crate) actions: Option<Vec<Action>>,
    pub(crate) filters: Option<Vec<Filter>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    pub(crate) column_name: String,
    pub(crate) field_path: Option<String>,
    pub(crate) field_type: Option<FieldType>,
    pub(crate) operator: Operator,
    pub(crate) comparison_value: Option<Comparison>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FieldType {
    String,
    CiString,
    Number,
    Boolean,
    DateTime,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Operator {
    #[serde(rename = "==")]
    Equal,
    /// The other word for it.
    #[serde(rename = "=")]
    Same,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">=")]
    GreaterOrEqual,
    #[serde(rename = "<=")]
    LessOrEqual,
    #[serde(rename = "in")]
    In,
    #[serde(rename = "not in")]
    NotIn,
    #[serde(rename = "is null")]
    IsNull,
    #[serde(rename = "is not null")]
    IsNotNull,
}

/// What a value is compared with.
pub(crate) enum Comparison {
    One(Scalar),
    Several(Vec<Scalar>),
}

/// As it was written; a number as its digits.
pub(crate) enum Scalar {
    Text(String),
    Number(String),
    Boolean(bool),
}

impl<'de> Deserialize<'de> for Comparison {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarOrList;

        impl<'de> Visitor<'de> for ScalarOrList {
            type Value = Comparison;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false, or a list of them")
            }

            /// Something wrong that was told already.
            fn visit_unit<E: Error>(self) -> Result<Comparison, E> {
                Ok(Comparison::One(Scalar::Text(String::new())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Comparison, E> {
                AnyScalar.visit_str(text).map(Comparison::One)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Comparison, E> {
                AnyScalar.visit_bool(value).map(Comparison::One)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Comparison, E> {
                AnyScalar.visit_i64(number).map(Comparison::One)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Comparison, E> {
                AnyScalar.visit_u64(number).map(Comparison::One)
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Comparison, E> {
                AnyScalar.visit_f64(number).map(Comparison::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Comparison, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Comparison::Several(items))
            }
        }

        deserializer.deserialize_any(ScalarOrList)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl Visitor<'_> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true or false")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        if number.is_finite() {
            return Ok(Scalar::Number(number.to_string()));
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }
}

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<ChangeRetention> {
    keys::leftover(&mut node, &keys::EXPORTED, report);
    keys::leftover(&mut node, &LEFTOVERS, report);
    tree::read(&node, report)
}

/// What answers of the API hold beside what was written.
pub(crate) const LEFTOVERS: [&str; 1] = ["health"];
