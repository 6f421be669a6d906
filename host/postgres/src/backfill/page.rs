//! One page.

use std::sync::Arc;
use std::time::Duration;

use model::backfill::{Ask, Page, Snapshot};
use model::page::{Builder, Extent};
use model::relation::Relation;
use model::source::SourceError;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::place::{By, Part, Reached};
use super::query::{Query, Target};
use super::sessions::{Held, Session};
use super::table::{self, Failure, OrderColumn};
use super::{LOCK_TIMEOUT, Tables, Tries, snapshot};
use crate::error;
use crate::options::Options;
use crate::relation::Table;
use crate::sql::{Parameter, QueryError, Sql};

/// Rows of a page that are fetched before it is known how wide they are.
const FETCHED_FIRST: usize = 8;

/// So many rows are read from answers before another task has its turn: live changes do not wait for a
/// whole page.
const ROWS_A_TURN: usize = 128;

/// A table by its id.
const NAME: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = $1 and c.relkind in ('r', 'p')";

/// The same under its lock, with what the transaction shows.
const HEAD: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname),
        pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_is_in_recovery(),
        pg_catalog.pg_relation_filenode(c.oid),
        (pg_catalog.pg_relation_size(c.oid)
            / pg_catalog.current_setting('block_size')::bigint)::bigint,
        case when c.relpages > 0 then c.reltuples / c.relpages else 0 end::float8
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = $1";

/// Finds operators of types that are not on the path of the session.
const ADD_TO_PATH: &str = "
    select pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ',
        nullif(pg_catalog.current_setting('search_path'), ''),
        (select pg_catalog.string_agg(pg_catalog.quote_ident(s), ', ')
            from unnest($1::text[]) s)), true)";

/// What is known of a table whose lock is held.
pub(super) struct Head {
    pub(super) name: String,
    pub(super) snapshot: Snapshot,
    pub(super) file: u32,
    pub(super) blocks: u32,
    pub(super) density: f64,
}

/// Reads the next page of a range.
pub(super) async fn page(tables: &Tables, ask: &Ask) -> Result<Page, SourceError> {
    let part = Part::read(&ask.range)?;
    let after = ask.after.as_ref().map(Reached::read).transpose()?;
    tables.catch_up(ask.timeout).await?;
    let options = &tables.readers.options;
    let mut tries = Tries::default();
    loop {
        let mut held = tables.readers.take(tries.anew).await?;
        match read(&mut held, ask, &part, after.as_ref(), options).await {
            Ok(page) => {
                held.keep();
                return Ok(page);
            }
            Err(failure) => {
                tries.again(failure, held.fresh, options, |error| refused(error, ask, options))?;
            }
        }
    }
}

async fn read(
    held: &mut Held,
    ask: &Ask,
    part: &Part,
    after: Option<&Reached>,
    options: &Options,
) -> Result<Page, Failure> {
    let started = Instant::now();
    let session = held.session()?;
    let mut part = part.clone();
    let mut name = name(&mut session.sql, part.table).await?;
    let mut gone = false;
    if name.is_none() && part.partition {
        // The rows went with the partition.
        gone = true;
        let wanted = &ask.wanted;
        if let Some(oid) = oid(&mut session.sql, &wanted.schema, &wanted.table).await? {
            part.table = oid;
            name = self::name(&mut session.sql, oid).await?;
        }
    }
    let Some(name) = name else {
        let wanted = &ask.wanted;
        return Err(table::missing(&format!("{}.{}", wanted.schema, wanted.table)).into());
    };
    let head = begin(&mut session.sql, part.table, &name, ask.timeout).await?;
    if gone {
        let table = table::describe_empty(session, part.table, &name, options).await?;
        session.sql.batch("commit", ask.timeout).await?;
        let (relation, rows) = (Arc::clone(&table.relation), Vec::new());
        let (snapshot, took) = (head.snapshot, started.elapsed());
        return Ok(Page { relation, rows, bytes: 0, snapshot, next: None, took });
    }
    let described = table::describe(session, part.table, &name, options).await?;
    let Session { sql, .. } = session;
    let relation = Arc::clone(&described.table.relation);
    let order = order(sql, &part, &head).await?;
    add_to_path(sql, &order).await?;
    let target = Target {
        name: &name,
        alias: &ask.wanted.table,
        columns: relation.columns.iter().map(|column| &*column.name).collect(),
        order: &order,
        conditions: described
            .filter
            .iter()
            .map(String::as_str)
            .chain(ask.wanted.condition.as_deref())
            .collect(),
        blocks: head.blocks,
        density: head.density,
    };
    let rows_max = ask.rows_max.max(1);
    let Some(query) = Query::write(&target, &part.by, after, rows_max) else {
        return Err(after.map_or_else(|| changed_key(&name), Reached::stray).into());
    };
    let parameters: Vec<Parameter<'_>> =
        query.parameters.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect();
    let declare = format!("declare page no scroll cursor for {}", query.sql);
    sql.rows_within(&declare, &parameters, ask.timeout).await?;
    let (answers, is_full) = fetch(sql, ask, rows_max, started).await?;
    let took = started.elapsed();
    sql.batch("commit", ask.timeout).await?;
    let next = next(&part.by, &query, &answers, is_full)?;
    let (rows, bytes) = rows(&described.table, &answers, query.ordered_by + 1).await?;
    Ok(Page {
        relation,
        rows,
        bytes,
        snapshot: head.snapshot,
        next: next.map(|next| next.write()),
        took,
    })
}

/// The rows of the cursor, as long as there is room for them, and whether there may be more. Rows are
/// wide or not, which nobody knows before: a few tell how many are fetched next.
async fn fetch(
    sql: &mut Sql,
    ask: &Ask,
    rows_max: usize,
    started: Instant,
) -> Result<(Vec<Row>, bool), QueryError> {
    let mut answers: Vec<Row> = Vec::new();
    let mut bytes = 0;
    let mut wanted = rows_max.min(FETCHED_FIRST);
    loop {
        let fetch = format!("fetch forward {wanted} from page");
        let fetched = sql.rows_within(&fetch, &[], ask.timeout).await?;
        let ended = fetched.len() < wanted;
        bytes += fetched.iter().map(Row::raw_size_bytes).sum::<usize>();
        answers.extend(fetched);
        let room = ask.bytes_max.saturating_sub(bytes);
        let row_bytes = bytes.checked_div(answers.len()).unwrap_or(0).max(1);
        // No more than came already: those behind may be wider.
        let fitting = (room / row_bytes).min(answers.len());
        wanted = fitting.min(rows_max - answers.len().min(rows_max));
        // Each is ended by the server after the time for a page: no other is begun late.
        let late = started.elapsed() >= ask.timeout / 2;
        if ended || wanted == 0 || late {
            return Ok((answers, !ended));
        }
    }
}

/// The name of a table, quoted, if it is there.
pub(super) async fn name(sql: &mut Sql, oid: u32) -> Result<Option<String>, Failure> {
    let rows = sql.rows(NAME, &[(&oid, Type::OID)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

async fn oid(sql: &mut Sql, schema: &str, table: &str) -> Result<Option<u32>, Failure> {
    let find = "
        select c.oid from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname::text = $1 and c.relname::text = $2";
    let rows = sql.rows(find, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// Begins a transaction in which the table stays as it is.
pub(super) async fn begin(
    sql: &mut Sql,
    oid: u32,
    name: &str,
    limit: Duration,
) -> Result<Head, Failure> {
    // None of these takes the snapshot: the first query does, behind the lock. A limit of 0 would be
    // none.
    let statements = format!(
        "begin isolation level repeatable read read only; set local statement_timeout = {}; \
         set local lock_timeout = {}; lock table only {name} in access share mode",
        limit.as_millis().clamp(1, i32::MAX as u128),
        limit.min(LOCK_TIMEOUT).as_millis().max(1),
    );
    match sql.batch(&statements, limit).await {
        Ok(()) => {}
        // undefined_table, invalid_schema_name: renamed a moment ago.
        Err(error) if matches!(error.code(), "42P01" | "3F000") => return Err(Failure::Changed),
        Err(error) => return Err(error.into()),
    }
    let rows = sql.rows_within(HEAD, &[(&oid, Type::OID)], limit).await?;
    let Some(row) = rows.first() else { return Err(Failure::Changed) };
    if row.try_get::<_, &str>(0)? != name {
        return Err(Failure::Changed);
    }
    let said: &str = row.try_get(1)?;
    let Some(snapshot) = snapshot::read(said, row.try_get(2)?) else {
        return Err(
            error::transient(format!("the server's snapshot cannot be read: {said}")).into()
        );
    };
    let blocks: i64 = row.try_get::<_, Option<i64>>(4)?.unwrap_or(0);
    Ok(Head {
        name: name.to_owned(),
        snapshot,
        file: row.try_get::<_, Option<u32>>(3)?.unwrap_or(0),
        blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
        density: row.try_get(5)?,
    })
}

/// What orders the rows of a part, if it is still there.
pub(super) async fn order(
    sql: &mut Sql,
    part: &Part,
    head: &Head,
) -> Result<Vec<OrderColumn>, Failure> {
    match &part.by {
        By::Columns { columns, .. } => {
            let table = part.table;
            if let Some(key) = table::key(sql, table, Some(columns)).await? {
                return Ok(key);
            }
            // A column to sort by, and the key.
            let Some((first, key)) = columns.split_first() else {
                return Err(changed_key(&head.name).into());
            };
            let first = table::column(sql, table, first).await?;
            let key = table::key(sql, table, Some(key)).await?;
            let Some((first, key)) = first.zip(key) else {
                return Err(changed_key(&head.name).into());
            };
            Ok(std::iter::once(first).chain(key).collect())
        }
        By::ColumnAndPlace { column, file, .. } => {
            same_file(*file, head)?;
            let column = table::column(sql, part.table, column).await?;
            column.map(|column| vec![column]).ok_or_else(|| changed_key(&head.name).into())
        }
        By::Place { file, .. } => {
            same_file(*file, head)?;
            Ok(Vec::new())
        }
    }
}

fn same_file(file: u32, head: &Head) -> Result<(), SourceError> {
    if file == head.file {
        return Ok(());
    }
    Err(error::definite(
        "backfill_rewritten",
        format!(
            "table {} has no key, and was rewritten (VACUUM FULL, CLUSTER, TRUNCATE, ALTER TABLE) \
             while it was read by the places of its rows",
            head.name
        ),
        "start the backfill anew; with a primary key it would go on",
    ))
}

fn changed_key(name: &str) -> SourceError {
    error::definite(
        "backfill_key_changed",
        format!("the columns by which table {name} is read do not order its rows any more"),
        "cancel the backfill and start it anew: it takes the key that the table has now",
    )
}

/// Lets the operators of these columns be found wherever their types' owner put them.
pub(super) async fn add_to_path(sql: &mut Sql, order: &[OrderColumn]) -> Result<(), QueryError> {
    let schemas = order.iter().filter_map(|column| column.operators.as_deref());
    let schemas: Vec<&str> = schemas.filter(|schema| *schema != "pg_catalog").collect();
    if schemas.is_empty() {
        return Ok(());
    }
    sql.rows(ADD_TO_PATH, &[(&schemas, Type::TEXT_ARRAY)]).await.map(drop)
}

/// Where the next page begins.
fn next(
    by: &By,
    query: &Query,
    answers: &[Row],
    is_full: bool,
) -> Result<Option<Reached>, Failure> {
    let at_block = || query.next_block.map(|block| Reached::Place { block, row: 0 });
    let Some(last) = answers.last().filter(|_| is_full) else {
        return Ok(at_block());
    };
    let value = |n| {
        let Bytes(bytes) = last.try_get::<_, Bytes<'_>>(n)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Failure::Source(error::definite(
                "backfill_key_encoding",
                "a value by which the table is read is not UTF-8".to_owned(),
                "read the table by another column (sort_column), or correct the value",
            ))),
        }
    };
    let values: Vec<String> = (0..query.ordered_by).map(value).collect::<Result<_, Failure>>()?;
    if !matches!(by, By::Place { .. }) {
        return Ok(Some(Reached::Values(values)));
    }
    let place = values.first().and_then(|text| ctid(text));
    let unknown = || error::transient("the place of a row cannot be read".to_owned());
    let (block, row) = place.ok_or_else(unknown)?;
    Ok(Some(Reached::Place { block, row }))
}

/// `(block,row)`.
fn ctid(text: &str) -> Option<(u32, u16)> {
    let (block, row) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some((block.parse().ok()?, row.parse().ok()?))
}

/// The rows that are wanted, whose values begin behind `skip` others, and their memory.
async fn rows(
    table: &Table,
    answers: &[Row],
    skip: usize,
) -> Result<(Vec<model::page::Row>, usize), Failure> {
    let Table { relation, forms, .. } = table;
    let mut builder = Builder::default();
    let mut spans = Vec::new();
    for (count, answer) in answers.iter().enumerate() {
        if count % ROWS_A_TURN == ROWS_A_TURN - 1 {
            tokio::task::yield_now().await;
        }
        if !answer.try_get::<_, bool>(skip - 1)? {
            continue;
        }
        let first = builder.begin_row();
        for (index, form) in forms.iter().enumerate() {
            match answer.try_get::<_, Option<Bytes<'_>>>(skip + index)? {
                None => builder.null(),
                Some(Bytes(bytes)) => {
                    let room = Builder::TEXT_BYTES_MAX.saturating_sub(builder.bytes());
                    if form.most(bytes.len()) > room {
                        return Err(too_large(relation));
                    }
                    builder
                        .value(|out| form.write_bytes(bytes, out).map(drop))
                        .map_err(|_| unreadable(relation, index))?;
                }
            }
        }
        spans.push(builder.end_row(first, Extent::Full));
    }
    let bytes = builder.bytes();
    Ok((builder.into_rows(spans), bytes))
}

fn unreadable(relation: &Relation, index: usize) -> Failure {
    let Relation { schema, table, .. } = relation;
    let column = relation.columns.get(index).map_or("a column", |column| &*column.name);
    let text =
        format!("a value of {column} in {schema}.{table} does not have the form of its type");
    Failure::Source(error::transient(text))
}

/// Gigabytes in one page: fewer rows may fit.
fn too_large(relation: &Relation) -> Failure {
    let Relation { schema, table, .. } = relation;
    Failure::Source(error::definite(
        "backfill_timeout",
        format!("a page of {schema}.{table} has more than 4 GB"),
        "fewer rows are read at once",
    ))
}

/// Whom an error of the server concerns, where that is the backfill.
pub(super) fn refused(error: &QueryError, ask: &Ask, options: &Options) -> Option<SourceError> {
    let wanted = &ask.wanted;
    let table = format!("{}.{}", wanted.schema, wanted.table);
    let code = error.code();
    match code {
        "57014" => Some(error::definite(
            "backfill_timeout",
            format!("a page of {table} took longer than {} s", ask.timeout.as_secs_f32()),
            "a shorter page is tried; if one row takes as long, look at the plan: the sort column \
             may lack an index",
        )),
        _ => refused_wanted(error, wanted, options),
    }
}

/// The same of what is wanted.
pub(super) fn refused_wanted(
    error: &QueryError,
    wanted: &model::backfill::Wanted,
    options: &Options,
) -> Option<SourceError> {
    let table = format!("{}.{}", wanted.schema, wanted.table);
    let code = error.code();
    // Syntax and names, data, cardinality, features, raise_exception.
    let is_of_sql = ["42", "22", "21", "0A", "P0"].iter().any(|class| code.starts_with(class));
    match code {
        "42501" => Some(error::definite(
            "privilege",
            error.said(),
            format!("grant {} SELECT on {table}, and USAGE on its schema", options.user),
        )),
        // lock_not_available.
        "55P03" => Some(error::transient(format!(
            "table {table} is locked by somebody else (ALTER TABLE, VACUUM FULL?): the page waits"
        ))),
        _ if is_of_sql && wanted.condition.is_some() => Some(error::definite(
            "backfill_condition",
            format!("the condition for {table}: {}", error.said()),
            "write an SQL expression that is true or false for a row of the table, as it would \
             stand behind WHERE",
        )),
        _ if is_of_sql && (wanted.sort_column.is_some() || wanted.from.is_some()) => {
            Some(error::definite(
                "backfill_sort_column",
                format!("the sort column of {table}: {}", error.said()),
                "name a column whose type has an order, and as position a value of its type",
            ))
        }
        _ => None,
    }
}

/// The bytes of a text, which need not be UTF-8 in a database without an encoding.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(
        _ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b168_places_of_rows_are_read() {
        assert_eq!(ctid("(7,12)"), Some((7, 12)));
        assert_eq!(ctid("(4294967295,291)"), Some((u32::MAX, 291)));
        for bad in ["", "(", "(1)", "(1,2", "1,2", "(-1,2)", "(1,70000)", "(a,b)"] {
            assert_eq!(ctid(bad), None, "{bad}");
        }
    }
}
