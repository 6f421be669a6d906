//! `sequin config`: looks at a configuration without running it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use config::{Diagnostic, Severity, Spec};
use serde_json::json;

use super::{check, lines, text};
use crate::Failure;
use crate::cli::{ConfigCommand, InterpolateArguments, ValidateArguments};
use crate::settings::environment;

/// In place of a file: standard input.
const STDIN: &str = "-";

pub(crate) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Schema => print(config::SCHEMA),
        ConfigCommand::Validate(arguments) => validate(arguments),
        ConfigCommand::Interpolate(arguments) => interpolate(arguments),
    }
}

fn validate(arguments: &ValidateArguments) -> Result<(), Failure> {
    let (path, text) = input(&arguments.file)?;
    let read = check(&path, &text);
    if arguments.json {
        let (good, diagnostics) = match &read {
            Ok((_, warnings)) => (true, warnings),
            Err(diagnostics) => (false, diagnostics),
        };
        let told: Vec<_> = diagnostics.iter().map(told).collect();
        print(&format!("{:#}\n", json!({"valid": good, "diagnostics": told})))?;
        // What is wrong was told in a form for programs.
        return if good { Ok(()) } else { Err(Failure::Usage(String::new())) };
    }
    let (spec, warnings) = read.map_err(|diagnostics| Failure::Usage(lines(&diagnostics)))?;
    if !warnings.is_empty() {
        crate::tell(&lines(&warnings));
    }
    print(&format!("{} is valid: {}\n", path.display(), summary(&spec)))
}

/// "1 database, 2 functions, 3 sinks".
fn summary(spec: &Spec) -> String {
    let count = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {what}{plural}")
    };
    let counts = [
        count(spec.databases.len(), "database"),
        count(spec.functions.len(), "function"),
        count(spec.sinks.len(), "sink"),
    ];
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
    let (path, text) = input(&arguments.file)?;
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
fn input(file: &Path) -> Result<(PathBuf, String), Failure> {
    if file != Path::new(STDIN) {
        return Ok((file.to_owned(), text(file).map_err(Failure::Usage)?));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read standard input")?;
    Ok((PathBuf::from("<stdin>"), text))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("write to standard output")?),
    }
}
