//! `sequin config plan`, `apply`, `export` and `drift`: what an engine is asked about its configuration.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bundle::Bundle;
use reqwest::Method;
use serde_json::Value;

use super::{check, lines, outcome};
use crate::api::{Request, ask, judged};
use crate::cli::configs::{
    ApplyArguments, DriftArguments, ExportArguments, PlanArguments, Proposed,
};
use crate::packing::{Variables, pack};
use crate::plugin::push::user;
use crate::plugin::{print, usage};
use crate::{Failure, tell};

/// Of `--detailed-exitcode`, as of Terraform's: something is other.
const CHANGES: u8 = 2;

/// What an apply takes at most.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The only word that is a yes.
const YES: &str = "yes";

pub(super) fn plan(arguments: &PlanArguments) -> Result<(), Failure> {
    let PlanArguments { proposed, json, detailed_exitcode } = arguments;
    let bundle = pack(&proposed.file, Variables::FillIn)?;
    let plan = propose("plan", &bundle, proposed, None)?;
    print(&if *json { format!("{plan:#}\n") } else { shown(&plan) })?;
    ended(&plan, *detailed_exitcode)
}

pub(super) fn apply(arguments: &ApplyArguments) -> Result<(), Failure> {
    let ApplyArguments { proposed, json, auto_approve, wait, plan } = arguments;
    let bundle = pack(&proposed.file, Variables::FillIn)?;
    let mut planned = propose("plan", &bundle, proposed, None)?;
    if is_nothing(&planned)
        && let Value::Object(planned) = &mut planned
    {
        planned.insert("applied".to_owned(), false.into());
    }
    let hash = text(&planned, "hash");
    if let Some(wanted) = plan
        && wanted != hash
    {
        return Err(usage(format_args!(
            "stale_plan: what runs, or what is to run, is not what was planned as {wanted}: plan again"
        )));
    }
    if !json {
        print(&shown(&planned))?;
    }
    if is_nothing(&planned) {
        return if *json { Ok(print(&format!("{planned:#}\n")).map(drop)?) } else { Ok(()) };
    }
    // Whoever names a plan has seen it.
    if !auto_approve && plan.is_none() && !approved()? {
        return Err(Failure::Usage("nothing was applied".to_owned()));
    }
    let mut applied = propose("apply", &bundle, proposed, Some(hash))?;
    if !json {
        print("It runs.\n")?;
    }
    let mut all_well = true;
    if let Some(seconds) = wait {
        let (outcome, is_well) = outcome::watch(&applied, Duration::from_secs(*seconds))?;
        all_well = is_well;
        if let Value::Object(applied) = &mut applied {
            applied.insert("outcome".to_owned(), outcome);
        }
    }
    if *json {
        print(&format!("{applied:#}\n"))?;
    }
    outcome::ended(all_well)
}

pub(super) fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let sensitive = if arguments.show_sensitive { "true" } else { "false" };
    let query = [("show-sensitive", sensitive)];
    let told = ask(Request { path: &["config", "export"], query: &query, ..Request::default() })?;
    if !arguments.show_sensitive {
        tell("secrets are variables of the environment here; --show-sensitive writes them out");
    }
    print(text(&told, "yaml"))?;
    Ok(())
}

pub(super) fn drift(arguments: &DriftArguments) -> Result<(), Failure> {
    let told = ask(Request { path: &["config", "drift"], ..Request::default() })?;
    let is = |key: &str| told.get(key) == Some(&Value::Bool(true));
    print(&if arguments.json {
        format!("{told:#}\n")
    } else if !is("own_file") {
        "The engine has no file of its own: what runs was applied.\n".to_owned()
    } else if !is("drift") {
        "What runs is what the engine's own file says.\n".to_owned()
    } else {
        format!("What runs is otherwise than the engine's own file says:\n{}", changes(&told))
    })?;
    ended(&told, arguments.detailed_exitcode)
}

fn propose(
    what: &str,
    bundle: &Bundle,
    proposed: &Proposed,
    hash: Option<&str>,
) -> Result<Value, Failure> {
    let Proposed { prune, prune_databases, owner, by, reason, .. } = proposed;
    let by = by.clone().unwrap_or_else(user);
    let mut query = vec![("by", by.as_str())];
    query.extend(hash.map(|hash| ("plan", hash)));
    query.extend(owner.as_deref().map(|owner| ("owner", owner)));
    query.extend(reason.as_deref().map(|reason| ("reason", reason)));
    query.extend(prune.then_some(("prune", "true")));
    query.extend(prune_databases.then_some(("prune_databases", "true")));
    let answer = judged(Request {
        method: Method::POST,
        path: &["config", what],
        query: &query,
        content_type: "application/x-tar",
        body: bundle.to_bytes(),
        // Of an apply that waits for a database (`await_database`), and of components that are compiled.
        timeout: TIMEOUT,
        ..Request::default()
    })?;
    answer.map_err(|(code, refusal)| {
        // Of what was sent: here it is told with its place in the file.
        let here = (code == "invalid_config").then(|| wrong_here(&proposed.file)).flatten();
        here.map_or(refusal, Failure::Usage)
    })
}

/// What is wrong with the file itself, if it is one.
fn wrong_here(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    check(file, &text).err().map(|wrong| lines(&wrong))
}

fn approved() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(usage(
            "nobody is there to say yes: give --auto-approve, or --plan with the hash of a plan",
        ));
    }
    let mut out = std::io::stderr().lock();
    write!(out, "Apply this? Only `{YES}` is taken: ").context("ask")?;
    out.flush().context("ask")?;
    let mut said = String::new();
    std::io::stdin().lock().read_line(&mut said).context("read standard input")?;
    Ok(said.trim() == YES)
}

fn ended(told: &Value, detailed: bool) -> Result<(), Failure> {
    if detailed && !is_nothing(told) { Err(Failure::Exit(ExitCode::from(CHANGES))) } else { Ok(()) }
}

fn list<'a>(told: &'a Value, key: &str) -> &'a [Value] {
    told.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(told: &'a Value, key: &str) -> &'a str {
    told.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_nothing(told: &Value) -> bool {
    list(told, "changes").is_empty() && list(told, "actions").is_empty()
}

/// A plan for people.
fn shown(plan: &Value) -> String {
    let mut out = String::new();
    for warning in list(plan, "warnings").iter().filter_map(Value::as_str) {
        line(&mut out, &format!("warning: {}", warning.trim_end().trim_start_matches("warning: ")));
    }
    if is_nothing(plan) {
        line(&mut out, "Nothing to do: that is what runs.");
        return out;
    }
    out += &changes(plan);
    let actions = list(plan, "actions");
    if !actions.is_empty() {
        line(&mut out, "Beside that:");
    }
    for action in actions {
        line(&mut out, &format!("  {}", text(action, "description")));
    }
    let count = |action: &str| {
        list(plan, "changes").iter().filter(|it| text(it, "action") == action).count()
    };
    line(
        &mut out,
        &format!(
            "Plan {}: {} to create, {} to update, {} to delete.",
            text(plan, "hash"),
            count("create"),
            count("update"),
            count("delete")
        ),
    );
    out
}

fn changes(told: &Value) -> String {
    let mut out = String::new();
    for change in list(told, "changes") {
        let (sign, what) = match (text(change, "action"), text(change, "effect")) {
            ("create", _) => ("+", "is created"),
            ("delete", _) => ("-", "is deleted"),
            (_, "restart") => ("~", "is started anew"),
            (_, _) => ("~", "is changed"),
        };
        let kind = text(change, "resource_type").replace('_', " ");
        let name = text(change, "name");
        let name = if name.is_empty() { String::new() } else { format!(" `{name}`") };
        let head = clean(&format!("{sign} {kind}{name} {what}"));
        out += &coloured(sign, &head);
        out.push('\n');
        for field in list(change, "fields") {
            let path = text(field, "path");
            let value = |key: &str| match field.get(key) {
                None | Some(Value::Null) => "nothing".to_owned(),
                Some(value) => value.to_string(),
            };
            let changed = match field.get("secret") {
                Some(Value::Bool(true)) => "(secret, changed)".to_owned(),
                _ => format!("{} → {}", value("old"), value("new")),
            };
            line(&mut out, &format!("    {path}: {changed}"));
        }
    }
    out
}

fn coloured(sign: &str, text: &str) -> String {
    if !std::io::stdout().is_terminal() || crate::settings::environment("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let colour = match sign {
        "+" => 32,
        "-" => 31,
        _ => 33,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

fn line(out: &mut String, text: &str) {
    *out += &clean(text);
    out.push('\n');
}

/// What may come from elsewhere does not tell a terminal what to do.
fn clean(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).collect()
}
