//! Which tables a sink gets, version by version, and what is said when that changes.
//!
//! A choice by name means whichever table has the name, a choice by oid one table whatever its
//! name. A table that leaves a choice by being renamed leaves in silence for everybody but its
//! owner, so it is logged, and stays among the sink's warnings until a table has the name again.

use std::collections::HashMap;
use std::sync::Arc;

use model::relation::{Ancestor, Relation};
use tracing::{info, warn};

use crate::select::{Choice, Names};
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// A table that was chosen by name has another name now.
const TABLE_RENAMED: &str = "table_renamed";
/// A table that was kept out by name has another name now, and is delivered.
const EXCLUSION_RENAMED: &str = "exclusion_renamed";
/// Rows of a chosen partitioned table come under its partitions' names. The predecessor's word.
const PUBVIAROOT_NOT_SET: &str = "pubviaroot_not_set";

/// Versions, tables and names remembered per sink. A schema has far fewer; past it the memory is
/// emptied and filled again.
const REMEMBERED_MAX: usize = 10_000;

/// What one sink made of the tables so far.
#[derive(Default)]
pub(crate) struct Follow {
    /// Whether a relation version is wanted, by address. The relation is kept so that its address
    /// is not used again.
    versions: HashMap<usize, (Arc<Relation>, bool)>,
    /// The newest version of each table, by oid.
    tables: HashMap<u32, (Arc<Relation>, Choice)>,
    /// Which table had a name that the sink chose.
    names: HashMap<String, u32>,
}

impl Follow {
    /// Whether the sink wants changes of this version of a table.
    pub(crate) fn wants(
        &mut self,
        relation: &Arc<Relation>,
        spec: &SinkSpec,
        status: &SinkStatus,
    ) -> bool {
        let address = Arc::as_ptr(relation).addr();
        if let Some((_, wanted)) = self.versions.get(&address) {
            return *wanted;
        }
        let choice = spec.selection.choice(relation);
        let wanted = is_wanted(choice);
        if self.versions.len() >= REMEMBERED_MAX {
            *self = Self::default();
        }
        self.versions.insert(address, (Arc::clone(relation), wanted));
        let before = self.tables.insert(relation.oid, (Arc::clone(relation), choice));
        if let Some((before, was)) = before
            && is_wanted(was) != wanted
        {
            tell_change(&before, was, relation, choice, spec, status);
        }
        match choice {
            Choice::Wanted => self.take_up(relation, spec, status),
            Choice::Inherited(index) => {
                if let Some(ancestor) = relation.ancestors.get(index) {
                    tell_inherited(relation, ancestor, spec, status);
                }
            }
            // A table has an excluded name: that nobody had it is over.
            Choice::Excluded => {
                status.warnings.clear(EXCLUSION_RENAMED, &name(relation));
            }
            Choice::NotIncluded => {}
        }
        wanted
    }

    /// A table has a name that is chosen: whatever was wrong with the name is over.
    fn take_up(&mut self, relation: &Relation, spec: &SinkSpec, status: &SinkStatus) {
        let name = name(relation);
        status.warnings.clear(TABLE_RENAMED, &name);
        status.warnings.clear(PUBVIAROOT_NOT_SET, &name);
        if !matches!(spec.selection.tables.tables, Names::Only(_)) {
            return;
        }
        let oid = relation.oid;
        if let Some(before) = self.names.insert(name.clone(), oid).filter(|before| *before != oid) {
            info!(
                sink.name = %spec.name, table = name, before, oid,
                "another table has the name now: its rows are delivered from here on"
            );
        }
    }
}

fn is_wanted(choice: Choice) -> bool {
    matches!(choice, Choice::Wanted | Choice::Inherited(_))
}

fn name(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.table)
}

/// A table came into the choice or left it.
fn tell_change(
    before: &Relation,
    was: Choice,
    relation: &Relation,
    choice: Choice,
    spec: &SinkSpec,
    status: &SinkStatus,
) {
    let sink = &spec.name;
    let renamed = renamed(before, relation);
    let is_renamed = renamed.is_some();
    let (oid, old, new) = renamed.unwrap_or_else(|| (relation.oid, name(before), name(relation)));
    match (is_wanted(was), is_renamed) {
        (true, true) if choice == Choice::Excluded => {
            info!(
                sink.name = %sink, table = new, before = old, oid,
                "a table was renamed to an excluded name: its rows are not delivered any more"
            );
        }
        (true, true) => {
            let problem = format!(
                "table {old} is {new} now and not among the tables of this sink: its rows are not \
                 delivered any more; name it anew, or choose it by its oid ({oid})"
            );
            warn!(sink.name = %sink, code = TABLE_RENAMED, problem, "a chosen table was renamed");
            status.warnings.raise(TABLE_RENAMED, &old, problem);
        }
        (false, true) if was == Choice::Excluded => {
            let problem = format!(
                "table {old}, which this sink excludes, is {new} now: its rows are delivered; \
                 exclude it anew, or by its oid ({oid})"
            );
            warn!(
                sink.name = %sink, code = EXCLUSION_RENAMED, problem,
                "an excluded table was renamed"
            );
            status.warnings.raise(EXCLUSION_RENAMED, &old, problem);
        }
        (false, true) => {
            info!(
                sink.name = %sink, table = new, before = old, oid,
                "a table was renamed to a chosen name: its rows are delivered from here on"
            );
        }
        (true, false) => {
            info!(
                sink.name = %sink, table = new, oid,
                "a table is no partition of a chosen table any more: its rows are not delivered"
            );
        }
        (false, false) => {
            info!(
                sink.name = %sink, table = new, oid,
                "a table became a partition of a chosen table: its rows are delivered"
            );
        }
    }
}

/// The oid, the old and the new name of what was renamed: the table, or one above it.
fn renamed(before: &Relation, relation: &Relation) -> Option<(u32, String, String)> {
    let (old, new) = (name(before), name(relation));
    if old != new {
        return Some((relation.oid, old, new));
    }
    let above = |ancestor: &Ancestor| format!("{}.{}", ancestor.schema, ancestor.table);
    before.ancestors.iter().find_map(|old| {
        let new = relation.ancestors.iter().find(|new| new.oid == old.oid && *new != old)?;
        Some((old.oid, above(old), above(new)))
    })
}

/// Said once for each partitioned table.
fn tell_inherited(relation: &Relation, ancestor: &Ancestor, spec: &SinkSpec, status: &SinkStatus) {
    let chosen = format!("{}.{}", ancestor.schema, ancestor.table);
    let problem = format!(
        "rows of {chosen} come under the names of its partitions, such as {}: set \
         publish_via_partition_root = true on the publication",
        name(relation)
    );
    if status.warnings.raise(PUBVIAROOT_NOT_SET, &chosen, problem.clone()) {
        warn!(
            sink.name = %spec.name, code = PUBVIAROOT_NOT_SET, problem,
            "rows are delivered under the names of partitions"
        );
    }
}
