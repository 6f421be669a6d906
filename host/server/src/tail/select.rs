//! Which changes are wanted, by the command line.

use engine::select::{Actions, Names, Selection, Table, Tables};
use model::change::{Change, Operation};
use postgres::Subject;

use crate::cli::{Action, TableName, TailArguments};

/// Tables and actions.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    tables: Selection,
    subject: Subject,
}

impl Choice {
    /// What was not named is everything.
    pub(super) fn new(arguments: &TailArguments) -> Self {
        let actions = &arguments.actions;
        let wants = |action| actions.is_empty() || actions.contains(&action);
        let names = &arguments.tables;
        let subject = Subject {
            tables: names.iter().map(|name| (name.schema.clone(), name.table.clone())).collect(),
            insert: wants(Action::Insert),
            update: wants(Action::Update),
            delete: wants(Action::Delete),
            truncate: wants(Action::Truncate),
        };
        let table = |TableName { schema, table }: &TableName| Table::Named {
            schema: schema.clone(),
            table: table.clone(),
        };
        let only = Names::Only(names.iter().map(table).collect());
        let tables = if names.is_empty() { Names::All } else { only };
        let tables = Tables { schemas: Names::All, tables };
        Self { tables: Selection { tables, actions: Actions::default() }, subject }
    }

    /// What a publication for this run is about.
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether the change is to be printed. A publication that exists may hold more than is wanted.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let action = match change.operation {
            Operation::Insert => self.subject.insert,
            Operation::Update => self.subject.update,
            Operation::Delete => self.subject.delete,
            Operation::Truncate => self.subject.truncate,
            Operation::Read => true,
        };
        action && self.tables.wants_table(&change.relation)
    }
}
