//! `sequin plugin dev`: build, test, wait for a file to be saved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use model::change::Change;
use model::recorded::Reader;
use plugin::trial::{self, Fixture};
use tokio::signal::unix::{SignalKind, signal};

use super::test::{self, Tried};
use super::{build, record, usage};
use crate::cli::{BuildArguments, DevArguments, RecordArguments};
use crate::{Failure, tell};

/// Between looks at the files.
const LOOK: Duration = Duration::from_millis(300);

/// A recording for `--sink`.
const RECORD_SECONDS: u64 = 60;

/// Files that are looked at: a project has some tens.
const FILES_MAX: usize = 10_000;

/// Directories that tools write.
const PASSED_OVER: [&str; 6] = ["node_modules", "target", "build", "sdk", "__pycache__", "wit"];

/// Differences that are told of one build.
const TOLD_MAX: usize = 20;

/// When each file was saved last, and how long it is.
type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

pub(super) fn run(arguments: &DevArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    // From the first build on: who ends a build ends the session.
    let mut interrupt = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt()).context("listen for Ctrl-C")?
    };
    let mut session = Session { arguments, live: live(arguments)?, last: None };
    let mut known = session.round()?;
    loop {
        tell("waiting for a file to be saved; Ctrl-C ends it");
        let looked = runtime.block_on(async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    biased;
                    _ = interrupt.recv() => return Ok(false),
                    _ = looks.tick() => {
                        if files(&arguments.dir)? != known {
                            return Ok(true);
                        }
                    }
                }
            }
        });
        match looked {
            Ok(true) => known = session.round()?,
            Ok(false) => return Ok(()),
            Err(error) => return Err(Failure::Failed(error)),
        }
    }
}

struct Session<'a> {
    arguments: &'a DevArguments,
    /// Recorded messages.
    live: Vec<Change>,
    /// What became of them with the last build.
    last: Option<Vec<String>>,
}

impl Session<'_> {
    /// Builds and tests once. What is wrong with the plugin is told, and mended by its author.
    fn round(&mut self) -> Result<Files, Failure> {
        // Before it is built: what is saved meanwhile is built again.
        let seen = files(&self.arguments.dir)?;
        match self.build_and_test() {
            Ok(()) => {}
            Err(Failure::Usage(text) | Failure::Broken(text)) => tell(&text),
            Err(other) => return Err(other),
        }
        Ok(seen)
    }

    fn build_and_test(&mut self) -> Result<(), Failure> {
        let dir = &self.arguments.dir;
        build::run(&BuildArguments { dir: dir.clone(), output: None })?;
        let (component, fixtures) = test::places(dir, None)?;
        let tried = Tried::new(&component)?;
        let fixtures = trial::find(&fixtures).map_err(usage)?;
        for fixture in &fixtures {
            let report = tried.over(fixture, None)?;
            super::print(&test::as_text(fixture, &report, false, false))?;
        }
        if self.live.is_empty() {
            return Ok(());
        }
        let first = fixtures.into_iter().next();
        let config = match (&self.arguments.config_file, &first) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map_err(|error| usage(format_args!("{}: {error}", file.display())))?,
            (None, first) => first.as_ref().map_or("{}".to_owned(), |first| first.config.clone()),
        };
        let fixture = Fixture {
            dir: dir.clone(),
            name: "live".to_owned(),
            config,
            role: first.as_ref().and_then(|first| first.role.clone()),
            outside: first.as_ref().map(|first| first.outside.clone()).unwrap_or_default(),
            sink: first.and_then(|first| first.sink),
            changes: self.live.clone(),
            // Of the first build nothing is expected but that no state is carried.
            expected: self.last.clone(),
        };
        let report = tried.over(&fixture, None)?;
        let mut text = format!(
            "live  {} messages, {} with another outcome than before\n",
            report.outcomes.len(),
            report.wrong.len()
        );
        let differences = report.wrong.iter().flat_map(|wrong| {
            let lead = wrong.message;
            wrong.differences.iter().map(move |it| format!("  message {lead}: {it}\n"))
        });
        text.extend(differences.take(TOLD_MAX));
        if !report.carried.is_empty() {
            let carried = report.carried.len();
            text.push_str(&format!("  {carried} depend on the others: the plugin keeps state\n"));
        }
        super::print(&text)?;
        self.last = Some(report.outcomes);
        Ok(())
    }
}

/// Messages of the sink, if one is named.
fn live(arguments: &DevArguments) -> Result<Vec<Change>, Failure> {
    let Some(sink) = &arguments.sink else { return Ok(Vec::new()) };
    let count = arguments.count;
    tell(&format!("recording {count} messages of {sink}, for {RECORD_SECONDS} s at most"));
    let lines = record::recorded(&RecordArguments {
        sink: sink.clone(),
        count,
        seconds: RECORD_SECONDS,
        out: None,
        scrub: arguments.scrub.clone(),
    })?;
    let mut reader = Reader::default();
    let changes = lines.lines().map(|line| reader.read(line));
    let changes: Result<Vec<Change>, _> = changes.collect();
    let changes = changes.context("read what was recorded")?;
    tell(&format!("{} messages recorded", changes.len()));
    Ok(changes)
}

/// The files of a project, without what tools write.
fn files(dir: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let entries = dir.read_dir().with_context(|| format!("read {}", dir.display()))?;
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Of a link what it leads to is not looked at: it may lead anywhere.
            let Ok(data) = entry.metadata() else { continue };
            if name.starts_with('.') || PASSED_OVER.contains(&&*name) || name.ends_with(".wasm") {
                continue;
            }
            if data.is_dir() {
                dirs.push(entry.path());
            } else if let Ok(time) = data.modified() {
                files.insert(entry.path(), (time, data.len()));
            }
        }
        anyhow::ensure!(
            files.len() <= FILES_MAX,
            "more than {FILES_MAX} files: is this the directory of a plugin?"
        );
    }
    // Tools write these beside the sources.
    files.retain(|path, _| !path.ends_with("package-lock.json") && !path.ends_with("Cargo.lock"));
    Ok(files)
}
