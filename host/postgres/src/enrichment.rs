//! What an owner's SQL says of rows: `model::enrich` over an SQL session.
//!
//! The contract is the predecessor's: the statement has one array parameter for each column of the
//! key (`$1`, `$2`, …, in the order of the columns' names), gives the key's columns back, and at most
//! one row for each key. The row as a whole becomes the JSON object.
//!
//! The statement is prepared anew for each question: only the server knows its columns, which may
//! change with any table behind it. Then it runs inside another query that has each value written by
//! its type's own output function, so that the encoder of the stream can write it like a sent one.
//!
//! It runs read-only and within a time limit, on a session of its own: a slow statement holds up
//! nobody else. Errors of the server are told apart by whom they concern: the row whose value the
//! statement cannot digest (found by halving), the owner of the statement, or nobody but time.

mod answer;
mod question;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::BoxFuture;
use model::enrich::{Enriched, RowRefused};
use model::page::Row;
use model::relation::Relation;
use model::source::SourceError;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tracing::warn;

use crate::error;
use crate::options::Options;
use crate::sql::{Parameter, QueryError, Sql};
use answer::{Found, Reader};
use question::{Keys, Prepared};

/// For each question, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One statement, asked on a session that is opened at the first question and again whenever it
/// breaks. Questions wait for each other: sinks that are not to do so have one each.
#[derive(Debug)]
pub struct Enrichment {
    options: Arc<Options>,
    name: String,
    sql: String,
    timeout: Duration,
    session: Mutex<Option<Session>>,
    /// Whether it was told that the statement gives rows that were not asked for.
    told_strangers: AtomicBool,
}

#[derive(Debug)]
struct Session {
    sql: Sql,
    reader: Reader,
}

/// Why there is no answer.
enum Failure {
    /// It is told already.
    Source(SourceError),
    /// By the statement as its owner wrote it.
    Statement(QueryError),
    /// By the query around the statement.
    Around(QueryError),
    /// By one of our own queries.
    Query(QueryError),
}

impl Enrichment {
    /// This statement, under the name that it has in the configuration, in the database that
    /// `options` name. Their slot and publication mean nothing here.
    #[must_use]
    pub fn new(options: Options, name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self {
            options: Arc::new(options),
            name: name.into(),
            sql: sql.into(),
            timeout: TIMEOUT,
            session: Mutex::new(None),
            told_strangers: AtomicBool::new(false),
        }
    }

    /// The same with another limit for each question; 10 s otherwise.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks on the session. One that was kept may have been cut while nobody looked, so it is opened
    /// again once. Without keys only whether the statement can be asked.
    async fn ask(&self, keys: Option<&Keys<'_>>) -> Result<Vec<Found>, SourceError> {
        let mut session = self.session.lock().await;
        loop {
            let fresh = session.is_none();
            let open = match &mut *session {
                Some(open) => open,
                none => none.insert(self.open().await?),
            };
            let asked = match keys {
                None => self.try_check(open).await.map(|()| Vec::new()),
                Some(keys) => self.try_answer(open, keys).await,
            };
            let error = match asked {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.tell(failure),
            };
            if matches!(error, SourceError::Definite { .. }) {
                return Err(error);
            }
            *session = None;
            if fresh {
                return Err(error);
            }
        }
    }

    async fn open(&self) -> Result<Session, SourceError> {
        let limit = self.options.connect_timeout;
        let opened = timeout(limit, async {
            let mut sql = Sql::open(&self.options).await?;
            let set = async {
                sql.limit_statements(self.timeout).await?;
                let set =
                    "select pg_catalog.set_config('default_transaction_read_only', 'on', false)";
                sql.rows(set, &[]).await
            };
            set.await.map_err(|error| error.to_source(&self.options))?;
            Ok(Session { sql, reader: Reader::default() })
        });
        opened.await.unwrap_or_else(|_| {
            let seconds = limit.as_secs_f32();
            Err(error::transient(format!("could not open an SQL session within {seconds} s")))
        })
    }

    async fn try_check(&self, session: &mut Session) -> Result<(), Failure> {
        match Prepared::make(&mut session.sql, &self.sql, None, self.timeout).await {
            // Only the types of the key tell.
            Err(Failure::Statement(error)) if question::lacks_types(error.code()) => Ok(()),
            prepared => prepared.map(drop),
        }
    }

    /// What was found about each distinct key.
    async fn try_answer(
        &self,
        session: &mut Session,
        keys: &Keys<'_>,
    ) -> Result<Vec<Found>, Failure> {
        let Session { sql, reader } = session;
        let prepared = Prepared::make(sql, &self.sql, Some(keys), self.timeout).await?;
        prepared.check(keys).map_err(|(wrong, help)| Failure::Source(self.wrong(wrong, help)))?;
        let all = keys.distinct.len();
        let mut found: Vec<Found> = vec![Found::None; all];
        // What is left to ask about; halved where a row is at fault.
        let mut left = vec![(0, all)];
        while let Some((from, to)) = left.pop() {
            if from == to {
                continue;
            }
            let arrays = keys.parameters(from..to);
            let types = prepared.statement.params().iter().cloned();
            let parameters: Vec<Parameter<'_>> =
                arrays.iter().zip(types).map(|(array, kind)| (array as _, kind)).collect();
            match sql.rows_within(&prepared.query, &parameters, self.timeout).await {
                Ok(rows) => {
                    let statement = &prepared.statement;
                    let strangers = reader.read(sql, statement, keys, &rows, &mut found).await?;
                    self.tell_strangers(strangers);
                }
                Err(error) if !is_of_a_row(error.code()) => return Err(Failure::Around(error)),
                Err(error) if to - from == 1 => {
                    if let Some(slot) = found.get_mut(from) {
                        *slot = Found::Refused(error.said());
                    }
                }
                Err(_) => {
                    let middle = usize::midpoint(from, to);
                    left.extend([(middle, to), (from, middle)]);
                }
            }
        }
        Ok(found)
    }

    async fn answer(
        &self,
        relation: &Relation,
        rows: &[Row],
    ) -> Result<Vec<Enriched>, SourceError> {
        let keys = Keys::of(relation, rows).map_err(|(wrong, help)| self.wrong(wrong, help))?;
        let found = self.ask(Some(&keys)).await?;
        let enriched = |distinct: &Option<usize>| match distinct.and_then(|at| found.get(at)) {
            None | Some(Found::None) => Ok(None),
            Some(Found::One(json)) => Ok(Some(Arc::clone(json))),
            Some(Found::Many(rows)) => Err(self.refused(
                &keys,
                *distinct,
                relation,
                &format!("gives {rows} rows; it may give one at most"),
            )),
            Some(Found::Refused(error)) => {
                Err(self.refused(&keys, *distinct, relation, &format!("fails: {error}")))
            }
        };
        Ok(keys.places.iter().map(enriched).collect())
    }

    fn refused(
        &self,
        keys: &Keys<'_>,
        distinct: Option<usize>,
        relation: &Relation,
        what: &str,
    ) -> RowRefused {
        let Relation { schema, table, .. } = relation;
        let row = distinct.map(|at| keys.name(at)).unwrap_or_default();
        RowRefused(format!(
            "enrichment `{}`, row of {schema}.{table} with {row}: {what}",
            self.name
        ))
    }

    /// The statement does not fit.
    fn wrong(&self, what: String, help: String) -> SourceError {
        error::definite("enrichment_sql", format!("enrichment `{}`: {what}", self.name), help)
    }

    /// Whom a failure concerns.
    fn tell(&self, failure: Failure) -> SourceError {
        let (error, is_around) = match failure {
            Failure::Source(error) => return error,
            Failure::Query(error) => return error.to_source(&self.options),
            Failure::Statement(error) => (error, false),
            Failure::Around(error) => (error, true),
        };
        let name = &self.name;
        match error.code() {
            // query_canceled: by the limit, or by somebody.
            "57014" => error::definite(
                "enrichment_timeout",
                format!("enrichment `{name}`: {}", error.said()),
                format!(
                    "it has {} s for up to 256 rows: look at its plan (EXPLAIN), it may lack an index",
                    self.timeout.as_secs_f32()
                ),
            ),
            "42501" => error::definite(
                "privilege",
                format!("enrichment `{name}`: {}", error.said()),
                format!("grant {} SELECT on the tables that it reads", self.options.user),
            ),
            "25006" => self.wrong(
                error.said(),
                "it runs in a read-only transaction: leave out what writes".to_owned(),
            ),
            code if is_of_the_statement(code) => {
                let help = if is_around && code == "42601" {
                    "write one query (SELECT, WITH, VALUES or TABLE) that can stand in the place of \
                     a table: without a semicolon and what follows it"
                } else {
                    "correct the SQL, or what it reads in the database; the sink goes on by itself"
                };
                let place = if is_around { None } else { error.position() };
                let place = place.map(|at| question::place(&self.sql, at)).unwrap_or_default();
                self.wrong(format!("{}{place}", error.said()), help.to_owned())
            }
            _ => error.to_source(&self.options),
        }
    }

    fn tell_strangers(&self, strangers: usize) {
        if strangers > 0 && !self.told_strangers.swap(true, Ordering::Relaxed) {
            warn!(
                enrichment = self.name,
                rows = strangers,
                "the SQL gives rows with keys that were not asked for: does it lack `where key = \
                 any($1)`, or give the key in another form? Said once"
            );
        }
    }
}

/// Whether one row may be at fault, so that the others can do without it: data_exception,
/// cardinality_violation, raise_exception.
fn is_of_a_row(code: &str) -> bool {
    ["22", "21", "P0"].iter().any(|class| code.starts_with(class))
}

/// Whether the statement's owner must act: syntax and names, features, what [`is_of_a_row`] has when
/// there is no row yet.
fn is_of_the_statement(code: &str) -> bool {
    is_of_a_row(code)
        || ["0A", "2F", "38", "39", "3D", "3F", "42"].iter().any(|class| code.starts_with(class))
}

/// A built-in type by its oid, or one of which nothing else is known.
fn type_of(oid: u32) -> Type {
    let unnamed = || {
        let kind = tokio_postgres::types::Kind::Simple;
        Type::new(String::new(), oid, kind, String::new())
    };
    Type::from_oid(oid).unwrap_or_else(unnamed)
}

impl model::enrich::Enrich for Enrichment {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async { self.ask(None).await.map(drop) })
    }

    fn enrich<'a>(
        &'a self,
        relation: &'a Arc<Relation>,
        rows: &'a [Row],
    ) -> BoxFuture<'a, Result<Vec<Enriched>, SourceError>> {
        Box::pin(self.answer(relation, rows))
    }
}
