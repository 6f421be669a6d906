//! What is other in a configuration than in the one before. Pure.
//!
//! It names what changed and shows no values but of settings that cannot be secret.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use config::Spec;
use config::spec::{
    self, Database, Destination, Function, FunctionKind, Grants, Retention, Sink, Status,
};
use engine::status::Fault;
use model::versions::{BindingName, Role};

use crate::bindings::{self, Chains};
use crate::tables::Reads;

/// A configuration and the components that its functions name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) spec: Spec,
    /// The digest of each function's component, by the function's name.
    pub(crate) digests: BTreeMap<String, String>,
    /// Of each version that the spec declares and that is here, by `name@version`.
    pub(crate) versions: BTreeMap<String, String>,
    /// What the sinks run, which a hold may make other than the spec says.
    pub(crate) chains: Chains,
    /// Sinks that cannot be started, by name.
    pub(crate) faults: BTreeMap<String, Fault>,
    /// What the sinks' plugins read.
    pub(crate) reads: Reads,
}

/// What happens to one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Removed,
    /// What of it.
    Changed(Vec<String>),
}

/// Everything that changes, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) databases: BTreeMap<String, Change>,
    pub(crate) functions: BTreeMap<String, Change>,
    pub(crate) sinks: BTreeMap<String, Change>,
    /// Sinks that must be started anew: a part of those above.
    pub(crate) restarted: Vec<String>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.functions.is_empty() && self.sinks.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [("database", &self.databases), ("function", &self.functions), ("sink", &self.sinks)];
        let mut first = true;
        for (kind, changes) in kinds {
            for (name, change) in changes {
                let separator = if std::mem::take(&mut first) { "" } else { "; " };
                match kind {
                    "sink" => write!(f, "{separator}{} ", spec::called(name))?,
                    _ => write!(f, "{separator}{kind} `{name}` ")?,
                }
                match change {
                    Change::Added => write!(f, "added")?,
                    Change::Removed => write!(f, "removed")?,
                    Change::Changed(what) => write!(f, "changed: {}", what.join(", "))?,
                }
            }
        }
        if first { write!(f, "nothing") } else { Ok(()) }
    }
}

/// Compares two configurations.
pub(crate) fn diff(old: &Loaded, new: &Loaded) -> Plan {
    let functions = compare(&old.spec.functions, &new.spec.functions, |function| &function.name);
    let mut plan = Plan {
        databases: collect(
            compare(&old.spec.databases, &new.spec.databases, |database| &database.name),
            |old, new| if old == new { Vec::new() } else { database(old, new) },
        ),
        functions: collect(functions, |was, is| {
            let mut what = if was == is { Vec::new() } else { function(was, is) };
            if old.digests.get(&was.name) != new.digests.get(&is.name) {
                what.push("component".to_owned());
            }
            what
        }),
        ..Plan::default()
    };
    let sinks = compare(&old.spec.sinks, &new.spec.sinks, |sink| &sink.name);
    let (old_chains, new_chains) = (&old.chains, &new.chains);
    let (old_spec, new_spec) = (&old.spec, &new.spec);
    let mut restarted = Vec::new();
    let (old_faults, new_faults) = (&old.faults, &new.faults);
    plan.sinks = collect(sinks, |old, new| {
        let mut what = if old == new { Vec::new() } else { sink(old, new) };
        // Its other settings, without whether it runs.
        let mut as_before = new.clone();
        as_before.status = old.status;
        let mut restarts = *old != as_before;
        let held = |role| {
            let name = BindingName { sink: new.name.clone(), role };
            new_chains.get(&name).is_some_and(|chain| chain.refused.is_some())
        };
        for role in Role::ALL {
            let functions = bindings::functions(new, role).iter();
            // Whoever holds a chain holds what runs, not what that may do.
            let counts = |name: &str| !held(role) || regranted(old_spec, new_spec, name);
            let changed = functions.filter(|name| plan.functions.contains_key(*name));
            for name in changed.filter(|name| counts(name)) {
                what.push(format!("function `{name}`"));
                restarts = true;
            }
        }
        let (was, is) = (old_faults.get(&old.name), new_faults.get(&new.name));
        if was != is {
            what.push(
                if is.is_some() { "it cannot be started" } else { "it can be started" }.to_owned(),
            );
            restarts = true;
        }
        if !restarts {
            let other = bindings::changed(old_chains, new_chains, &new.name);
            restarts = !other.is_empty();
            what.extend(other.iter().map(|role| format!("what its {role} runs")));
        }
        if restarts {
            restarted.push(new.name.clone());
        }
        what
    });
    let added = plan.sinks.iter().filter(|(_, change)| **change == Change::Added);
    restarted.extend(added.map(|(name, _)| name.clone()));
    plan.restarted = restarted;
    plan
}

/// Both versions of each thing.
fn compare<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&'a T) -> &'a String,
) -> BTreeMap<&'a String, (Option<&'a T>, Option<&'a T>)> {
    let mut both: BTreeMap<_, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for thing in old {
        both.entry(name(thing)).or_default().0 = Some(thing);
    }
    for thing in new {
        both.entry(name(thing)).or_default().1 = Some(thing);
    }
    both
}

fn collect<T>(
    both: BTreeMap<&String, (Option<&T>, Option<&T>)>,
    mut differences: impl FnMut(&T, &T) -> Vec<String>,
) -> BTreeMap<String, Change> {
    let change = |(name, both): (&String, (Option<&T>, Option<&T>))| {
        let change = match both {
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            (None, None) => return None,
            (Some(old), Some(new)) => {
                let what = differences(old, new);
                if what.is_empty() {
                    return None;
                }
                Change::Changed(what)
            }
        };
        Some((name.clone(), change))
    };
    both.into_iter().filter_map(change).collect()
}

/// Collects the names of what differs. Both are known to differ.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    /// Something that may hold secrets.
    fn of<T: PartialEq>(mut self, name: &str, old: &T, new: &T) -> Self {
        if old != new {
            self.0.push(name.to_owned());
        }
        self
    }

    /// Something that holds none.
    fn shown<T: PartialEq + Debug>(mut self, name: &str, old: &T, new: &T) -> Self {
        if old != new {
            self.0.push(format!("{name} {old:?} → {new:?}"));
        }
        self
    }

    /// What a plugin may do besides is written out.
    fn granted(mut self, old: &Grants, new: &Grants) -> Self {
        if old != new {
            self.0.push(match (old.to_string(), new.to_string()) {
                (old, new) if old == new => format!("grants ({new}; a secret or a limit changed)"),
                (old, new) => format!("grants {old} → {new}"),
            });
        }
        self
    }

    fn list(self) -> Vec<String> {
        if self.0.is_empty() { vec!["other settings".to_owned()] } else { self.0 }
    }
}

fn regranted(old: &Spec, new: &Spec, name: &str) -> bool {
    let grants = |spec: &Spec| {
        let found = spec.functions.iter().find(|function| function.name == name);
        match found.map(|function| &function.kind) {
            Some(FunctionKind::Plugin(plugin)) => Grants::clone(&plugin.grants),
            _ => Grants::default(),
        }
    };
    grants(old) != grants(new)
}

fn database(old: &Database, new: &Database) -> Vec<String> {
    Differences::default()
        .shown("hostname", &old.hostname, &new.hostname)
        .shown("port", &old.port, &new.port)
        .shown("database", &old.database, &new.database)
        .shown("username", &old.username, &new.username)
        .of("password (changed)", &old.password, &new.password)
        .of("tls", &old.tls, &new.tls)
        .of("primary", &old.primary, &new.primary)
        .of("slot", &old.slot, &new.slot)
        .of("publication", &old.publication, &new.publication)
        .of("annotations", &old.annotations, &new.annotations)
        .list()
}

fn function(old: &Function, new: &Function) -> Vec<String> {
    let (FunctionKind::Plugin(was), FunctionKind::Plugin(is)) = (&old.kind, &new.kind) else {
        let what = match &new.kind {
            FunctionKind::Plugin(_) => "type",
            FunctionKind::Path(_) => "path",
            FunctionKind::Enrichment(_) => "code",
        };
        return vec![what.to_owned()];
    };
    Differences::default()
        .shown("type", &was.role, &is.role)
        .shown("component", &was.component, &is.component)
        .of("config", &was.config_json, &is.config_json)
        .shown("on_error", &was.on_error, &is.on_error)
        .granted(&was.grants, &is.grants)
        .of("limits", &was.limits, &is.limits)
        .list()
}

fn sink(old: &Sink, new: &Sink) -> Vec<String> {
    Differences::default()
        .shown("status", &word(old.status), &word(new.status))
        .shown("database", &old.database, &new.database)
        .of("source or actions", &old.selection, &new.selection)
        .of(
            "filters",
            &old.retention().map(|it| &it.conditions),
            &new.retention().map(|it| &it.conditions),
        )
        .of("destination", &kept_in(old), &kept_in(new))
        .shown("batch_size", &old.batch_size, &new.batch_size)
        .shown("batch_timeout", &old.batch_timeout, &new.batch_timeout)
        .shown("filter", &old.filters, &new.filters)
        .shown("routing", &old.routers, &new.routers)
        .shown("transform", &old.transforms, &new.transforms)
        .of("path", &old.path, &new.path)
        .of("enrichment", &old.enrichments, &new.enrichments)
        .of("group_column_names", &old.groups, &new.groups)
        .shown("group_scope", &old.group_scope, &new.group_scope)
        .shown("timestamp_format", &old.timestamps, &new.timestamps)
        .shown("max_retry_count", &old.max_retry_count, &new.max_retry_count)
        .shown("load_shedding_policy", &old.on_full, &new.on_full)
        .of("retry_backoff", &old.backoff, &new.backoff)
        .of("rate_limit", &old.rate_limit, &new.rate_limit)
        .of("dead_letter_limit", &old.letter_limit, &new.letter_limit)
        .of("initial_backfill", &old.initial, &new.initial)
        .shown("message_grouping", &old.message_grouping, &new.message_grouping)
        .of("unchanged_values", &old.fetch_unchanged, &new.fetch_unchanged)
        .of("annotations", &old.annotations, &new.annotations)
        .list()
}

/// The destination without what a change retention filters by.
fn kept_in(sink: &Sink) -> Destination {
    match &sink.destination {
        Destination::Retention(retention) => {
            let retention = Retention { conditions: Vec::new(), ..Retention::clone(retention) };
            Destination::Retention(Box::new(retention))
        }
        other => other.clone(),
    }
}

struct Word(&'static str);

impl Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

const fn word(status: Status) -> Word {
    Word(match status {
        Status::Active => "active",
        Status::Paused => "paused",
        Status::Disabled => "disabled",
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const YAML: &str = "
databases:
  - {name: d, url: 'postgres://u:pw@h/d', slot: {name: s}, publication: {name: p}}
functions:
  - {name: f, type: filter, file: f.wasm}
http_endpoints:
  - {name: e, url: 'http://h:1/', headers: {a: s3cret}}
sinks:
  - {name: one, database: d, filter: f, destination: {type: webhook, http_endpoint: e}}
  - {name: two, database: d, batch_size: 5, destination: {type: webhook, http_endpoint: e}}
";

    fn load(yaml: &str) -> Loaded {
        let around = config::Surroundings {
            base_dir: Path::new(""),
            plugin_dir: Path::new("plugins"),
            env: &|_| None,
            read_file: &|_| Ok(String::new()),
        };
        let read = config::read("x", yaml, &around);
        let spec = read.unwrap_or_else(|wrong| panic!("{wrong:?}")).0;
        let digests = BTreeMap::from([("f".to_owned(), "sha256:1".to_owned())]);
        Loaded { spec, digests, ..Loaded::default() }
    }

    /// The plan as text, and who is started anew.
    fn plan(from: &str, to: &str) -> (String, Vec<String>) {
        let plan = diff(&load(YAML), &load(&YAML.replace(from, to)));
        (plan.to_string(), plan.restarted)
    }

    #[test]
    fn b238_b239_what_changed_is_named_and_nothing_else() {
        assert_eq!(plan("", ""), ("nothing".to_owned(), vec![]));
        let (text, restarted) = plan("batch_size: 5", "batch_size: 6");
        assert_eq!(text, "sink `two` changed: batch_size 5 → 6");
        assert_eq!(restarted, ["two"]);
        let (text, restarted) = plan("name: two", "name: three");
        assert_eq!(text, "sink `three` added; sink `two` removed");
        assert_eq!(restarted, ["three"]);
        let (text, restarted) = plan("filter: f, ", "");
        assert_eq!(text, "sink `one` changed: filter [\"f\"] → []");
        assert_eq!(restarted, ["one"]);
        let (text, restarted) = plan("slot: {name: s}", "slot: {name: s2}");
        assert_eq!(text, "database `d` changed: slot");
        assert_eq!(restarted, [""; 0]);
    }

    #[test]
    fn b238_secrets_are_not_shown() {
        let (text, _) = plan(":pw@", ":other@");
        assert_eq!(text, "database `d` changed: password (changed)");
        let (text, restarted) = plan("s3cret", "other");
        assert_eq!(text, "sink `one` changed: destination; sink `two` changed: destination");
        assert_eq!(restarted, ["one", "two"]);
    }

    #[test]
    fn a_change_retention_is_called_as_its_owner_calls_it() {
        let retention = "sinks:\nchange_retentions:
  - {name: kept, source_database: d, source_table_name: t, destination_database: d,
     destination_table_name: k, filters: [{column_name: a, operator: is null}]}
sinks:";
        let both = YAML.replace("sinks:", &retention.replace("sinks:\nchange", "change"));
        assert_eq!(diff(&load(YAML), &load(&both)).to_string(), "change retention `kept` added");
        let changed = |from: &str, to: &str| diff(&load(&both), &load(&both.replace(from, to)));
        let plan = changed("is null", "is not null");
        assert_eq!(plan.to_string(), "change retention `kept` changed: filters");
        assert_eq!(plan.restarted, ["change_retention:kept"]);
        let plan = changed("destination_table_name: k", "destination_table_name: l");
        assert_eq!(plan.to_string(), "change retention `kept` changed: destination");
    }

    #[test]
    fn a_pause_starts_nothing_anew() {
        let (text, restarted) = plan("batch_size: 5", "batch_size: 5, status: paused");
        assert_eq!(
            (text.as_str(), restarted),
            ("sink `two` changed: status active → paused", vec![])
        );
    }

    #[test]
    fn a_function_changes_the_sinks_that_use_it() {
        let old = load(YAML);
        let mut new = old.clone();
        new.digests.insert("f".to_owned(), "sha256:2".to_owned());
        let plan = diff(&old, &new);
        assert_eq!(
            plan.to_string(),
            "function `f` changed: component; sink `one` changed: function `f`"
        );
        assert_eq!(plan.restarted, ["one"]);
    }

    #[test]
    fn b270_what_is_held_is_not_changed_by_its_function_and_what_is_promoted_is() {
        let link = |digest: &str| model::versions::Link {
            function: "f".to_owned(),
            digest: digest.to_owned(),
            config: "{}".to_owned(),
        };
        let chain = |digest, held| bindings::Chain {
            links: vec![link(digest)],
            refused: held,
            ..bindings::Chain::default()
        };
        let name = BindingName { sink: "one".to_owned(), role: Role::Filter };
        let with = |chain| {
            let mut loaded = load(YAML);
            loaded.chains.insert(name.clone(), chain);
            loaded
        };
        let hold = model::versions::Hold {
            refused: false,
            generation: 1,
            by: String::new(),
            reason: String::new(),
            at_us: 0,
        };
        let mut held = with(chain("1", Some(hold)));
        held.digests.insert("f".to_owned(), "sha256:2".to_owned());
        let plan = diff(&with(chain("1", None)), &held);
        assert_eq!(plan.to_string(), "function `f` changed: component");
        assert_eq!(plan.restarted, [""; 0]);
        let plan = diff(&with(chain("1", None)), &with(chain("2", None)));
        assert_eq!(plan.to_string(), "sink `one` changed: what its filter runs");
        assert_eq!(plan.restarted, ["one"]);
    }

    #[test]
    fn b201_a_sink_that_can_be_started_after_all_is_started_alone() {
        let new = load(YAML);
        let fault = Fault { code: "c", message: "m".to_owned(), help: String::new() };
        let old = Loaded { faults: BTreeMap::from([("two".to_owned(), fault)]), ..new.clone() };
        let plan = diff(&old, &new);
        assert_eq!(plan.to_string(), "sink `two` changed: it can be started");
        assert_eq!(plan.restarted, ["two"]);
        assert!(diff(&old, &old).is_empty());
    }
}
