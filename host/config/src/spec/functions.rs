//! Functions: which component, with which configuration; which path; which SQL.

use std::time::Duration;

use model::path::{InvalidPath, Path};
use model::plugin::OnError;

use super::grants;
use super::{Component, Function, FunctionKind, Plugin, PluginLimits, Role};
use crate::Surroundings;
use crate::destinations;
use crate::diagnostic::Report;
use crate::document::{self, Document, Resource};

/// More than anybody writes, and small beside what a statement may be to the server.
const SQL_BYTES_MAX: usize = 100_000;
/// What every component may use is the most: of one instance, of a batch, of a row alone.
const MEMORY_MB: (u64, u64) = (1, 64);
const BATCH_CPU_MS: (u64, u64) = (1, 1_000);
const ROW_CPU_MS: (u64, u64) = (1, 250);
/// Hexadecimal digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;

pub(super) fn resolve(
    document: &Document,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Vec<Function> {
    let mut resolved = Vec::new();
    for function in &document.functions.list {
        report.enter(format!("function `{}`", function.name));
        let kind = match &function.value {
            document::Function::Plugin(given) => {
                plugin(function, given, document, around, report).map(FunctionKind::Plugin)
            }
            document::Function::Path(path) => {
                self::path(function, path, report).map(FunctionKind::Path)
            }
            document::Function::Enrichment(given) => {
                sql(function, given, around, report).map(FunctionKind::Enrichment)
            }
        };
        resolved.extend(kind.map(|kind| Function { name: function.name.clone(), kind }));
    }
    report.leave();
    resolved
}

fn plugin(
    function: &Resource<document::Function>,
    given: &document::Plugin,
    document: &Document,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Option<Plugin> {
    let component = component(function, given, around, report);
    let grants = grants::resolve(function, given.grants.as_ref(), document, around, report);
    let role = match given.role {
        document::Role::Filter => Role::Filter,
        document::Role::Transform => Role::Transform,
        document::Role::Route => Role::Route,
    };
    let place = function.place(&["sink_type"]);
    let sink_type = match (role, &given.sink_type) {
        (Role::Route, Some(written)) => destinations::routed(written, place, report)?.to_owned(),
        (Role::Route, None) => {
            let help = "name the destination that it works for: `sink_type: webhook`";
            report.error_with_help(place, "`sink_type` is missing", help);
            return None;
        }
        (_, None) => String::new(),
        (_, Some(_)) => {
            let message = format!("`sink_type` means nothing to {}", function.value.describe());
            report.error_with_help(place, message, "only routing functions have one: remove it");
            return None;
        }
    };
    let config_json = given.config.clone();
    let on_error = match given.on_error {
        None => OnError::default(),
        Some(document::OnError::Retry) => OnError::Retry,
        Some(document::OnError::DeadLetter) => OnError::DeadLetter,
        Some(document::OnError::Pass) if role == Role::Filter => OnError::Pass,
        Some(document::OnError::Pass) => {
            let message =
                format!("`on_error: pass` means nothing to {}", function.value.describe());
            let help = "only a row that a filter fails on can pass as it is: `retry`, `dead_letter` or \
                        `stop`";
            report.error_with_help(function.place(&["on_error"]), message, help);
            return None;
        }
        Some(document::OnError::Stop) => OnError::Stop,
    };
    let limits = limits(function, given, report);
    let (component, grants) = (component?, Box::new(grants?));
    Some(Plugin { role, component, config_json, sink_type, on_error, grants, limits })
}

/// Mistakes are told, and stand for nothing.
fn limits(
    function: &Resource<document::Function>,
    given: &document::Plugin,
    report: &mut Report<'_>,
) -> PluginLimits {
    let Some(document::Limits { memory_mb, batch_cpu_ms, row_cpu_ms }) = given.limits else {
        return PluginLimits::default();
    };
    let mut checked = |key: &str, value: Option<u64>, (least, most): (u64, u64)| {
        let value = value?;
        if !(least..=most).contains(&value) {
            let message = format!("`limits.{key}` is {value}: {least} to {most}");
            let help = "what an engine lets every function have cannot be passed, only lowered";
            report.error_with_help(function.place(&["limits", key]), message, help);
        }
        Some(value)
    };
    PluginLimits {
        memory_bytes: checked("memory_mb", memory_mb, MEMORY_MB).map(|mb| mb << 20),
        batch_cpu: checked("batch_cpu_ms", batch_cpu_ms, BATCH_CPU_MS).map(Duration::from_millis),
        row_cpu: checked("row_cpu_ms", row_cpu_ms, ROW_CPU_MS).map(Duration::from_millis),
    }
}

fn component(
    function: &Resource<document::Function>,
    given: &document::Plugin,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Option<Component> {
    match (&given.file, &given.plugin) {
        (Some(file), None) if file.is_empty() => {
            let place = function.place(&["file"]);
            report.error_with_help(place, "`file` is empty", "name a component: `my-filter.wasm`");
            None
        }
        (Some(file), None) => Some(Component::File(around.base_dir.join(file))),
        (None, Some(text)) => {
            let component = named(text);
            if component.is_none() {
                let place = function.place(&["plugin"]);
                let help = "write `name@version` or `sha256:` and 64 hexadecimal digits, as \
                            `sequin plugin inspect` tells them; the path of a component is a `file`";
                report.error_with_help(place, format_args!("`plugin` cannot be `{text}`"), help);
            }
            component
        }
        (Some(_), Some(_)) => {
            let message = "`file` and `plugin` cannot be given together";
            let help = "keep the one that names the component you mean";
            report.error_with_help(function.place(&["plugin"]), message, help);
            None
        }
        (None, None) => {
            let help = "name a component beside this file with `file: my-filter.wasm`, or one of \
                        the plugin directory with `plugin: name@version`";
            report.error_with_help(function.place(&[]), "`file` or `plugin` is missing", help);
            None
        }
    }
}

/// `name@version` or `sha256:…`.
fn named(text: &str) -> Option<Component> {
    if let Some(digits) = text.strip_prefix("sha256:") {
        let digits = digits.to_ascii_lowercase();
        let whole = digits.len() == DIGEST_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
        return whole.then(|| Component::Digest(format!("sha256:{digits}")));
    }
    // The name may hold an `@`, as names with a scope do.
    let (name, version) = text.rsplit_once('@')?;
    let good = |part: &str| !part.is_empty() && !part.contains([' ', '/', '\\', '\0']);
    (good(name.trim_start_matches('@')) && good(version))
        .then(|| Component::Named { name: name.to_owned(), version: version.to_owned() })
}

fn path(
    function: &Resource<document::Function>,
    path: &str,
    report: &mut Report<'_>,
) -> Option<Path> {
    let parsed = path.parse();
    let failed = |error: InvalidPath| {
        let help = "it begins with `record`, `changes`, `action` or `metadata`, and keys follow, \
                    with dots between: `record.address.city`";
        report.error_with_help(function.place(&["path"]), error, help);
    };
    parsed.map_err(failed).ok()
}

fn sql(
    function: &Resource<document::Function>,
    given: &document::Enrichment,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let (key, sql) = match (&given.code, &given.file) {
        (Some(sql), None) => ("code", sql.clone()),
        (None, Some(file)) => {
            let path = around.base_dir.join(file);
            match (around.read_file)(&path) {
                Ok(sql) => ("file", sql),
                Err(error) => {
                    let message = format!("{} cannot be read: {error}", path.display());
                    report.error(function.place(&["file"]), message);
                    return None;
                }
            }
        }
        (Some(_), Some(_)) => {
            let message = "`code` and `file` cannot be given together";
            report.error_with_help(function.place(&["file"]), message, "keep one of them");
            return None;
        }
        (None, None) => {
            let help = "write the SQL as `code`, or name a file with it: `file: enrichment.sql`";
            report.error_with_help(function.place(&[]), "`code` or `file` is missing", help);
            return None;
        }
    };
    let place = function.place(&[key]);
    if sql.len() > SQL_BYTES_MAX || sql.contains('\0') {
        let message = format!("the SQL is longer than {SQL_BYTES_MAX} bytes, or holds a zero byte");
        report.error(place, message);
        return None;
    }
    if !sql.contains("$1") {
        let help = "`$1` is the array of the first primary key column, `$2` of the second, in the \
                    order of the alphabet: `select id, … from … where id = any($1)`";
        report.error_with_help(place, "the SQL does not use `$1`", help);
        return None;
    }
    Some(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_named_by_version_or_digest() {
        let name = |name: &str, version: &str| {
            Some(Component::Named { name: name.to_owned(), version: version.to_owned() })
        };
        assert_eq!(named("public-rows@1.2.0"), name("public-rows", "1.2.0"));
        assert_eq!(named("@acme/x@1"), None);
        assert_eq!(named("@acme-x@1"), name("@acme-x", "1"));
        let digits = "AB".repeat(32);
        let digest = Component::Digest(format!("sha256:{}", digits.to_lowercase()));
        assert_eq!(named(&format!("sha256:{digits}")), Some(digest));
        let long = format!("sha256:{digits}0");
        for bad in ["", "@", "a@", "@1", "a", "x.wasm", "./x@1", "sha256:", "sha256:zz", &long] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
