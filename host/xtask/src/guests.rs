//! `cargo x guests`: the guests of the conformance suite that are not Rust.
//!
//! Both are built for the frozen contract, not for the one that is worked on. The one in C is built
//! once and kept beside its source: it stands for the plugins that nobody builds again. It is built
//! anew only if what it is made of changed, which its `SHA256SUMS` tells. The one in JavaScript is too
//! large to be kept in the repository, and takes a download and seconds: it is kept in the cache, by
//! the digest of what it is made of.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use component::{componentise, write_if_changed};

use crate::plugins::{CONFORMANCE, component_file};
use crate::services::{Node, cache, hex, wheel};
use crate::{authoring, command, repository};

/// The contract that they are built for.
const WIT: &str = "wit/frozen/0.1.0";

/// A C compiler and a C library for WebAssembly, as a Python package.
const ZIG: &str = "ziglang==0.15.2";

const C: &str = "plugins/conformance/c";
const C_COMPONENT: &str = "conformance-c.wasm";

/// What the component in C is made of and what was made, from its directory.
const C_FILES: [&str; 4] =
    [C_COMPONENT, "conformance.c", "bindings/Cargo.lock", "bindings/src/main.rs"];

const JAVASCRIPT: &str = "plugins/conformance/js";

/// What the component in JavaScript is made of, from the root.
const JAVASCRIPT_FILES: [&str; 3] = [
    "plugins/conformance/js/conformance.js",
    "plugins/conformance/js/package-lock.json",
    "wit/frozen/0.1.0/plugin.wit",
];

/// Larger than this, it would have to be kept elsewhere.
const C_BYTES_MAX: usize = 32 << 10;

/// Makes sure of all of them; quick if nothing changed.
pub(crate) fn ensure() -> anyhow::Result<()> {
    ensure_c().context("build the conformance guest in C")?;
    ensure_javascript().context("build the conformance guest in JavaScript")?;
    authoring::ensure().context("get the tools of plugins in other languages")
}

fn ensure_c() -> anyhow::Result<()> {
    let dir = repository::root().join(C);
    let list = dir.join("SHA256SUMS");
    let listed = std::fs::read_to_string(&list).unwrap_or_default();
    if sums(&dir).is_ok_and(|sums| sums == listed) {
        println!("{C_COMPONENT}: unchanged");
        return Ok(());
    }
    let component = build_c(&dir)?;
    let bytes = component.len();
    ensure!(bytes <= C_BYTES_MAX, "it has {bytes} bytes, more than the {C_BYTES_MAX} to be kept");
    write_if_changed(&dir.join(C_COMPONENT), &component)?;
    std::fs::write(&list, sums(&dir)?).with_context(|| format!("write {}", list.display()))?;
    println!("{C_COMPONENT}: built anew, {bytes} bytes; commit it with its SHA256SUMS");
    Ok(())
}

/// As `sha256sum` writes it.
fn sums(dir: &Path) -> anyhow::Result<String> {
    let mut sums = String::new();
    for name in C_FILES {
        let bytes = std::fs::read(dir.join(name)).with_context(|| format!("read {name}"))?;
        writeln!(sums, "{}  {name}", hex(&Sha256::digest(bytes)))?;
    }
    Ok(sums)
}

fn build_c(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let zig = wheel::installed(ZIG)?.join("ziglang/zig");
    let work = tempfile::tempdir().context("create a work directory")?;
    let work = work.path();
    let mut bindings = command::cargo(&dir.join("bindings"));
    bindings.args(["run", "--quiet", "--locked", "--target-dir"]).arg(work.join("target"));
    command::run(bindings.arg("--").arg(repository::root().join(WIT)).arg(work))?;
    let module = work.join("module.wasm");
    let mut compile = Command::new(zig);
    compile
        .args(["cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Oz", "-s"])
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(work)
        .arg(dir.join("conformance.c"))
        .args([work.join("plugin.c"), work.join("plugin_component_type.o")])
        .arg("-o")
        .arg(&module);
    command::run(&mut compile)?;
    let module = std::fs::read(module).context("read the module")?;
    Ok(componentise("the guest in C", &module)?)
}

fn ensure_javascript() -> anyhow::Result<()> {
    let root = repository::root();
    let mut digest = Sha256::new();
    for path in JAVASCRIPT_FILES {
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("read {path}"))?;
        digest.update(Sha256::digest(bytes));
    }
    let kept = cache::dir("guests")?.join(format!("{}.wasm", hex(&digest.finalize())));
    if !kept.is_file() {
        build_javascript(&kept)?;
    }
    let component = std::fs::read(&kept).with_context(|| format!("read {}", kept.display()))?;
    let file = component_file(&root.join("plugins"), Some(CONFORMANCE), "conformance-js");
    let state = if write_if_changed(&file, &component)? { "written" } else { "unchanged" };
    println!("conformance-js.wasm: {state}");
    Ok(())
}

fn build_javascript(kept: &Path) -> anyhow::Result<()> {
    println!("building the conformance guest in JavaScript: downloads its tools");
    let (root, node) = (repository::root(), Node::ensure()?);
    let work = tempfile::tempdir().context("create a work directory")?;
    let work = work.path();
    for name in ["package.json", "package-lock.json", "conformance.js"] {
        let from: PathBuf = root.join(JAVASCRIPT).join(name);
        std::fs::copy(&from, work.join(name)).with_context(|| format!("copy {name}"))?;
    }
    node.install(work)?;
    let mut jco = node.run(work)?;
    jco.args(["node_modules/@bytecodealliance/jco/dist/jco.js", "componentize", "conformance.js"])
        .args(["--world-name", "plugin", "--backend", "quickjs", "--backend-qjs-stub-wasi"])
        // The host has no asynchronous calls.
        .args(["--backend-qjs-disable-async", "--out", "conformance.wasm", "--wit"])
        .arg(root.join(WIT));
    command::output(&mut jco)?;
    let component = std::fs::read(work.join("conformance.wasm")).context("read the component")?;
    write_if_changed(kept, &component)?;
    Ok(())
}
