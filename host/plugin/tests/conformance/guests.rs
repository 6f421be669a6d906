//! The guests, and the host that runs them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use model::plugin::Plugin;
use plugin::{Error, Host, Limits, Program, Role};

/// A component that does what the suite says.
pub(crate) struct Guest {
    /// Below `plugins/`.
    file: &'static str,
    command: &'static str,
}

pub(crate) const RUST: Guest =
    Guest { file: "target/conformance/conformance-rust.wasm", command: "cargo x plugins" };
pub(crate) const C: Guest =
    Guest { file: "conformance/c/conformance-c.wasm", command: "cargo x guests" };
pub(crate) const JAVASCRIPT: Guest =
    Guest { file: "target/conformance/conformance-js.wasm", command: "cargo x guests" };

/// One host for all tests of a process. What it compiled is kept for those of other processes: the
/// engine of the guest in JavaScript takes seconds.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        Host::new(Limits::default()).unwrap().with_cache(&cache).unwrap()
    })
}

impl Guest {
    pub(crate) fn program(&self) -> Arc<Program> {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        let file: PathBuf = plugins.join(self.file);
        let bytes = std::fs::read(&file).unwrap_or_else(|error| {
            panic!("no component {} ({error}): run `{}`", file.display(), self.command)
        });
        host().load(&bytes).unwrap()
    }

    pub(crate) fn try_bind(&self, role: Role, config: &str) -> Result<Arc<dyn Plugin>, Error> {
        host().bind("conformance", &self.program(), role, "webhook", config)
    }

    pub(crate) fn bind(&self, role: Role, config: &str) -> Arc<dyn Plugin> {
        self.try_bind(role, config).unwrap()
    }
}
