//! A component and the manifest that names it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{COMPONENT_BYTES_MAX, Error, SIGNATURES_MAX, TEXT_BYTES_MAX};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const COMPONENT: &str = "application/wasm";
/// Older tools called it so.
const COMPONENT_BEFORE: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// Base64, with commas between them.
const SIGNATURES: &str = "dev.sequin.signatures";
/// Of OCI.
const VERSION: &str = "org.opencontainers.image.version";
const TITLE: &str = "org.opencontainers.image.title";
/// The same component gives the same manifest, whenever it is pushed.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// A component as it is in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// It itself.
    pub component: Vec<u8>,
    /// Detached, of its bytes, in base64.
    pub signatures: Vec<String>,
}

/// What a component has to do with others, for those who look for it in a registry.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Interfaces {
    /// Interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// Those that it exports.
    pub exports: Vec<String>,
    /// Name and version, as its author gave them.
    #[serde(skip)]
    pub named: Option<(String, String)>,
}

/// What the config blob says, as the specification of the artifact has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: Vec<String>,
    component: &'a Interfaces,
}

/// The blobs of an artifact and the manifest that names them.
pub(crate) struct Packed {
    pub(crate) manifest: OciImageManifest,
    pub(crate) config: Vec<u8>,
    pub(crate) component: Vec<u8>,
}

/// `sha256:` and 64 lower case digits, of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Into a text.
        write!(text, "{byte:02x}").ok();
        text
    })
}

impl Artifact {
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn pack(self, interfaces: &Interfaces) -> Result<Packed, Error> {
        let Self { component, signatures } = self;
        let descriptor = |media_type: &str, bytes: &[u8]| OciDescriptor {
            media_type: media_type.to_owned(),
            digest: digest(bytes),
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let layer = descriptor(COMPONENT, &component);
        let config = WasmConfig {
            created: CREATED,
            architecture: "wasm",
            os: "wasip2",
            layer_digests: vec![layer.digest.clone()],
            component: interfaces,
        };
        let config =
            serde_json::to_vec(&config).map_err(|error| Error::Unfit(error.to_string()))?;
        let mut annotations = BTreeMap::new();
        if let Some((name, version)) = &interfaces.named {
            annotations.insert(TITLE.to_owned(), name.clone());
            annotations.insert(VERSION.to_owned(), version.clone());
        }
        if !signatures.is_empty() {
            annotations.insert(SIGNATURES.to_owned(), signatures.join(","));
        }
        let manifest = OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            config: descriptor(CONFIG, &config),
            layers: vec![layer],
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..OciImageManifest::default()
        };
        Ok(Packed { manifest, config, component })
    }
}

/// What a manifest says of its component: the layer, and its signatures.
///
/// # Errors
/// It is of something else.
pub(crate) fn component_of(
    manifest: &OciImageManifest,
) -> Result<(&OciDescriptor, Vec<String>), Error> {
    let is_component =
        |layer: &&OciDescriptor| [COMPONENT, COMPONENT_BEFORE].contains(&layer.media_type.as_str());
    let mut layers = manifest.layers.iter().filter(is_component);
    let (Some(layer), None) = (layers.next(), layers.next()) else {
        let is = manifest.layers.iter().map(|layer| layer.media_type.as_str());
        let is: Vec<&str> = is.take(8).collect();
        return Err(Error::Unfit(format!(
            "it is no component: it should have one layer `{COMPONENT}`, and has [{}]",
            is.join(", ")
        )));
    };
    if usize::try_from(layer.size).map_or(true, |size| size > COMPONENT_BYTES_MAX) {
        let size = layer.size;
        return Err(Error::Unfit(format!(
            "its component has {size} bytes: at most {COMPONENT_BYTES_MAX} are taken"
        )));
    }
    let annotations = manifest.annotations.as_ref();
    let signatures = annotations.and_then(|it| it.get(SIGNATURES)).map(String::as_str);
    let signatures = signatures.unwrap_or_default().split(',').map(str::trim);
    let signatures: Vec<String> =
        signatures.filter(|it| !it.is_empty()).map(str::to_owned).collect();
    if signatures.len() > SIGNATURES_MAX {
        return Err(Error::Unfit(format!("it has more than {SIGNATURES_MAX} signatures")));
    }
    Ok((layer, signatures))
}

/// # Errors
/// The bytes are not those that the descriptor names.
pub(crate) fn checked(layer: &OciDescriptor, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let found = digest(&bytes);
    if found != layer.digest {
        let named = &layer.digest;
        return Err(Error::Unfit(format!("its manifest names {named:.100}, and {found} came")));
    }
    Ok(bytes)
}

/// # Errors
/// It is no manifest of an image.
pub(crate) fn manifest(bytes: &[u8]) -> Result<OciImageManifest, Error> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Error::Unfit("its manifest is too large".to_owned()));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Unfit(format!("its manifest cannot be read: {error}")))
}
