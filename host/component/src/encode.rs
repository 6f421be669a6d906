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
    let component = componentise(&package.name, module)?;
    let about = About {
        name: package.name.to_string(),
        version: package.version.to_string(),
        description: package.description.clone(),
        license: package.license.clone(),
        revision,
    };
    describe(&component, about)
}

/// What a component says of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    pub description: Option<String>,
    /// An SPDX expression.
    pub license: Option<String>,
    /// The commit of its sources.
    pub revision: Option<String>,
}

/// This component, which says what it is.
///
/// # Errors
/// If it is none, or the licence is no SPDX expression.
pub fn describe(component: &[u8], about: About) -> Result<Vec<u8>, Error> {
    let About { name, version, description, license, revision } = about;
    let wrong = |reason: String| Error::Encode { name: name.clone(), reason };
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(name.clone());
    metadata.version = AddMetadataField::Set(Version::new(version));
    if let Some(description) = description {
        metadata.description = AddMetadataField::Set(Description::new(description));
    }
    if let Some(license) = license {
        let licenses = Licenses::new(&license);
        let licenses = licenses.map_err(|error| wrong(format!("license `{license}`: {error}")))?;
        metadata.licenses = AddMetadataField::Set(licenses);
    }
    if let Some(revision) = revision {
        metadata.revision = AddMetadataField::Set(Revision::new(revision));
    }
    metadata.to_wasm(component).map_err(|error| wrong(format!("its metadata: {error:#}")))
}
