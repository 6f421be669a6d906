//! Dependencies point one way, and each client library stays behind the crate that is about it.
//!
//! Looks at what crates declare, dev- and build-dependencies too, not at what those pull in.

use cargo_metadata::{DependencyKind, Package};

use super::Problem;
use super::tree::Tree;
use crate::repository;

/// Which crates of the workspace a crate may see. A crate that is not listed may see none.
const EDGES: [(&str, &[&str]); 12] = [
    ("engine", &["model"]),
    ("lease", &["model"]),
    ("postgres", &["model"]),
    ("plugin", &["model"]),
    ("options", &["model"]),
    ("store", &["model"]),
    ("sinks", &["model", "options"]),
    ("config", &["model", "engine", "options"]),
    ("web", &["model", "engine", "config"]),
    (
        "server",
        &[
            "model",
            "engine",
            "postgres",
            "plugin",
            "options",
            "store",
            "sinks",
            "config",
            "web",
            "component",
            "bundle",
            "oci",
        ],
    ),
    // A plugin is built in the same way here and by its author, with `sequin plugin build`.
    ("xtask", &["component"]),
    // The benchmarks alone, which measure the source and the sandbox without the engine around them:
    // the harness and the tests see it from outside.
    ("tests", &["model", "postgres", "plugin"]),
];

/// Crates that only some may use: the crate (or the start of its name, before a `*`), and by whom.
const CONFINED: [(&str, &[&str]); 11] = [
    ("wasmtime", &["plugin"]),
    ("rusqlite", &["store"]),
    ("rdkafka", &["sinks", "server"]),
    ("aws-*", &["sinks", "server"]),
    ("redis", &["sinks", "server"]),
    ("reqwest", &["sinks", "server", "tests"]),
    ("tokio-postgres", &["postgres", "store", "sinks", "tests"]),
    ("oci-client", &["oci"]),
    ("wit-component", &["component"]),
    ("wasm-metadata", &["component"]),
    ("anyhow", &["server", "xtask", "tests"]),
];

/// The HTTP server: in `sinks` only for the fakes that its tests talk to.
const AXUM: (&[&str], &[&str]) = (&["web", "tests"], &["sinks"]);

pub(super) fn check(_tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let packages = repository::metadata(repository::root())?.packages;
    let members: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    Ok(packages.iter().flat_map(|package| check_package(package, &members)).collect())
}

fn check_package(package: &Package, members: &[&str]) -> Vec<Problem> {
    let name = package.name.as_str();
    package
        .dependencies
        .iter()
        .filter_map(|dependency| {
            let other = dependency.name.as_str();
            let development = dependency.kind == DependencyKind::Development;
            forbidden(name, other, development, members)
        })
        .map(|message| {
            Problem::new(format!("host/{name}/Cargo.toml").replace("host/tests", "tests"), message)
        })
        .collect()
}

fn forbidden(name: &str, other: &str, development: bool, members: &[&str]) -> Option<String> {
    if members.contains(&other) {
        let allowed = EDGES.iter().find(|edge| edge.0 == name).map_or(&[][..], |edge| edge.1);
        return (!allowed.contains(&other))
            .then(|| format!("`{name}` may not see `{other}`; it may see {allowed:?}"));
    }
    if other == "axum" {
        let (users, testers) = AXUM;
        let allowed = users.contains(&name) || development && testers.contains(&name);
        return (!allowed).then(|| format!("`{name}` may not use `axum`; only {users:?} may"));
    }
    let (_, users) = CONFINED.iter().find(|confined| matches(confined.0, other))?;
    (!users.contains(&name)).then(|| format!("`{name}` may not use `{other}`; only {users:?} may"))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// Each dependency of the workspace has a comment that says why it is here: above it, or above the
/// group of lines without a blank one that it stands in.
pub(super) fn check_reasons(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let path = "Cargo.toml";
    Ok(tree.get(path).map(|file| reasons(path, &file.text)).unwrap_or_default())
}

fn reasons(path: &str, manifest: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut inside = false;
    let mut explained = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            explained = false;
        } else if line.trim().is_empty() {
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else if inside && !explained && !line.contains("path = ") {
            let name = line.split(['=', '.', ' ']).next().unwrap_or(line);
            let message = format!("say in a comment above `{name}` why it is needed");
            problems.push(Problem::at(path, index + 1, message));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&str; 4] = ["model", "engine", "sinks", "xtask"];

    #[track_caller]
    fn is_forbidden(name: &str, other: &str, development: bool) -> bool {
        forbidden(name, other, development, &MEMBERS).is_some()
    }

    #[test]
    fn edges_not_listed_are_forbidden() {
        assert!(!is_forbidden("engine", "model", false));
        assert!(is_forbidden("model", "engine", false));
        assert!(is_forbidden("engine", "sinks", true), "for tests neither");
        assert!(is_forbidden("xtask", "model", false));
    }

    #[test]
    fn clients_stay_where_they_belong() {
        assert!(!is_forbidden("plugin", "wasmtime", false));
        assert!(is_forbidden("engine", "wasmtime", false));
        assert!(!is_forbidden("sinks", "aws-sdk-sqs", false));
        assert!(is_forbidden("engine", "aws-config", false));
        assert!(is_forbidden("engine", "anyhow", true));
        assert!(!is_forbidden("engine", "tokio", false));
    }

    #[test]
    fn sinks_may_serve_http_only_to_their_tests() {
        assert!(!is_forbidden("sinks", "axum", true));
        assert!(is_forbidden("sinks", "axum", false));
        assert!(!is_forbidden("web", "axum", false));
    }

    #[test]
    fn a_reason_covers_its_group_and_no_more() {
        let manifest = "[workspace.dependencies]\na = { path = \"a\" }\n# why\nb = \"1\"\nc = \"1\"\n\nd = \"1\"\n[other]\ne = 1\n";
        let problems = reasons("Cargo.toml", manifest);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].place, "Cargo.toml:7");
    }
}
