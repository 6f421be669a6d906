//! `sequin plugin test`: a plugin over its fixtures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use plugin::trial::{self, Difference, Fixture, Report};
use plugin::{Host, Limits, Program};
use serde_json::{Value, json};

use super::{host, read, role};
use crate::Failure;
use crate::cli::{RoleName, TestArguments};

/// Differences that are told of a fixture; in JSON all are.
const TOLD_MAX: usize = 20;

pub(super) fn run(arguments: &TestArguments) -> Result<(), Failure> {
    let (component, fixtures) = places(&arguments.path, arguments.fixtures.as_deref())?;
    let fixtures = trial::find(&fixtures).map_err(broken)?;
    let tried = Tried::new(&component)?;
    let mut passed = true;
    let mut told = Vec::new();
    for fixture in &fixtures {
        let report = tried.over(fixture, arguments.role)?;
        let written = arguments.update && report.carried.is_empty();
        let news = if written { fixture.expect(&report.outcomes).map_err(broken)? } else { false };
        let good = report.passed() || written;
        passed &= good;
        if arguments.json {
            told.push(as_json(fixture, &report, good));
        } else if !super::print(&as_text(fixture, &report, written, news))? {
            return Ok(());
        }
    }
    if arguments.json {
        let digest = tried.program.digest();
        let told = json!({"passed": passed, "digest": digest, "fixtures": told});
        super::print(&format!("{told:#}\n"))?;
    }
    if passed { Ok(()) } else { Err(Failure::Rows) }
}

/// A component that fixtures are tried with.
pub(super) struct Tried {
    host: Host,
    pub(super) program: Arc<Program>,
    name: String,
    runtime: tokio::runtime::Runtime,
}

impl Tried {
    pub(super) fn new(component: &Path) -> Result<Self, Failure> {
        let host = host(Limits::default())?;
        let bytes = read(component).map_err(as_broken)?;
        let program = host.load(&bytes);
        let program = program
            .map_err(|error| Failure::Broken(format!("error: {}: {error}", component.display())))?;
        let name = component.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.context("start the runtime")?;
        Ok(Self { host, program, name, runtime })
    }

    pub(super) fn over(
        &self,
        fixture: &Fixture,
        asked: Option<RoleName>,
    ) -> Result<Report, Failure> {
        let in_fixture = |failure: Failure| match as_broken(failure) {
            Failure::Broken(text) => {
                Failure::Broken(format!("{text}\n(fixture {})", fixture.dir.display()))
            }
            other => other,
        };
        let named = fixture.role.as_deref().map(|named| {
            use clap::ValueEnum as _;
            RoleName::from_str(named, true).map_err(|_| {
                let file = fixture.dir.join("fixture.json");
                let file = file.display();
                Failure::Broken(format!(
                    "error: {file}: role: `{named}` is no role: filter, route or transform"
                ))
            })
        });
        let asked = named.transpose()?.or(asked);
        let role = role(&self.program, asked).map_err(in_fixture)?;
        let sink = fixture.sink.as_deref().unwrap_or("webhook");
        let (name, program, config) = (&self.name, &self.program, &fixture.config);
        let grants = fixture.outside.grants();
        let bound = self.host.bind_granted(name, program, role, sink, config, grants);
        let bound = bound
            .map_err(|error| in_fixture(super::unbound(&error, "outside.json of the fixture")))?;
        let (bound, expected) = (bound.plugin.as_ref(), fixture.expected.as_deref());
        Ok(self.runtime.block_on(trial::check(bound, role, &fixture.changes, expected)))
    }
}

/// The component and the directory of its fixtures, for a component or the directory of a project.
pub(super) fn places(path: &Path, fixtures: Option<&Path>) -> Result<(PathBuf, PathBuf), Failure> {
    let (component, home) = if path.is_dir() {
        (component_in(path)?, path)
    } else {
        (path.to_path_buf(), path.parent().unwrap_or(Path::new(".")))
    };
    Ok((component, fixtures.map_or_else(|| home.join("fixtures"), Path::to_path_buf)))
}

/// The one component that lies in a directory.
fn component_in(dir: &Path) -> Result<PathBuf, Failure> {
    let entries = dir.read_dir().map_err(|error| broken(format!("{}: {error}", dir.display())))?;
    let mut found: Vec<PathBuf> = entries.filter_map(Result::ok).map(|it| it.path()).collect();
    found.retain(|path| path.extension().is_some_and(|it| it == "wasm") && path.is_file());
    found.sort();
    match &found[..] {
        [component] => Ok(component.clone()),
        [] => Err(broken(format!(
            "there is no component in {}: `sequin plugin build` makes it, or name it",
            dir.display()
        ))),
        several => {
            let names: Vec<String> =
                several.iter().map(|path| path.display().to_string()).collect();
            Err(broken(format!("there are several components, name one: {}", names.join(", "))))
        }
    }
}

/// How a fixture went.
pub(super) fn as_text(fixture: &Fixture, report: &Report, written: bool, news: bool) -> String {
    let messages = report.outcomes.len();
    let name = &fixture.name;
    if written {
        let state = if news { "written" } else { "unchanged" };
        return format!("{state}  {name}: {messages} messages\n");
    }
    if report.passed() {
        return format!("ok    {name}: {messages} messages\n");
    }
    let mut text = format!("FAIL  {name}: {messages} messages");
    if report.unexpected {
        text.push_str(", and nothing is expected of them: `--update` writes outcomes.jsonl");
    }
    for (count, what) in [
        (report.wrong.len(), "with another outcome than expected"),
        (report.carried.len(), "whose outcome depends on the others: the plugin keeps state"),
        (report.left_over, "expected that never came"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text.push('\n');
    let wrong = report.wrong.iter().flat_map(|it| {
        let lead = format!("message {}", it.message);
        it.differences.iter().map(move |difference| (lead.clone(), difference))
    });
    let carried = report.carried.iter().flat_map(|it| {
        let lead = format!("message {}, {}", it.message, it.way);
        it.differences.iter().map(move |difference| (lead.clone(), difference))
    });
    let all: Vec<(String, &Difference)> = wrong.chain(carried).collect();
    for (lead, difference) in all.iter().take(TOLD_MAX) {
        text.push_str(&format!("  {lead}: {difference}\n"));
    }
    if all.len() > TOLD_MAX {
        text.push_str(&format!("  … and {} more (--json has all)\n", all.len() - TOLD_MAX));
    }
    text
}

fn as_json(fixture: &Fixture, report: &Report, passed: bool) -> Value {
    let told = |differences: &[Difference]| -> Vec<Value> {
        let one =
            |it: &Difference| json!({"path": it.path, "expected": it.expected, "found": it.found});
        differences.iter().map(one).collect()
    };
    let wrong = report.wrong.iter();
    let wrong: Vec<Value> = wrong
        .map(|it| json!({"message": it.message, "differences": told(&it.differences)}))
        .collect();
    let carried = report.carried.iter();
    let carried: Vec<Value> = carried
        .map(|it| {
            json!({"message": it.message, "way": it.way, "differences": told(&it.differences)})
        })
        .collect();
    json!({
        "name": fixture.name,
        "passed": passed,
        "messages": report.outcomes.len(),
        "without_expectation": report.unexpected,
        "wrong": wrong,
        "depends_on_batch": carried,
        "left_over": report.left_over,
    })
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Broken(format!("error: {error}"))
}

/// What is wrong with what was given breaks the test.
pub(super) fn as_broken(failure: Failure) -> Failure {
    match failure {
        Failure::Usage(text) => Failure::Broken(text),
        other => other,
    }
}
