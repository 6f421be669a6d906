//! The type of a column that a plugin sets.

use crate::bindings::types::Data;

/// Which case of [`Data`] a column has.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Bool,
    Int,
    Float,
    Text,
    Json,
    Bytes,
}

impl Shape {
    pub(crate) fn of(data: &Data) -> Self {
        match data {
            Data::Booleans(_) => Self::Bool,
            Data::Integers(_) => Self::Int,
            Data::Floats(_) => Self::Float,
            Data::Texts(_) => Self::Text,
            Data::Json(_) => Self::Json,
            Data::Bytes(_) => Self::Bytes,
        }
    }

    /// As many entries as there are rows, for values to be put over.
    pub(crate) fn data(self, rows: usize) -> Data {
        match self {
            Self::Bool => Data::Booleans(vec![false; rows]),
            Self::Int => Data::Integers(vec![0; rows]),
            Self::Float => Data::Floats(vec![0.0; rows]),
            Self::Text => Data::Texts(vec![String::new(); rows]),
            Self::Json => Data::Json(vec![String::new(); rows]),
            Self::Bytes => Data::Bytes(vec![Vec::new(); rows]),
        }
    }
}
