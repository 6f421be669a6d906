//! Which form a type's values have.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::{Kind, Type};

/// A chain of domains over arrays over domains ends somewhere; this is far beyond any real one.
pub(crate) const DEPTH_MAX: u32 = 32;

/// How the text of a type's values is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Boolean,
    Integer,
    Float,
    /// Passed through, as all types that need no other form.
    Text,
    Json,
    Bytes,
    Timestamp,
    TimestampTz,
    Interval,
    /// pgvector's `vector` and `halfvec`.
    Vector,
    Array(Box<Array>),
}

/// An array type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    pub(crate) element: Form,
    /// Between elements: `,` but for `box`, which has it inside.
    pub(crate) delimiter: u8,
}

/// What the catalog knows of a type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeFact {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// Between two of it in an array.
    pub(crate) delimiter: u8,
}

/// What stands behind a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Another type, with constraints.
    Domain { base: u32 },
    /// Elements of another type.
    Array { element: u32 },
    /// pgvector's `vector` or `halfvec`.
    Vector,
    /// Enums, composites, ranges, types of extensions.
    Other,
}

impl Form {
    /// An array of this with commas, as nearly all are.
    #[cfg(test)]
    pub(crate) fn array(element: Self) -> Self {
        Self::Array(Box::new(Array { element, delimiter: b',' }))
    }

    /// The form of a type and Postgres' name of it. A type that nothing is known of (it was
    /// dropped since) passes as text.
    pub(crate) fn of(oid: u32, facts: &HashMap<u32, TypeFact>) -> (Self, Arc<str>) {
        let name = match (builtin(oid), facts.get(&oid)) {
            (Some(known), _) => known.name().into(),
            (None, Some(fact)) => fact.name.as_str().into(),
            (None, None) => "unknown".into(),
        };
        (resolve(oid, facts, DEPTH_MAX), name)
    }
}

/// A type that is the same on every server. `information_schema` and later additions are not among
/// them: the catalog knows those.
pub(crate) fn builtin(oid: u32) -> Option<Type> {
    Type::from_oid(oid)
}

fn resolve(oid: u32, facts: &HashMap<u32, TypeFact>, depth: u32) -> Form {
    let Some(depth) = depth.checked_sub(1) else { return Form::Text };
    let Some(known) = builtin(oid) else {
        let Some(fact) = facts.get(&oid) else { return Form::Text };
        return match fact.shape {
            Shape::Domain { base } => resolve(base, facts, depth),
            Shape::Array { element } => array(element, facts, depth),
            Shape::Vector => Form::Vector,
            Shape::Other => Form::Text,
        };
    };
    match known {
        Type::BOOL => Form::Boolean,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Form::Integer,
        Type::FLOAT4 | Type::FLOAT8 => Form::Float,
        Type::JSON | Type::JSONB => Form::Json,
        Type::BYTEA => Form::Bytes,
        Type::TIMESTAMP => Form::Timestamp,
        Type::TIMESTAMPTZ => Form::TimestampTz,
        Type::INTERVAL => Form::Interval,
        // Elements like an array's, but a text form of their own: `1 2 3`.
        Type::INT2_VECTOR | Type::OID_VECTOR => Form::Text,
        _ => match known.kind() {
            Kind::Array(element) => array(element.oid(), facts, depth),
            _ => Form::Text,
        },
    }
}

fn array(element: u32, facts: &HashMap<u32, TypeFact>, depth: u32) -> Form {
    let delimiter = match facts.get(&element) {
        Some(fact) => fact.delimiter,
        None if element == Type::BOX.oid() => b';',
        None => b',',
    };
    Form::Array(Box::new(Array { element: resolve(element, facts, depth), delimiter }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HashMap<u32, TypeFact> {
        let fact = |name: &str, shape| TypeFact { name: name.to_owned(), shape, delimiter: b',' };
        HashMap::from([
            (90_000, fact("mood", Shape::Other)),
            (90_001, fact("_mood", Shape::Array { element: 90_000 })),
            (90_002, fact("positive", Shape::Domain { base: 23 })),
            (90_003, fact("positives", Shape::Domain { base: 90_004 })),
            (90_004, fact("_positive", Shape::Array { element: 90_002 })),
            (90_005, fact("loop", Shape::Domain { base: 90_005 })),
            (90_006, fact("vector", Shape::Vector)),
            (90_007, fact("vector", Shape::Other)),
        ])
    }

    #[test]
    fn b057_b058_types_resolve_to_what_stands_behind_them() {
        let integers = Form::array(Form::Integer);
        for (oid, form, name) in [
            (23, Form::Integer, "int4"),
            (1700, Form::Text, "numeric"),
            (1184, Form::TimestampTz, "timestamptz"),
            (1007, integers.clone(), "_int4"),
            (22, Form::Text, "int2vector"),
            (90_000, Form::Text, "mood"),
            (90_001, Form::array(Form::Text), "_mood"),
            (90_002, Form::Integer, "positive"),
            (90_003, integers.clone(), "positives"),
            (90_005, Form::Text, "loop"),
            (90_006, Form::Vector, "vector"),
            (90_007, Form::Text, "vector"),
            (99_999, Form::Text, "unknown"),
        ] {
            assert_eq!(Form::of(oid, &facts()), (form, name.into()), "{oid}");
        }
        let boxes = Array { element: Form::Text, delimiter: b';' };
        assert_eq!(Form::of(1020, &facts()).0, Form::Array(Box::new(boxes)));
    }
}
