//! Rows that plugins ask for: by key, from the tables that are granted, on a session of its own.
//!
//! A question is one query for all its keys. Names are quoted by the server, and only those of columns
//! that the table has are used; values go as parameters, and each is read as the key's own type.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use model::BoxFuture;
use model::grants::{CallError, Failure, FoundRow, ReadRows, RowsQuery};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use crate::options::Options;
use crate::sql::{Parameter, QueryError, Sql};

/// Of an answer, all values together, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// A table's name, quoted, and of its columns the name, the name quoted, and the type.
const DESCRIBE: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname::text,
        pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_attribute a
        on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname::text = $1 and c.relname::text = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and a.attname::text = any ($3)";

/// The tables of one database that are granted to one plugin.
#[derive(Debug)]
pub struct Rows {
    options: Arc<Options>,
    tables: Vec<String>,
    session: Mutex<Option<Sql>>,
}

impl Rows {
    /// Of the database that `options` name; its tables as `schema.table`.
    #[must_use]
    pub fn new(options: Options, tables: Vec<String>) -> Self {
        Self { options: Arc::new(options), tables, session: Mutex::default() }
    }

    async fn answer(&self, query: RowsQuery) -> Result<Vec<Option<FoundRow>>, CallError> {
        let RowsQuery { table, .. } = &query;
        let granted = self.tables.iter().any(|granted| granted == table);
        let name = table.split_once('.').filter(|_| granted);
        let Some(name) = name else {
            let message = format!("the table {table:.200} is not granted");
            return Err(CallError::new(Failure::Denied, message));
        };
        if query.keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut kept = self.session.lock().await;
        let mut may_reopen = kept.is_some();
        loop {
            // Taken out: a question that is given up half way leaves its session to nobody.
            let mut sql = match kept.take() {
                Some(sql) => sql,
                None => self.open().await?,
            };
            match ask(&mut sql, name, &query).await {
                Ok(found) => {
                    *kept = Some(sql);
                    return Ok(found);
                }
                Err(Wrong::Call(error)) => {
                    *kept = Some(sql);
                    return Err(error);
                }
                // One that was kept may have been cut while nobody looked.
                Err(Wrong::Query(error)) if error.code().is_empty() && may_reopen => {
                    may_reopen = false;
                }
                Err(Wrong::Query(error)) => return Err(told(&error)),
            }
        }
    }

    async fn open(&self) -> Result<Sql, CallError> {
        let limit = self.options.connect_timeout;
        let unavailable = |why: String| CallError::new(Failure::Unavailable, why);
        match timeout(limit, Sql::open(&self.options)).await {
            Ok(opened) => opened.map_err(|error| unavailable(error.to_string())),
            Err(_) => Err(unavailable("the database does not take a session in time".to_owned())),
        }
    }
}

enum Wrong {
    Call(CallError),
    Query(QueryError),
}

impl From<QueryError> for Wrong {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<tokio_postgres::Error> for Wrong {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error.into())
    }
}

fn invalid(message: String) -> Wrong {
    Wrong::Call(CallError::new(Failure::Invalid, message))
}

async fn ask(
    sql: &mut Sql,
    (schema, table): (&str, &str),
    query: &RowsQuery,
) -> Result<Vec<Option<FoundRow>>, Wrong> {
    let wanted: Vec<&str> = query.columns.iter().chain(&query.key).map(String::as_str).collect();
    let parameters: [Parameter<'_>; 3] =
        [(&schema, Type::TEXT), (&table, Type::TEXT), (&wanted, Type::TEXT_ARRAY)];
    let mut quoted_table = None;
    let mut columns = HashMap::new();
    for row in sql.rows(DESCRIBE, &parameters).await? {
        quoted_table = Some(row.try_get::<_, String>(0)?);
        let described: (String, String) = (row.try_get(2)?, row.try_get(3)?);
        columns.insert(row.try_get::<_, String>(1)?, described);
    }
    let column = |name: &String| {
        let missing = || invalid(format!("{schema}.{table} has no column {name:.200?}"));
        columns.get(name).ok_or_else(missing)
    };
    let values: Vec<_> = query.columns.iter().map(column).collect::<Result<_, _>>()?;
    let key: Vec<_> = query.key.iter().map(column).collect::<Result<_, _>>()?;
    let text = text(&quoted_table.unwrap_or_default(), &values, &key);
    let arrays: Vec<Vec<&str>> = (0..key.len())
        .map(|at| query.keys.iter().map(|key| key.get(at).map_or("", String::as_str)).collect())
        .collect();
    let parameters: Vec<Parameter<'_>> =
        arrays.iter().map(|array| (array as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
    let answers = match sql.rows(&text, &parameters).await {
        // A value that is none of the key's type.
        Err(error) if error.code().starts_with("22") => return Err(invalid(error.said())),
        answers => answers?,
    };
    let mut found = vec![None; query.keys.len()];
    let mut bytes = 0;
    for answer in &answers {
        let place: i64 = answer.try_get(0)?;
        let mut row = FoundRow::with_capacity(values.len());
        for at in 1..=values.len() {
            let value: Option<String> = answer.try_get(at)?;
            bytes += value.as_ref().map_or(0, String::len);
            row.push(value);
        }
        if bytes > BYTES_MAX {
            let message = format!("the rows hold more than {BYTES_MAX} bytes");
            return Err(Wrong::Call(CallError::new(Failure::TooLarge, message)));
        }
        // Places count from 1.
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        if let Some(slot) = place.and_then(|place| found.get_mut(place)) {
            *slot = Some(row);
        }
    }
    Ok(found)
}

/// Values by the types' own output functions; of several rows of one key, any.
fn text(table: &str, values: &[&(String, String)], key: &[&(String, String)]) -> String {
    let mut text = String::from("select w.n");
    let mut push = |arguments: std::fmt::Arguments<'_>| {
        let written = text.write_fmt(arguments);
        debug_assert!(written.is_ok(), "formatting into a String");
    };
    for at in 0..values.len() {
        push(format_args!(", t.v{at}"));
    }
    push(format_args!(" from unnest("));
    for at in 1..=key.len() {
        let comma = if at > 1 { ", " } else { "" };
        push(format_args!("{comma}${at}::text[]"));
    }
    push(format_args!(") with ordinality as w("));
    for at in 1..=key.len() {
        push(format_args!("k{at}, "));
    }
    push(format_args!("n) cross join lateral (select true as found"));
    for (at, (quoted, _)) in values.iter().enumerate() {
        push(format_args!(
            ", case when t.{quoted} is not distinct from null then null else \
             pg_catalog.format('%s', t.{quoted}) end as v{at}"
        ));
    }
    push(format_args!(" from {table} t where true"));
    for (at, (quoted, type_text)) in (1..).zip(key) {
        push(format_args!(" and t.{quoted} = w.k{at}::{type_text}"));
    }
    push(format_args!(" limit 1) t"));
    text
}

fn told(error: &QueryError) -> CallError {
    let failure = match error.code() {
        "42501" => Failure::Denied,
        // query_canceled: by the session's own limit.
        "57014" => Failure::Timeout,
        _ => Failure::Unavailable,
    };
    CallError::new(failure, format!("the database: {}", error.said()))
}

impl ReadRows for Rows {
    fn rows(&self, query: RowsQuery) -> BoxFuture<'_, Result<Vec<Option<FoundRow>>, CallError>> {
        Box::pin(self.answer(query))
    }
}
