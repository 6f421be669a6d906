//! Messages as they stand on the disk while they wait behind one that failed: bytes that this process
//! alone reads back. What many of them share stays in memory.

use std::sync::Arc;

use model::change::Operation;
use model::groups::{GroupKey, Groups};
use model::lsn::Lsn;
use model::message::{Effect, Message, idempotency_key};
use model::position::Position;
use model::relation::Relation;
use model::route::{Route, RouteValue};

use crate::lane::Ticket;

/// Messages that are written at once.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    bytes: Vec<u8>,
    shared: &'a mut Shared,
}

/// What the messages of one sink share that are on the disk. It stays in memory until none is there.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    relations: Vec<Arc<Relation>>,
    /// Of one sink all have the same.
    scope: Option<Arc<str>>,
}

/// As they are numbered.
const OPERATIONS: [Operation; 5] =
    [Operation::Insert, Operation::Update, Operation::Delete, Operation::Read, Operation::Truncate];

impl<'a> Writer<'a> {
    pub(crate) fn new(shared: &'a mut Shared) -> Self {
        Self { bytes: Vec::new(), shared }
    }

    /// How many bytes there are by now.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, ticket: Ticket, message: &Message) {
        self.shared.scope.get_or_insert_with(|| Arc::clone(&message.scope));
        let relation = message.relation.as_ref().map(|relation| self.shared.relation(relation));
        let Message {
            position,
            output,
            groups,
            rows,
            operation,
            effect,
            key,
            payload,
            partial,
            route,
            ..
        } = message;
        for number in [ticket.0, position.commit_lsn.0, position.ordinal, (*output).into()] {
            self.number(number);
        }
        self.groups(*groups);
        self.groups(*rows);
        self.number(relation.map_or(0, |index| index as u64 + 1));
        let operation = operation.map(|it| OPERATIONS.iter().position(|known| *known == it));
        self.number(operation.flatten().map_or(0, |index| index as u64 + 1));
        self.byte(match effect {
            Effect::Write => 0,
            Effect::Complete => 1,
            Effect::Remove => 2,
        });
        self.byte(u8::from(*partial));
        self.byte(u8::from(key.is_some()));
        self.text(key.as_deref().unwrap_or_default());
        self.text(payload);
        self.byte(u8::from(route.is_some()));
        let keys: Vec<_> = route.iter().flat_map(|route| route.keys()).collect();
        self.number(keys.len() as u64);
        for (name, value) in keys {
            self.text(name);
            match value {
                RouteValue::Null => self.byte(0),
                RouteValue::Boolean(value) => {
                    self.byte(1);
                    self.byte(u8::from(*value));
                }
                RouteValue::Integer(value) => {
                    self.byte(2);
                    self.bytes.extend_from_slice(&value.to_le_bytes());
                }
                RouteValue::Text(text) => {
                    self.byte(3);
                    self.text(text);
                }
                RouteValue::Json(json) => {
                    self.byte(4);
                    self.text(json);
                }
            }
        }
    }

    /// All of them.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn groups(&mut self, groups: Groups) {
        let count = groups.keys().count();
        self.byte(if groups == Groups::All { u8::MAX } else { u8::try_from(count).unwrap_or(0) });
        for key in groups.keys() {
            self.number(key.0);
        }
    }
}

impl Shared {
    fn relation(&mut self, relation: &Arc<Relation>) -> usize {
        let known = self.relations.iter().rposition(|known| Arc::ptr_eq(known, relation));
        known.unwrap_or_else(|| {
            self.relations.push(Arc::clone(relation));
            self.relations.len() - 1
        })
    }

    /// The messages again. None if the bytes are not those that were written.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<Vec<(Ticket, Message)>> {
        let mut reader = Reader(bytes);
        let mut messages = Vec::new();
        while !reader.0.is_empty() {
            messages.push(reader.message(self)?);
        }
        Some(messages)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn message(&mut self, shared: &Shared) -> Option<(Ticket, Message)> {
        let ticket = Ticket(self.number()?);
        let position = Position::new(Lsn(self.number()?), self.number()?);
        let output = u32::try_from(self.number()?).ok()?;
        let (groups, rows) = (self.groups()?, self.groups()?);
        let relation = match usize::try_from(self.number()?).ok()?.checked_sub(1) {
            Some(index) => Some(Arc::clone(shared.relations.get(index)?)),
            None => None,
        };
        let operation = match usize::try_from(self.number()?).ok()?.checked_sub(1) {
            Some(index) => Some(*OPERATIONS.get(index)?),
            None => None,
        };
        let effect = match self.byte()? {
            0 => Effect::Write,
            1 => Effect::Complete,
            2 => Effect::Remove,
            _ => return None,
        };
        let (partial, has_key) = (self.byte()? == 1, self.byte()? == 1);
        let (key, payload) = (self.text()?, self.text()?);
        let has_route = self.byte()? == 1;
        let mut route = Route::default();
        for _ in 0..self.number()? {
            let name = self.text()?;
            route.set(name.into(), self.route_value()?);
        }
        let message = Message {
            position,
            output,
            groups,
            rows,
            relation,
            operation,
            effect,
            key: has_key.then(|| key.into()),
            payload: payload.into(),
            partial,
            route: has_route.then(|| Arc::new(route)),
            idempotency_key: idempotency_key(position, output),
            scope: Arc::clone(shared.scope.as_ref()?),
        };
        Some((ticket, message))
    }

    fn route_value(&mut self) -> Option<RouteValue> {
        Some(match self.byte()? {
            0 => RouteValue::Null,
            1 => RouteValue::Boolean(self.byte()? == 1),
            2 => RouteValue::Integer(i64::from_le_bytes(self.take()?)),
            3 => RouteValue::Text(self.text()?.into()),
            4 => RouteValue::Json(self.text()?.into()),
            _ => return None,
        })
    }

    fn groups(&mut self) -> Option<Groups> {
        let count = self.byte()?;
        if count == u8::MAX {
            return Some(Groups::All);
        }
        let mut keys = [None; 4];
        for place in keys.get_mut(..count.into())? {
            *place = Some(GroupKey(self.number()?));
        }
        Some(Groups::among(keys))
    }

    fn byte(&mut self) -> Option<u8> {
        let [byte] = self.take()?;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::log::changes;

    fn messages() -> Vec<(Ticket, Message)> {
        let relation = Arc::clone(&changes(1, 0)[0].relation);
        let (one, two) = (GroupKey(u64::MAX), GroupKey(3));
        let all = [
            Groups::None,
            Groups::One(one),
            Groups::Two(one, two),
            Groups::among([Some(one), Some(two), Some(GroupKey(4)), Some(GroupKey(5))]),
            Groups::All,
        ];
        let keys = [
            ("flag", RouteValue::Boolean(true)),
            ("n", RouteValue::Integer(-7)),
            ("topic", RouteValue::Text("a \"b\"".into())),
            ("headers", RouteValue::Json("{\"a\":1}".into())),
        ];
        let route = Route::new(keys.map(|(key, value)| (key.into(), value)));
        let effects = [Effect::Write, Effect::Complete, Effect::Remove];
        let message = |n: usize| {
            let position = Position::new(Lsn(n as u64), 7);
            let output = u32::try_from(n).unwrap();
            Message {
                position,
                output,
                groups: all[n % 5],
                rows: all[(n + 1) % 5],
                relation: (!n.is_multiple_of(3)).then(|| Arc::clone(&relation)),
                operation: OPERATIONS.get(n % 6).copied(),
                effect: effects[n % 3],
                key: n.is_multiple_of(2).then(|| "ключ".into()),
                payload: ["", "{\"a\": 1e400}", "no JSON"][n % 3].into(),
                partial: n.is_multiple_of(4),
                route: (!n.is_multiple_of(2)).then(|| Arc::new(route.clone())),
                idempotency_key: idempotency_key(position, output),
                scope: "scope".into(),
            }
        };
        (0..30).map(|n| (Ticket(n as u64 * 3), message(n))).collect()
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let messages = messages();
        let mut shared = Shared::default();
        let mut writer = Writer::new(&mut shared);
        messages.iter().for_each(|(ticket, message)| writer.push(*ticket, message));
        let bytes = writer.finish();
        assert_eq!(shared.read(&bytes), Some(messages));
        assert_eq!(shared.relations.len(), 1, "what they share stays one object");
    }

    #[test]
    fn other_bytes_are_no_messages() {
        let mut shared = Shared::default();
        let mut writer = Writer::new(&mut shared);
        messages().iter().for_each(|(ticket, message)| writer.push(*ticket, message));
        let bytes = writer.finish();
        for end in 1..bytes.len() {
            let read = shared.read(&bytes[..end]);
            assert!(read.is_none_or(|read| read.len() < 30), "{end}");
        }
        let mut dice = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let mut bytes = bytes.clone();
            for _ in 0..4 {
                let at = dice.usize(..bytes.len());
                bytes[at] = dice.u8(..);
            }
            // Whatever comes of it, it comes without a panic.
            drop(shared.read(&bytes));
        }
    }
}
