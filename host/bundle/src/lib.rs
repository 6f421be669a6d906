//! A configuration and the components that it names, as one file: for machines without a registry, and
//! as what an engine is sent.
//!
//! It is a tar archive, not compressed, so that nothing in it is larger than it looks:
//!
//! | entry | |
//! |---|---|
//! | `bundle.json` | what the others are, see [`Manifest`]; first, so that it can be read without the rest |
//! | `sequin.yaml` | the configuration; components in it are named by digest or by name and version |
//! | `components/HEX.wasm` | each component, by the SHA-256 of its bytes |
//!
//! The same content gives the same bytes. Nothing is unpacked to a disk: an entry that the format does not
//! have, or one that is not what the manifest says, is refused.
#![warn(missing_docs)]

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod read;
mod write;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use read::Refused;

/// Bytes of a whole bundle, at most.
pub const BYTES_MAX: usize = 256 << 20;
/// Of one component; what the sandbox loads at most.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Of the configuration, and of the manifest.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Components.
pub const COMPONENTS_MAX: usize = 256;
/// Signatures of one component.
pub const SIGNATURES_MAX: usize = 16;
/// Characters of one, in base64.
pub const SIGNATURE_BYTES_MAX: usize = 1_024;

const FORMAT: u32 = 1;
const MANIFEST: &str = "bundle.json";
const CONFIG: &str = "sequin.yaml";

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// `sequin.yaml`.
    pub config: String,
    /// Whether variables of the environment are still to be filled into it.
    pub is_template: bool,
    /// In the order of their digests, each once.
    pub components: Vec<Component>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What it is to be known as from then on; None: by its digest alone.
    pub named: Option<Named>,
    /// Detached, of its bytes, in base64.
    pub signatures: Vec<String>,
    /// It itself.
    pub bytes: Vec<u8>,
}

/// A name and a version of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
}

/// `bundle.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    template: bool,
    config: Blob,
    components: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blob {
    digest: String,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    blob: Blob,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    named: Option<Named>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<String>,
}

impl Bundle {
    /// Whether these bytes are meant to be a bundle: a tar archive. No YAML is one.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.get(257..262) == Some(b"ustar".as_slice())
    }
}

impl Component {
    /// `sha256:` and 64 lower case digits.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.bytes)
    }
}

/// `sha256:` and 64 lower case digits, of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Where a component stands in the archive.
fn path(digest: &str) -> String {
    format!("components/{}.wasm", digest.trim_start_matches("sha256:"))
}

#[cfg(test)]
mod tests;
