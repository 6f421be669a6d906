//! A bundle as bytes.

use std::collections::BTreeMap;

use crate::{Blob, Bundle, CONFIG, FORMAT, Listed, MANIFEST, Manifest, digest, path};

impl Bundle {
    /// As a file: the same for the same content, in whatever order the components are.
    ///
    /// # Panics
    /// Never: memory is written to.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let components: BTreeMap<String, _> =
            self.components.iter().map(|it| (it.digest(), it)).collect();
        let listed = components.iter().map(|(digest, it)| Listed {
            blob: Blob { digest: digest.clone(), bytes: it.bytes.len() as u64 },
            named: it.named.clone(),
            signatures: it.signatures.clone(),
        });
        let manifest = Manifest {
            format: FORMAT,
            template: self.is_template,
            config: Blob {
                digest: digest(self.config.as_bytes()),
                bytes: self.config.len() as u64,
            },
            components: listed.collect(),
        };
        let manifest = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, MANIFEST, &manifest);
        append(&mut archive, CONFIG, self.config.as_bytes());
        for (digest, component) in &components {
            append(&mut archive, &path(digest), &component.bytes);
        }
        archive.into_inner().unwrap_or_default()
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes.len() as u64);
    // No time, user or machine: the same content is the same file.
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, bytes).unwrap_or_default();
}
