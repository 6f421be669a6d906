//! What the stream does not tell of a table: see [`Question`].
//!
//! Asked on an SQL session of its own, bounded, while the stream's reader goes on answering the
//! server. The session is kept for the next question and opened again if it broke meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::lsn::Lsn;
use model::relation::Ancestor;
use model::source::{Claim, SourceError};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::error;
use crate::lineage::Place;
use crate::options::Options;
use crate::relation::{Facts, Question};
use crate::retained::Retained;
use crate::sql::{Parameter, QueryError, Refused, Sql};
use crate::value::form::{DEPTH_MAX, Shape, TypeFact};

/// For an answer with all it takes: the stream waits for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Each table with the partitioned tables above it, the nearest first. One that is gone has no
/// `xmin`. `xid` has no cast to a number. The position is read under the snapshot that shows the
/// rest, so that it is behind every commit which that shows.
const PLACES: &str = "
    select o, c.xmin::text::int8,
        not p.pubviaroot and exists (select from pg_catalog.pg_partitioned_table),
        case when p.pubviaroot then p.xmin::text::int8 end,
        case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
            else pg_catalog.pg_current_wal_insert_lsn() end::text,
        a.oid, n.nspname::text, a.relname::text
    from unnest($1::oid[]) o
    left join pg_catalog.pg_publication p on p.pubname::text = $2
    left join pg_catalog.pg_class c on c.oid = o
    left join lateral pg_catalog.pg_partition_ancestors(c.oid::regclass)
        with ordinality l(relid, nth) on l.relid <> c.oid
    left join pg_catalog.pg_class a on a.oid = l.relid
    left join pg_catalog.pg_namespace n on n.oid = a.relnamespace
    order by o, l.nth";

/// Key columns only: `INCLUDE`d ones follow them in the index.
const PRIMARY_KEYS: &str = "
    select i.indrelid, a.attname::text
    from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid
    where i.indrelid = any ($1::oid[]) and i.indisprimary
      and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])";

/// The types asked for and all they are made of. Whether a type is an array is told by its output
/// function: `int2vector` has elements too, but is written in another way. Whether it is one of
/// pgvector's, by the extension it belongs to: anybody may call a type `vector`.
const TYPES: &str = "
    with recursive needed(oid, depth) as (
        select o, 0 from unnest($1::oid[]) o
        union
        select case when t.typtype = 'd' then t.typbasetype else t.typelem end, n.depth + 1
        from needed n join pg_catalog.pg_type t on t.oid = n.oid
        where n.depth < $2
          and (t.typtype = 'd' or t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc)
    )
    select distinct t.oid, t.typname::text, t.typdelim::text,
        case when t.typtype = 'd' then t.typbasetype end,
        case when t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc then t.typelem end,
        t.typname in ('vector', 'halfvec') and exists (
            select from pg_catalog.pg_depend d
            join pg_catalog.pg_extension e on e.oid = d.refobjid
            where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.objid = t.oid
              and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
              and d.deptype = 'e' and e.extname = 'vector')
    from needed n join pg_catalog.pg_type t on t.oid = n.oid";

/// No transaction and no table: what reads the log passes it by its prefix.
const HEARTBEAT: &str = "
    select pg_catalog.pg_logical_emit_message(false, 'sequin.heartbeat', '')::text";

/// In a transaction of its own, so that it comes in the order of all others. A standby takes none.
const CLAIM: &str = "
    select case when not pg_catalog.pg_is_in_recovery()
        then pg_catalog.pg_logical_emit_message(true, $1, $2)::text end";

/// Whether anything can be written here.
const IS_STANDBY: &str = "select pg_catalog.pg_is_in_recovery()";

/// What was seen of the server.
#[derive(Debug)]
pub(crate) enum Look {
    /// It answers.
    Fine,
    /// It takes no sessions: it is shutting down.
    Closed,
    /// It could not be asked, or would not write the heartbeat.
    Failed(String),
}

/// What is to be written into the server's log at a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) heartbeat: bool,
    pub(crate) claim: Option<Claim>,
}

/// The catalog of the database.
#[derive(Debug)]
pub(crate) struct Catalog {
    options: Arc<Options>,
    sql: Option<Sql>,
    /// To the primary of a standby, once something was written there.
    primary: Option<Box<Sql>>,
    /// What the server keeps for the slot.
    retained: Box<Retained>,
}

impl Catalog {
    pub(crate) fn new(options: Arc<Options>, sql: Sql, retained: Retained) -> Self {
        Self { options, sql: Some(sql), primary: None, retained: Box::new(retained) }
    }

    /// A catalog whose session is yet to be opened.
    #[cfg(test)]
    pub(crate) fn unopened(options: Arc<Options>) -> Self {
        let retained = Retained::new(model::source::Held::default(), Arc::default());
        Self { options, sql: None, primary: None, retained: Box::new(retained) }
    }

    /// Answers a question.
    pub(crate) async fn ask(&mut self, question: &Question) -> Result<Facts, SourceError> {
        let answer = match timeout(ANSWER_TIMEOUT, self.answer(question)).await {
            Ok(answer) => answer,
            Err(_) => Err(error::transient(format!(
                "the catalog did not answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            ))),
        };
        if answer.is_err() {
            self.sql = None;
        }
        answer
    }

    /// Looks whether the server takes sessions and what it keeps for the slot, and writes what is to
    /// be written.
    pub(crate) async fn look(&mut self, words: &Words) -> Look {
        let look = timeout(ANSWER_TIMEOUT, self.look_around(words)).await;
        let look = look.unwrap_or_else(|_| Look::Failed("no answer".to_owned()));
        if !matches!(look, Look::Fine) {
            self.sql = None;
        }
        look
    }

    async fn look_around(&mut self, words: &Words) -> Look {
        if let Some(sql) = &mut self.sql {
            match self.retained.look(sql, &self.options).await {
                Ok(()) => return self.write(words).await,
                Err(error) => tracing::debug!(%error, "the session broke, opening another"),
            }
        }
        let sql = match Sql::try_open(&self.options).await {
            Ok(sql) => self.sql.insert(sql),
            Err(refused) if refused.is_closed() => return Look::Closed,
            Err(Refused::Unreached(error)) => return Look::Failed(error.to_string()),
            Err(Refused::Sql(error)) => return Look::Failed(error.to_string()),
        };
        match self.retained.look(sql, &self.options).await {
            Ok(()) => self.write(words).await,
            Err(error) => Look::Failed(error.to_source(&self.options).to_string()),
        }
    }

    /// Writes what is to be written: at the primary, if this is a standby and it is known.
    async fn write(&mut self, words: &Words) -> Look {
        if *words == Words::default() {
            return Look::Fine;
        }
        let options = Arc::clone(&self.options);
        let there = match self.primary_of_standby().await {
            Ok(Some(primary)) => write_words(primary, words, Some(&options)).await,
            Ok(None) => {
                let Some(sql) = &mut self.sql else { return Look::Fine };
                return match write_words(sql, words, None).await {
                    Ok(()) => Look::Fine,
                    Err(error) => Look::Failed(error.to_source(&options).to_string()),
                };
            }
            Err(error) => return Look::Failed(error.to_string()),
        };
        match there {
            Ok(()) => Look::Fine,
            Err(error) => {
                // It may have been cut while nobody looked: the next look opens another.
                self.primary = None;
                let options = options.primary.as_deref().unwrap_or(&options);
                Look::Failed(format!("the primary: {}", error.to_source(options)))
            }
        }
    }

    /// A session at the primary, if the server is a standby whose primary is known. One that was
    /// promoted writes for itself.
    async fn primary_of_standby(&mut self) -> Result<Option<&mut Sql>, SourceError> {
        let (Some(options), Some(sql)) = (&self.options.primary, &mut self.sql) else {
            return Ok(None);
        };
        let asked = sql.rows(IS_STANDBY, &[]).await;
        let rows = asked.map_err(|error| error.to_source(&self.options))?;
        let is_standby = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false);
        if !is_standby {
            return Ok(None);
        }
        if self.primary.is_none() {
            self.primary = Some(Box::new(Sql::open(options).await?));
        }
        Ok(self.primary.as_deref_mut())
    }

    /// Writes the claim, as the last thing: it stands behind what was confirmed, so that the next
    /// reader of the slot gets it. Best effort.
    pub(crate) async fn say(&mut self, claim: &Claim) {
        let words = Words { heartbeat: false, claim: Some(claim.clone()) };
        if let Ok(Look::Failed(error)) = timeout(ANSWER_TIMEOUT, self.write(&words)).await {
            tracing::debug!(%error, "the claim of the slot was not written");
        }
    }

    pub(crate) async fn close(self) {
        for sql in [self.sql, self.primary.map(|primary| *primary)].into_iter().flatten() {
            sql.close().await;
        }
    }

    async fn answer(&mut self, question: &Question) -> Result<Facts, SourceError> {
        if let Some(sql) = &mut self.sql {
            match facts(sql, question, &self.options.publication).await {
                Ok(facts) => return Ok(facts),
                Err(error) => {
                    tracing::debug!(%error, "the catalog's session broke, opening another");
                }
            }
        }
        let sql = self.sql.insert(Sql::open(&self.options).await?);
        let facts = facts(sql, question, &self.options.publication).await;
        facts.map_err(|error| error.to_source(&self.options))
    }
}

/// Writes these; for the slot of a standby if its options are given.
async fn write_words(
    sql: &mut Sql,
    words: &Words,
    standby: Option<&Options>,
) -> Result<(), QueryError> {
    if let Some(claim) = &words.claim {
        let mut claim = claim.clone();
        if let Some(standby) = standby {
            claim.slot = standby.slot_on_standby().into();
        }
        let (prefix, text) = (Claim::PREFIX, claim.to_text());
        sql.rows(CLAIM, &[(&prefix, Type::TEXT), (&text, Type::TEXT)]).await?;
    }
    if words.heartbeat {
        sql.rows(HEARTBEAT, &[]).await?;
    }
    Ok(())
}

/// Answers a question on this session.
pub(crate) async fn facts(
    sql: &mut Sql,
    question: &Question,
    publication: &String,
) -> Result<Facts, QueryError> {
    let mut facts = Facts::default();
    let parameters: [Parameter<'_>; 2] =
        [(&question.waiting, Type::OID_ARRAY), (publication, Type::TEXT)];
    for row in sql.rows(PLACES, &parameters).await? {
        facts.leaves_published = row.try_get::<_, Option<bool>>(2)?.unwrap_or(false);
        facts.via_root_since = row.try_get::<_, Option<i64>>(3)?.map(xid);
        // Postgres writes it so.
        facts.asked_at = row.try_get::<_, &str>(4)?.parse().unwrap_or(Lsn::ZERO);
        let Some(changed_by) = row.try_get::<_, Option<i64>>(1)?.map(xid) else { continue };
        let place = facts.places.entry(row.try_get(0)?);
        let place = place.or_insert(Place { ancestors: Vec::new(), changed_by });
        if let Some(oid) = row.try_get(5)? {
            let (schema, table): (&str, &str) = (row.try_get(6)?, row.try_get(7)?);
            place.ancestors.push(Ancestor { oid, schema: schema.into(), table: table.into() });
        }
    }
    if !question.tables.is_empty() {
        for row in sql.rows(PRIMARY_KEYS, &[(&question.tables, Type::OID_ARRAY)]).await? {
            let (table, column): (u32, String) = (row.try_get(0)?, row.try_get(1)?);
            facts.primary_keys.entry(table).or_default().insert(column);
        }
    }
    facts.types = types(sql, &question.types).await?;
    Ok(facts)
}

/// The types of these ids that are not built in, and all they are made of.
pub(crate) async fn types(
    sql: &mut Sql,
    types: &Vec<u32>,
) -> Result<HashMap<u32, TypeFact>, QueryError> {
    if types.is_empty() {
        return Ok(HashMap::new());
    }
    let depth = i32::try_from(DEPTH_MAX).unwrap_or(i32::MAX);
    let parameters: [Parameter<'_>; 2] = [(types, Type::OID_ARRAY), (&depth, Type::INT4)];
    let rows = sql.rows(TYPES, &parameters).await?;
    Ok(rows.iter().map(type_fact).collect::<Result<_, _>>()?)
}

/// A transaction id, as the server writes it: within 32 bits.
fn xid(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn type_fact(row: &Row) -> Result<(u32, TypeFact), tokio_postgres::Error> {
    let delimiter: String = row.try_get(2)?;
    let shape = match (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?) {
        (Some(base), _, _) => Shape::Domain { base },
        (None, Some(element), _) => Shape::Array { element },
        (None, None, true) => Shape::Vector,
        (None, None, false) => Shape::Other,
    };
    let delimiter = delimiter.bytes().next().unwrap_or(b',');
    Ok((row.try_get(0)?, TypeFact { name: row.try_get(1)?, shape, delimiter }))
}
