//! `sequin config`: looks at a configuration, and hands it to an engine.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use config::spec::FunctionKind;
use config::{Diagnostic, Severity, Spec};
use engine::status::Fault;
use serde_json::json;
use store::Embedded;

use super::{Written, check, lines, remote};
use crate::Failure;
use crate::arrivals;
use crate::bindings::Known;
use crate::cli::{ConfigCommand, InterpolateArguments, ValidateArguments};
use crate::components::Components;
use crate::settings::{self, environment};
use crate::wiring::Wiring;

/// In place of a file: standard input.
const STDIN: &str = "-";

pub(crate) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Schema => print(config::SCHEMA),
        ConfigCommand::Validate(arguments) => validate(arguments),
        ConfigCommand::Interpolate(arguments) => interpolate(arguments),
        ConfigCommand::Plan(arguments) => remote::plan(arguments),
        ConfigCommand::Apply(arguments) => remote::apply(arguments),
        ConfigCommand::Export(arguments) => remote::export(arguments),
        ConfigCommand::Drift(arguments) => remote::drift(arguments),
    }
}

fn validate(arguments: &ValidateArguments) -> Result<(), Failure> {
    let (path, Written { text, components }) = input(&arguments.file)?;
    let read = check(&path, &text);
    if arguments.json {
        let ((faults, warnings), diagnostics) = match &read {
            Ok((spec, told)) => (faults(spec, components)?, told),
            Err(diagnostics) => (Default::default(), diagnostics),
        };
        let good = read.is_ok() && faults.is_empty();
        let told: Vec<_> = diagnostics.iter().map(told).collect();
        let sinks: Vec<_> = faults
            .iter()
            .map(|(sink, fault)| {
                json!({
                    "sink": sink, "code": fault.code, "message": fault.message,
                })
            })
            .collect();
        let told = json!({"valid": good, "diagnostics": told, "cannot_start": sinks, "warnings": warnings});
        print(&format!("{told:#}\n"))?;
        // What is wrong was told in a form for programs.
        return if good { Ok(()) } else { Err(Failure::Usage(String::new())) };
    }
    let (spec, warnings) = read.map_err(|diagnostics| Failure::Usage(lines(&diagnostics)))?;
    if !warnings.is_empty() {
        crate::tell(&lines(&warnings));
    }
    let (faults, warnings) = faults(&spec, components)?;
    for warning in &warnings {
        crate::tell(&format!("warning: {warning}\n"));
    }
    if !faults.is_empty() {
        let line = |(sink, fault): (&String, &Fault)| {
            let called = config::spec::called(sink);
            format!("error: {called} cannot be started here: {} ({})\n", fault.message, fault.code)
        };
        return Err(Failure::Usage(faults.iter().map(line).collect()));
    }
    print(&format!("{} is valid: {}\n{}", path.display(), summary(&spec), granted(&spec)))
}

/// Sinks that could not be started here: all is built as for a start, and nothing is sent. And what
/// only the engine can tell, because it may have been pushed there.
fn faults(
    spec: &Spec,
    components: Vec<bundle::Component>,
) -> Result<(BTreeMap<String, Fault>, Vec<String>), Failure> {
    // What is compiled for this is of no use later.
    let dir = tempfile::tempdir().context("make a directory for compiled plugins")?;
    let guard = settings::http_guard(&environment).map_err(Failure::Usage)?;
    // Nothing was pushed here.
    let store = Arc::new(Embedded::open(dir.path()).map_err(anyhow::Error::from)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let compile = settings::plugin_compile(&environment).map_err(Failure::Usage)?;
    let known = runtime.block_on(arrivals::known(spec, components, &store, compile));
    let known = known.map_err(anyhow::Error::from)?;
    let (spec, mut warnings) = without_unseen(spec, &known);
    let built = Wiring::new(dir.path(), guard).build(&spec, &known);
    // Functions that no sink uses among them.
    warnings.extend(built.warnings.iter().cloned());
    // What a sink needs is told there.
    let told = |why: &String| {
        built.faults.values().any(|fault| fault.message.contains(why))
            || built.warnings.iter().any(|warning| warning.contains(why))
    };
    let idle = known.problems().iter().filter(|(_, why)| !told(why));
    warnings.extend(idle.map(|(called, why)| format!("plugin `{called}`: {why}")));
    Ok((built.faults, warnings))
}

/// The configuration without functions whose component is named and nowhere here, and a warning for
/// each of them.
fn without_unseen(spec: &Spec, known: &Known) -> (Spec, Vec<String>) {
    let mut components = Components::new(&spec.plugin_dir, known);
    let mut seen = spec.clone();
    let mut warnings = Vec::new();
    for function in &spec.functions {
        let FunctionKind::Plugin(plugin) = &function.kind else { continue };
        let Some(missing) = components.missing(&plugin.component) else { continue };
        let name = &function.name;
        warnings.push(format!(
            "function `{name}`: {missing} here; whether it was pushed, and takes its configuration, \
             the engine alone can tell"
        ));
        seen.functions.retain(|known| known.name != *name);
        for sink in &mut seen.sinks {
            for chain in [&mut sink.filters, &mut sink.routers, &mut sink.transforms] {
                chain.retain(|used| used != name);
            }
        }
    }
    (seen, warnings)
}

/// A line for each function that is granted something: whoever reviews the file is to see it.
fn granted(spec: &Spec) -> String {
    let line = |function: &config::spec::Function| match &function.kind {
        FunctionKind::Plugin(plugin) if !plugin.grants.is_empty() => {
            Some(format!("function `{}` is granted {}\n", function.name, plugin.grants))
        }
        _ => None,
    };
    spec.functions.iter().filter_map(line).collect()
}

/// "1 database, 2 functions, 3 sinks".
fn summary(spec: &Spec) -> String {
    let count = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {what}{plural}")
    };
    let retentions = spec.sinks.iter().filter(|sink| sink.retention().is_some()).count();
    let mut counts = vec![
        count(spec.databases.len(), "database"),
        count(spec.functions.len(), "function"),
        count(spec.sinks.len() - retentions, "sink"),
    ];
    if retentions > 0 {
        counts.push(count(retentions, "change retention"));
    }
    counts.join(", ")
}

fn told(diagnostic: &Diagnostic) -> serde_json::Value {
    json!({
        "severity": match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": diagnostic.file,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "message": diagnostic.message,
        "help": diagnostic.help,
    })
}

fn interpolate(arguments: &InterpolateArguments) -> Result<(), Failure> {
    let (path, Written { text, .. }) = input(&arguments.file)?;
    let filled_in = config::interpolate(&path.display().to_string(), &text, &environment)
        .map_err(|diagnostics| Failure::Usage(lines(&diagnostics)))?;
    match &arguments.output {
        None => print(&filled_in),
        Some(file) => {
            let written = std::fs::write(file, filled_in);
            Ok(written.with_context(|| format!("write {}", file.display()))?)
        }
    }
}

/// The text, and what stands for its path: standard input is in the working directory.
fn input(file: &Path) -> Result<(PathBuf, Written), Failure> {
    if file != Path::new(STDIN) {
        return Ok((file.to_owned(), super::read(file).map_err(Failure::Usage)?));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read standard input")?;
    Ok((PathBuf::from("<stdin>"), text.into()))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("write to standard output")?),
    }
}
