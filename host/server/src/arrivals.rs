//! Components that come with a configuration: in its bundle, or as versions that it declares with where
//! they come from. Each is looked at as an upload is, before anything names it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bundle::Named;
use config::Spec;
use config::spec::{Component, Signatures, Version as Declared, VersionSource};
use model::versions::{Version, Versions as _, VersionsError};
use store::Embedded;
use web::Upload;

use crate::bindings::{Brought, Known};
use crate::components::show;
use crate::platform::upload;
use crate::settings::environment;
use crate::signatures;

/// Who brings what an engine's own configuration declares.
const BY: &str = "sequin.yaml";

/// For a registry, before the engine goes on without what it has.
const PULL: Duration = Duration::from_secs(60);

/// What came, by what it is called where it cannot be used.
#[derive(Default)]
pub(crate) struct Arrivals {
    pub(crate) brought: Vec<Brought>,
    /// `name@version` or a digest, and why.
    pub(crate) problems: BTreeMap<String, String>,
}

/// The component of a file, with the signature beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signatures: Vec<String>,
}

/// What is known of versions, with what the engine's own configuration brings.
///
/// # Errors
/// The store cannot be read.
pub(crate) async fn known(
    spec: &Spec,
    components: Vec<bundle::Component>,
    store: &Arc<Embedded>,
    compile: Duration,
) -> Result<Known, VersionsError> {
    let known = Known::read(store).await?;
    let versions = store.versions().await?;
    let policy = spec.signatures.as_ref();
    let mut arrivals = Arrivals::default();
    for component in components {
        let called = called(&component);
        match look(component, BY, policy, store, &versions, compile).await {
            Ok(brought) => arrivals.brought.push(brought),
            Err(error) => _ = arrivals.problems.insert(called, error.to_string()),
        }
    }
    Ok(known.with(declared(spec, arrivals, store, &versions, compile).await))
}

/// With what the versions are that a configuration declares.
pub(crate) async fn declared(
    spec: &Spec,
    mut arrivals: Arrivals,
    store: &Embedded,
    versions: &[Version],
    compile: Duration,
) -> Arrivals {
    let policy = spec.signatures.as_ref();
    for declared in &spec.versions {
        let called = format!("{}@{}", declared.name, declared.version);
        let came = arrivals.brought.iter().any(|it| it.is(&declared.name, &declared.version));
        let arrived = match came {
            true => agree(declared, &arrivals.brought),
            false => arrive(declared, policy, store, versions, compile).await,
        };
        match arrived {
            Ok(brought) => arrivals.brought.extend(brought),
            Err(why) => _ = arrivals.problems.insert(called, why),
        }
    }
    arrivals
}

/// A version that is declared, and neither came nor was here.
pub(crate) fn absent<'a>(
    spec: &'a Spec,
    brought: &[Brought],
    versions: &[Version],
) -> Option<&'a Declared> {
    let is_there = |declared: &&Declared| {
        let Declared { name, version, .. } = declared;
        brought.iter().any(|it| it.is(name, version))
            || versions.iter().any(|it| it.name == *name && it.version == *version)
    };
    spec.versions.iter().find(|declared| !is_there(declared))
}

/// What a bundle has must be what its configuration says.
fn agree(declared: &Declared, brought: &[Brought]) -> Result<Option<Brought>, String> {
    let Declared { name, version, digest, .. } = declared;
    let mut came = brought.iter().filter(|it| it.is(name, version)).map(|it| &it.digest);
    match (digest, came.next_back()) {
        (Some(wanted), Some(came)) if wanted != came => {
            Err(format!("the bundle has {came}, and its configuration says {wanted}"))
        }
        _ => Ok(None),
    }
}

/// A version that the configuration declares; None if it is known already.
async fn arrive(
    declared: &Declared,
    policy: Option<&Signatures>,
    store: &Embedded,
    versions: &[Version],
    compile: Duration,
) -> Result<Option<Brought>, String> {
    let Declared { name, version, digest, source } = declared;
    let is_it = |it: &&Version| it.name == *name && it.version == *version;
    let known = versions.iter().find(is_it).map(|it| &it.digest);
    let other = |is: &str, was: &str| taken(name, version, was, is);
    match (known, digest) {
        (Some(known), Some(digest)) if known == digest => return Ok(None),
        (Some(known), Some(digest)) => return Err(other(digest, known)),
        _ => {}
    }
    let Some(source) = source else {
        // Whether it is there at all is told where it is used.
        return Ok(None);
    };
    let fetched = tokio::time::timeout(PULL, fetch(source)).await;
    let late = |_| format!("nothing came from its registry for {} s", PULL.as_secs());
    let Fetched { bytes, signatures } = fetched.map_err(late)??;
    let is = bundle::digest(&bytes);
    if let Some(known) = known {
        return if *known == is { Ok(None) } else { Err(other(&is, known)) };
    }
    pinned(declared, &is)?;
    let named = Some(Named { name: name.clone(), version: version.clone() });
    let component = bundle::Component { named, signatures, bytes };
    let brought = look(component, BY, policy, store, versions, compile).await;
    brought.map(Some).map_err(|error| error.to_string())
}

fn taken(name: &str, version: &str, was: &str, is: &str) -> String {
    format!(
        "{name}@{version} is {was}, for good, and the configuration brings {is}: give it another version"
    )
}

/// # Errors
/// It is not what the configuration says.
fn pinned(declared: &Declared, is: &str) -> Result<(), String> {
    match &declared.digest {
        Some(wanted) if wanted != is => {
            Err(format!("what came is {is}, and the configuration says {wanted}"))
        }
        _ => Ok(()),
    }
}

/// The component that a source names, with its signatures.
///
/// # Errors
/// What is wrong with the source.
pub(crate) async fn fetch(source: &VersionSource) -> Result<Fetched, String> {
    let VersionSource::Oci(reference) = source else {
        return here(source).unwrap_or_else(|| Err("it is not on this machine".to_owned()));
    };
    let artifact = oci::pull(reference, login()).await;
    artifact.map(Fetched::from).map_err(|error| error.to_string())
}

/// The same of what is on this machine; None of what is in a registry.
pub(crate) fn here(source: &VersionSource) -> Option<Result<Fetched, String>> {
    match source {
        VersionSource::File(path) => Some(file(path)),
        VersionSource::OciLayout(path, tag) => {
            let artifact = oci::read_layout(path, tag.as_deref());
            Some(artifact.map(Fetched::from).map_err(|error| error.to_string()))
        }
        VersionSource::Oci(_) => None,
    }
}

impl From<oci::Artifact> for Fetched {
    fn from(artifact: oci::Artifact) -> Self {
        let oci::Artifact { component: bytes, signatures } = artifact;
        Self { bytes, signatures }
    }
}

/// The same, for who has no runtime.
///
/// # Errors
/// What is wrong with the source.
pub(crate) fn fetch_here(source: &VersionSource) -> Result<Fetched, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(fetch(source))
}

/// A component's file, and the signature beside it.
fn file(path: &Path) -> Result<Fetched, String> {
    let failed = |error: std::io::Error| format!("file {}: {error}", path.display());
    let most = bundle::COMPONENT_BYTES_MAX as u64;
    if std::fs::metadata(path).map_err(failed)?.len() > most {
        return Err(format!("file {} has more than {most} bytes", path.display()));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let signatures = signatures::beside(path).into_iter().collect();
    Ok(Fetched { bytes, signatures })
}

/// Who asks a registry, if not whoever `docker login` says.
pub(crate) fn login() -> Option<(String, String)> {
    let name = environment("SEQUIN_REGISTRY_USERNAME")?;
    Some((name, environment("SEQUIN_REGISTRY_PASSWORD").unwrap_or_default()))
}

/// Files and directories that declared versions come from: a change there is a change of the
/// configuration.
pub(crate) fn files(spec: &Spec) -> Vec<PathBuf> {
    let of = |declared: &Declared| match &declared.source {
        Some(VersionSource::File(path)) => Some(path.clone()),
        Some(VersionSource::OciLayout(path, _)) => Some(path.join("index.json")),
        Some(VersionSource::Oci(_)) | None => None,
    };
    spec.versions.iter().filter_map(of).collect()
}

fn called(component: &bundle::Component) -> String {
    match &component.named {
        Some(Named { name, version }) => {
            show(&Component::Named { name: name.clone(), version: version.clone() })
        }
        None => component.digest(),
    }
}

/// Looks at a component that came with a configuration; compiles what was never here, in a process of
/// its own.
///
/// # Errors
/// As of an upload.
pub(crate) async fn look(
    component: bundle::Component,
    by: &str,
    policy: Option<&Signatures>,
    store: &Embedded,
    versions: &[Version],
    compile: Duration,
) -> Result<Brought, VersionsError> {
    let digest = component.digest();
    let bundle::Component { named, signatures, bytes } = component;
    let Some(named) = named else {
        upload::look(&bytes)?;
        // What is here was compiled when it came.
        if store.bytes(&digest).is_err() {
            upload::describe(&bytes, compile).await?;
        }
        return Ok(Brought { digest, bytes: Arc::new(bytes), version: None, signatures });
    };
    let asked = Upload {
        name: Some(named.name),
        version: Some(named.version),
        digest: Some(digest.clone()),
        by: by.to_owned(),
        signatures: signatures.clone(),
        ..Upload::default()
    };
    let (mut version, bytes) = upload::check(asked, bytes, policy)?;
    let is_it = |it: &&Version| it.name == version.name && it.version == version.version;
    match versions.iter().find(is_it) {
        Some(known) if known.digest == digest => version = known.clone(),
        Some(known) => {
            let what = taken(&version.name, &version.version, &known.digest, &digest);
            return Err(VersionsError::refused("version_taken", what));
        }
        None => {
            let described = upload::describe(&bytes, compile).await?;
            version.metadata = upload::with(&version.metadata, described)?;
            version.at_us = crate::reload::now_us();
        }
    }
    Ok(Brought { digest, bytes: Arc::new(bytes), version: Some(version), signatures })
}
