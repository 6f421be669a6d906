//! Rows as they are now, by key: `model::lookup` over an SQL session.
//!
//! A question is one query for all its rows, joined to their keys, so that it uses the index of the
//! key. Values come through the types' own output functions (`format('%s')`, never a cast to text,
//! which writes some types differently), in the session that the stream uses too, and go through
//! the encoder of the stream: a fetched value looks like a sent one.
//!
//! The table is found by its id, under whatever name it has now. Each value comes with the type it
//! has now; where that is not the type that the question was planned for, the answer is thrown
//! away and planned again.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use model::BoxFuture;
use model::page::{Builder, Extent, Row, RowSpan, Value};
use model::relation::Relation;
use model::source::SourceError;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use crate::error;
use crate::options::Options;
use crate::sql::{Parameter, QueryError, Sql};
use plan::Plan;

/// Tables of a schema that a sink reads have so many; past it all are planned again.
const PLANS_MAX: usize = 1_000;

/// A question is planned anew this often when the table changes under it.
const PLANNINGS_MAX: usize = 3;

/// The present state of a database, read on a session of its own that is opened at the first
/// question and again whenever it breaks. Questions wait for each other.
#[derive(Debug)]
pub struct Lookup {
    options: Arc<Options>,
    session: Mutex<Session>,
}

#[derive(Debug, Default)]
struct Session {
    sql: Option<Sql>,
    plans: HashMap<(u32, Vec<usize>), Plan>,
}

/// Why there is no answer.
enum Failure {
    Source(SourceError),
    Query(QueryError),
    /// The table is not as it was planned for.
    Changed,
}

impl Lookup {
    /// Of the database that `options` name. Their slot and publication mean nothing here.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options: Arc::new(options), session: Mutex::default() }
    }

    async fn answer(
        &self,
        relation: &Arc<Relation>,
        rows: &[Row],
        columns: &[usize],
    ) -> Result<Vec<Option<Row>>, SourceError> {
        let mut session = self.session.lock().await;
        let mut reopened = false;
        let mut plannings = 0;
        loop {
            let fresh = session.sql.is_none();
            let failure = match session.ask(&self.options, relation, rows, columns).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            session.plans.remove(&(relation.oid, columns.to_vec()));
            match failure {
                Failure::Source(error) => return Err(error),
                Failure::Changed if plannings < PLANNINGS_MAX => plannings += 1,
                Failure::Changed => {
                    let Relation { schema, table, .. } = &**relation;
                    let text = format!("{schema}.{table} changes faster than it can be read");
                    return Err(error::transient(text));
                }
                // A column, table or type that is gone since.
                Failure::Query(error) if error.code().starts_with("42") && plannings == 0 => {
                    if error.code() == "42501" {
                        return Err(denied(&error, relation));
                    }
                    plannings += 1;
                }
                Failure::Query(error) => {
                    session.sql = None;
                    // A session that was kept may have been cut while nobody looked.
                    if fresh || std::mem::replace(&mut reopened, true) {
                        return Err(error.to_source(&self.options));
                    }
                }
            }
        }
    }
}

fn denied(said: &QueryError, relation: &Relation) -> SourceError {
    let Relation { schema, table, .. } = relation;
    error::definite(
        "privilege",
        said.to_string(),
        format!("grant the source's user SELECT on {schema}.{table}, or do not fetch its values"),
    )
}

impl Session {
    async fn ask(
        &mut self,
        options: &Options,
        relation: &Arc<Relation>,
        rows: &[Row],
        columns: &[usize],
    ) -> Result<Vec<Option<Row>>, Failure> {
        let sql = match &mut self.sql {
            Some(sql) => sql,
            none => none.insert(open(options).await?),
        };
        let key = (relation.oid, columns.to_vec());
        let known = self.plans.get(&key).filter(|plan| Arc::ptr_eq(&plan.relation, relation));
        if let Some(plan) = known {
            return fetch(sql, plan, rows).await;
        }
        let plan = Plan::make(sql, relation, columns).await.map_err(Failure::Query)?;
        let found = fetch(sql, &plan, rows).await?;
        // What is gone may come back.
        if plan.is_complete() {
            if self.plans.len() >= PLANS_MAX {
                self.plans.clear();
            }
            self.plans.insert(key, plan);
        }
        Ok(found)
    }
}

async fn open(options: &Options) -> Result<Sql, Failure> {
    let limit = options.connect_timeout;
    let opened = timeout(limit, Sql::open(options)).await.unwrap_or_else(|_| {
        let seconds = limit.as_secs_f32();
        Err(error::transient(format!("could not open an SQL session within {seconds} s")))
    });
    opened.map_err(Failure::Source)
}

/// Runs a plan.
async fn fetch(sql: &mut Sql, plan: &Plan, rows: &[Row]) -> Result<Vec<Option<Row>>, Failure> {
    let Some(query) = &plan.query else { return Ok(vec![None; rows.len()]) };
    // A key is one array per column; a row whose key is not known in full has nulls in it, which
    // are equal to nothing.
    let keys: Vec<Vec<Option<&str>>> = plan
        .key
        .iter()
        .map(|column| rows.iter().map(|row| text(row.value(*column))).collect())
        .collect();
    let parameters: Vec<Parameter<'_>> = keys
        .iter()
        .map(|key| (key as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY))
        .collect();
    let answers = sql.rows(query, &parameters).await.map_err(Failure::Query)?;
    let mut builder = Builder::default();
    let mut spans: Vec<Option<RowSpan>> = vec![None; rows.len()];
    for answer in &answers {
        let told = |error: tokio_postgres::Error| Failure::Query(error.into());
        let place: i64 = answer.try_get(0).map_err(told)?;
        let first = builder.begin_row();
        for (index, column) in plan.columns.iter().enumerate() {
            let Some(column) = column else {
                builder.unchanged();
                continue;
            };
            let type_oid: u32 = answer.try_get(1 + index * 2).map_err(told)?;
            if type_oid != column.type_oid {
                return Err(Failure::Changed);
            }
            match answer.try_get::<_, Option<&str>>(2 + index * 2).map_err(told)? {
                None => builder.null(),
                // Gigabytes in one answer: what does not fit stays unsaid.
                Some(text) if column.form.most(text.len()) > room(&builder) => builder.unchanged(),
                // What its encoder cannot read was not planned for either.
                Some(text) => builder
                    .value(|out| column.form.write_bytes(text.as_bytes(), out).map(drop))
                    .map_err(|_| Failure::Changed)?,
            }
        }
        let span = builder.end_row(first, Extent::Full);
        // Places count from 1.
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        if let Some(slot) = place.and_then(|place| spans.get_mut(place)) {
            *slot = Some(span);
        }
    }
    let mut found = builder.into_rows(spans.iter().flatten().copied()).into_iter();
    Ok(spans.iter().map(|span| span.and_then(|_| found.next())).collect())
}

fn room(builder: &Builder) -> usize {
    Builder::TEXT_BYTES_MAX.saturating_sub(builder.bytes())
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Unchanged => None,
    }
}

impl model::lookup::Lookup for Lookup {
    fn fetch<'a>(
        &'a self,
        relation: &'a Arc<Relation>,
        rows: &'a [Row],
        columns: &'a [usize],
    ) -> BoxFuture<'a, Result<Vec<Option<Row>>, SourceError>> {
        Box::pin(self.answer(relation, rows, columns))
    }
}
