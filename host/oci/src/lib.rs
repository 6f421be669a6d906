//! Components in OCI registries and image layouts, as all tools of WebAssembly keep them (the artifact
//! layout of the CNCF's TAG Runtime): a manifest whose config is `application/vnd.wasm.config.v0+json`
//! and whose one layer, `application/wasm`, is the component. The digest of the layer is that of the
//! component, so what is pushed here is what an engine runs.
//!
//! Detached signatures stand in an annotation of the manifest. They say nothing of the manifest, only
//! of the component's bytes.
#![warn(missing_docs)]

mod artifact;
mod layout;
mod registry;

use std::path::PathBuf;

pub use artifact::{Artifact, Interfaces};
pub use layout::{read as read_layout, write as write_layout};
pub use registry::{pull, push};

/// Bytes of a component; what the sandbox loads at most.
const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Of a manifest, and of what says what a component is.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Signatures of one component.
const SIGNATURES_MAX: usize = 16;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text names nothing in a registry.
    #[error("`{reference}` is no reference of an artifact: {what}")]
    Reference {
        /// As it was given.
        reference: String,
        /// What is wrong with it.
        what: String,
    },
    /// The registry does not answer, or refuses.
    #[error("{reference}: {what}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// What it answers.
        what: String,
    },
    /// The directory cannot be read or written, or is no layout.
    #[error("{}: {what}", .path.display())]
    Layout {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is something else than a component.
    #[error("{0}")]
    Unfit(String),
}
