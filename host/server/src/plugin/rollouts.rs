//! `sequin plugin rollout` and `sequin plugin top`: ask the engine.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::print;
use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::rollouts::{
    BeginArguments, CanaryArguments, RolloutCommand, TopArguments, WhichArguments,
};

pub(super) fn run(command: &RolloutCommand) -> Result<(), Failure> {
    match command {
        RolloutCommand::Shadow(begin) => started(begin, Map::new()),
        RolloutCommand::Canary(canary) => {
            let CanaryArguments { begin, percent, promote_after_rows, promote_after_seconds } =
                canary;
            let mut more = Map::from_iter([("percent".to_owned(), json!(percent))]);
            if let Some((rows, seconds)) = promote_after_rows.zip(*promote_after_seconds) {
                more.insert("auto_promote".to_owned(), json!({"rows": rows, "seconds": seconds}));
            }
            started(begin, more)
        }
        RolloutCommand::Share { which, percent } => turned(which, json!({ "percent": percent })),
        RolloutCommand::Promote(which) => turned(which, json!({ "state": "promoted" })),
        RolloutCommand::Abort { which, reason } => {
            turned(which, json!({ "state": "aborted", "reason": reason }))
        }
        RolloutCommand::List { sink, json } => {
            let answer = get(&of_sink(sink))?;
            let all = answer.get("data").and_then(Value::as_array);
            for one in all.into_iter().flatten() {
                told(&if *json { one.to_string() } else { line(one) })?;
            }
            Ok(())
        }
        RolloutCommand::Report { which, json } => {
            let answer = of(which)?;
            if *json {
                return told(&answer.to_string());
            }
            told(&report(&answer))
        }
    }
}

pub(super) fn top(arguments: &TopArguments) -> Result<(), Failure> {
    let answer = get(&["functions", "costs"])?;
    let all = answer.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !arguments.json {
        told("    CPU ms        rows  ns/row  dropped  failed  sink / function / version")?;
    }
    for one in all {
        if arguments.json {
            told(&one.to_string())?;
            continue;
        }
        let number = |name: &str| one.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (cpu, rows) = (number("cpu_us"), number("rows"));
        let faults = one.get("faults").and_then(Value::as_object);
        let failed: u64 = faults.into_iter().flat_map(Map::values).filter_map(Value::as_u64).sum();
        let a_row = cpu.saturating_mul(1_000).checked_div(rows).unwrap_or_default();
        let digest: String = text(one, "digest").chars().take(19).collect();
        told(&format!(
            "{:>10} {rows:>11} {a_row:>7} {:>8} {failed:>7}  {} / {} / {digest}",
            cpu / 1_000,
            number("dropped"),
            text(one, "sink"),
            text(one, "function"),
        ))?;
    }
    Ok(())
}

fn of_sink(sink: &str) -> [&str; 3] {
    ["sinks", sink, "rollouts"]
}

fn get(path: &[&str]) -> Result<Value, Failure> {
    ask(Request { path, ..Request::default() })
}

/// The id of the one that is meant: the newest, if no other is named.
fn id(which: &WhichArguments) -> Result<String, Failure> {
    if let Some(id) = &which.id {
        return Ok(id.clone());
    }
    let answer = get(&of_sink(&which.sink))?;
    let newest = answer.get("data").and_then(|data| data.get(0)?.get("id")?.as_str());
    let none = || format!("error: sink `{}` has no rollout", which.sink);
    Ok(newest.ok_or_else(none).map_err(Failure::Usage)?.to_owned())
}

fn of(which: &WhichArguments) -> Result<Value, Failure> {
    get(&["sinks", &which.sink, "rollouts", &id(which)?])
}

fn started(begin: &BeginArguments, mut more: Map<String, Value>) -> Result<(), Failure> {
    let rules = [
        ("min_rows", begin.min_rows.map(Value::from)),
        ("window_seconds", begin.window_seconds.map(Value::from)),
        ("max_trap_percent", begin.max_trap_percent.map(Value::from)),
        ("max_error_percent", begin.max_error_percent.map(Value::from)),
        ("max_drop_change", begin.max_drop_change.map(Value::from)),
        ("max_p99_us", begin.max_p99_us.map(Value::from)),
        ("max_p99_factor", begin.max_p99_factor.map(Value::from)),
        ("max_output_factor", begin.max_output_factor.map(Value::from)),
        ("auto_promote", more.remove("auto_promote")),
    ];
    let rules = rules.into_iter().filter_map(|(name, rule)| Some((name.to_owned(), rule?)));
    more.insert("function".to_owned(), json!(begin.function));
    more.insert("plugin".to_owned(), json!(begin.plugin));
    more.insert("rules".to_owned(), Value::Object(rules.collect()));
    let answer = ask(Request {
        method: Method::POST,
        path: &of_sink(&begin.sink),
        body: Value::Object(more).to_string().into_bytes(),
        ..Request::default()
    })?;
    told(&line(&answer))
}

fn turned(which: &WhichArguments, body: Value) -> Result<(), Failure> {
    let answer = ask(Request {
        method: Method::PATCH,
        path: &["sinks", &which.sink, "rollouts", &id(which)?],
        body: body.to_string().into_bytes(),
        ..Request::default()
    })?;
    told(&line(&answer))
}

fn told(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n")).context("print").map(drop).map_err(Failure::from)
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// One rollout in a line.
fn line(one: &Value) -> String {
    let mut line = format!(
        "{} {} {} {}: {}",
        text(one, "id"),
        text(one, "sink"),
        text(one, "function"),
        text(one, "plugin"),
        text(one, "state")
    );
    if let Some(percent) = one.get("percent").and_then(Value::as_u64).filter(|it| *it > 0) {
        line += &format!(" {percent}%");
    }
    if one.get("pending") == Some(&Value::Bool(true)) {
        line += ", from the next row on";
    }
    if let Some(reason) = one.get("reason").and_then(Value::as_str) {
        line += &format!(" ({reason})");
    }
    line
}

/// One rollout for people.
fn report(one: &Value) -> String {
    let mut out = line(one);
    let at = |pointer: &str| one.pointer(pointer).map_or("-".to_owned(), shown);
    for arm in ["old", "new"] {
        let of = |name: &str| at(&format!("/{arm}/{name}"));
        out += &format!(
            "\n{arm}: {} rows, {} dropped, {} errors, {} traps; ns a row p50 {} p99 {}; output mean {} \
             bytes",
            of("rows"),
            of("dropped"),
            of("errors"),
            of("traps"),
            of("time_ns/p50"),
            of("time_ns/p99"),
            of("output_bytes/mean")
        );
    }
    if text(one, "state") == "shadow" || text(one, "state") == "aborted" {
        let compared = one.get("compared").and_then(Value::as_object);
        let counts = compared.into_iter().flatten();
        let counts: Vec<String> = counts.map(|(class, count)| format!("{class} {count}")).collect();
        out += &format!("\ncompared: {}; skipped {}", counts.join(", "), at("/skipped"));
    }
    for sample in one.get("samples").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| sample.get(name).map_or_else(String::new, shown);
        out += &format!("\n{} {} {}", of("class"), of("table"), of("key"));
        for difference in sample.get("differences").and_then(Value::as_array).into_iter().flatten()
        {
            let of = |name: &str| difference.get(name).map_or_else(String::new, Value::to_string);
            out += &format!("\n  {}: {} -> {}", text(difference, "pointer"), of("old"), of("new"));
        }
        for error in ["old_error", "new_error"] {
            let error = text(sample, error);
            if let Some(first) = error.lines().next() {
                out += &format!("\n  {first}");
            }
        }
    }
    out
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
