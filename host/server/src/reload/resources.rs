//! Resources one by one: as they run, and each created, changed or deleted alone. A change is an apply of
//! what runs with that one resource other.

use std::collections::BTreeSet;

use config::portable::{HIDDEN, Id, Portable};
use config::spec;
use engine::health::Problem;
use engine::run::Stopped;
use model::tokens::Limits;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use web::ConfigRefused;

use super::Reloader;
use super::apply::{Proposal, refused, sent};
use crate::retentions;

/// What is shown.
pub(crate) struct Wanted {
    /// As in [`Id`].
    pub(crate) kind: &'static str,
    /// Its name or its id; None: all.
    pub(crate) which: Option<String>,
    pub(crate) with_secrets: bool,
}

/// What is to become of one.
pub(crate) struct Edit {
    pub(crate) kind: &'static str,
    /// Its name or its id; None of one that is new.
    pub(crate) which: Option<String>,
    /// As in `sequin.yaml`; of one that is there, what is to be other (RFC 7396). None: it is to go.
    pub(crate) body: Option<Map<String, Value>>,
    /// Only if it is still what was seen.
    pub(crate) if_match: Option<String>,
    /// What is there the same already is as good as made.
    pub(crate) is_repeatable: bool,
    pub(crate) by: String,
    /// What whoever asks may change.
    pub(crate) limits: Limits,
}

type Told = Result<Value, ConfigRefused>;

/// What answers hold beside what was written: it is not taken back.
const SHOWN: [&str; 8] = [
    "id",
    "etag",
    "health",
    "active_backfills",
    "replication_slots",
    "inserted_at",
    "updated_at",
    "account_id",
];

impl Reloader {
    pub(super) fn resources(&self, wanted: &Wanted) -> Told {
        let portable = self.portable()?;
        let Wanted { kind, which, with_secrets } = wanted;
        match which {
            Some(which) => {
                let id = find(&portable, kind, which)?;
                let mut shown = self.shown(&portable, &id, *with_secrets);
                shown.extend(self.health(&id).map(|health| ("health".to_owned(), health)));
                shown.insert("etag".to_owned(), etag(&portable, &id).into());
                Ok(Value::Object(shown))
            }
            None => {
                let of_kind = portable.ids().filter(|id| id.kind == **kind);
                let shown = of_kind.map(|id| self.shown(&portable, &id, *with_secrets).into());
                Ok(json!({"data": shown.collect::<Vec<Value>>()}))
            }
        }
    }

    pub(super) async fn edit(&mut self, edit: Edit) -> Result<Told, Stopped> {
        let (id, proposal) = match self.proposal(&edit) {
            Ok(ready) => ready,
            Err(refused) => return Ok(Err(refused)),
        };
        let is_gone = edit.body.is_none();
        if let Err(refused) = self.apply(proposal, None).await? {
            return Ok(Err(refused));
        }
        if is_gone {
            return Ok(Ok(json!({"id": id.uuid(), "deleted": true, "success": true})));
        }
        let Id { name, .. } = id;
        let wanted = Wanted { kind: edit.kind, which: Some(name), with_secrets: false };
        Ok(self.resources(&wanted))
    }

    fn proposal(&self, edit: &Edit) -> Result<(Id, Proposal), ConfigRefused> {
        let Edit { kind, which, body, if_match, is_repeatable, by, limits } = edit;
        let portable = self.portable()?;
        let proposal = Proposal {
            owner: "default".to_owned(),
            by: by.clone(),
            reason: "api".to_owned(),
            limits: limits.clone(),
            ..Proposal::default()
        };
        let named = |body: &Map<String, Value>| {
            let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
            name.ok_or_else(|| refused(422, "invalid_config", "`name` is missing"))
        };
        let Some(which) = which else {
            let mut body = body.clone().unwrap_or_default();
            let id = Id::new(kind, &named(&body)?);
            if *kind == "database" {
                from_predecessor(&mut body)?;
            }
            SHOWN.iter().for_each(|key| _ = body.remove(*key));
            let text = text_of(kind, body);
            if portable.ids().any(|known| known == id) {
                // Who asks again because no answer came is told what it made.
                let same = portable.clone().with(&sent(&text)?).differences(&portable).is_empty();
                if !(*is_repeatable && same) {
                    return Err(refused(422, "name_taken", format!("there is a {id} already")));
                }
            }
            return Ok((id, Proposal { text, ..proposal }));
        };
        let id = find(&portable, kind, which)?;
        if if_match.as_ref().is_some_and(|wanted| *wanted != etag(&portable, &id)) {
            let what = format!("the {id} is not what it was when it was read: read it again");
            return Err(refused(412, "changed_meanwhile", what));
        }
        let Some(body) = body else {
            self.unused(&id)?;
            let (text, remove) = ("sinks: []\n".to_owned(), vec![id.clone()]);
            return Ok((id, Proposal { text, remove, ..proposal }));
        };
        // What was shown and comes back is not other.
        let shown = self.shown(&portable, &id, false);
        let other = body.iter().filter(|(key, value)| shown.get(*key) != Some(value));
        let other: Map<String, Value> =
            other.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut body = Value::Object(other);
        without_hidden(&mut body);
        let Value::Object(mut body) = body else { return Ok((id, proposal)) };
        SHOWN.iter().for_each(|key| _ = body.remove(*key));
        if body.contains_key("name") && named(&body)? != id.name {
            let what = "a name cannot be changed: it is what progress and dead letters are kept by";
            return Err(refused(422, "name_fixed", what));
        }
        let now = portable.json(&id, true).unwrap_or_default();
        let mut now: Value = serde_json::from_str(&now).unwrap_or_default();
        merge(&mut now, Value::Object(body));
        let now = if let Value::Object(now) = now { now } else { Map::new() };
        Ok((id, Proposal { text: text_of(kind, now), ..proposal }))
    }

    /// # Errors
    /// Something that runs needs it.
    fn unused(&self, id: &Id) -> Result<(), ConfigRefused> {
        let sinks = self.loaded.spec.sinks.iter();
        let using: Vec<String> = match id.kind.as_str() {
            "database" => {
                let into = |sink: &spec::Sink| sink.retention().map(|it| it.database.clone());
                let uses = |it: &&spec::Sink| {
                    it.database == id.name || into(it).is_some_and(|into| into == id.name)
                };
                sinks.filter(uses).map(|it| spec::called(&it.name)).collect()
            }
            // Whatever else is named where it is gone is told of the configuration.
            _ => Vec::new(),
        };
        if using.is_empty() {
            return Ok(());
        }
        let what = format!("the {id} is needed by {}: delete them first", using.join(", "));
        Err(refused(422, "in_use", what))
    }

    /// A resource as the predecessor shows it: what was written, with what holds where nothing was.
    fn shown(&self, portable: &Portable, id: &Id, with_secrets: bool) -> Map<String, Value> {
        let written = portable.json(id, with_secrets).unwrap_or_default();
        let mut shown: Map<String, Value> = serde_json::from_str(&written).unwrap_or_default();
        shown.insert("id".to_owned(), id.uuid().into());
        let spec = &self.loaded.spec;
        let defaults = match id.kind.as_str() {
            "sink" => spec.sinks.iter().find(|it| it.name == id.name).map(of_sink),
            "change_retention" => {
                spec.sinks.iter().find(|it| it.name == id.sink()).map(retentions::shown)
            }
            "database" => spec.databases.iter().find(|it| it.name == id.name).map(of_database),
            "http_endpoint" => Some(json!({"headers": {}, "encrypted_headers": {}})),
            _ => None,
        };
        if let Some(Value::Object(defaults)) = defaults {
            for (key, value) in defaults {
                shown.entry(key).or_insert(value);
            }
        }
        shown
    }

    fn health(&self, id: &Id) -> Option<Value> {
        let uuid = id.uuid();
        let entities = self.status.health.entities();
        let entity = entities.into_iter().find(|entity| entity.id == uuid)?;
        let checks = entity.checks.iter();
        let checks = checks.map(|it| match &it.problem {
            None => json!({"name": it.name, "status": it.level.as_str()}),
            Some(Problem { code, message, .. }) => json!({
                "name": it.name, "status": it.level.as_str(),
                "error": {"code": code, "message": message},
            }),
        });
        Some(json!({
            "name": spec::resource_of(&entity.name).1, "status": entity.level.as_str(),
            "checks": checks.collect::<Vec<_>>(),
        }))
    }
}

fn find(portable: &Portable, kind: &str, which: &str) -> Result<Id, ConfigRefused> {
    let mut of_kind = portable.ids().filter(|id| id.kind == kind);
    of_kind.find(|id| id.name == which || id.uuid() == which).ok_or_else(|| {
        let kind = kind.replace('_', " ");
        refused(404, "not_found", format!("there is no {kind} `{which:.200}`"))
    })
}

/// Another for another resource, secrets and all; it tells none of them.
fn etag(portable: &Portable, id: &Id) -> String {
    let hash: [u8; 32] = Sha256::digest(portable.json(id, true).unwrap_or_default()).into();
    hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

fn of_sink(sink: &spec::Sink) -> Value {
    let chain = |names: &[String]| match names {
        [] => json!("none"),
        [one] => json!(one),
        more => json!(more),
    };
    json!({
        "status": retentions::status(sink.status),
        "actions": ["insert", "update", "delete"],
        "batch_size": sink.batch_size,
        "filter": chain(&sink.filters), "transform": chain(&sink.transforms),
        "routing": chain(&sink.routers),
        "enrichment": "none",
        "timestamp_format": "iso8601",
        "active_backfills": [],
        "max_retry_count": sink.max_retry_count,
        "load_shedding_policy": "pause_on_full",
        "message_grouping": sink.message_grouping,
        "annotations": serde_json::from_str::<Value>(&sink.annotations).unwrap_or_default(),
        "source": {},
        "tables": [],
    })
}

fn of_database(database: &spec::Database) -> Value {
    let slot = Id::new("slot", &database.slot.name).uuid();
    json!({
        "hostname": database.hostname, "port": database.port, "database": database.database,
        "username": database.username,
        "ssl": database.tls.mode != spec::SslMode::Disable,
        "ipv6": false, "use_local_tunnel": false,
        "annotations": serde_json::from_str::<Value>(&database.annotations).unwrap_or_default(),
        "replication_slots": [{
            "id": slot, "publication_name": database.publication.name,
            "slot_name": database.slot.name, "status": "active",
        }],
    })
}

/// The predecessor's API has slot and publication in a list.
fn from_predecessor(body: &mut Map<String, Value>) -> Result<(), ConfigRefused> {
    let Some(slots) = body.remove("replication_slots") else { return Ok(()) };
    let wrong = || {
        let what =
            "`replication_slots` is a list of one: [{\"publication_name\": …, \"slot_name\": …}]";
        refused(422, "invalid_config", what)
    };
    let [Value::Object(slot)] = slots.as_array().map(Vec::as_slice).ok_or_else(wrong)? else {
        return Err(wrong());
    };
    for (from, to) in [("slot_name", "slot"), ("publication_name", "publication")] {
        let name = slot.get(from).and_then(Value::as_str).ok_or_else(wrong)?;
        body.entry(to).or_insert(json!({"name": name}));
    }
    Ok(())
}

/// A secret that is sent back as it was shown is none.
fn without_hidden(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| *value != HIDDEN);
            entries.values_mut().for_each(without_hidden);
        }
        Value::Array(items) => items.iter_mut().for_each(without_hidden),
        _ => {}
    }
}

/// RFC 7396: null takes a key away, maps are merged, all else is replaced.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    let gone: BTreeSet<String> =
        patch.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.clone()).collect();
    target.retain(|key, _| !gone.contains(key));
    for (key, value) in patch.into_iter().filter(|(key, _)| !gone.contains(key)) {
        merge(target.entry(key).or_insert(Value::Null), value);
    }
}

/// As `sequin.yaml`, of which JSON is a part.
fn text_of(kind: &str, resource: Map<String, Value>) -> String {
    let key = match kind {
        "sink" => "sinks",
        "database" => "databases",
        "http_endpoint" => "http_endpoints",
        "change_retention" => "change_retentions",
        _ => "functions",
    };
    json!({ key: [resource] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_laid_over_what_is_there() {
        let mut target = json!({"a": 1, "b": {"c": 2, "d": [1]}, "e": "x"});
        merge(
            &mut target,
            json!({"a": null, "b": {"d": [2], "f": {"g": null, "h": 1}}, "e": {"i": 1}}),
        );
        assert_eq!(target, json!({"b": {"c": 2, "d": [2], "f": {"h": 1}}, "e": {"i": 1}}));
        let mut body = json!({"password": HIDDEN, "headers": {"a": HIDDEN, "b": "c"}});
        without_hidden(&mut body);
        assert_eq!(body, json!({"headers": {"b": "c"}}));
    }
}
