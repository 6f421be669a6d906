//! Whose a slot is: what this data directory says of itself, and what was accepted.

use model::BoxFuture;
use model::lsn::Lsn;
use model::source::Claim;
use model::store::{Accepted, Epoch, Owners, StoreError};
use rusqlite::OptionalExtension as _;

use crate::embedded::{Durability, Embedded, unavailable};
use crate::forget::OF_SLOT;

/// Of one run there may be several, after a failover: the server that took over has the higher
/// timeline, which is the second part of an origin.
const STREAMS: &str = "
    SELECT origin, lsn FROM confirmed WHERE {of_slot}
    ORDER BY epoch DESC,
        CAST(substr(origin, instr(origin, '/') + 1) AS INTEGER) DESC, lsn DESC";
const ACCEPTED: &str = "SELECT until FROM accepted WHERE slot = ?1";
const ACCEPTED_UNTIL: &str = "
    UPDATE accepted SET until = ?2 WHERE slot = ?1 AND until IS NULL";

fn latest_first() -> String {
    STREAMS.replace("{of_slot}", OF_SLOT)
}

impl Owners for Embedded {
    fn claim(&self, slot: &str) -> Claim {
        let instance = self.instance().into();
        Claim { slot: slot.into(), instance, epoch: self.epoch().0, run: self.run() }
    }

    fn last_stream<'a>(
        &'a self,
        slot: &'a str,
    ) -> BoxFuture<'a, Result<Option<(String, Lsn)>, StoreError>> {
        let slot = slot.to_owned();
        Box::pin(self.call(move |connection| {
            let row: Option<(String, i64)> = connection
                .query_row(&latest_first(), [&slot], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .map_err(unavailable)?;
            Ok(row.map(|(origin, lsn)| (origin, Lsn(lsn.cast_unsigned()))))
        }))
    }

    fn streams<'a>(&'a self, slot: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let slot = slot.to_owned();
        Box::pin(self.call(move |connection| {
            let mut statement = connection.prepare(&latest_first()).map_err(unavailable)?;
            let origins = statement.query_map([&slot], |row| row.get(0)).map_err(unavailable)?;
            let mut origins = origins.collect::<Result<Vec<_>, _>>().map_err(unavailable)?;
            origins.reverse();
            Ok(origins)
        }))
    }

    fn accepted<'a>(
        &'a self,
        slot: &'a str,
    ) -> BoxFuture<'a, Result<Option<Accepted>, StoreError>> {
        let slot = slot.to_owned();
        Box::pin(self.call(move |connection| {
            let until: Option<Option<i64>> = connection
                .query_row(ACCEPTED, [&slot], |row| row.get(0))
                .optional()
                .map_err(unavailable)?;
            let lsn = |lsn: i64| Lsn(lsn.cast_unsigned());
            Ok(until.map(|until| Accepted { until: until.map(lsn) }))
        }))
    }

    fn accepted_until<'a>(
        &'a self,
        epoch: Epoch,
        slot: &'a str,
        until: Lsn,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let slot = slot.to_owned();
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            transaction.execute(ACCEPTED_UNTIL, (&slot, until.0.cast_signed())).map(drop)
        }))
    }
}

#[cfg(test)]
mod tests {
    use model::store::{Confirmed, Progress as _};

    use super::*;

    #[tokio::test]
    async fn b193_a_data_directory_keeps_its_id_and_each_process_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let claim = || Embedded::open(directory.path()).unwrap().claim("s");
        let (first, second) = (claim(), claim());
        assert_eq!((&first.instance, first.epoch + 1), (&second.instance, second.epoch));
        assert_ne!(first.run, second.run);
        let other = tempfile::tempdir().unwrap();
        let other = Embedded::open(other.path()).unwrap().claim("s");
        assert_ne!(other.instance, first.instance);
    }

    #[tokio::test]
    async fn b186_the_stream_that_was_read_last_is_that_of_the_highest_timeline() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.last_stream("s").await.unwrap(), None);
        for (origin, lsn) in [("7/10/db/s/p", 5), ("7/9/db/s/p", 8), ("7/11/db/other/p", 9)] {
            let confirmed = Confirmed { lsn: Lsn(lsn), ..Confirmed::default() };
            store.record(store.epoch(), origin, Vec::new(), Some(confirmed)).await.unwrap();
        }
        let last = store.last_stream("s").await.unwrap();
        assert_eq!(last, Some(("7/10/db/s/p".to_owned(), Lsn(5))));
        assert_eq!(store.streams("s").await.unwrap(), ["7/9/db/s/p", "7/10/db/s/p"]);
    }

    #[tokio::test]
    async fn b193_what_was_accepted_ends_at_our_own_claim() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.accepted("s").await.unwrap(), None);
        store.forget("s").await.unwrap();
        assert_eq!(store.accepted("s").await.unwrap(), Some(Accepted { until: None }));
        for until in [7, 9] {
            store.accepted_until(store.epoch(), "s", Lsn(until)).await.unwrap();
            let accepted = Accepted { until: Some(Lsn(7)) };
            assert_eq!(store.accepted("s").await.unwrap(), Some(accepted), "the first one");
        }
    }
}
