//! What becomes of an apply beside its record, one by one: `sequin config apply --wait`.
//!
//! The engine does it by itself (it makes slots, connects, reads tables) and goes on until it is done;
//! this only looks at the health of what was changed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use config::portable::Id;
use serde_json::{Value, json};

use crate::api::{Request, ask};
use crate::{Failure, tell};

/// Health is judged every second: what is told earlier may be of what ran before.
const JUDGED: Duration = Duration::from_millis(1_500);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// A database, a sink or a change retention that was made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    kind: String,
    name: String,
}

/// Waits until all that was changed is well, and tells each as soon as it is; what it was in the end.
///
/// # Errors
/// The engine does not answer.
pub(super) fn watch(applied: &Value, patience: Duration) -> Result<(Value, bool), Failure> {
    let mut open = watched(applied);
    let deadline = clock() + patience;
    let mut told = Vec::new();
    rest(JUDGED.min(patience));
    loop {
        let health = ask(Request { path: &["health"], ..Request::default() })?;
        let is_last = clock() >= deadline;
        open.retain(|watched| {
            let (status, problem) = standing(&health, watched);
            let is_well = !["error", "waiting", "unknown"].contains(&status.as_str());
            if !is_well && !is_last {
                return true;
            }
            let Watched { kind, name } = watched;
            let what = if problem.is_empty() { String::new() } else { format!(": {problem}") };
            tell(&format!("{kind} `{name}` is {status}{what}"));
            told.push(json!({
                "resource_type": kind, "name": name, "status": status, "problem": problem,
                "well": is_well,
            }));
            false
        });
        if open.is_empty() {
            let all_well = told.iter().all(|it| it.get("well") == Some(&Value::Bool(true)));
            return Ok((told.into(), all_well));
        }
        rest(LOOK);
    }
}

/// # Errors
/// Something is not well.
pub(super) fn ended(all_well: bool) -> Result<(), Failure> {
    if all_well { Ok(()) } else { Err(Failure::Exit(ExitCode::FAILURE)) }
}

fn watched(applied: &Value) -> Vec<Watched> {
    let text = |it: &Value, key: &str| it.get(key).and_then(Value::as_str).map(str::to_owned);
    let changes = applied.get("changes").and_then(Value::as_array).into_iter().flatten();
    let stays = changes.filter(|it| it.get("action").is_some_and(|action| action != "delete"));
    let watched = stays.filter_map(|it| {
        let (kind, name) = (text(it, "resource_type")?, text(it, "name")?);
        let is_watched = match kind.as_str() {
            "sink" | "change_retention" => true,
            // One that changes are kept in is not read, and has no health of its own.
            "database" => ["slot", "slot_name"]
                .into_iter()
                .any(|key| it.get("new").is_some_and(|new| new.get(key).is_some())),
            _ => false,
        };
        is_watched.then_some(Watched { kind, name })
    });
    watched.collect()
}

/// How it stands, and what is wrong.
fn standing(health: &Value, Watched { kind, name }: &Watched) -> (String, String) {
    let text =
        |it: &Value, key: &str| it.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_it = |entity: &&Value| match kind.as_str() {
        // Its id is the database and the slot.
        "database" => {
            text(entity, "entity_kind") == "postgres_replication_slot"
                && text(entity, "entity_id")
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        }
        _ => {
            let sink = Id::new(kind, name).sink();
            text(entity, "entity_kind") == "sink_consumer" && text(entity, "name") == sink
        }
    };
    let all = health.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // It is taken up and not looked at yet.
    let Some(entity) = all.iter().find(is_it) else { return ("unknown".to_owned(), String::new()) };
    let checks = entity.get("checks").and_then(Value::as_array).into_iter().flatten();
    let problems = checks.filter_map(|check| {
        let error = check.get("error")?;
        (text(check, "status") == "error").then(|| text(error, "message"))
    });
    (text(entity, "status"), problems.collect::<Vec<_>>().join("; "))
}

fn rest(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a command waits by the clock")]
    std::thread::sleep(duration);
}

fn clock() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a command waits by the clock")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_found_in_the_health_of_the_engine() {
        let applied = json!({"changes": [
            {"resource_type": "database", "name": "main", "action": "create", "new": {"slot": {}}},
            {"resource_type": "database", "name": "kept", "action": "create", "new": {}},
            {"resource_type": "sink", "name": "a", "action": "update"},
            {"resource_type": "change_retention", "name": "a", "action": "update"},
            {"resource_type": "sink", "name": "b", "action": "delete"},
            {"resource_type": "function", "name": "f", "action": "create"},
        ]});
        let watched = watched(&applied);
        assert_eq!(watched.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["main", "a", "a"]);
        let check =
            |status: &str| json!({"status": status, "error": {"message": format!("m-{status}")}});
        let health = json!({"data": [
            {"entity_kind": "postgres_replication_slot", "entity_id": "mainly/s", "status": "error"},
            {"entity_kind": "postgres_replication_slot", "entity_id": "main/s", "status": "healthy"},
            {"entity_kind": "sink_consumer", "name": "change_retention:a", "status": "paused"},
            {"entity_kind": "sink_consumer", "name": "a", "status": "error", "checks": [check("notice"), check("error")]},
        ]});
        assert_eq!(standing(&health, &watched[0]).0, "healthy");
        assert_eq!(standing(&health, &watched[1]), ("error".to_owned(), "m-error".to_owned()));
        assert_eq!(standing(&health, &watched[2]).0, "paused");
        assert_eq!(standing(&json!({}), &watched[1]).0, "unknown");
    }
}
