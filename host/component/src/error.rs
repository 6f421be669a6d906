//! Why no component was made.

use std::path::PathBuf;

/// Why a crate does not become a component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cargo to run.
    #[error(
        "cargo is not found: install Rust (https://rustup.rs), then `rustup target add \
         wasm32-unknown-unknown`"
    )]
    NoCargo,
    /// The directory is no crate.
    #[error("there is no Cargo.toml in {}: name the directory of the plugin's crate", dir.display())]
    NoManifest {
        /// The directory.
        dir: PathBuf,
    },
    /// Cargo does not understand the manifest.
    #[error("cargo cannot read {}:\n{reason}", dir.display())]
    Manifest {
        /// The directory of the manifest.
        dir: PathBuf,
        /// Cargo's words.
        reason: String,
    },
    /// No crate in the directory makes a module.
    #[error(
        "{} makes no module: a plugin's Cargo.toml has `[lib]` with `crate-type = [\"cdylib\"]`",
        dir.display()
    )]
    NoCdylib {
        /// The directory.
        dir: PathBuf,
    },
    /// The standard library for the target is not installed.
    #[error(
        "Rust has no standard library for wasm32-unknown-unknown here: `rustup target add \
         wasm32-unknown-unknown`"
    )]
    NoTarget,
    /// It does not compile; cargo has said why.
    #[error("{} does not build: what cargo says is above", dir.display())]
    Build {
        /// The directory.
        dir: PathBuf,
    },
    /// The module is there and is none that a component can be made of.
    #[error("no component can be made of {name}: {reason}")]
    Encode {
        /// The package.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A file, or another program, fails.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
