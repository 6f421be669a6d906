//! How a plan, and what was applied, is told: in the predecessor's shapes, with more beside them.

use config::Spec;
use config::portable::{Difference, Id};
use config::spec::{Component, FunctionKind, Retention, Status, called, resource_of};
use serde_json::{Value, json};

use crate::plan::{Change, Plan};

/// A resource, without its secrets.
pub(super) fn resource((id, json): (Id, String)) -> Value {
    let said: Value = serde_json::from_str(&json).unwrap_or_default();
    json!({"resource_type": id.kind, "name": id.name, "resource": said})
}

/// What is other.
pub(super) fn change(difference: &Difference, effect: Option<&str>) -> Value {
    let Difference { id, action, old, new, fields } = difference;
    let of = |json: &Option<String>| -> Value {
        json.as_ref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    };
    let fields = fields.iter().map(|field| {
        json!({
            "path": field.path, "old": of(&field.old), "new": of(&field.new),
            "secret": field.is_secret,
        })
    });
    json!({
        "resource_type": id.kind, "name": id.name, "action": action.as_str(), "old": of(old),
        "new": of(new), "fields": fields.collect::<Vec<_>>(), "effect": effect,
    })
}

/// What happens beyond the resources themselves, a line each.
pub(super) fn actions(spec: &Spec, plan: &Plan, differences: &[Difference]) -> Vec<String> {
    let mut all = Vec::new();
    let changed = |kind: &str, name: &str| {
        differences.iter().any(|it| it.id.kind == kind && it.id.name == name)
    };
    for (name, change) in &plan.databases {
        let Some(database) = spec.databases.iter().find(|it| it.name == *name) else {
            all.push(format!("stop reading database `{name}`; its slot stays at the source, and keeps log there until it is dropped"));
            continue;
        };
        if *change == Change::Added {
            if database.publication.create.is_some() {
                let publication = &database.publication.name;
                all.push(format!(
                    "create publication `{publication}` on database `{name}` if it is not there"
                ));
            }
            if database.slot.create {
                let slot = &database.slot.name;
                all.push(format!("create slot `{slot}` on database `{name}` if it is not there"));
            }
        } else {
            all.push(format!("connect to database `{name}` anew"));
        }
    }
    for (name, change) in &plan.sinks {
        let Some(sink) = spec.sinks.iter().find(|it| it.name == *name) else { continue };
        if *change == Change::Added
            && sink.status != Status::Disabled
            && sink.initial.tables != engine::backfill::InitialTables::None
        {
            all.push(format!(
                "read the tables of sink `{name}` as a whole, once (initial_backfill)"
            ));
        }
        let (kind, resource) = resource_of(name);
        if let Change::Changed(what) = change
            && !changed(kind, resource)
        {
            let what = what.join(", ");
            all.push(format!("start {} anew: {what}", called(name)));
        }
        if let Some(retention) = sink.retention().filter(|it| it.create)
            && *change == Change::Added
        {
            let Retention { schema, table, database, .. } = retention;
            all.push(format!(
                "create table {schema}.{table} on database `{database}` if it is not there"
            ));
        }
    }
    for function in &spec.functions {
        let FunctionKind::Plugin(plugin) = &function.kind else { continue };
        if let Component::File(path) = &plugin.component {
            let name = &function.name;
            all.push(format!("function `{name}` reads {} where the engine is", path.display()));
        }
    }
    all
}
