//! Bytes as a bundle, whatever they are.

use std::collections::BTreeSet;
use std::io::Read as _;

use crate::{
    BYTES_MAX, Blob, Bundle, COMPONENT_BYTES_MAX, COMPONENTS_MAX, CONFIG, Component, FORMAT,
    Listed, MANIFEST, Manifest, SIGNATURE_BYTES_MAX, SIGNATURES_MAX, TEXT_BYTES_MAX, digest, path,
};

/// Why bytes are no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There are more than [`BYTES_MAX`].
    #[error("{0} bytes are too many: a bundle has {BYTES_MAX} at most")]
    TooLarge(usize),
    /// It is compressed.
    #[error("it is compressed: a bundle is a plain tar archive")]
    Compressed,
    /// It is no archive, or ends before its end.
    #[error("it is no tar archive, or was cut short: {0}")]
    Archive(std::io::Error),
    /// The first entry is not the manifest.
    #[error("it is no bundle: its first entry is not {MANIFEST}")]
    NoManifest,
    /// The manifest cannot be read.
    #[error("{MANIFEST}: {0}")]
    Manifest(serde_json::Error),
    /// Another version of the format.
    #[error("it has format {0}; this program knows {FORMAT}: take a newer one")]
    Format(u32),
    /// Something is there that should not be, or should be and is not.
    #[error("{0}")]
    Entry(String),
    /// What an entry holds is not what the manifest says.
    #[error("{entry} is {is}, and {MANIFEST} says {said}: it was changed")]
    Changed {
        /// Which entry.
        entry: String,
        /// Its digest.
        is: String,
        /// What it should be.
        said: String,
    },
}

impl Bundle {
    /// What was written.
    ///
    /// # Errors
    /// It is no bundle, or not a whole one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() > BYTES_MAX {
            return Err(Refused::TooLarge(bytes.len()));
        }
        let magics: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"];
        if magics.iter().any(|magic| bytes.starts_with(magic)) {
            return Err(Refused::Compressed);
        }
        let mut archive = tar::Archive::new(bytes);
        let mut entries = archive.entries().map_err(Refused::Archive)?;
        let mut next = |most: usize| -> Result<Option<(String, Vec<u8>)>, Refused> {
            let Some(entry) = entries.next() else { return Ok(None) };
            let entry = entry.map_err(Refused::Archive)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let shown = name.escape_debug();
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(Refused::Entry(format!("`{shown:.100}` is no file")));
            }
            let size = entry.size();
            if size > most as u64 {
                let what = format!("`{shown:.100}` has {size} bytes; {most} are the most");
                return Err(Refused::Entry(what));
            }
            let mut content = Vec::new();
            entry.take(size).read_to_end(&mut content).map_err(Refused::Archive)?;
            if content.len() as u64 != size {
                return Err(Refused::Entry(format!("`{shown:.100}` was cut short")));
            }
            Ok(Some((name, content)))
        };
        let (_, manifest) = next(TEXT_BYTES_MAX)?
            .filter(|(name, _)| name == MANIFEST)
            .ok_or(Refused::NoManifest)?;
        let manifest = manifest_of(&manifest)?;
        let (_, config) = expect(next(TEXT_BYTES_MAX)?, CONFIG, &manifest.config)?;
        let config = String::from_utf8(config);
        let config = config.map_err(|_| Refused::Entry(format!("{CONFIG} is no text")))?;
        let mut components = Vec::new();
        for Listed { blob, named, signatures } in manifest.components {
            let (_, bytes) = expect(next(COMPONENT_BYTES_MAX)?, &path(&blob.digest), &blob)?;
            components.push(Component { named, signatures, bytes });
        }
        if let Some((name, _)) = next(0)? {
            let name = name.escape_debug();
            return Err(Refused::Entry(format!("`{name:.100}` is not in {MANIFEST}")));
        }
        Ok(Self { config, is_template: manifest.template, components })
    }
}

fn manifest_of(bytes: &[u8]) -> Result<Manifest, Refused> {
    /// What every format has.
    #[derive(serde::Deserialize)]
    struct Any {
        format: u32,
    }
    let Any { format } = serde_json::from_slice(bytes).map_err(Refused::Manifest)?;
    if format != FORMAT {
        return Err(Refused::Format(format));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(Refused::Manifest)?;
    let components = &manifest.components;
    let wrong = |what: String| Err(Refused::Entry(format!("{MANIFEST}: {what}")));
    if components.len() > COMPONENTS_MAX {
        return wrong(format!("{} components; {COMPONENTS_MAX} are the most", components.len()));
    }
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    for Listed { blob, named, signatures } in components {
        let is_long = |signature: &String| signature.len() > SIGNATURE_BYTES_MAX;
        if signatures.len() > SIGNATURES_MAX || signatures.iter().any(is_long) {
            return wrong(format!(
                "a component has more than {SIGNATURES_MAX} signatures, or one of more than \
                 {SIGNATURE_BYTES_MAX} characters"
            ));
        }
        let name = named.as_ref().map(|it| (&it.name, &it.version));
        if !seen.insert(&blob.digest) || name.is_some_and(|name| !names.insert(name)) {
            return wrong("a component is there twice".to_owned());
        }
    }
    Ok(manifest)
}

/// The entry, if it is the one that comes here, and as it should be.
fn expect(
    entry: Option<(String, Vec<u8>)>,
    name: &str,
    said: &Blob,
) -> Result<(String, Vec<u8>), Refused> {
    let Some((is, content)) = entry.filter(|(is, _)| is == name) else {
        let name = name.escape_debug();
        return Err(Refused::Entry(format!("`{name:.100}` is missing where it should be")));
    };
    let found = digest(&content);
    if found != said.digest || content.len() as u64 != said.bytes {
        let said = format!("{} of {} bytes", said.digest.escape_debug(), said.bytes);
        return Err(Refused::Changed { entry: is, is: found, said });
    }
    Ok((is, content))
}
