//! A table that keeps changes: `model::sink` over an SQL session. The shape of the table is the
//! predecessor's, so that what reads it there reads it here.
//!
//! The messages of a batch are written by one statement, and so all of them or none. Each row has the
//! place of its change in the log (`seq`), and the table a unique index with it: what is sent again
//! after a kill or a lost answer is there already and makes no second row.
//!
//! It is here and not with the other destinations because of the session: hosts, TLS, logins and what
//! their failures mean are the source's.

mod ddl;
mod rows;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::sink::{Failure, Retry, Sink, SinkError, SinkKind, Verdict};
use model::source::SourceError;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::error;
use crate::options::Options;
use crate::sql::{QueryError, Sql};
use crate::stream::examine::{Finding, Outcome};
use rows::Columns;
use shape::{Problem, Shape};

pub use ddl::ddl;

/// For the statement of a batch. A table with many indexes on a busy server needs seconds for a
/// thousand rows.
const INSERT_TIMEOUT: Duration = Duration::from_secs(30);

/// Of the payloads of a statement: the server holds them several times while it writes them.
const BYTES_MAX: usize = 8 << 20;

/// No value of Postgres is larger, and the statement that holds it must stay below 2 GiB.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// After so long the table is looked at again: it may have got the column of annotations.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A table of a database.
#[derive(Debug)]
pub struct ChangeTable {
    options: Arc<Options>,
    name: TableName,
    /// Whether it is made if it is not there.
    creates: bool,
    messages_max: usize,
    linger: Duration,
    /// Opened when it is needed first, and again when it broke.
    session: Mutex<Option<Session>>,
}

/// Which table, unquoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name in it.
    pub table: String,
}

#[derive(Debug)]
struct Session {
    sql: Sql,
    shape: Shape,
    looked_at: Instant,
}

/// Why nothing was written.
enum Refused {
    Session(SourceError),
    Shape(Problem),
    Query(QueryError),
}

impl ChangeTable {
    /// The table of this name in the database that `options` name; their slot and publication mean
    /// nothing here. A statement writes at most `messages_max` rows, and the first row of one waits
    /// for company for `linger`.
    #[must_use]
    pub fn new(options: Options, name: TableName, messages_max: usize, linger: Duration) -> Self {
        let (options, session) = (Arc::new(options), Mutex::new(None));
        Self { options, name, creates: false, messages_max, linger, session }
    }

    /// Makes the table if it is not there.
    #[must_use]
    pub fn creating(self, creates: bool) -> Self {
        Self { creates, ..self }
    }

    /// Looks at all that writing needs, part by part: `connection`, `table`, `columns`, `index`,
    /// `privileges`. Writes nothing. What cannot be looked at because of what is wrong before it is
    /// left out.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut sql = match self.login().await {
            Ok(sql) => sql,
            Err(error) => {
                return vec![Finding { name: "connection", outcome: Outcome::Bad(error) }];
            }
        };
        let Options { user, database, .. } = &*self.options;
        let told = format!("{user} is let in to {database} at {}", self.options.addresses());
        let mut all = vec![Finding { name: "connection", outcome: Outcome::Good(told) }];
        match Shape::look(&mut sql, &self.name).await {
            Err(error) => {
                let outcome = Outcome::Bad(error.to_source(&self.options));
                all.push(Finding { name: "table", outcome });
            }
            Ok(Err(problems)) if self.creates && shape::is_only_missing(&problems) => {
                let told = format!("{} is not there, and is created at the start", self.name);
                all.push(Finding { name: "table", outcome: Outcome::Good(told) });
            }
            Ok(looked) => {
                let problems = looked.err().unwrap_or_default();
                for (part, good) in shape::PARTS {
                    let of_part = problems.iter().filter(|problem| problem.part == part);
                    let before = all.len();
                    all.extend(of_part.map(|problem| Finding {
                        name: part,
                        outcome: Outcome::Bad(problem.clone().into_source()),
                    }));
                    let is_good = all.len() == before;
                    if is_good {
                        let outcome = Outcome::Good(format!("{}: {good}", self.name));
                        all.push(Finding { name: part, outcome });
                    } else if part == "table" {
                        break;
                    }
                }
            }
        }
        sql.close().await;
        all
    }

    async fn login(&self) -> Result<Sql, SourceError> {
        let limit = self.options.connect_timeout;
        let opened = timeout(limit, Sql::open(&self.options)).await.unwrap_or_else(|_| {
            let (hosts, seconds) = (self.options.addresses(), limit.as_secs_f32());
            Err(error::transient(format!("{hosts}: no session within {seconds} s")))
        });
        opened.map_err(|error| match error {
            SourceError::Definite { code: code @ "privilege", message, .. } => {
                let Options { user, database, .. } = &*self.options;
                error::definite(code, message, format!("grant CONNECT on {database} to {user}"))
            }
            other => other,
        })
    }

    async fn open(&self) -> Result<Session, Refused> {
        let mut sql = self.login().await.map_err(Refused::Session)?;
        sql.limit_statements(INSERT_TIMEOUT).await.map_err(Refused::Query)?;
        let shape = self.look(&mut sql).await?;
        Ok(Session { sql, shape, looked_at: Instant::now() })
    }

    /// What the table is like; makes it first, if that is wanted.
    async fn look(&self, sql: &mut Sql) -> Result<Shape, Refused> {
        let looked = Shape::look(sql, &self.name).await.map_err(Refused::Query)?;
        let problems = match looked {
            Ok(shape) => return Ok(shape),
            Err(problems) => problems,
        };
        if self.creates && shape::is_only_missing(&problems) {
            let made = ddl(&self.name, false);
            sql.batch(&made, INSERT_TIMEOUT).await.map_err(Refused::Query)?;
            tracing::info!(table = %self.name, "the table for changes was not there and is made");
            let looked = Shape::look(sql, &self.name).await.map_err(Refused::Query)?;
            return looked.map_err(first);
        }
        Err(first(problems))
    }

    /// Writes rows that are not there yet. A session that was kept may have been cut while nobody
    /// looked, so another one is opened once: what the cut one wrote is not written again.
    async fn insert(&self, columns: &Columns<'_>) -> Result<(), Refused> {
        let mut kept = self.session.lock().await;
        // Taken out: a call that is dropped in the middle leaves no session that waits for an answer.
        if let Some(session) = kept.take() {
            match self.insert_on(session, columns).await {
                Ok(session) => {
                    *kept = Some(session);
                    return Ok(());
                }
                Err(Refused::Query(error)) if error.is_broken() => {}
                Err(refused) => return Err(refused),
            }
        }
        let session = self.open().await?;
        *kept = Some(self.insert_on(session, columns).await?);
        Ok(())
    }

    /// The session as it is to be kept.
    async fn insert_on(
        &self,
        mut session: Session,
        columns: &Columns<'_>,
    ) -> Result<Session, Refused> {
        let Session { sql, shape, looked_at } = &mut session;
        if looked_at.elapsed() >= LOOK_AGAIN_AFTER {
            *shape = self.look(sql).await?;
            *looked_at = Instant::now();
        }
        let parameters = columns.parameters(shape.has_annotations);
        let inserted = sql.rows_within(&shape.insert, &parameters, INSERT_TIMEOUT).await;
        let Err(error) = inserted else { return Ok(session) };
        if is_about_the_table(error.code()) {
            // It is not what it was: whoever has to act is told what of it.
            self.look(sql).await?;
        }
        Err(Refused::Query(error))
    }
}

fn first(problems: Vec<Problem>) -> Refused {
    let unknown = || Problem::new("table", "table_missing", String::new(), String::new());
    Refused::Shape(problems.into_iter().next().unwrap_or_else(unknown))
}

/// Syntax error or access rule violation, which is all that names can be wrong in.
fn is_about_the_table(code: &str) -> bool {
    code.starts_with("42")
}

impl Refused {
    fn to_sink(&self, options: &Options) -> SinkError {
        match self {
            Self::Session(SourceError::Transient(why)) => {
                SinkError::unreachable(format!("unreachable: {why}"))
            }
            Self::Session(SourceError::Definite { code, message, help }) => {
                SinkError::misconfigured(format!("{code}: {message} (fix: {help})"))
            }
            Self::Shape(problem) => SinkError::misconfigured(problem.to_string()),
            Self::Query(error) => said(error, options),
        }
    }
}

/// By SQLSTATE. Details and contexts of the server are left out: they show rows.
fn said(error: &QueryError, options: &Options) -> SinkError {
    let QueryError::Sql(sql) = error else {
        return SinkError::unreachable(format!("unreachable: {error}"));
    };
    let Some(db) = sql.as_db_error() else {
        let source = error::sql(sql, options);
        return SinkError::unreachable(format!("unreachable: {source}"));
    };
    let (code, text) = (db.code().code(), db.message());
    let told = format!("{text} (SQLSTATE {code})");
    match code {
        // The row fits none of its partitions.
        "23514" if db.routine() == Some("ExecFindPartition") => SinkError::misconfigured(format!(
            "partition_missing: {told} (fix: create the partition for that time, or a default one)"
        )),
        // Data exceptions, constraints, limits such as that of jsonb: another attempt meets them again.
        _ if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => {
            SinkError { message: told, retry: Retry::Never, failure: Failure::Refused }
        }
        "25006" => SinkError::misconfigured(format!(
            "read_only: {told} (fix: name the primary, or all hosts with it first)"
        )),
        _ if is_about_the_table(code) => SinkError::misconfigured(told),
        _ => SinkError::unreachable(told),
    }
}

impl Sink for ChangeTable {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: self.messages_max.max(1),
            bytes_max: BYTES_MAX,
            message_bytes_max: Some(MESSAGE_BYTES_MAX),
            request_overhead: 0,
            message_overhead: 0,
            linger: self.linger,
            // One session; a statement of many rows fills it.
            requests_max: 1,
            grouping: Grouping::Together,
            one_route: false,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            for Finding { outcome, .. } in self.examine().await {
                if let Outcome::Bad(error) = outcome {
                    return Err(Refused::Session(error).to_sink(&self.options));
                }
            }
            Ok(())
        })
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(async move {
            let (columns, verdicts) = Columns::of(batch.messages());
            if !columns.is_empty() {
                let inserted = self.insert(&columns).await;
                inserted.map_err(|refused| refused.to_sink(&self.options))?;
            }
            Ok(verdicts)
        })
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}
