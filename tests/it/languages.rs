//! Plugins in other languages: from an empty directory to a component that makes what is expected of
//! its fixture, as an author does it. `cargo x guests` gets the tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tests::Sequin;

/// Where `cargo x guests` keeps them: `authoring` in the cache.
pub(crate) fn tools() -> Result<PathBuf> {
    let dir = tests::authoring().context("no cache directory")?;
    ensure!(dir.join("bin/zig").exists(), "{}: `cargo x guests` makes it", dir.display());
    Ok(dir)
}

fn here(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("run it")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success(), "{command:?}: {}: {text}", output.status);
    Ok(text)
}

/// `new`, the language's own test, `build`, `test`.
fn from_nothing(language: &str, role: &str, native: &[&str]) -> Result<()> {
    let tools = tools()?;
    let home = Sequin::builder().prepare()?;
    let dir = home.config_path().with_file_name("mine");
    let path = tests::search_path_behind(&tools.join("bin"));
    let sequin = |dir: &Path, arguments: &[&str]| {
        let mut command = home.executable();
        command.current_dir(dir).arg("plugin").args(arguments).env("PATH", &path);
        here(&mut command)
    };
    let above = dir.parent().context("a directory above")?;
    sequin(above, &["new", "mine", "--lang", language, "--role", role])?;
    if dir.join("package.json").exists() {
        // What `npm install` would put there, of the versions that the project names.
        let package = std::fs::read_to_string(dir.join("package.json"))?;
        let modules = tools.join("js/node_modules");
        for name in ["@bytecodealliance/jco", "rolldown", "typescript"] {
            let installed = std::fs::read(modules.join(name).join("package.json"))?;
            let installed: serde_json::Value = serde_json::from_slice(&installed)?;
            let pinned = format!("\"{name}\": {}", installed["version"]);
            ensure!(package.contains(&pinned), "{pinned} is not in {package}");
        }
        std::os::unix::fs::symlink(modules, dir.join("node_modules"))?;
    }
    if let Some((program, arguments)) = native.split_first() {
        here(Command::new(program).args(arguments).current_dir(&dir).env("PATH", &path))?;
    }
    let built = sequin(&dir, &["build"])?;
    ensure!(built.contains(&format!("mine 0.1.0, {role}")), "{built}");
    let tested = sequin(&dir, &["test"])?;
    ensure!(tested == "ok    first: 4 messages\n", "{tested}");
    let workflow = std::fs::read_to_string(dir.join(".github/workflows/plugin.yml"))?;
    let pinned = workflow.lines().filter(|line| line.contains("uses: "));
    for line in pinned {
        let (_, version) = line.split_once('@').context("an action without version")?;
        let digest = version.split(' ').next().unwrap_or_default();
        ensure!(digest.len() == 40, "an action that is not pinned: {line}");
    }
    Ok(())
}

#[test]
fn b272_a_plugin_in_c_from_nothing_to_its_fixture() -> Result<()> {
    from_nothing("c", "transform", &[])?;
    from_nothing("c", "filter", &[])
}

#[test]
fn b272_a_plugin_in_javascript_from_nothing_to_its_fixture() -> Result<()> {
    from_nothing("js", "filter", &["node", "--test"])
}

#[test]
fn b272_a_plugin_in_typescript_from_nothing_to_its_fixture() -> Result<()> {
    from_nothing("ts", "route", &[])
}

#[test]
fn b272_a_plugin_in_python_from_nothing_to_its_fixture() -> Result<()> {
    from_nothing("python", "transform", &["python3", "-m", "unittest"])
}
