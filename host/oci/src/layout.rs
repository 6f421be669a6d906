//! A directory in the OCI image layout: `oci-layout`, `index.json`, and blobs by their digests.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::artifact::{self, Artifact, Interfaces, Packed, digest};
use crate::{COMPONENT_BYTES_MAX, Error, TEXT_BYTES_MAX};

const MARK: &str = "oci-layout";
const MARKED: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";
/// The annotation of a manifest in the index that is its tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// `index.json`. What others wrote into it stays.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    manifests: Vec<Listed>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    media_type: String,
    digest: String,
    size: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Listed {
    fn tag(&self) -> Option<&str> {
        self.annotations.get(TAG).map(String::as_str)
    }
}

/// The component of this tag; without one there must be a single artifact.
///
/// # Errors
/// There is no such layout, or no component in it.
pub fn read(directory: &Path, tag: Option<&str>) -> Result<Artifact, Error> {
    let path = directory.join(INDEX);
    let Some(index) = index(&path)? else {
        return Err(failed(&path, "there is none: this is no OCI image layout"));
    };
    let meant: Vec<&Listed> = match tag {
        Some(tag) => index.manifests.iter().filter(|it| it.tag() == Some(tag)).collect(),
        None => index.manifests.iter().collect(),
    };
    let [listed] = meant.as_slice() else {
        let tags: Vec<&str> = index.manifests.iter().filter_map(Listed::tag).take(20).collect();
        let wanted = tag.map_or_else(|| "a tag is needed".to_owned(), |tag| format!("not `{tag}`"));
        let count = index.manifests.len();
        let what = format!("{wanted}: it has {count} artifacts, tagged [{}]", tags.join(", "));
        return Err(failed(&path, what));
    };
    let named = |digest: &str, bytes_max: usize| {
        let path = blob(directory, digest)?;
        let bytes = bounded(&path, bytes_max)?;
        let found = artifact::digest(&bytes);
        if found == digest { Ok(bytes) } else { Err(failed(&path, format!("it holds {found}"))) }
    };
    let manifest = artifact::manifest(&named(&listed.digest, TEXT_BYTES_MAX)?)?;
    let (layer, signatures) = artifact::component_of(&manifest)?;
    let component = artifact::checked(layer, named(&layer.digest, COMPONENT_BYTES_MAX)?)?;
    Ok(Artifact { component, signatures })
}

/// Puts the component into the layout, which is made if it is not there, in place of what has the tag.
/// Returns the digest of its manifest.
///
/// # Errors
/// It cannot be written, or there is something else.
pub fn write(
    directory: &Path,
    tag: Option<&str>,
    artifact: Artifact,
    interfaces: &Interfaces,
) -> Result<String, Error> {
    let Packed { manifest, config, component } = artifact.pack(interfaces)?;
    let manifest =
        serde_json::to_vec(&manifest).map_err(|error| Error::Unfit(error.to_string()))?;
    let path = directory.join(INDEX);
    let fresh = Index { schema_version: 2, manifests: Vec::new(), more: Map::new() };
    let mut index = index(&path)?.unwrap_or(fresh);
    for bytes in [&component, &config, &manifest] {
        put(&blob(directory, &digest(bytes))?, bytes)?;
    }
    put(&directory.join(MARK), MARKED.as_bytes())?;
    let digest = digest(&manifest);
    index.manifests.retain(|it| it.tag() != tag || (tag.is_none() && it.digest != digest));
    let tag = tag.map(|tag| (TAG.to_owned(), tag.to_owned()));
    index.manifests.push(Listed {
        media_type: OCI_IMAGE_MEDIA_TYPE.to_owned(),
        digest: digest.clone(),
        size: i64::try_from(manifest.len()).unwrap_or(i64::MAX),
        annotations: tag.into_iter().collect(),
        more: Map::new(),
    });
    // Last: it names what is there.
    let index = serde_json::to_vec(&index).map_err(|error| Error::Unfit(error.to_string()))?;
    put(&path, &index)?;
    Ok(digest)
}

/// None if it is not there.
fn index(path: &Path) -> Result<Option<Index>, Error> {
    let bytes = match bounded(path, TEXT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(path, error))
}

/// Where a blob is. Of a digest that could lead elsewhere there is none.
fn blob(directory: &Path, digest: &str) -> Result<PathBuf, Error> {
    let digits = digest.strip_prefix("sha256:").filter(|digits| {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        digits.len() == 64 && digits.bytes().all(is_digit)
    });
    let digits = digits.ok_or_else(|| {
        failed(&directory.join(INDEX), format!("{digest:?} is no SHA-256 digest, as is needed"))
    })?;
    Ok(directory.join("blobs").join("sha256").join(digits))
}

fn bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let file = std::fs::File::open(path).map_err(|error| failed(path, error))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|error| failed(path, error))?;
    if bytes.len() > bytes_max {
        return Err(failed(path, format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let beside = path.with_extension("part");
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| failed(path, error))
}

fn failed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Layout { path: path.to_owned(), what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Artifact {
        Artifact { component: bytes.to_vec(), signatures: vec!["AAAA".to_owned()] }
    }

    #[test]
    fn what_is_written_is_read_and_the_same_gives_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let interfaces = Interfaces::default();
        let first = write(dir.path(), Some("1.0.0"), of(b"one"), &interfaces).unwrap();
        assert_eq!(write(dir.path(), Some("1.0.0"), of(b"one"), &interfaces).unwrap(), first);
        assert_eq!(read(dir.path(), None).unwrap(), of(b"one"));
        write(dir.path(), Some("2.0.0"), of(b"two"), &interfaces).unwrap();
        assert_eq!(read(dir.path(), Some("2.0.0")).unwrap(), of(b"two"));
        assert_eq!(read(dir.path(), Some("1.0.0")).unwrap(), of(b"one"));
        let error = read(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("[1.0.0, 2.0.0]"), "{error}");
        // A tag may be put elsewhere.
        write(dir.path(), Some("1.0.0"), of(b"three"), &interfaces).unwrap();
        assert_eq!(read(dir.path(), Some("1.0.0")).unwrap(), of(b"three"));
    }

    #[test]
    fn b271_a_layout_that_lies_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let reason = || read(dir.path(), None).unwrap_err().to_string();
        assert!(reason().contains("no OCI image layout"), "{}", reason());
        write(dir.path(), None, of(b"one"), &Interfaces::default()).unwrap();
        let component = blob(dir.path(), &digest(b"one")).unwrap();
        std::fs::write(&component, b"two").unwrap();
        assert!(reason().contains("it holds sha256:"), "{}", reason());
        std::fs::remove_file(component).unwrap();
        assert!(reason().contains("No such file"), "{}", reason());
        let path = dir.path().join(INDEX);
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [("sha256:", "sha512:"), ("sha256:", "sha256:../../"), ("{", "")] {
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(!reason().is_empty());
        }
        let no_layer =
            r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"y","size":0},"layers":[]}"#;
        put(&blob(dir.path(), &digest(no_layer.as_bytes())).unwrap(), no_layer.as_bytes()).unwrap();
        let listed = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{}","size":1}}]}}"#,
            digest(no_layer.as_bytes())
        );
        std::fs::write(&path, listed).unwrap();
        assert!(reason().contains("it is no component"), "{}", reason());
    }
}
