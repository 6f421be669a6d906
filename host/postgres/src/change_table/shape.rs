//! What the table is like, and whether changes can be written into it.

use std::fmt;

use model::source::SourceError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::TableName;
use crate::backfill::quote;
use crate::error;
use crate::sql::{QueryError, Sql};

/// What is looked at, in this order, and what is said of it if it is good.
pub(super) const PARTS: [(&str, &str); 4] = [
    ("table", "it is there"),
    ("columns", "they are there, with types that fit"),
    ("index", "a change that comes again makes no second row"),
    ("privileges", "rows may be inserted"),
];

/// Columns that are written, and the types that they may have; as [`super::rows::Columns`].
const WRITTEN: [(&str, &[&str]); 11] = [
    ("seq", &["int8", "numeric"]),
    ("source_database_id", &["uuid", "text", "varchar"]),
    ("source_table_oid", &["int8", "oid", "numeric"]),
    ("source_table_schema", TEXT),
    ("source_table_name", TEXT),
    ("record_pk", TEXT),
    ("record", JSON),
    ("changes", JSON),
    ("action", TEXT),
    ("committed_at", TIME),
    (ANNOTATIONS, JSON),
];

const TEXT: &[&str] = &["text", "varchar"];
const JSON: &[&str] = &["jsonb", "json"];
const TIME: &[&str] = &["timestamptz", "timestamp"];

/// Tables that the predecessor made earlier lack it.
const ANNOTATIONS: &str = "transaction_annotations";

/// Written by the server's clock.
const INSERTED_AT: &str = "inserted_at";

/// By which a row is known.
const KEY: &str = "source_database_id, committed_at, seq, record_pk";

/// A row for each column of the table, or one without if it has none; none if there is no table.
/// Nothing of it needs a privilege.
const FACTS: &str = "
    select c.relkind::text, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
        exists (
            select from pg_catalog.pg_index i
            where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
                and i.indpred is null and i.indexprs is null
                and array(
                    select k.attname::text from pg_catalog.pg_attribute k
                    where k.attrelid = c.oid
                        and k.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                    order by k.attname
                ) = '{committed_at,record_pk,seq,source_database_id}'),
        a.attname::text, t.typname::text,
        a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attgenerated = '',
        pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT'),
        pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'),
        coalesce(pg_catalog.has_sequence_privilege((
            select s.oid from pg_catalog.pg_depend d
            join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'
            where d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.refobjid = c.oid and d.refobjsubid = a.attnum and d.deptype = 'a'
            limit 1), 'USAGE'), true)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_attribute a
        on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_type t on t.oid = a.atttypid
    where n.nspname = $1 and c.relname = $2
    order by a.attnum";

/// Something that keeps changes from being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Of [`PARTS`].
    pub(super) part: &'static str,
    /// Stable, for programs.
    pub(super) code: &'static str,
    message: String,
    help: String,
}

/// A table that changes can be written into.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) insert: String,
    pub(super) has_annotations: bool,
}

/// What the catalog says of the table.
#[derive(Clone, Debug)]
struct Facts {
    kind: String,
    may_use_schema: bool,
    has_key: bool,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    type_name: String,
    /// Whoever inserts must give it.
    is_required: bool,
    may_insert: bool,
    may_select: bool,
    /// If it gets its values from a sequence.
    may_use_sequence: bool,
}

impl Shape {
    /// What the table is like, or everything that is wrong with it.
    pub(super) async fn look(
        sql: &mut Sql,
        name: &TableName,
    ) -> Result<Result<Self, Vec<Problem>>, QueryError> {
        let TableName { schema, table } = name;
        let rows = sql.rows(FACTS, &[(schema, Type::TEXT), (table, Type::TEXT)]).await?;
        Ok(Self::of(Facts::read(&rows)?.as_ref(), name))
    }

    fn of(facts: Option<&Facts>, name: &TableName) -> Result<Self, Vec<Problem>> {
        let problems = problems(facts, name);
        match facts {
            Some(facts) if problems.is_empty() => Ok(Self {
                insert: insert(facts, name),
                has_annotations: facts.column(ANNOTATIONS).is_some(),
            }),
            _ => Err(problems),
        }
    }
}

impl Facts {
    fn read(rows: &[Row]) -> Result<Option<Self>, tokio_postgres::Error> {
        let Some(first) = rows.first() else { return Ok(None) };
        let mut columns = Vec::new();
        for row in rows {
            if let Some(name) = row.try_get(3)? {
                columns.push(Column {
                    name,
                    type_name: row.try_get(4)?,
                    is_required: row.try_get(5)?,
                    may_insert: row.try_get(6)?,
                    may_select: row.try_get(7)?,
                    may_use_sequence: row.try_get(8)?,
                });
            }
        }
        let (kind, may_use_schema) = (first.try_get(0)?, first.try_get(1)?);
        Ok(Some(Self { kind, may_use_schema, has_key: first.try_get(2)?, columns }))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Whether the table is not there, which may be mended by making it.
pub(super) fn is_only_missing(problems: &[Problem]) -> bool {
    matches!(problems, [Problem { code: "table_missing", .. }])
}

fn problems(facts: Option<&Facts>, name: &TableName) -> Vec<Problem> {
    let make = "create it: `sequin change-retention ddl` prints the statements";
    let Some(facts) = facts else {
        let message = format!("there is no table {name}");
        return vec![Problem::new("table", "table_missing", message, make.to_owned())];
    };
    let mut all = Vec::new();
    let mut tell = |part, code, message, help: String| {
        all.push(Problem::new(part, code, message, help));
    };
    if !["r", "p"].contains(&facts.kind.as_str()) {
        let message = format!("{name} is no table");
        tell("table", "table_missing", message, "name a table, partitioned or not".to_owned());
        return all;
    }
    for (column, types) in WRITTEN.into_iter().chain([(INSERTED_AT, TIME)]) {
        let is_optional = column == ANNOTATIONS;
        match facts.column(column) {
            None if is_optional => {}
            None => {
                let message = format!("the table {name} has no column {column}");
                tell(
                    "columns",
                    "column_missing",
                    message,
                    format!("add it, as {}", types.join(" or ")),
                );
            }
            Some(found) if !types.contains(&found.type_name.as_str()) => {
                let message =
                    format!("the column {column} of {name} has the type {}", found.type_name);
                tell("columns", "column_type", message, format!("make it {}", types.join(" or ")));
            }
            Some(_) => {}
        }
    }
    let written = |name: &str| name == INSERTED_AT || WRITTEN.iter().any(|(it, _)| *it == name);
    for column in facts.columns.iter().filter(|it| it.is_required && !written(&it.name)) {
        let message =
            format!("the column {} of {name} is NOT NULL and has no default", column.name);
        let help = "give it a default; `id` is best an identity".to_owned();
        tell("columns", "column_default", message, help);
    }
    if !facts.has_key {
        let message = format!("the table {name} has no unique index on ({KEY})");
        let help = "without it a change that is sent again would make a second row: create it";
        tell("index", "unique_index_missing", message, help.to_owned());
    }
    if !facts.may_use_schema {
        let message = format!("the schema {} may not be used", name.schema);
        tell("privileges", "privilege", message, "grant USAGE on it".to_owned());
    }
    let refused = |may: fn(&Column) -> bool, of: &dyn Fn(&str) -> bool| {
        facts.columns.iter().any(|column| of(&column.name) && !may(column))
    };
    if refused(|it| it.may_insert, &written) {
        let message = format!("rows may not be inserted into {name}");
        tell("privileges", "privilege", message, "grant INSERT on it".to_owned());
    }
    if refused(|it| it.may_select, &|name| KEY.split(", ").any(|key| key == name)) {
        let message = format!("the columns ({KEY}) of {name} may not be read");
        let help = "grant SELECT on them: `ON CONFLICT` looks whether a row is there".to_owned();
        tell("privileges", "privilege", message, help);
    }
    if refused(|it| it.may_use_sequence, &|name| !written(name)) {
        let message = format!("the sequence of a column of {name} may not be used");
        tell("privileges", "privilege", message, "grant USAGE on it".to_owned());
    }
    all
}

/// The statement that writes the rows of arrays that are not there yet.
fn insert(facts: &Facts, name: &TableName) -> String {
    let type_of = |column: &str| facts.column(column).map_or("", |it| it.type_name.as_str());
    let written = WRITTEN.iter().filter(|(column, _)| facts.column(column).is_some());
    let (mut columns, mut values, mut arrays, mut names) = (vec![], vec![], vec![], vec![]);
    for (index, (column, _)) in written.enumerate() {
        let is_number = ["seq", "source_table_oid"].contains(column);
        arrays.push(format!("${}::{}[]", index + 1, if is_number { "int8" } else { "text" }));
        names.push(*column);
        columns.push(*column);
        // Types are of the lists above alone, so nothing of them has to be quoted.
        values.push(match type_of(column) {
            "timestamp" => format!("new.{column}::timestamptz at time zone 'UTC'"),
            other => format!("new.{column}::pg_catalog.{other}"),
        });
    }
    columns.push(INSERTED_AT);
    values.push(match type_of(INSERTED_AT) {
        "timestamp" => "pg_catalog.now() at time zone 'UTC'".to_owned(),
        _ => "pg_catalog.now()".to_owned(),
    });
    format!(
        "insert into {}.{} ({}) select {} from unnest({}) as new({}) on conflict ({KEY}) do nothing",
        quote(&name.schema),
        quote(&name.table),
        columns.join(", "),
        values.join(", "),
        arrays.join(", "),
        names.join(", "),
    )
}

impl Problem {
    pub(super) fn new(
        part: &'static str,
        code: &'static str,
        message: String,
        help: String,
    ) -> Self {
        Self { part, code, message, help }
    }

    pub(super) fn into_source(self) -> SourceError {
        error::definite(self.code, self.message, self.help)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, help, .. } = self;
        write!(f, "{code}: {message} (fix: {help})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> TableName {
        TableName { schema: "audit".to_owned(), table: "changes".to_owned() }
    }

    fn good() -> Facts {
        let column = |name: &str, type_name: &str, is_required| Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            is_required,
            may_insert: true,
            may_select: true,
            may_use_sequence: true,
        };
        let mut columns = vec![column("id", "int8", false)];
        columns.extend(WRITTEN.iter().map(|(name, types)| column(name, types[0], true)));
        columns.push(column(INSERTED_AT, "timestamptz", false));
        Facts { kind: "r".to_owned(), may_use_schema: true, has_key: true, columns }
    }

    /// The codes of what is wrong.
    fn codes(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
        let mut facts = good();
        change(&mut facts);
        problems(Some(&facts), &name()).iter().map(|problem| problem.code).collect()
    }

    fn of<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Column {
        facts.columns.iter_mut().find(|column| column.name == name).unwrap()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(codes(|_| ()), [""; 0]);
        assert_eq!(codes(|it| it.kind = "v".to_owned()), ["table_missing"]);
        assert_eq!(codes(|it| it.has_key = false), ["unique_index_missing"]);
        assert_eq!(codes(|it| it.may_use_schema = false), ["privilege"]);
        assert_eq!(codes(|it| of(it, "record").type_name = "text".to_owned()), ["column_type"]);
        assert_eq!(codes(|it| it.columns.retain(|it| it.name != "seq")), ["column_missing"]);
        assert_eq!(codes(|it| it.columns.retain(|it| it.name != ANNOTATIONS)), [""; 0]);
        assert_eq!(codes(|it| of(it, "id").is_required = true), ["column_default"]);
        assert_eq!(codes(|it| of(it, "action").may_insert = false), ["privilege"]);
        assert_eq!(codes(|it| of(it, "seq").may_select = false), ["privilege"]);
        assert_eq!(codes(|it| of(it, "action").may_select = false), [""; 0]);
        assert_eq!(codes(|it| of(it, "id").may_use_sequence = false), ["privilege"]);
        let missing = problems(None, &name());
        assert!(is_only_missing(&missing), "{missing:?}");
        assert_eq!(
            missing[0].to_string(),
            "table_missing: there is no table audit.changes (fix: create it: `sequin \
             change-retention ddl` prints the statements)"
        );
    }

    #[test]
    fn a_table_without_annotations_is_not_written_any() {
        let mut facts = good();
        facts.columns.retain(|column| column.name != ANNOTATIONS);
        of(&mut facts, "committed_at").type_name = "timestamp".to_owned();
        let shape = Shape::of(Some(&facts), &name()).unwrap();
        assert!(!shape.has_annotations && !shape.insert.contains(ANNOTATIONS), "{shape:?}");
        assert!(shape.insert.contains("new.committed_at::timestamptz at time zone 'UTC'"));
    }
}
