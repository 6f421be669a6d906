//! A table as a page needs it: what the stream would name its rows, and what orders them.
//!
//! Asked anew for each page, under the table's lock, so that a page never takes one column for
//! another. Only what is dear and seldom changes is kept for a moment.

use std::sync::Arc;
use std::time::Duration;

use model::relation::Identity;
use model::source::SourceError;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::sessions::Session;
use crate::catalog;
use crate::error;
use crate::options::Options;
use crate::pgoutput::{ColumnDefinition, Definition};
use crate::relation::{Question, Table};
use crate::sql::{Parameter, QueryError, Sql};

/// How long it counts as known what is published of a table. To ask for it goes through all tables
/// of the publication, which may be many.
const PUBLISHED_FOR: Duration = Duration::from_secs(10);

/// Past so many tables a session forgets what it knows.
const KNOWN_MAX: usize = 1_000;

/// As what the rows of a table are published: as its own, or as those of a table above it. The view
/// has the columns and the filter only from Postgres 15 on, hence the detour.
const PUBLISHED: &str = "
    select c.oid,
        case when j.row ->> 'attnames' is not null
            then array(select pg_catalog.jsonb_array_elements_text(j.row -> 'attnames')) end,
        j.row ->> 'rowfilter'
    from (
        select $1::oid as relid, 0::bigint as level
        union all
        select a.relid, a.nth
        from pg_catalog.pg_partition_ancestors($1::oid::regclass) with ordinality a (relid, nth)
        where a.relid <> $1::oid
    ) l
    join pg_catalog.pg_class c on c.oid = l.relid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_publication_tables p
        on p.schemaname = n.nspname and p.tablename = c.relname and p.pubname::text = $2
    cross join lateral (select pg_catalog.to_jsonb(p) as row) j
    order by l.level desc limit 1";

/// A table as pgoutput would define it, of these columns (none: all). Generated columns are never
/// sent by Postgres before 18.
const DEFINITION: &str = "
    select n.nspname::text, c.relname::text, c.relreplident::text, a.attname::text, a.atttypid,
        a.atttypmod,
        c.relreplident = 'f' or exists (
            select from pg_catalog.pg_index i
            where i.indrelid = c.oid and i.indisvalid and i.indimmediate
              and case c.relreplident
                  when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
              and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_attribute a
        on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        and ($2::text[] is null or a.attname::text = any ($2))
        and (a.attgenerated = ''
            or pg_catalog.current_setting('server_version_num')::int >= 180000
                and $2::text[] is not null)
    where c.oid = $1
    order by a.attnum";

/// The columns of each index that tells rows apart, the index that they are known by first. One
/// whose order is not the types' own is left out: an `ORDER BY` does not follow it. The type is the
/// one behind a domain, whose constraints may be newer than the rows, and has no modifier, which
/// might cut a value.
const KEYS: &str = "
    select i.indexrelid, a.attname::text, pg_catalog.quote_ident(a.attname),
        pg_catalog.format_type(b.oid, -1),
        case when k.coll <> 0 then pg_catalog.format(' collate %I.%I', cn.nspname, co.collname)
            else '' end,
        (select n.nspname::text
            from pg_catalog.pg_amop o
            join pg_catalog.pg_operator p on p.oid = o.amopopr
            join pg_catalog.pg_namespace n on n.oid = p.oprnamespace
            where o.amopfamily = oc.opcfamily and o.amopstrategy = 5
              and o.amoplefttype = oc.opcintype and o.amoprighttype = oc.opcintype)
    from pg_catalog.pg_index i
    join pg_catalog.pg_class ic on ic.oid = i.indexrelid
    join pg_catalog.pg_am am on am.oid = ic.relam and am.amname = 'btree'
    cross join lateral unnest(
        (i.indkey::int2[])[0:i.indnkeyatts - 1], (i.indcollation::oid[])[0:i.indnkeyatts - 1],
        (i.indclass::oid[])[0:i.indnkeyatts - 1]) with ordinality k (attnum, coll, class, nth)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_catalog.pg_opclass oc on oc.oid = k.class
    cross join lateral (
        with recursive base (oid) as (
            select a.atttypid
            union all
            select t.typbasetype from base join pg_catalog.pg_type t on t.oid = base.oid
            where t.typtype = 'd')
        select base.oid from base join pg_catalog.pg_type t on t.oid = base.oid
        where t.typtype <> 'd') b
    left join pg_catalog.pg_collation co on co.oid = k.coll
    left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
    where i.indrelid = $1 and i.indisunique and i.indisvalid
      and i.indpred is null and i.indexprs is null
      and not exists (
          select from unnest(
              (i.indkey::int2[])[0:i.indnkeyatts - 1], (i.indclass::oid[])[0:i.indnkeyatts - 1])
              x (attnum, class)
          join pg_catalog.pg_attribute xa on xa.attrelid = i.indrelid and xa.attnum = x.attnum
          join pg_catalog.pg_opclass xc on xc.oid = x.class
          where not xa.attnotnull or not xc.opcdefault)
    order by i.indisreplident desc, i.indisprimary desc, i.indnkeyatts, i.indexrelid, k.nth";

/// A column by name, in the same form.
const COLUMN: &str = "
    select 0::oid, a.attname::text, pg_catalog.quote_ident(a.attname),
        pg_catalog.format_type(b.oid, -1),
        case when a.attcollation <> 0
            then pg_catalog.format(' collate %I.%I', cn.nspname, co.collname) else '' end,
        (select n.nspname::text
            from pg_catalog.pg_opclass oc
            join pg_catalog.pg_am am on am.oid = oc.opcmethod and am.amname = 'btree'
            join pg_catalog.pg_amop o on o.amopfamily = oc.opcfamily and o.amopstrategy = 5
                and o.amoplefttype = oc.opcintype and o.amoprighttype = oc.opcintype
            join pg_catalog.pg_operator p on p.oid = o.amopopr
            join pg_catalog.pg_namespace n on n.oid = p.oprnamespace
            where oc.opcintype = b.oid and oc.opcdefault),
        b.typtype = 'c'
    from pg_catalog.pg_attribute a
    cross join lateral (
        with recursive base (oid) as (
            select a.atttypid
            union all
            select t.typbasetype from base join pg_catalog.pg_type t on t.oid = base.oid
            where t.typtype = 'd')
        select base.oid, t.typtype from base join pg_catalog.pg_type t on t.oid = base.oid
        where t.typtype <> 'd') b
    left join pg_catalog.pg_collation co on co.oid = a.attcollation
    left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
    where a.attrelid = $1 and a.attname::text = $2 and a.attnum > 0 and not a.attisdropped";

/// What a session knows of a table for a moment.
#[derive(Debug)]
pub(super) struct Known {
    asked_at: Instant,
    published: Published,
    definition: Definition,
    table: Arc<Table>,
}

/// As what rows are published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    oid: u32,
    /// None: all columns.
    columns: Option<Vec<String>>,
    /// An SQL expression that only published rows pass.
    pub(super) filter: Option<String>,
}

/// A column that orders rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrderColumn {
    pub(super) name: String,
    pub(super) quoted: String,
    /// The type to read a value's text as.
    pub(super) type_text: String,
    /// ` collate "schema"."name"`, or nothing.
    pub(super) collate: String,
    /// Where the operators of its order are.
    pub(super) operators: Option<String>,
    pub(super) nulls: Nulls,
}

/// Which nulls a column may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    /// It is of a key. Of a composite value in it, SQL's `IS NULL` may be true all the same.
    None,
    Some,
    /// Of composite values that are none, SQL's `IS NULL` may be true, too.
    Composite,
}

/// How a table's rows look in the stream.
pub(super) struct Described {
    pub(super) table: Arc<Table>,
    pub(super) filter: Option<String>,
}

/// Why something cannot be read.
#[derive(Debug)]
pub(super) enum Failure {
    Source(SourceError),
    Query(QueryError),
    /// It changed between two questions.
    Changed,
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error.into())
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// A table that has no rows of its own: its relation is named, and nothing is published as that.
pub(super) async fn describe_empty(
    session: &mut Session,
    oid: u32,
    name: &str,
    options: &Options,
) -> Result<Arc<Table>, Failure> {
    let published = Published { oid, columns: None, filter: None };
    let definition = definition(&mut session.sql, &published, name).await?;
    let mut question = Question::default();
    question.add(&definition);
    let facts = catalog::facts(&mut session.sql, &question, &options.publication).await?;
    Ok(Arc::new(Table::new(&definition, &facts, Vec::new())))
}

/// As what the rows of this table come in the stream.
pub(super) async fn describe(
    session: &mut Session,
    oid: u32,
    name: &str,
    options: &Options,
) -> Result<Described, Failure> {
    let Session { sql, known } = session;
    let recent = known.get(&oid).filter(|known| known.asked_at.elapsed() < PUBLISHED_FOR);
    let published = match recent {
        Some(known) => known.published.clone(),
        None => published(sql, oid, name, options).await?,
    };
    let definition = definition(sql, &published, name).await?;
    let filter = published.filter.clone();
    if let Some(known) = recent
        && known.definition == definition
    {
        return Ok(Described { table: Arc::clone(&known.table), filter });
    }
    let mut question = Question::default();
    question.add(&definition);
    let facts = catalog::facts(sql, &question, &options.publication).await?;
    let place = facts.places.get(&definition.oid).filter(|_| facts.via_root_since.is_none());
    let ancestors = place.map(|place| place.ancestors.clone()).unwrap_or_default();
    let table = Arc::new(Table::new(&definition, &facts, ancestors));
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    let asked_at = Instant::now();
    known.insert(oid, Known { asked_at, published, definition, table: Arc::clone(&table) });
    Ok(Described { table, filter })
}

async fn published(
    sql: &mut Sql,
    oid: u32,
    name: &str,
    options: &Options,
) -> Result<Published, Failure> {
    let publication = &options.publication;
    let parameters: [Parameter<'_>; 2] = [(&oid, Type::OID), (publication, Type::TEXT)];
    let rows = sql.rows(PUBLISHED, &parameters).await?;
    let Some(row) = rows.first() else {
        return Err(Failure::Source(error::definite(
            "backfill_not_published",
            format!("table {name} is not in publication \"{publication}\""),
            format!(
                "ALTER PUBLICATION \"{publication}\" ADD TABLE {name}: without it the stream does \
                 not bring its changes, and a backfill would go out of date unnoticed"
            ),
        )));
    };
    Ok(Published { oid: row.try_get(0)?, columns: row.try_get(1)?, filter: row.try_get(2)? })
}

async fn definition(
    sql: &mut Sql,
    published: &Published,
    name: &str,
) -> Result<Definition, Failure> {
    let parameters: [Parameter<'_>; 2] =
        [(&published.oid, Type::OID), (&published.columns, Type::TEXT_ARRAY)];
    let mut definition: Option<Definition> = None;
    for row in sql.rows(DEFINITION, &parameters).await? {
        let definition = match &mut definition {
            Some(definition) => definition,
            none => none.insert(Definition {
                oid: published.oid,
                schema: row.try_get(0)?,
                table: row.try_get(1)?,
                identity: match row.try_get::<_, &str>(2)? {
                    "f" => Identity::Full,
                    "i" => Identity::Index,
                    "n" => Identity::Nothing,
                    _ => Identity::Default,
                },
                columns: Vec::new(),
            }),
        };
        // A table without columns has one row without any.
        if let Some(name) = row.try_get(3)? {
            definition.columns.push(ColumnDefinition {
                name,
                type_oid: row.try_get(4)?,
                type_modifier: row.try_get(5)?,
                identity: row.try_get(6)?,
            });
        }
    }
    definition.ok_or_else(|| missing(name).into())
}

/// The columns that tell rows of the table apart, by the best index; of an index of these columns, if
/// they are given. None without such an index.
pub(super) async fn key(
    sql: &mut Sql,
    oid: u32,
    wanted: Option<&[String]>,
) -> Result<Option<Vec<OrderColumn>>, QueryError> {
    let mut indexes: Vec<(u32, Vec<OrderColumn>)> = Vec::new();
    for row in sql.rows(KEYS, &[(&oid, Type::OID)]).await? {
        let index: u32 = row.try_get(0)?;
        let column = order_column(&row, Nulls::None)?;
        match indexes.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => indexes.push((index, vec![column])),
        }
    }
    let fits = |columns: &Vec<OrderColumn>| {
        wanted.is_none_or(|wanted| columns.iter().map(|column| &column.name).eq(wanted))
    };
    Ok(indexes.into_iter().map(|(_, columns)| columns).find(fits))
}

/// The column of this name.
pub(super) async fn column(
    sql: &mut Sql,
    oid: u32,
    name: &str,
) -> Result<Option<OrderColumn>, QueryError> {
    let parameters: [Parameter<'_>; 2] = [(&oid, Type::OID), (&name, Type::TEXT)];
    let rows = sql.rows(COLUMN, &parameters).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let nulls = if row.try_get(6)? { Nulls::Composite } else { Nulls::Some };
    Ok(Some(order_column(row, nulls)?))
}

fn order_column(
    row: &tokio_postgres::Row,
    nulls: Nulls,
) -> Result<OrderColumn, tokio_postgres::Error> {
    Ok(OrderColumn {
        name: row.try_get(1)?,
        quoted: row.try_get(2)?,
        type_text: row.try_get(3)?,
        collate: row.try_get(4)?,
        operators: row.try_get(5)?,
        nulls,
    })
}

pub(super) fn missing(name: &str) -> SourceError {
    error::definite(
        "table_missing",
        format!("there is no table {name}"),
        "name a table as schema and table, as they are written in the catalog; or cancel the \
         backfill if it was dropped",
    )
}
