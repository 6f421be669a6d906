//! What plugins in other languages than Rust are built with in the tests: `bin` with zig and
//! componentize-py, and `js/node_modules`, below `authoring` in the cache.
//!
//! The versions are those that `sequin plugin new` writes into a project; a test compares them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::Context as _;

use crate::repository;
use crate::services::{Node, cache, wheel};

/// A C compiler and a C library for WebAssembly.
const ZIG: &str = "ziglang==0.15.2";

/// `CPython` for WebAssembly, and what makes a component with it.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";

/// Makes sure of all of them; quick if they are there.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let dir = cache::dir("authoring")?;
    let bin = cache::dir("authoring/bin")?;
    let zig = wheel::installed(ZIG)?.join("ziglang/zig");
    replace(&bin.join("zig"), |to| symlink(&zig, to))?;
    let python = wheel::installed(COMPONENTIZE_PY)?;
    // The script of the package begins with the Python of whoever installed it.
    let script = format!(
        "#!/bin/sh\nPYTHONPATH='{}' exec python3 -c 'import sys, componentize_py; \
         sys.exit(componentize_py.script())' \"$@\"\n",
        python.display()
    );
    replace(&bin.join("componentize-py"), |to| {
        std::fs::write(to, script)?;
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))
    })?;
    let node = Node::ensure()?;
    replace(&bin.join("node"), |to| symlink(node.program(), to))?;
    javascript(&node, &dir.join("js"))
}

/// The tools that the conformance guest in JavaScript is built with: its list pins those of a project,
/// too.
fn javascript(node: &Node, dir: &Path) -> anyhow::Result<()> {
    let from = repository::root().join("plugins/conformance/js");
    let list = std::fs::read(from.join("package-lock.json")).context("read package-lock.json")?;
    if std::fs::read(dir.join("installed")).is_ok_and(|installed| installed == list) {
        return Ok(());
    }
    println!("downloading the tools of plugins in JavaScript");
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(from.join(name), dir.join(name)).with_context(|| format!("copy {name}"))?;
    }
    node.install(dir)?;
    std::fs::write(dir.join("installed"), list).context("say that they are installed")
}

/// In one step, for whoever runs it just now.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("{}", std::process::id()));
    make(&temporary)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("write {}", path.display()))
}
