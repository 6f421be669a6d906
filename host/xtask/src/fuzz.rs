//! `cargo x fuzz`: the fuzz targets of `host/postgres/fuzz` and the recordings that they begin with,
//! and those of `host/plugin/fuzz` and `host/bundle/fuzz`.
//!
//! libFuzzer without a sanitizer, as our code has nothing unsafe: then the stable toolchain builds
//! it, and a C++ compiler is all that is needed beside. What it finds out lies in the target
//! directory and is used the next time; what it finds wrong lies there too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::step::step;
use crate::{command, env, plugins, repository, services};

/// Coverage as libFuzzer wants it; what cargo-fuzz passes too.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
];

/// An input that takes longer is a finding, in seconds: most take microseconds.
const INPUT_SECONDS_MAX: u32 = 10;

/// A process that takes more is a finding, in MiB.
const MEMORY_MIB_MAX: u32 = 1024;

/// An input has so many bytes at most; a component, which is no use without its code, has more.
const INPUT_BYTES_MAX: u32 = 4096;
const COMPONENT_BYTES_MAX: u32 = 64 << 10;

/// The components that the fuzzer begins with: the smallest there are.
const COMPONENTS: [&str; 3] = ["liar", "wants-clock", "wants-everything"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// What a server says from the first byte on.
    Frame,
    /// Messages of pgoutput and answers of the catalog.
    Tuple,
    /// Values of all types.
    Value,
    /// Bytes that may be a component.
    Component,
    /// What a plugin may answer.
    Describe,
    /// Bytes that may be a bundle.
    Bundle,
    /// Record the inputs to begin with anew, from real servers.
    Record,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frame => "frame",
            Self::Tuple => "tuple",
            Self::Value => "value",
            Self::Component => "component",
            Self::Describe => "describe",
            Self::Bundle => "bundle",
            Self::Record => "record",
        })
    }
}

impl What {
    /// The workspace of the target. Only who fuzzes builds it.
    fn directory(self) -> PathBuf {
        let [postgres, plugin, bundle] = directories();
        match self {
            Self::Component | Self::Describe => plugin,
            Self::Bundle => bundle,
            Self::Frame | Self::Tuple | Self::Value | Self::Record => postgres,
        }
    }
}

/// One target, or each of them for so many seconds.
pub(crate) fn run(what: Option<What>, seconds: u32) -> anyhow::Result<()> {
    let targets = match what {
        Some(What::Record) => return record(),
        Some(target) => vec![target],
        None => vec![
            What::Frame,
            What::Tuple,
            What::Value,
            What::Component,
            What::Describe,
            What::Bundle,
        ],
    };
    let output = repository::metadata(repository::root())?.target_directory.join("fuzz");
    let output = output.as_std_path();
    let host = host()?;
    if targets.contains(&What::Component) {
        step("plugins", plugins::build)?;
    }
    for dir in directories() {
        if targets.iter().any(|target| target.directory() == dir) {
            step("build", || build(&dir, output, &host))?;
        }
    }
    for target in targets {
        step(&target.to_string(), || fuzz(output, &host, target, seconds))?;
    }
    Ok(())
}

/// The workspaces of the targets.
pub(crate) fn directories() -> [PathBuf; 3] {
    ["host/postgres/fuzz", "host/plugin/fuzz", "host/bundle/fuzz"]
        .map(|dir| repository::root().join(dir))
}

/// The target triple of this machine. Named to cargo, so that build scripts and macros are built
/// without coverage.
fn host() -> anyhow::Result<String> {
    let version = command::output(Command::new("rustc").arg("-vV"))?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not say what machine it is for")?.to_owned())
}

fn build(dir: &Path, output: &Path, host: &str) -> anyhow::Result<()> {
    if ["c++", "g++", "clang++"].into_iter().all(|name| env::find_executable(name).is_none()) {
        bail!("libFuzzer is built from source: install a C++ compiler (g++ or clang)");
    }
    let mut cargo = command::cargo(dir);
    cargo.args(["build", "--quiet", "--release", "--target", host, "--target-dir"]);
    command::run(cargo.arg(output).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")))
}

fn fuzz(output: &Path, host: &str, target: What, seconds: u32) -> anyhow::Result<()> {
    let name = target.to_string();
    let found = output.join("corpus").join(&name);
    let artifacts = output.join("artifacts").join(&name);
    let corpus = target.directory().join("corpus").join(&name);
    for dir in [&found, &artifacts, &corpus] {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let mut fuzzer = Command::new(output.join(host).join("release").join(&name));
    fuzzer.current_dir(output);
    fuzzer.arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    fuzzer.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    let component = target == What::Component;
    let bytes_max = if component { COMPONENT_BYTES_MAX } else { INPUT_BYTES_MAX };
    fuzzer.arg(format!("-max_len={bytes_max}"));
    fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzzer.arg("-print_final_stats=1");
    if component {
        let dir = repository::root().join("plugins");
        let file = |name| plugins::component_file(&dir, Some("bad"), name).display().to_string();
        fuzzer.arg(format!("-seed_inputs={}", COMPONENTS.map(file).join(",")));
    }
    // New inputs go to the first directory.
    fuzzer.arg(found).arg(&corpus);
    command::run(&mut fuzzer).with_context(|| {
        format!(
            "the input is in {}: mend what it found, and keep it as \
             {}/regression-WHAT",
            artifacts.display(),
            corpus.display()
        )
    })
}

/// The recorder is a test of the crate; this names it a place to write to.
fn record() -> anyhow::Result<()> {
    let services = step("services", || {
        services::ensure_test_tools()?;
        services::ensure_for_tests()
    })?;
    let corpus = What::Record.directory().join("corpus");
    for target in [What::Frame, What::Tuple, What::Value] {
        forget(&corpus.join(target.to_string()))?;
    }
    let mut cargo = command::cargo(repository::root());
    cargo.args(["nextest", "run", "-p", "postgres", "-E", "test(/^record::/)"]);
    command::run(services.export(cargo.env("SEQUIN_FUZZ_CORPUS", corpus)))
}

/// Removes the recordings of a target, and not what was found.
fn forget(dir: &Path) -> anyhow::Result<()> {
    for entry in dir.read_dir().with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("pg") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
