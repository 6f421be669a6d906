//! What is known of backfills.

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::backfill::{Cursor, Order, Range, Wanted};
use model::store::{
    Backfill, BackfillCounts, BackfillLimits, BackfillRange, BackfillState, Backfills, Epoch,
    StoreError, TableName,
};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, Row, Transaction};

use crate::embedded::{Durability, Embedded, unavailable};

const ALL: &str = "
    SELECT id, sink, database, schema_name, table_name, sort_column, from_value, condition, ranges,
        page_timeout_ms, rows_per_second, by_place, state, error, paging, rows_estimate,
        rows_read, rows_evicted, rows_delivered, created_us, updated_us, ended_us
    FROM backfills ORDER BY created_us, id";
const SAVE: &str = "
    INSERT INTO backfills (id, sink, database, schema_name, table_name, sort_column, from_value,
        condition, ranges, page_timeout_ms, rows_per_second, by_place, state, error, paging,
        rows_estimate, rows_read, rows_evicted, rows_delivered, created_us, updated_us, ended_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
        ?20, ?21, ?22)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, error = excluded.error,
        paging = excluded.paging, rows_estimate = excluded.rows_estimate,
        rows_read = excluded.rows_read, rows_evicted = excluded.rows_evicted,
        rows_delivered = excluded.rows_delivered, updated_us = excluded.updated_us,
        ended_us = excluded.ended_us";
const RANGES: &str = "
    SELECT range, after, done, beyond FROM backfill_ranges WHERE backfill = ?1 ORDER BY number";
const SAVE_RANGE: &str = "
    INSERT INTO backfill_ranges (backfill, number, range, after, done, beyond)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (backfill, number) DO UPDATE SET
        after = excluded.after, done = excluded.done, beyond = excluded.beyond";
const IS_BEGUN: &str = "SELECT EXISTS (SELECT 1 FROM begun_sinks WHERE sink = ?1)";
const BEGUN: &str = "
    SELECT schema_name, table_name FROM begun_tables WHERE sink = ?1 ORDER BY 1, 2";
const BEGIN: &str = "INSERT INTO begun_sinks (sink) VALUES (?1) ON CONFLICT (sink) DO NOTHING";
const BEGIN_TABLE: &str = "
    INSERT INTO begun_tables (sink, schema_name, table_name) VALUES (?1, ?2, ?3)
    ON CONFLICT DO NOTHING";

impl Backfills for Embedded {
    fn all(&self) -> BoxFuture<'_, Result<Vec<Backfill>, StoreError>> {
        Box::pin(self.call(|connection| all(connection).map_err(unavailable)))
    }

    fn save(&self, epoch: Epoch, backfill: Backfill) -> BoxFuture<'_, Result<(), StoreError>> {
        let work = move |transaction: &Transaction<'_>| save(transaction, &backfill);
        Box::pin(self.write(epoch, Durability::Synced, work))
    }

    fn begun<'a>(
        &'a self,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<TableName>>, StoreError>> {
        let sink = sink.to_owned();
        Box::pin(self.call(move |connection| {
            let begun = || -> Result<_, Error> {
                let is_begun: bool = connection.query_row(IS_BEGUN, [&sink], |row| row.get(0))?;
                if !is_begun {
                    return Ok(None);
                }
                let mut statement = connection.prepare(BEGUN)?;
                let tables = statement.query_map([&sink], |row| Ok((row.get(0)?, row.get(1)?)))?;
                tables.collect::<Result<Vec<_>, _>>().map(Some)
            };
            begun().map_err(unavailable)
        }))
    }

    fn begin<'a>(
        &'a self,
        epoch: Epoch,
        sink: &'a str,
        tables: Vec<TableName>,
        backfills: Vec<Backfill>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let sink = sink.to_owned();
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            transaction.execute(BEGIN, [&sink])?;
            for (schema, table) in &tables {
                transaction.execute(BEGIN_TABLE, (&sink, &**schema, &**table))?;
            }
            backfills.iter().try_for_each(|backfill| save(transaction, backfill))
        }))
    }

    fn keep_sinks(
        &self,
        epoch: Epoch,
        sinks: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            let known: Vec<String> = transaction
                .prepare("SELECT sink FROM begun_sinks")?
                .query_map((), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for gone in known.iter().filter(|known| !sinks.iter().any(|kept| **kept == ***known)) {
                transaction.execute("DELETE FROM begun_tables WHERE sink = ?1", [gone])?;
                transaction.execute("DELETE FROM begun_sinks WHERE sink = ?1", [gone])?;
            }
            Ok(())
        }))
    }
}

fn all(connection: &Connection) -> Result<Vec<Backfill>, Error> {
    let mut statement = connection.prepare(ALL)?;
    let mut all: Vec<Backfill> = statement.query_map((), backfill)?.collect::<Result<_, _>>()?;
    let mut ranges = connection.prepare(RANGES)?;
    for backfill in &mut all {
        let of = ranges.query_map([&*backfill.id], |row| {
            let after: Option<Arc<str>> = row.get(1)?;
            Ok(BackfillRange {
                range: Range(row.get(0)?),
                after: after.map(Cursor),
                done: row.get(2)?,
                beyond: unpack(&row.get::<_, String>(3)?).ok_or_else(|| unknown(3, "keys"))?,
            })
        })?;
        backfill.ranges = of.collect::<Result<_, _>>()?;
    }
    Ok(all)
}

fn backfill(row: &Row<'_>) -> Result<Backfill, Error> {
    let state: String = row.get(12)?;
    let paging: Option<String> = row.get(14)?;
    let order = match paging {
        None => None,
        Some(word) => {
            let known = ORDERS.iter().find(|(_, known)| **known == *word);
            Some(known.ok_or_else(|| unknown(14, &word))?.0)
        }
    };
    let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(Backfill {
        id: row.get(0)?,
        sink: row.get(1)?,
        database: row.get(2)?,
        wanted: Wanted {
            schema: row.get(3)?,
            table: row.get(4)?,
            sort_column: row.get(5)?,
            from: row.get(6)?,
            condition: row.get(7)?,
            ranges: usize::try_from(row.get::<_, i64>(8)?).unwrap_or(1),
        },
        limits: BackfillLimits {
            page_timeout: Duration::from_millis(count(9)?),
            rows_per_second: row.get(10)?,
            by_place: row.get(11)?,
        },
        state: BackfillState::from_word(&state).ok_or_else(|| unknown(12, &state))?,
        error: row.get(13)?,
        order,
        rows_estimate: row.get::<_, Option<i64>>(15)?.map(i64::cast_unsigned),
        ranges: Vec::new(),
        counts: BackfillCounts { read: count(16)?, evicted: count(17)?, delivered: count(18)? },
        created_us: row.get(19)?,
        updated_us: row.get(20)?,
        ended_us: row.get(21)?,
    })
}

const ORDERS: [(Order, &str); 3] =
    [(Order::Key, "key"), (Order::Column, "column"), (Order::Place, "place")];

/// What stands there was not written by this version.
fn unknown(column: usize, what: &str) -> Error {
    let error = format!("`{what}` is unknown in the record of a backfill");
    Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

fn save(transaction: &Transaction<'_>, backfill: &Backfill) -> Result<(), Error> {
    let Backfill { wanted, limits, counts, .. } = backfill;
    let timeout = i64::try_from(limits.page_timeout.as_millis()).unwrap_or(i64::MAX);
    let order = backfill.order.and_then(|order| ORDERS.iter().find(|known| known.0 == order));
    transaction.prepare(SAVE)?.execute(rusqlite::params![
        &*backfill.id,
        &*backfill.sink,
        &*backfill.database,
        &*wanted.schema,
        &*wanted.table,
        wanted.sort_column.as_deref(),
        wanted.from.as_deref(),
        wanted.condition.as_deref(),
        i64::try_from(wanted.ranges).unwrap_or(1),
        timeout,
        limits.rows_per_second,
        limits.by_place,
        backfill.state.as_str(),
        backfill.error.as_deref(),
        order.map(|order| order.1),
        backfill.rows_estimate.map(u64::cast_signed),
        counts.read.cast_signed(),
        counts.evicted.cast_signed(),
        counts.delivered.cast_signed(),
        backfill.created_us,
        backfill.updated_us,
        backfill.ended_us,
    ])?;
    let mut ranges = transaction.prepare(SAVE_RANGE)?;
    for (number, range) in (0_i64..).zip(&backfill.ranges) {
        ranges.execute(rusqlite::params![
            &*backfill.id,
            number,
            &*range.range.0,
            range.after.as_ref().map(|after| &*after.0),
            range.done,
            pack(&range.beyond),
        ])?;
    }
    Ok(())
}

/// Keys as one text, each with its length before it.
fn pack(keys: &[String]) -> String {
    keys.iter().map(|key| format!("{}:{key}", key.len())).collect()
}

/// None if that is no such text.
fn unpack(mut text: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    while !text.is_empty() {
        let (len, rest) = text.split_once(':')?;
        let (key, rest) = rest.split_at_checked(len.parse().ok()?)?;
        keys.push(key.to_owned());
        text = rest;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str) -> Backfill {
        Backfill {
            id: id.into(),
            sink: "a".into(),
            database: "d".into(),
            wanted: Wanted {
                schema: "public".into(),
                table: "t".into(),
                sort_column: Some("at".into()),
                from: Some("2020".into()),
                condition: None,
                ranges: 2,
            },
            limits: BackfillLimits { rows_per_second: Some(7), ..BackfillLimits::default() },
            state: BackfillState::Active,
            error: None,
            order: Some(Order::Column),
            rows_estimate: Some(9),
            ranges: vec![
                BackfillRange {
                    range: Range("low".into()),
                    after: Some(Cursor("x".into())),
                    done: false,
                    beyond: vec!["1:a".into(), String::new(), "2:é".into()],
                },
                BackfillRange {
                    range: Range("high".into()),
                    after: None,
                    done: true,
                    beyond: Vec::new(),
                },
            ],
            counts: BackfillCounts { read: 3, evicted: 1, delivered: 2 },
            created_us: 1,
            updated_us: 2,
            ended_us: None,
        }
    }

    #[tokio::test]
    async fn b170_what_is_known_of_a_backfill_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = one("x");
        {
            let store = Embedded::open(directory.path()).unwrap();
            store.save(store.epoch(), kept.clone()).await.unwrap();
            kept.state = BackfillState::Cancelled;
            kept.ended_us = Some(5);
            kept.ranges[0].after = Some(Cursor("y".into()));
            kept.ranges[0].beyond.clear();
            store.save(store.epoch(), kept.clone()).await.unwrap();
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.all().await.unwrap(), [kept]);
        let old = Epoch(store.epoch().0 - 1);
        let fenced = store.save(old, one("x")).await;
        assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    }

    #[tokio::test]
    async fn a_sink_is_begun_once_until_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        let epoch = store.epoch();
        assert_eq!(store.begun("a").await.unwrap(), None);
        let table = |name: &str| -> (Arc<str>, Arc<str>) { ("public".into(), name.into()) };
        store.begin(epoch, "a", vec![table("t")], vec![one("x")]).await.unwrap();
        store.begin(epoch, "a", vec![table("u"), table("t")], Vec::new()).await.unwrap();
        store.begin(epoch, "b", Vec::new(), Vec::new()).await.unwrap();
        assert_eq!(store.begun("a").await.unwrap(), Some(vec![table("t"), table("u")]));
        assert_eq!(store.begun("b").await.unwrap(), Some(Vec::new()));
        assert_eq!(store.all().await.unwrap(), [one("x")]);
        store.keep_sinks(epoch, vec!["b".into()]).await.unwrap();
        assert_eq!(store.begun("a").await.unwrap(), None);
        assert_eq!(store.begun("b").await.unwrap(), Some(Vec::new()));
    }

    #[test]
    fn keys_are_packed() {
        for keys in [vec![], vec!["", ":", "3:abc", "é"]] {
            let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
            assert_eq!(unpack(&pack(&keys)), Some(keys));
        }
        for bad in ["x", "3:ab", "1:é", "1x:a"] {
            assert_eq!(unpack(bad), None, "{bad}");
        }
    }
}
