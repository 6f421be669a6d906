//! How far each sink came.

use model::BoxFuture;
use model::acks::Settled;
use model::lsn::Lsn;
use model::position::Position;
use model::store::{Address, Confirmed, Epoch, Progress, StoreError, Synced};
use rusqlite::{OptionalExtension as _, Row};

use crate::embedded::{Durability, Embedded, unavailable};

const LOAD: &str = "
    SELECT high_lsn, high_ordinal, open FROM progress WHERE origin = ?1 AND sink = ?2";
const RECORD: &str = "
    INSERT INTO progress (origin, sink, high_lsn, high_ordinal, open, epoch)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (origin, sink) DO UPDATE SET
        high_lsn = excluded.high_lsn, high_ordinal = excluded.high_ordinal,
        open = excluded.open, epoch = excluded.epoch";

const CONFIRMED: &str = "SELECT lsn, log_stream, log_kept FROM confirmed WHERE origin = ?1";
const CONFIRM: &str = "
    INSERT INTO confirmed (origin, lsn, epoch, log_stream, log_kept) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (origin) DO UPDATE SET
        lsn = max(lsn, excluded.lsn), epoch = excluded.epoch,
        log_stream = max(log_stream, excluded.log_stream),
        log_kept = max(log_kept, excluded.log_kept)";

const IS_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM slots WHERE slot = ?1)";
const REMEMBER: &str = "
    INSERT INTO slots (slot, epoch) VALUES (?1, ?2) ON CONFLICT (slot) DO NOTHING";

/// Bytes of one position in a record.
const POSITION_BYTES: usize = 16;

impl Progress for Embedded {
    fn is_known<'a>(&'a self, slot: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        let slot = slot.to_owned();
        Box::pin(self.call(move |connection| {
            connection.query_row(IS_KNOWN, [&slot], |row| row.get(0)).map_err(unavailable)
        }))
    }

    fn remember<'a>(
        &'a self,
        epoch: Epoch,
        slot: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let slot = slot.to_owned();
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            transaction.execute(REMEMBER, (&slot, epoch.0.cast_signed())).map(drop)
        }))
    }

    fn load<'a>(
        &'a self,
        origin: &'a str,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Settled>, StoreError>> {
        let (origin, sink) = (origin.to_owned(), sink.to_owned());
        Box::pin(self.call(move |connection| {
            let row: Option<(i64, i64, Vec<u8>)> = connection
                .query_row(LOAD, (&origin, &sink), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
                .map_err(unavailable)?;
            let Some((lsn, ordinal, open)) = row else { return Ok(None) };
            let high = Position::new(Lsn(lsn.cast_unsigned()), ordinal.cast_unsigned());
            Ok(Some(Settled { high, open: unpack(&open) }))
        }))
    }

    fn confirmed<'a>(
        &'a self,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<Option<Confirmed>, StoreError>> {
        let origin = origin.to_owned();
        Box::pin(self.call(move |connection| {
            let number = |row: &Row<'_>, at| row.get(at).map(i64::cast_unsigned);
            let confirmed = connection.query_row(CONFIRMED, [&origin], |row| {
                let (stream, kept) = (Address(number(row, 1)?), Address(number(row, 2)?));
                Ok(Confirmed { lsn: Lsn(number(row, 0)?), log: Synced { stream, kept } })
            });
            confirmed.optional().map_err(unavailable)
        }))
    }

    // A power cut may bring back an older record of the sinks: they are then sent more again, and
    // nothing is lost. An older record of what was confirmed would look as if somebody else had
    // read the slot, so that is on disk before the server is told.
    fn record<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sinks: Vec<(String, Settled)>,
        confirmed: Option<Confirmed>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let origin = origin.to_owned();
        let durability = if confirmed.is_some() { Durability::Synced } else { Durability::Written };
        Box::pin(self.write(epoch, durability, move |transaction| {
            if let Some(Confirmed { lsn, log }) = confirmed {
                let [lsn, epoch] = [lsn.0, epoch.0].map(u64::cast_signed);
                let [stream, kept] = [log.stream.0, log.kept.0].map(u64::cast_signed);
                transaction.execute(CONFIRM, (&origin, lsn, epoch, stream, kept))?;
            }
            let mut statement = transaction.prepare(RECORD)?;
            for (sink, settled) in &sinks {
                let (lsn, ordinal) = (settled.high.commit_lsn.0, settled.high.ordinal);
                let (lsn, ordinal) = (lsn.cast_signed(), ordinal.cast_signed());
                let open = pack(&settled.open);
                statement.execute((&origin, sink, lsn, ordinal, open, epoch.0.cast_signed()))?;
            }
            Ok(())
        }))
    }
}

fn pack(open: &[Position]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(open.len() * POSITION_BYTES);
    for position in open {
        bytes.extend_from_slice(&position.commit_lsn.0.to_be_bytes());
        bytes.extend_from_slice(&position.ordinal.to_be_bytes());
    }
    bytes
}

fn unpack(bytes: &[u8]) -> Vec<Position> {
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().map(|[lsn, ordinal]| Position::new(Lsn(*lsn), *ordinal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64, ordinal: u64) -> Position {
        Position::new(Lsn(lsn), ordinal)
    }

    fn at_lsn(lsn: u64) -> Confirmed {
        let log = Synced { stream: Address(lsn << 32), kept: Address(lsn) };
        Confirmed { lsn: Lsn(lsn), log }
    }

    #[tokio::test]
    async fn progress_survives_and_is_kept_apart_by_origin_and_sink() {
        let directory = tempfile::tempdir().unwrap();
        let settled = Settled { high: at(u64::MAX >> 1, 3), open: vec![at(1, 0), at(1, 7)] };
        {
            let store = Embedded::open(directory.path()).unwrap();
            assert_eq!(store.load("o", "a").await.unwrap(), None);
            let rows =
                vec![("a".to_owned(), Settled::default()), ("a".to_owned(), settled.clone())];
            store.record(store.epoch(), "o", rows, None).await.unwrap();
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.load("o", "a").await.unwrap(), Some(settled));
        assert_eq!(store.load("o", "b").await.unwrap(), None);
        assert_eq!(store.load("p", "a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_slot_that_was_used_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Embedded::open(directory.path()).unwrap();
            assert!(!store.is_known("d/s").await.unwrap());
            store.remember(store.epoch(), "d/s").await.unwrap();
            store.remember(store.epoch(), "d/s").await.unwrap();
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert!(store.is_known("d/s").await.unwrap());
        assert!(!store.is_known("d/t").await.unwrap());
    }

    #[tokio::test]
    async fn an_older_epoch_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        let older = Epoch(store.epoch().0 - 1);
        let rows = vec![("a".to_owned(), Settled::default())];
        let refused = store.record(older, "o", rows, Some(at_lsn(1))).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })));
        assert_eq!(store.load("o", "a").await.unwrap(), None);
        assert_eq!(store.confirmed("o").await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_highest_confirmed_position_of_a_stream_survives() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Embedded::open(directory.path()).unwrap();
            assert_eq!(store.confirmed("o").await.unwrap(), None);
            for lsn in [7, 9, 8] {
                store.record(store.epoch(), "o", Vec::new(), Some(at_lsn(lsn))).await.unwrap();
            }
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.confirmed("o").await.unwrap(), Some(at_lsn(9)));
        assert_eq!(store.confirmed("p").await.unwrap(), None);
    }
}
