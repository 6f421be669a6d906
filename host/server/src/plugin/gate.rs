//! `sequin plugin bench --base`: whether a version costs more than the one before.
//!
//! What is compared is the same on every machine: fuel, about one for each instruction, and the
//! bytes that go on. Time differs from run to run, and is only told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use model::change::Change;
use plugin::trial;
use plugin::{Limits, Metering, Usage};

use super::{Ready, test};
use crate::Failure;
use crate::cli::{BenchArguments, PluginArguments};
use crate::settings::environment;

/// Rows of a call, as the engine hands them over.
const ROWS: usize = 256;

/// What a message costs.
struct Cost {
    fuel: f64,
    bytes: f64,
}

/// Compares the plugin with its base, over the same messages with the same configuration.
pub(super) fn run(arguments: &BenchArguments, changes: &[Change]) -> Result<(), Failure> {
    let Some(base) = &arguments.base else { return Ok(()) };
    let base = PluginArguments { file: found(base)?, ..arguments.plugin.clone() };
    let (before, after) = (cost(&base, changes)?, cost(&arguments.plugin, changes)?);
    let mut text = String::from("a message           base          now\n");
    let mut worse = Vec::new();
    for (what, before, after) in
        [("fuel", before.fuel, after.fuel), ("bytes", before.bytes, after.bytes)]
    {
        let percent = if before > 0.0 { (after / before - 1.0) * 100.0 } else { 0.0 };
        let is_worse = percent > arguments.max_regression || (before <= 0.0 && after > 0.0);
        let mark = if is_worse { "  worse" } else { "" };
        text.push_str(&format!("{what:10} {before:13.1} {after:12.1} {percent:+8.1}%{mark}\n"));
        worse.extend(is_worse.then_some(what));
    }
    super::print(&text)?;
    if worse.is_empty() {
        return Ok(());
    }
    let (worse, max) = (worse.join(" and "), arguments.max_regression);
    crate::tell(&format!("more {worse} than the base, by more than {max}%"));
    Err(Failure::Rows)
}

/// Of all messages, in instances that have started.
fn cost(arguments: &PluginArguments, changes: &[Change]) -> Result<Cost, Failure> {
    let counted = Arc::<Usage>::default();
    let limits = Limits {
        usage: Some(Arc::clone(&counted)),
        metering: Metering::EpochsAndFuel,
        // One instance, which is warm the second time if it lets itself be.
        threads: std::num::NonZeroUsize::MIN,
        ..Limits::default()
    };
    let ready = Ready::new(arguments, limits).map_err(test::as_broken)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.context("start the runtime")?;
    let all = || trial::outcomes(ready.plugin.as_ref(), ready.role, changes, ROWS);
    runtime.block_on(all());
    let before = counted.totals();
    let lines = runtime.block_on(all());
    let fuel = counted.totals().fuel.saturating_sub(before.fuel);
    let count = changes.len().max(1) as f64;
    let bytes = lines.iter().map(String::len).sum::<usize>() as f64;
    Ok(Cost { fuel: fuel as f64 / count, bytes: bytes / count })
}

/// A file, or `NAME@VERSION` among the components of the plugin directory.
fn found(base: &str) -> Result<PathBuf, Failure> {
    let broken = |text: String| Failure::Broken(format!("error: --base {base}: {text}"));
    let path = Path::new(base);
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let Some((name, version)) = base.split_once('@') else {
        return Err(broken("there is no such file".to_owned()));
    };
    let dir = environment("SEQUIN_PLUGIN_DIR").map_or_else(|| "plugins".into(), PathBuf::from);
    let entries = dir.read_dir().map_err(|error| {
        broken(format!("{}: {error}: SEQUIN_PLUGIN_DIR is where it is looked for", dir.display()))
    })?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|it| it.path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "wasm"));
    files.sort();
    let is_it = |file: &PathBuf| {
        let bytes = std::fs::read(file).ok();
        let told = bytes.and_then(|bytes| plugin::inspect(&bytes, &Limits::default()).ok());
        told.is_some_and(|told| {
            told.name.as_deref() == Some(name) && told.version.as_deref() == Some(version)
        })
    };
    files
        .into_iter()
        .find(is_it)
        .ok_or_else(|| broken(format!("no component in {} says that it is that", dir.display())))
}

/// `10%` or `10`.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    number
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("`{text}` is no percentage, such as 10%"))
}
