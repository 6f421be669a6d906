//! The query behind a question: which table, which columns, of which types by now.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use model::relation::{Kind, Relation};
use tokio_postgres::types::Type;

use crate::catalog;
use crate::sql::{Parameter, QueryError, Sql};
use crate::value::Form;
use crate::value::form::builtin;

/// A table by id, quoted, and those of its columns that have these names.
const DESCRIBE: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname::text, a.atttypid,
        pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_attribute a
        on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.oid = $1 and a.attname::text = any ($2)";

/// A planned question.
#[derive(Debug)]
pub(super) struct Plan {
    /// The version of the table that it was planned for.
    pub(super) relation: Arc<Relation>,
    /// The key's columns, in the order of the query's parameters.
    pub(super) key: Vec<usize>,
    /// For each column asked for, how it is read; None if it is gone or something else by now.
    pub(super) columns: Vec<Option<Column>>,
    /// Takes a `text[]` per key column. Returns the row's place (from 1), then type and text of each
    /// column. None if rows of the table cannot be told by their key.
    pub(super) query: Option<String>,
}

/// A column that can be read.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) type_oid: u32,
    pub(super) form: Form,
}

/// A column as the catalog has it.
struct Described {
    type_oid: u32,
    quoted: String,
    type_text: String,
}

impl Plan {
    pub(super) async fn make(
        sql: &mut Sql,
        relation: &Arc<Relation>,
        columns: &[usize],
    ) -> Result<Self, QueryError> {
        let key: Vec<usize> = relation.key().collect();
        let name =
            |index: &usize| relation.columns.get(*index).map(|column| column.name.to_string());
        let names: Vec<String> = key.iter().chain(columns).filter_map(name).collect();
        let parameters: [Parameter<'_>; 2] =
            [(&relation.oid, Type::OID), (&names, Type::TEXT_ARRAY)];
        let mut table = None;
        let mut described = HashMap::new();
        for row in sql.rows(DESCRIBE, &parameters).await? {
            table = Some(row.try_get::<_, String>(0)?);
            let column = Described {
                type_oid: row.try_get(2)?,
                quoted: row.try_get(3)?,
                type_text: row.try_get(4)?,
            };
            described.insert(row.try_get::<_, String>(1)?, column);
        }
        let types = described.values().map(|column| column.type_oid);
        let types: Vec<u32> = types.filter(|oid| builtin(*oid).is_none()).collect();
        let facts = catalog::types(sql, &types).await?;
        let now = |index: &usize| {
            let column = relation.columns.get(*index)?;
            let described = described.get(&*column.name)?;
            let (form, type_name) = Form::of(described.type_oid, &facts);
            let same = form.kind() == column.kind && type_name == column.type_name;
            same.then_some((described, form))
        };
        let columns: Vec<_> = columns.iter().map(now).collect();
        let keys: Option<Vec<_>> = key.iter().map(now).collect();
        let keys =
            keys.filter(|keys| !keys.is_empty() && keys.iter().all(|(_, form)| is_input(form)));
        let query = table.zip(keys).map(|(table, keys)| {
            let keys = keys.iter().map(|(described, _)| *described);
            write_query(
                &table,
                keys,
                columns.iter().map(|now| now.as_ref().map(|(described, _)| *described)),
            )
        });
        let columns = columns
            .iter()
            .map(|now| {
                let (described, form) = now.as_ref()?;
                Some(Column { type_oid: described.type_oid, form: form.clone() })
            })
            .collect();
        Ok(Self { relation: Arc::clone(relation), key, columns, query })
    }

    /// Whether everything that was asked for can be read.
    pub(super) fn is_complete(&self) -> bool {
        self.query.is_some() && self.columns.iter().all(Option::is_some)
    }
}

/// Whether Postgres reads the canonical text of such a value. It does not read arrays and intervals
/// as JSON; keys of these are not known in practice.
fn is_input(form: &Form) -> bool {
    form.kind() != Kind::Json || *form == Form::Json
}

fn write_query<'a>(
    table: &str,
    keys: impl Iterator<Item = &'a Described>,
    columns: impl Iterator<Item = Option<&'a Described>>,
) -> String {
    let mut query = String::from("select w.n");
    for column in columns {
        let Some(Described { quoted, .. }) = column else {
            // Keeps the places of the others.
            query.push_str(", 0::oid, null::text");
            continue;
        };
        // `is null` would also be true of a composite value that is all nulls.
        push(
            &mut query,
            format_args!(
                ", pg_catalog.pg_typeof(t.{quoted})::oid, case when t.{quoted} is not distinct \
                 from null then null else pg_catalog.format('%s', t.{quoted}) end"
            ),
        );
    }
    let (mut parameters, mut names, mut equal) = (String::new(), String::new(), String::new());
    for (n, Described { quoted, type_text, .. }) in (1..).zip(keys) {
        let (comma, and) = if n > 1 { (", ", " and ") } else { ("", "") };
        push(&mut parameters, format_args!("{comma}${n}::text[]"));
        push(&mut names, format_args!("k{n}, "));
        push(&mut equal, format_args!("{and}t.{quoted} = w.k{n}::{type_text}"));
    }
    push(
        &mut query,
        format_args!(
            " from unnest({parameters}) with ordinality as w({names}n) join {table} t on {equal}"
        ),
    );
    query
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    out.write_fmt(arguments).ok();
}
