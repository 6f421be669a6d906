//! `sequin doctor`: whether what a configuration names is as it must be, before the engine runs it. It
//! reads, and creates and sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use config::spec::resource_of;
use postgres::{Finding, Outcome};
use serde_json::{Value, json};
use store::Embedded;

use crate::Failure;
use crate::arrivals;
use crate::cli::DoctorArguments;
use crate::configuration::{self, Written};
use crate::plugin::print;
use crate::retentions;
use crate::settings::{self, environment};
use crate::tables;
use crate::wiring::{self, Wiring};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Good,
    Doubtful,
    Bad,
}

/// Something that was looked at.
struct Looked {
    /// `database main`, `sink orders`.
    subject: String,
    /// Stable, for programs.
    check: &'static str,
    level: Level,
    told: String,
}

pub(crate) fn run(arguments: &DoctorArguments) -> Result<(), Failure> {
    let DoctorArguments { file, json } = arguments;
    let written = configuration::read(file).map_err(Failure::Usage)?;
    let Written { text, components } = written;
    let (spec, warnings) = configuration::check(file, &text)
        .map_err(|wrong| Failure::Usage(configuration::lines(&wrong)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let mut all: Vec<Looked> = warnings.iter().map(told_of).collect();
    all.extend(runtime.block_on(databases(&spec)));
    all.extend(runtime.block_on(sinks(&spec, components, runtime.handle().clone()))?);
    if *json {
        let shown = all.iter().map(|it| {
            json!({
                "subject": it.subject, "check": it.check, "level": word(it.level),
                "message": it.told,
            })
        });
        let good = all.iter().all(|it| it.level != Level::Bad);
        print(&format!("{:#}\n", json!({"good": good, "checks": shown.collect::<Vec<Value>>()})))?;
    } else {
        let line = |it: &Looked| {
            let Looked { subject, check, level, told } = it;
            format!("{:<5} {subject}: {check}: {told}\n", word(*level))
        };
        print(&all.iter().map(line).collect::<String>())?;
    }
    if all.iter().any(|it| it.level == Level::Bad) { Err(Failure::Rows) } else { Ok(()) }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Good => "ok",
        Level::Doubtful => "warn",
        Level::Bad => "fail",
    }
}

fn told_of(warning: &config::Diagnostic) -> Looked {
    Looked {
        subject: "configuration".to_owned(),
        check: "text",
        level: Level::Doubtful,
        told: format!("line {}: {}", warning.line, warning.message),
    }
}

async fn databases(spec: &config::Spec) -> Vec<Looked> {
    let mut all = Vec::new();
    for database in &spec.databases {
        let subject = format!("database {}", database.name);
        for (check, level, told) in leveled(postgres::examine(&wiring::source(database)).await) {
            all.push(Looked { subject: subject.clone(), check, level, told });
        }
    }
    all
}

fn leveled(findings: Vec<Finding>) -> Vec<(&'static str, Level, String)> {
    let told = findings.into_iter().map(|Finding { name, outcome }| match outcome {
        Outcome::Good(told) => (name, Level::Good, told),
        Outcome::Doubtful(told) => (name, Level::Doubtful, told),
        Outcome::Bad(error) => (name, Level::Bad, error.to_string()),
    });
    told.collect()
}

/// The same for the API: whether all is well, why not, and each part.
pub(crate) fn tested(findings: Vec<Finding>) -> Value {
    let all = leveled(findings);
    let wrong = all.iter().find(|(_, level, _)| *level == Level::Bad);
    let reason = wrong.map(|(_, _, told)| told.clone());
    let checks: Vec<Value> = all
        .iter()
        .map(|(check, level, told)| json!({"check": check, "level": word(*level), "message": told}))
        .collect();
    json!({"success": reason.is_none(), "reason": reason, "checks": checks})
}

async fn sinks(
    spec: &config::Spec,
    components: Vec<bundle::Component>,
    runtime: tokio::runtime::Handle,
) -> Result<Vec<Looked>, Failure> {
    // What is compiled for this is of no use later.
    let dir = tempfile::tempdir().context("make a directory for compiled plugins")?;
    let guard = settings::http_guard(&environment).map_err(Failure::Usage)?;
    let store = Arc::new(Embedded::open(dir.path()).map_err(anyhow::Error::from)?);
    let compile = settings::plugin_compile(&environment).map_err(Failure::Usage)?;
    let known = arrivals::known(spec, components, &store, compile).await;
    let known = known.map_err(anyhow::Error::from)?;
    let wiring = Wiring::new(dir.path(), guard).with_runtime(runtime);
    let built = tokio::task::block_in_place(|| wiring.build(spec, &known));
    let (mut all, mut kept) = (BTreeMap::new(), Vec::new());
    for sink in &spec.sinks {
        let subject = subject(&sink.name);
        for (check, level, told) in leveled(retentions::examined(sink).await) {
            kept.push(Looked { subject: subject.clone(), check, level, told });
        }
    }
    let is_sink = |sink: &&engine::spec::SinkSpec| resource_of(&sink.name).0 == "sink";
    for sink in built.slots.iter().flat_map(|slot| &slot.sinks).filter(is_sink) {
        let subject = subject(&sink.name);
        let (check, level, told) = match &sink.fault {
            Some(fault) => (fault.code, Level::Bad, fault.message.clone()),
            None => match sink.sink.check().await {
                Ok(()) => ("destination", Level::Good, "it answers".to_owned()),
                // It may come later: an engine waits for it.
                Err(error) => ("destination", Level::Doubtful, error.to_string()),
            },
        };
        all.insert(subject.clone(), Looked { subject, check, level, told });
    }
    let mut all: Vec<Looked> = all.into_values().chain(kept).collect();
    // That a database does not answer is told of it.
    let (missing, _) = tables::missing(spec, &built.reads, wiring::source).await;
    all.extend(missing.into_iter().map(|(sink, check, told)| {
        let level = Level::Doubtful;
        Looked { subject: subject(&sink), check, level, told }
    }));
    Ok(all)
}

/// `sink orders`, `change retention orders`.
fn subject(sink: &str) -> String {
    let (kind, name) = resource_of(sink);
    format!("{} {name}", kind.replace('_', " "))
}
