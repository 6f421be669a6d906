//! What a component is, read from its bytes: nothing of it is compiled or run.

use model::grants::Capability;
use wasmparser::{Encoding, Parser, Payload};

use crate::error::Error;
use crate::limits::Limits;
use crate::lines::shown;
use crate::program::{NO_LIFECYCLE, NO_ROLE, Role, digest};
use crate::worlds::{self, Import, World};

/// The custom section in which an SDK says what it is.
const SDK_SECTION: &str = "sequin:plugin";

/// Components and modules in each other; a component of several languages has four.
const DEPTH_MAX: usize = 32;
/// Sections of all of them; a Python guest, the largest known, has some hundred.
const SECTIONS_MAX: usize = 10_000;

/// What the bytes of a component say of it. What an author wrote there is claimed, not proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// `sha256:` and hexadecimal digits: its identity.
    pub digest: String,
    /// Its size.
    pub bytes: usize,
    /// The roles that it exports.
    pub roles: Vec<Role>,
    /// The version of the contract that it was made for, as `0.2`.
    pub contract: &'static str,
    /// The capabilities that it imports: what it has to be granted, at least.
    pub capabilities: Vec<Capability>,
    /// Interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// What it exports, likewise.
    pub exports: Vec<String>,
    /// Those of them that no plugin is granted: a component that has any is refused.
    pub refused: Vec<String>,
    /// Name, as its author gave it.
    pub name: Option<String>,
    /// Version, likewise.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// SPDX expression.
    pub licenses: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// The commit of its source.
    pub revision: Option<String>,
    /// What the SDK says: JSON with the world and its own name.
    pub sdk: Option<String>,
}

/// Reads a component.
///
/// # Errors
/// If these bytes are too many, are no component, or one without a role.
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, Error> {
    let bytes_max = limits.component_bytes_max;
    if bytes.len() > bytes_max {
        return Err(Error::TooLarge { bytes: bytes.len(), bytes_max });
    }
    let invalid = |error: wasmparser::BinaryReaderError| Error::InvalidComponent {
        reason: error.to_string(),
    };
    if !bytes.starts_with(b"\0asm") {
        // The parser says so in a dump of bytes.
        let reason = "its first bytes are not those of WebAssembly".to_owned();
        return Err(Error::InvalidComponent { reason });
    }
    let mut found = Inspection {
        digest: digest(bytes).to_string(),
        bytes: bytes.len(),
        ..Inspection::default()
    };
    // Of modules and components inside, only what an SDK put there is of interest.
    let mut depth = 0_usize;
    let mut sections = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        sections += usize::from(!matches!(payload, Payload::CodeSectionEntry(_)));
        if depth > DEPTH_MAX || sections > SECTIONS_MAX {
            let reason = format!(
                "it has more than {SECTIONS_MAX} sections, or more than {DEPTH_MAX} components and \
                 modules in each other"
            );
            return Err(Error::InvalidComponent { reason });
        }
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(Error::CoreModule);
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    found.imports.push(shown(import.map_err(invalid)?.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    found.exports.push(shown(export.map_err(invalid)?.name.name));
                }
            }
            Payload::CustomSection(section) => {
                let text = || Some(text(section.data()));
                let is_second = match section.name() {
                    "component-name" => found.name.is_some(),
                    "version" => found.version.is_some(),
                    _ => false,
                };
                if is_second && depth == 1 {
                    // Others may read the other one.
                    let reason = "it says its name or its version twice".to_owned();
                    return Err(Error::InvalidComponent { reason });
                }
                match section.name() {
                    "component-name" if depth == 1 => found.name = component_name(&section),
                    "version" if depth == 1 => found.version = text(),
                    "description" if depth == 1 => found.description = text(),
                    "licenses" if depth == 1 => found.licenses = text(),
                    "source" if depth == 1 => found.source = text(),
                    "revision" if depth == 1 => found.revision = text(),
                    SDK_SECTION if found.sdk.is_none() => found.sdk = text(),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let exports = &found.exports;
    let exported = |world: World, name: &str| exports.iter().any(|it| world.exports(it, name));
    let world = World::ALL.into_iter().find(|world| exported(*world, "lifecycle"));
    let Some(world) = world else { return Err(Error::NoRole { missing: NO_LIFECYCLE }) };
    found.contract = world.minor();
    found.roles = Role::ALL.into_iter().filter(|role| exported(world, role.as_str())).collect();
    if found.roles.is_empty() {
        return Err(Error::NoRole { missing: NO_ROLE });
    }
    for import in &found.imports {
        match worlds::import(import) {
            Some(Import::Free) => {}
            Some(Import::Capability(capability)) => found.capabilities.push(capability),
            None => found.refused.push(import.clone()),
        }
    }
    Ok(found)
}

fn component_name(section: &wasmparser::CustomSectionReader<'_>) -> Option<String> {
    let wasmparser::KnownCustom::ComponentName(names) = section.as_known() else { return None };
    names.into_iter().flatten().find_map(|name| match name {
        wasmparser::ComponentName::Component { name, .. } => Some(text(name.as_bytes())),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b271_what_is_no_component_is_told() {
        let limits = Limits { component_bytes_max: 100, ..Limits::default() };
        let refused = |bytes: &[u8], text: &str| {
            let error = inspect(bytes, &limits).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        refused(b"", "not a component");
        refused(b"#!/bin/sh\n", "not a component");
        refused(b"\0asm\x01\0\0\0", "core WebAssembly module");
        refused(b"\0asm\x0d\0\x01\0", "no sequin:plugin/lifecycle");
        // A section that says it is longer than the file.
        refused(b"\0asm\x0d\0\x01\0\x00\xff\xff\xff\xff\x0f", "not a component");
        let twice = b"\0asm\x0d\0\x01\0\x00\x09\x07version1\x00\x09\x07version2";
        refused(twice, "its version twice");
        refused(&[0; 101], "101 bytes, more than the 100");
    }
}
