//! A plugin in another language than Rust: what its `plugin.json` says, and how it is built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use component::About;
use plugin::Limits;
use serde::Deserialize;

use super::{inspect, usage};
use crate::cli::{Language, RoleName};
use crate::settings::environment;
use crate::{Failure, tell};

/// The file that makes a directory a project.
pub(super) const FILE: &str = "plugin.json";

/// A project: what the component says of itself, and what it is made of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    name: String,
    version: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    license: Option<String>,
    language: Language,
    role: RoleName,
    source: PathBuf,
}

/// Builds the project in this directory, and says what was made.
pub(super) fn build(dir: &Path, output: Option<&Path>) -> Result<(), Failure> {
    let file = dir.join(FILE);
    let text = std::fs::read_to_string(&file);
    let text = text.map_err(|error| usage(format_args!("{}: {error}", file.display())))?;
    let project: Project = serde_json::from_str(&text)
        .map_err(|error| usage(format_args!("{}: {error}", file.display())))?;
    let work = tempfile::tempdir().context("make a directory to build in")?;
    let bytes = match project.language {
        Language::Js | Language::Ts => javascript(dir, work.path(), &project)?,
        Language::Python => python(dir, work.path(), &project)?,
        Language::C => c(dir, work.path(), &project)?,
        Language::Rust => {
            return Err(usage(format_args!("{}: Rust has a Cargo.toml instead", file.display())));
        }
    };
    let Project { name, version, description, license, .. } = project;
    let output = match output {
        Some(file) => std::path::absolute(file).context("find the working directory")?,
        None => dir.join(format!("{name}.wasm")),
    };
    let revision = component::revision(dir, &[dir], &[&output]);
    let about = About { name: name.clone(), version, description, license, revision };
    let component = component::describe(&bytes, about).map_err(super::build::failure)?;
    plugin::inspect(&component, &Limits::default())
        .map_err(|error| usage(format_args!("{name}: {error}")))?;
    let (_, found) = inspect::look(&component, &name, true)?;
    inspect::granted(&found)?;
    let written = component::write_if_changed(&output, &component);
    let written = written.map_err(super::build::failure)?;
    super::print(&super::build::told(&output, written, &found))?;
    Ok(())
}

impl Project {
    fn world(&self) -> String {
        format!("{}-plugin", self.role.as_str())
    }
}

/// Bundled to one module, then with `QuickJS` to a component. TypeScript is checked first.
fn javascript(dir: &Path, work: &Path, project: &Project) -> Result<Vec<u8>, Failure> {
    let modules = dir.join("node_modules");
    if !modules.join("@bytecodealliance/jco").is_dir() {
        tell("installing the tools of package.json, once");
        // Scripts of packages have no business here.
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run(npm.current_dir(dir), "install Node.js 20 or later with npm")?;
    }
    let node = |script: &str| {
        let mut node = Command::new("node");
        node.current_dir(dir).arg(modules.join(script));
        node
    };
    let help = "install Node.js 20 or later, and `npm install`";
    if project.language == Language::Ts {
        run(node("typescript/bin/tsc").args(["-p", "tsconfig.json"]), help)?;
    }
    let mut bundle = node("rolldown/bin/cli.mjs");
    bundle.arg(&project.source).args(["--format", "esm", "--external", "sequin:plugin/log@0.1.0"]);
    run(bundle.arg("--file").arg(work.join("plugin.js")), help)?;
    let component = work.join("plugin.wasm");
    let mut jco = node("@bytecodealliance/jco/dist/jco.js");
    // It finds the module from its own directory alone.
    jco.current_dir(work).args(["componentize", "plugin.js", "--world-name", &project.world()]);
    jco.args(["--backend", "quickjs", "--backend-qjs-stub-wasi", "--backend-qjs-disable-async"]);
    // The host has no asynchronous calls.
    jco.arg("--wit").arg(dir.join("wit/plugin.wit")).arg("--out").arg(&component);
    run(&mut jco, help)?;
    Ok(std::fs::read(&component).context("read what jco made")?)
}

/// With `CPython` to a component: what the source imports is found beside it, and in the environment
/// of the project.
fn python(dir: &Path, work: &Path, project: &Project) -> Result<Vec<u8>, Failure> {
    let own = dir.join(".venv/bin/componentize-py");
    let program = if own.is_file() { own } else { PathBuf::from("componentize-py") };
    let source = dir.join(&project.source);
    let module = source.file_stem().and_then(|name| name.to_str());
    let module = module.ok_or_else(|| usage("`source` is no Python file"))?;
    let component = work.join("plugin.wasm");
    let mut tool = Command::new(program);
    tool.current_dir(dir).arg("-d").arg(dir.join("wit/plugin.wit")).arg("-w").arg(project.world());
    // Nothing of an operating system is granted; hashes of texts are the same in every build.
    tool.env("PYTHONHASHSEED", "0").args(["componentize", "--stub-wasi", "-p", "."]);
    run(
        tool.arg("-o").arg(&component).arg(module),
        "`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`",
    )?;
    Ok(std::fs::read(&component).context("read what componentize-py made")?)
}

/// With zig's compiler, or that of the WASI SDK, to a module, and that to a component.
fn c(dir: &Path, work: &Path, project: &Project) -> Result<Vec<u8>, Failure> {
    let module = work.join("module.wasm");
    let sdk = dir.join("sdk");
    let mut compile = match environment("WASI_SDK_PATH") {
        Some(path) => Command::new(PathBuf::from(path).join("bin/clang")),
        None => {
            let mut zig = Command::new("zig");
            zig.arg("cc");
            zig
        }
    };
    compile.current_dir(dir).args(["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-s"]);
    compile.args(["-Wall", "-Wextra", "-Werror"]);
    compile.arg(format!("-DSEQUIN_{}", project.role.as_str().to_uppercase()));
    compile.arg("-I").arg(&sdk).arg(&project.source).arg(sdk.join("sequin_plugin.c"));
    compile.args([sdk.join("plugin.c"), sdk.join("plugin_component_type.o")]);
    run(
        compile.arg("-o").arg(&module),
        "install zig 0.15 (`pip install ziglang` has it as `python3 -m ziglang`), or set \
         WASI_SDK_PATH to a WASI SDK",
    )?;
    let module = std::fs::read(&module).context("read what the compiler made")?;
    component::componentise(&project.name, &module).map_err(super::build::failure)
}

/// Runs a tool; what it says is told if it fails.
fn run(command: &mut Command, help: &str) -> Result<(), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| usage(format_args!("{program} cannot be run: {error}\nhelp: {help}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(usage(format_args!("the plugin does not build: {program} says\n{}", said.trim_end())))
}
