//! What reading a table would be like, by what the catalog and the statistics say.

use model::backfill::{Order, Survey, Wanted};
use model::source::SourceError;
use tokio_postgres::types::Type;

use super::page::{self, Head};
use super::place::{By, Part};
use super::query::{Query, Target};
use super::sessions::Held;
use super::table::{self, Failure, OrderColumn};
use super::{Tables, Tries};
use crate::error;
use crate::options::Options;
use crate::sql::{Parameter, QUERY_TIMEOUT, Sql};

/// A table and those with its rows: itself, or its partitions. Foreign ones have none in this
/// server's log.
const TABLES: &str = "
    select c.oid, c.relkind::text, l.oid, l.reltuples::float8,
        case when l.oid is not null then pg_catalog.format('%I.%I', ln.nspname, l.relname) end
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join lateral (
        select c.oid where c.relkind <> 'p'
        union all
        select t.relid from pg_catalog.pg_partition_tree(c.oid::regclass) t
        where c.relkind = 'p' and t.isleaf) p (oid) on true
    left join pg_catalog.pg_class l on l.oid = p.oid and l.relkind = 'r'
    left join pg_catalog.pg_namespace ln on ln.oid = l.relnamespace
    where n.nspname::text = $1 and c.relname::text = $2
    order by l.oid";

/// Values that cut a table into pieces with about as many rows each.
const HISTOGRAM: &str = "
    select s.histogram_bounds::text::text[]
    from pg_catalog.pg_stats s
    join pg_catalog.pg_class c on c.relname = s.tablename
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = s.schemaname
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = s.attname
    join pg_catalog.pg_type t on t.oid = a.atttypid
    where c.oid = $1 and s.attname::text = $2 and not s.inherited
      and t.typcategory not in ('A', 'C', 'P')";

/// A table with rows.
struct Leaf {
    oid: u32,
    name: String,
    /// Below 0 if there are no statistics.
    rows: f64,
}

pub(super) async fn survey(tables: &Tables, wanted: &Wanted) -> Result<Survey, SourceError> {
    let options = &tables.readers.options;
    let mut tries = Tries::default();
    loop {
        let mut held = tables.readers.take(tries.anew).await?;
        match look(&mut held, wanted, options).await {
            Ok(survey) => {
                held.keep();
                return Ok(survey);
            }
            Err(failure) => {
                let refuse = |error: &_| page::refused_wanted(error, wanted, options);
                tries.again(failure, held.fresh, options, refuse)?;
            }
        }
    }
}

async fn look(held: &mut Held, wanted: &Wanted, options: &Options) -> Result<Survey, Failure> {
    let Wanted { schema, table, .. } = wanted;
    let shown = format!("{schema}.{table}");
    let parameters: [Parameter<'_>; 2] = [(&&**schema, Type::TEXT), (&&**table, Type::TEXT)];
    let session = held.session()?;
    let found = session.sql.rows(TABLES, &parameters).await?;
    let Some(first) = found.first() else { return Err(table::missing(&shown).into()) };
    let (oid, kind): (u32, String) = (first.try_get(0)?, first.try_get(1)?);
    if !matches!(&*kind, "r" | "p") {
        return Err(error::definite(
            "backfill_table_kind",
            format!("{shown} is a view, a foreign table or another thing without changes"),
            "name a table",
        )
        .into());
    }
    let mut leaves = Vec::new();
    for row in &found {
        if let Some(oid) = row.try_get(2)? {
            leaves.push(Leaf { oid, rows: row.try_get(3)?, name: row.try_get(4)? });
        }
    }
    let partitioned = kind == "p";
    let pieces = wanted.ranges.max(1).div_ceil(leaves.len().max(1));
    let mut order = if wanted.sort_column.is_some() { Order::Column } else { Order::Key };
    let mut ranges = Vec::new();
    for leaf in &leaves {
        let head = page::begin(&mut session.sql, leaf.oid, &leaf.name, QUERY_TIMEOUT).await?;
        table::describe(session, leaf.oid, &leaf.name, options).await?;
        let parts = parts(&mut session.sql, wanted, leaf.oid, partitioned, &head, pieces).await?;
        if parts.iter().any(|part| matches!(part.by, By::Place { .. })) {
            order = Order::Place;
        }
        ranges.extend(parts.iter().map(Part::write));
        session.sql.batch("commit", QUERY_TIMEOUT).await?;
    }
    if ranges.is_empty() {
        // Without partitions there are no rows, which a page says best: of a table that is gone.
        let by = By::Place { from: 0, to: None, file: 0 };
        ranges.push(Part { table: 0, partition: true, by }.write());
    }
    // A float's conversion saturates.
    let rows: f64 = leaves.iter().map(|leaf| leaf.rows).sum();
    let known = leaves.iter().all(|leaf| leaf.rows >= 0.0);
    Ok(Survey { oid, order, rows_estimate: known.then_some(rows as u64), ranges })
}

/// The parts of one table, and whether they can be read.
async fn parts(
    sql: &mut Sql,
    wanted: &Wanted,
    table: u32,
    partition: bool,
    head: &Head,
    pieces: usize,
) -> Result<Vec<Part>, Failure> {
    let key = table::key(sql, table, None).await?;
    let part = |by| Part { table, partition, by };
    let from = wanted.from.as_deref().map(str::to_owned);
    let by = match (&wanted.sort_column, key) {
        (None, _) if from.is_some() => {
            return Err(error::definite(
                "backfill_sort_column",
                format!("a position is given for {}, but no sort column", head.name),
                "name the column that the position is a value of",
            )
            .into());
        }
        (None, None) => {
            let places = places(head, pieces);
            return Ok(places.into_iter().map(part).collect());
        }
        (None, Some(key)) => {
            let columns = key.into_iter().map(|column| column.name).collect();
            By::Columns { columns, from: None, to: None }
        }
        (Some(column), key) => {
            if table::column(sql, table, column).await?.is_none() {
                return Err(error::definite(
                    "backfill_sort_column",
                    format!("{} has no column {column}", head.name),
                    "name one of its columns",
                )
                .into());
            }
            let column = column.to_string();
            match key {
                None => By::ColumnAndPlace { column, from, to: None, file: head.file },
                Some(key) => {
                    // The key itself, if the column leads it.
                    let leads = key.first().is_some_and(|first| first.name == column);
                    let key = key.into_iter().map(|column| column.name);
                    let columns = if leads {
                        key.collect()
                    } else {
                        std::iter::once(column).chain(key).collect()
                    };
                    By::Columns { columns, from, to: None }
                }
            }
        }
    };
    let whole = part(by);
    let order = page::order(sql, &whole, head).await?;
    page::add_to_path(sql, &order).await?;
    check(sql, wanted, head, &order, &whole.by).await?;
    if pieces < 2 {
        return Ok(vec![whole]);
    }
    let bounds = match order.first() {
        Some(first) => bounds(sql, table, first, pieces, wanted.from.as_deref()).await?,
        None => Vec::new(),
    };
    Ok(cut(&whole, &bounds))
}

/// Whether the server takes the query for a page, and the position.
async fn check(
    sql: &mut Sql,
    wanted: &Wanted,
    head: &Head,
    order: &[OrderColumn],
    by: &By,
) -> Result<(), Failure> {
    let target = Target {
        name: &head.name,
        alias: &wanted.table,
        columns: Vec::new(),
        order,
        conditions: wanted.condition.as_deref().into_iter().collect(),
        blocks: head.blocks,
        density: head.density,
    };
    if let Some(query) = Query::write(&target, by, None, 1) {
        sql.prepare(&query.sql, &[], QUERY_TIMEOUT).await?;
    }
    if let (Some(from), Some(first)) = (&wanted.from, order.first()) {
        let read = format!("select ({}) is null", first.value("$1::text"));
        sql.rows(&read, &[(&&**from, Type::TEXT)]).await?;
    }
    Ok(())
}

/// Values between the pieces, rising in the order of the column.
async fn bounds(
    sql: &mut Sql,
    table: u32,
    column: &OrderColumn,
    pieces: usize,
    from: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let parameters: [Parameter<'_>; 2] = [(&table, Type::OID), (&column.name, Type::TEXT)];
    let rows = sql.rows(HISTOGRAM, &parameters).await?;
    let histogram = rows.first().map(|row| row.try_get::<_, Option<Vec<String>>>(0)).transpose()?;
    let histogram = histogram.flatten().unwrap_or_default();
    // Its first and last are the ends.
    let inner = histogram.len().saturating_sub(2);
    let pieces = pieces.min(inner + 1);
    let chosen = (1..pieces).filter_map(|n| histogram.get(n * (inner + 1) / pieces).cloned());
    let chosen: Vec<String> = chosen.collect();
    // In the order of the comparisons to come, whatever the statistics were made under.
    let value = column.value("b");
    let behind = if from.is_some() {
        format!("where {value} > {}", column.value("$2"))
    } else {
        String::new()
    };
    let sort = format!(
        "select pg_catalog.format('%s', v) from (
            select distinct {value} as v from unnest($1::text[]) b {behind}) s order by v"
    );
    let mut parameters: Vec<Parameter<'_>> = vec![(&chosen, Type::TEXT_ARRAY)];
    if let Some(from) = &from {
        parameters.push((from, Type::TEXT));
    }
    let rows = sql.rows(&sort, &parameters).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// A part cut at these values of its first column.
fn cut(whole: &Part, bounds: &[String]) -> Vec<Part> {
    let mut parts = Vec::new();
    let ends = bounds.iter().map(Some).chain([None]);
    let mut begin: Option<&String> = None;
    for end in ends {
        let mut part = whole.clone();
        if let By::Columns { from, to, .. } | By::ColumnAndPlace { from, to, .. } = &mut part.by {
            if let Some(begin) = begin {
                *from = Some(begin.clone());
            }
            *to = end.cloned();
        }
        parts.push(part);
        begin = end;
    }
    parts
}

/// Pieces of a file. The last one has what is added while it is read.
fn places(head: &Head, pieces: usize) -> Vec<By> {
    let pieces = u32::try_from(pieces).unwrap_or(u32::MAX).min(head.blocks).max(1);
    let at = |n: u32| {
        // Below the number of blocks.
        u32::try_from(u64::from(head.blocks) * u64::from(n) / u64::from(pieces)).unwrap_or(u32::MAX)
    };
    let piece =
        |n| By::Place { from: at(n), to: (n + 1 < pieces).then(|| at(n + 1)), file: head.file };
    (0..pieces).map(piece).collect()
}
