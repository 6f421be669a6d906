//! What the server keeps for the slot and why: asked on the slow clock beside the stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::lsn::Lsn;
use model::source::{Held, Oldest, Seen};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::options::Options;
use crate::sql::{Parameter, QueryError, Sql};

/// A standby keeps log for its slots, too, of what it has received. `safe_wal_size` is of 13.
const SLOT: &str = "
    select pg_catalog.pg_wal_lsn_diff(w.at, s.restart_lsn)::bigint,
        pg_catalog.pg_wal_lsn_diff(w.at, s.confirmed_flush_lsn)::bigint,
        w.at::text, s.confirmed_flush_lsn::text, s.wal_status, s.safe_wal_size::bigint,
        pg_catalog.pg_is_in_recovery()
    from pg_catalog.pg_replication_slots s
    cross join (select case when pg_catalog.pg_is_in_recovery()
        then coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
        else pg_catalog.pg_current_wal_lsn() end) w (at)
    where s.slot_name = $1::text::name";

/// Transactions that have written, and prepared ones: where a slot can begin again is never behind
/// the beginning of one of them. Whose they are shows only to who may see it.
const OLDEST: &str = "
    select o.who, extract(epoch from pg_catalog.now() - o.since)::bigint
    from (select pg_catalog.concat_ws(', ', 'process ' || a.pid, 'user ' || a.usename,
                'application ' || nullif(a.application_name, ''), a.state), a.xact_start
          from pg_catalog.pg_stat_activity a
          where a.backend_xid is not null and a.backend_type = 'client backend'
          union all
          select 'prepared transaction ' || p.gid || ' of database ' || p.database, p.prepared
          from pg_catalog.pg_prepared_xacts p) o (who, since)
    where o.since is not null
    order by o.since limit 1";

/// Of published tables (of partitioned ones their leaves, unless all goes by the root).
const TABLES: &str = "
    select pg_catalog.format('%s.%s', t.schemaname, t.tablename)
    from pg_catalog.pg_publication_tables t
    join pg_catalog.pg_namespace n on n.nspname = t.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    where t.pubname::text = $1 and c.relreplident <> 'f'
      and t.schemaname <> all (array['sequin', '_sequin'])
    order by 1 limit 1000";

/// Tables change seldom, and a database may have many.
const TABLES_INTERVAL: Duration = Duration::from_secs(60);

/// Samples of where the log ended: one for each look of five seconds makes an hour and a half. From
/// there on the lag is "at least".
const SAMPLES_MAX: usize = 1024;

/// Over how long the growth of the log is observed: a checkpoint's burst is not taken for a habit,
/// and a new load shows soon.
const RATE_WINDOW: Duration = Duration::from_secs(300);

/// A shorter time tells nothing of the growth.
const RATE_MIN: Duration = Duration::from_secs(4);

/// Where the log ended when, from one connection to the next.
#[derive(Debug, Default)]
pub(crate) struct Trail(Mutex<VecDeque<(Instant, Lsn)>>);

impl Trail {
    /// The log ends here now. What is known of lag and growth by it.
    fn pass(&self, now: Instant, end: Lsn, confirmed: Lsn) -> (Option<Duration>, Option<u64>) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another server, or one that was set back.
        if samples.back().is_some_and(|(_, last)| *last > end) {
            samples.clear();
        }
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back((now, end));
        let lag = if confirmed >= end {
            Some(Duration::ZERO)
        } else {
            // The log ended at the confirmed position at some time behind the last sample that is
            // not beyond it.
            let passed = samples.iter().rev().find(|(_, at)| *at <= confirmed);
            passed.or(samples.front()).map(|(at, _)| now.duration_since(*at))
        };
        let recent = samples.iter().find(|(at, _)| now.duration_since(*at) <= RATE_WINDOW);
        let rate = recent.and_then(|(at, begin)| {
            let took = now.duration_since(*at);
            let millis = u64::try_from(took.as_millis()).ok().filter(|_| took >= RATE_MIN)?;
            let bytes = end.0.saturating_sub(begin.0);
            u64::try_from(u128::from(bytes) * 1_000 / u128::from(millis)).ok()
        });
        (lag, rate)
    }
}

/// Looks, and remembers what needs not be asked every time.
#[derive(Debug)]
pub(crate) struct Retained {
    held: Held,
    trail: Arc<Trail>,
    tables: Arc<[String]>,
    tables_at: Option<Instant>,
}

impl Retained {
    pub(crate) fn new(held: Held, trail: Arc<Trail>) -> Self {
        Self { held, trail, tables: Arc::default(), tables_at: None }
    }

    /// Notes what the server keeps.
    pub(crate) async fn look(
        &mut self,
        sql: &mut Sql,
        options: &Options,
    ) -> Result<(), QueryError> {
        let slot: [Parameter<'_>; 1] = [(&options.slot, Type::TEXT)];
        let Some(rows) = told(sql.rows(SLOT, &slot).await)? else { return Ok(()) };
        let Some(row) = rows.first() else { return Ok(()) };
        let now = Instant::now();
        let Some(mut seen) = self.read(row, now)? else { return Ok(()) };
        if let Some(rows) = told(sql.rows(OLDEST, &[]).await)?
            && let Some(row) = rows.first()
        {
            let age = Duration::from_secs(unsigned(row.try_get(1)?));
            seen.oldest = Some(Oldest { who: row.try_get(0)?, age });
        }
        if self.tables_at.is_none_or(|at| now.duration_since(at) >= TABLES_INTERVAL) {
            self.tables_at = Some(now);
            let publication: [Parameter<'_>; 1] = [(&options.publication, Type::TEXT)];
            if let Some(rows) = told(sql.rows(TABLES, &publication).await)? {
                let names = rows.iter().map(|row| row.try_get(0));
                self.tables = names.collect::<Result<Vec<String>, _>>()?.into();
            }
        }
        seen.tables_without_old_rows = Arc::clone(&self.tables);
        self.held.set(seen);
        Ok(())
    }

    /// None for a slot that begins nowhere: it is being made, or lost.
    fn read(&self, row: &Row, now: Instant) -> Result<Option<Seen>, tokio_postgres::Error> {
        let Some(held) = row.try_get::<_, Option<i64>>(0)? else { return Ok(None) };
        let position = |index| -> Result<Option<Lsn>, tokio_postgres::Error> {
            let text: Option<&str> = row.try_get(index)?;
            Ok(text.and_then(|text| text.parse().ok()))
        };
        let (lag, written_per_second) = match (position(2)?, position(3)?) {
            (Some(end), Some(confirmed)) => self.trail.pass(now, end, confirmed),
            _ => (None, None),
        };
        Ok(Some(Seen {
            // The slot of a standby may be ahead of what is replayed.
            held: unsigned(held),
            behind: unsigned(row.try_get::<_, Option<i64>>(1)?.unwrap_or(0)),
            lag,
            wal_status: row.try_get(4)?,
            safe: row.try_get::<_, Option<i64>>(5)?.map(unsigned),
            written_per_second,
            is_standby: row.try_get(6)?,
            ..Seen::default()
        }))
    }
}

/// Zero for what is below.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A hardened server need not tell.
fn told(rows: Result<Vec<Row>, QueryError>) -> Result<Option<Vec<Row>>, QueryError> {
    match rows {
        Ok(rows) => Ok(Some(rows)),
        Err(QueryError::Sql(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b226_lag_is_the_time_since_the_log_ended_at_the_confirmed_position() {
        let (trail, start) = (Trail::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(trail.pass(at(0), Lsn(100), Lsn(100)), (Some(Duration::ZERO), None));
        assert_eq!(
            trail.pass(at(5), Lsn(600), Lsn(100)),
            (Some(Duration::from_secs(5)), Some(100))
        );
        assert_eq!(
            trail.pass(at(10), Lsn(1_100), Lsn(700)),
            (Some(Duration::from_secs(5)), Some(100)),
            "it was passed between the looks"
        );
        // What is older than all that was seen is at least as old as the oldest of it.
        assert_eq!(trail.pass(at(20), Lsn(1_100), Lsn(50)).0, Some(Duration::from_secs(20)));
        // The growth is that of the last minutes.
        assert_eq!(trail.pass(at(400), Lsn(1_100), Lsn(1_100)), (Some(Duration::ZERO), None));
        assert_eq!(trail.pass(at(410), Lsn(21_100), Lsn(1_100)).1, Some(2_000));
        // Another server.
        assert_eq!(trail.pass(at(415), Lsn(10), Lsn(5)), (Some(Duration::ZERO), None));
    }
}
