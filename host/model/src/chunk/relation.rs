//! Relation versions as bytes, named by their hash.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::bytes::{Bytes, push_number, push_text};
use super::{Corrupt, VERSION};
use crate::relation::{Ancestor, Column, Identity, Kind, Relation, Rendered};

/// What a relation version is, in short: the first half of the SHA-256 of its bytes. Two versions of
/// which nothing differs have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationHash(pub [u8; 16]);

impl fmt::Debug for RelationHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl RelationHash {
    /// The name of these bytes of a relation version.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(Sha256::digest(bytes)) {
            *to = from;
        }
        Self(hash)
    }
}

impl Relation {
    /// All of it, for the change log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { oid, schema, table, ancestors, identity, columns, rendered: _ } = self;
        let mut out = vec![VERSION];
        push_number(&mut out, (*oid).into());
        push_text(&mut out, schema);
        push_text(&mut out, table);
        push_number(&mut out, ancestors.len() as u64);
        for ancestor in ancestors {
            push_number(&mut out, ancestor.oid.into());
            push_text(&mut out, &ancestor.schema);
            push_text(&mut out, &ancestor.table);
        }
        out.push(match identity {
            Identity::Default => 0,
            Identity::Index => 1,
            Identity::Full => 2,
            Identity::Nothing => 3,
        });
        push_number(&mut out, columns.len() as u64);
        for column in columns {
            push_text(&mut out, &column.name);
            push_text(&mut out, &column.type_name);
            let kind = Kind::ALL.iter().position(|kind| *kind == column.kind).unwrap_or_default();
            out.push((kind as u8) << 1 | u8::from(column.key));
        }
        out
    }

    /// What [`Relation::to_bytes`] wrote.
    ///
    /// # Errors
    /// These are no bytes of a relation version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut bytes = Bytes(bytes);
        if bytes.byte()? != VERSION {
            return Err(Corrupt("a relation of an unknown version"));
        }
        let oid = |bytes: &mut Bytes<'_>| {
            u32::try_from(bytes.number()?).map_err(|_| Corrupt("an oid is too large"))
        };
        let text = |bytes: &mut Bytes<'_>| Ok::<Arc<str>, Corrupt>(bytes.text()?.into());
        let table_oid = oid(&mut bytes)?;
        let (schema, table) = (text(&mut bytes)?, text(&mut bytes)?);
        let ancestors = (0..bytes.count()?).map(|_| {
            let (oid, schema) = (oid(&mut bytes)?, text(&mut bytes)?);
            Ok(Ancestor { oid, schema, table: text(&mut bytes)? })
        });
        let ancestors = ancestors.collect::<Result<Vec<_>, Corrupt>>()?;
        let identity = match bytes.byte()? {
            0 => Identity::Default,
            1 => Identity::Index,
            2 => Identity::Full,
            3 => Identity::Nothing,
            _ => return Err(Corrupt("an unknown replica identity")),
        };
        let columns = (0..bytes.count()?).map(|_| {
            let (name, type_name) = (text(&mut bytes)?, text(&mut bytes)?);
            let bits = bytes.byte()?;
            let kind = Kind::ALL.get(usize::from(bits >> 1)).copied();
            let kind = kind.ok_or(Corrupt("an unknown kind of column"))?;
            Ok(Column { name, kind, type_name, key: bits & 1 == 1 })
        });
        let columns = columns.collect::<Result<Vec<_>, Corrupt>>()?;
        if !bytes.0.is_empty() {
            return Err(Corrupt("a relation is followed by more"));
        }
        let rendered = Rendered::default();
        Ok(Self { oid: table_oid, schema, table, ancestors, identity, columns, rendered })
    }
}
