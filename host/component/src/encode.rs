//! Makes a component of a module.

use cargo_metadata::Package;
use wasm_metadata::{AddMetadata, AddMetadataField, Description, Licenses, Revision, Version};
use wit_component::ComponentEncoder;

use crate::error::Error;

/// A component of this module, as it is. `name` is for the error.
///
/// # Errors
/// If the module is none, or imports what no component can have.
pub fn componentise(name: &str, module: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = ComponentEncoder::default();
    let component = encoder.validate(true).module(module).and_then(ComponentEncoder::encode);
    component.map_err(|error| Error::Encode { name: name.to_owned(), reason: format!("{error:#}") })
}

/// A component of this module, which says what its package is.
///
/// # Errors
/// If the module is none, imports what no component can have, or the package's licence is no SPDX
/// expression.
pub fn encode(
    module: &[u8],
    package: &Package,
    revision: Option<String>,
) -> Result<Vec<u8>, Error> {
    let wrong = |reason: String| Error::Encode { name: package.name.to_string(), reason };
    let component = componentise(&package.name, module)?;
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(package.name.to_string());
    metadata.version = AddMetadataField::Set(Version::new(package.version.to_string()));
    if let Some(description) = &package.description {
        metadata.description = AddMetadataField::Set(Description::new(description.clone()));
    }
    if let Some(license) = &package.license {
        let licenses = Licenses::new(license);
        let licenses = licenses.map_err(|error| wrong(format!("license `{license}`: {error}")))?;
        metadata.licenses = AddMetadataField::Set(licenses);
    }
    if let Some(revision) = revision {
        metadata.revision = AddMetadataField::Set(Revision::new(revision));
    }
    metadata.to_wasm(&component).map_err(|error| wrong(format!("its metadata: {error:#}")))
}
