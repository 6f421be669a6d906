//! How rows are cut into calls.

use std::ops::Range;

use model::change::{Change, Operation};
use model::page::Value;

use crate::limits::Limits;
use crate::reads::Reads;

/// A part of the rows, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These go in one call.
    Call(Range<usize>),
    /// This one has no row: a truncate.
    NoRow(usize),
    /// This one has so many bytes, more than a guest can be given.
    TooLarge(usize, usize),
}

/// Cuts rows by number and by the bytes that would cross. An outcome never depends on the cut.
pub(crate) fn cut(changes: &[Change], reads: &Reads, limits: &Limits) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, change) in changes.iter().enumerate() {
        let row_bytes = bytes_of(change, reads);
        let alone = if change.operation == Operation::Truncate || change.row().is_none() {
            Some(Piece::NoRow(index))
        } else if row_bytes > limits.row_bytes_max {
            Some(Piece::TooLarge(index, row_bytes))
        } else {
            None
        };
        let full = index - start >= limits.rows_max || bytes + row_bytes > limits.batch_bytes_max;
        if (alone.is_some() || full) && start < index {
            pieces.push(Piece::Call(start..index));
            (start, bytes) = (index, 0);
        }
        match alone {
            Some(piece) => {
                pieces.push(piece);
                (start, bytes) = (index + 1, 0);
            }
            None => bytes += row_bytes,
        }
    }
    if start < changes.len() {
        pieces.push(Piece::Call(start..changes.len()));
    }
    pieces
}

fn bytes_of(change: &Change, reads: &Reads) -> usize {
    let of = |row: Option<&model::page::Row>, columns: &[usize]| {
        let length = |index: &usize| match row?.value(*index) {
            Value::Text(text) => Some(text.len()),
            Value::Null | Value::Unchanged => None,
        };
        columns.iter().filter_map(length).sum::<usize>()
    };
    of(change.row(), &reads.columns) + of(change.before.as_ref(), &reads.old)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::change::Transaction;
    use model::lsn::Lsn;
    use model::page::{Builder, Extent};
    use model::position::Position;
    use model::relation::{Identity, Relation};

    use super::*;

    /// Rows of one column with texts of these lengths; no length is a truncate.
    fn pieces(lengths: &[Option<usize>]) -> Vec<Piece> {
        let relation = Relation {
            rendered: model::relation::Rendered::default(),
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            ancestors: Vec::new(),
            identity: Identity::Default,
            columns: Vec::new(),
        };
        let transaction = Transaction::new(Lsn(1), 1, 0);
        let (relation, transaction) = (Arc::new(relation), Arc::new(transaction));
        let mut builder = Builder::default();
        for length in lengths {
            let first = builder.begin_row();
            let row = length.map(|length| {
                let write = |out: &mut String| {
                    out.push_str(&"x".repeat(length));
                    Ok::<_, ()>(())
                };
                builder.value(write).unwrap();
                builder.end_row(first, Extent::Full)
            });
            let operation = if row.is_some() { Operation::Insert } else { Operation::Truncate };
            let (relation, transaction) = (Arc::clone(&relation), Arc::clone(&transaction));
            builder.change(Position::ZERO, operation, relation, transaction, None, row);
        }
        let limits =
            Limits { rows_max: 3, batch_bytes_max: 10, row_bytes_max: 20, ..Limits::default() };
        cut(
            &builder.finish(),
            &Reads { columns: vec![0], old: vec![0], ..Reads::default() },
            &limits,
        )
    }

    #[test]
    fn rows_are_cut_by_number_and_by_bytes() {
        assert_eq!(pieces(&[Some(0); 7]), [0..3, 3..6, 6..7].map(Piece::Call));
        let lengths = [4, 6, 1, 20, 5, 5, 0].map(Some);
        assert_eq!(pieces(&lengths), [0..2, 2..3, 3..4, 4..7].map(Piece::Call));
    }

    #[test]
    fn what_cannot_be_called_with_is_cut_out() {
        let found = pieces(&[None, Some(1), Some(21), None, Some(1), Some(1)]);
        let expected = [
            Piece::NoRow(0),
            Piece::Call(1..2),
            Piece::TooLarge(2, 21),
            Piece::NoRow(3),
            Piece::Call(4..6),
        ];
        assert_eq!(found, expected);
        assert_eq!(pieces(&[]), []);
    }
}
