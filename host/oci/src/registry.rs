//! Registries over HTTP. Who asks is known by what `docker login` left behind, or by
//! `SEQUIN_REGISTRY_USERNAME` and `SEQUIN_REGISTRY_PASSWORD`, which whoever calls hands over.

use std::time::Duration;

use docker_credential::{DockerCredential, get_credential};
use futures_util::TryStreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::artifact::{self, Artifact, Interfaces, Packed};
use crate::{COMPONENT_BYTES_MAX, Error};

/// Connecting.
const CONNECT: Duration = Duration::from_secs(10);
/// Without a byte.
const IDLE: Duration = Duration::from_secs(30);
/// A pull or a push as a whole.
const WHOLE: Duration = Duration::from_secs(300);

/// The component that a reference names (`registry.example.com/team/name:tag` or `…@sha256:…`).
///
/// # Errors
/// It names nothing, the registry does not answer or refuses, or there is something else.
pub async fn pull(text: &str, login: Option<(String, String)>) -> Result<Artifact, Error> {
    let reference = reference(text)?;
    let work = async {
        let client = client(&reference)?;
        let failed = |error| refused(text, &error);
        let auth = auth(&reference, login);
        let manifest = client.pull_image_manifest(&reference, &auth).await;
        let (manifest, _) = manifest.map_err(|error| refused(text, &error))?;
        let (layer, signatures) = artifact::component_of(&manifest).map_err(failed_of(text))?;
        let mut stream = client.pull_blob_stream(&reference, layer).await.map_err(failed)?;
        let mut component = Vec::new();
        while let Some(bytes) =
            stream.stream.try_next().await.map_err(|error| registry(text, error))?
        {
            if component.len() + bytes.len() > COMPONENT_BYTES_MAX {
                let what = format!("more than {COMPONENT_BYTES_MAX} bytes came");
                return Err(registry(text, what));
            }
            component.extend_from_slice(&bytes);
        }
        let component = artifact::checked(layer, component).map_err(failed_of(text))?;
        Ok(Artifact { component, signatures })
    };
    bounded(text, work).await
}

/// Pushes a component to where a reference names. Returns the digest of its manifest.
///
/// # Errors
/// It names nothing, or the registry does not answer or refuses.
pub async fn push(
    text: &str,
    login: Option<(String, String)>,
    artifact: Artifact,
    interfaces: &Interfaces,
) -> Result<String, Error> {
    let reference = reference(text)?;
    let Packed { manifest, config, component } = artifact.pack(interfaces)?;
    let name = serde_json::to_vec(&manifest).map_err(|error| registry(text, error))?;
    let work = async {
        let client = client(&reference)?;
        let of = |descriptor: Option<&OciDescriptor>| {
            descriptor.map(|it| it.media_type.clone()).unwrap_or_default()
        };
        let layer = ImageLayer::new(component, of(manifest.layers.first()), None);
        let config = Config::new(config, manifest.config.media_type.clone(), None);
        let auth = auth(&reference, login);
        let pushed = client.push(&reference, &[layer], config, &auth, Some(manifest)).await;
        pushed.map(drop).map_err(|error| refused(text, &error))
    };
    bounded(text, work).await?;
    Ok(artifact::digest(&name))
}

fn reference(text: &str) -> Result<Reference, Error> {
    let wrong = |what: String| Error::Reference { reference: text.to_owned(), what };
    let reference: Reference = text.parse().map_err(|error| wrong(format!("{error}")))?;
    // Without one it would be Docker's.
    let first = text.split('/').next().unwrap_or_default();
    if !text.contains('/') || !(first.contains(['.', ':']) || first == "localhost") {
        return Err(wrong("name its registry, as in `ghcr.io/team/name:1.2.3`".to_owned()));
    }
    Ok(reference)
}

fn client(reference: &Reference) -> Result<Client, Error> {
    // Another part of the program may have set the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let host = reference.resolve_registry();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // As all tools do: a registry on this machine has no certificate.
    let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
    let config = ClientConfig {
        protocol: if is_here { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT),
        read_timeout: Some(IDLE),
        // A component is for no platform.
        platform_resolver: None,
        user_agent: concat!("sequin/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| registry(&reference.whole(), error))
}

fn auth(reference: &Reference, login: Option<(String, String)>) -> RegistryAuth {
    if let Some((name, password)) = login {
        return RegistryAuth::Basic(name, password);
    }
    match get_credential(reference.resolve_registry()) {
        Ok(DockerCredential::UsernamePassword(name, password)) => {
            RegistryAuth::Basic(name, password)
        }
        Ok(DockerCredential::IdentityToken(token)) => RegistryAuth::Bearer(token),
        Err(_) => RegistryAuth::Anonymous,
    }
}

async fn bounded<T>(text: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| registry(text, format!("it took more than {} s", WHOLE.as_secs()));
    tokio::time::timeout(WHOLE, work).await.map_err(late)?
}

fn registry(reference: &str, what: impl ToString) -> Error {
    Error::Registry { reference: reference.to_owned(), what: what.to_string() }
}

fn failed_of(reference: &str) -> impl Fn(Error) -> Error {
    move |error| registry(reference, error)
}

/// What the registry's client says, with its causes.
fn refused(reference: &str, error: &OciDistributionError) -> Error {
    if let OciDistributionError::UnauthorizedError { .. }
    | OciDistributionError::AuthenticationFailure(_)
    | OciDistributionError::ServerError { code: 401 | 403, .. } = error
    {
        let what = "the registry does not let us in: use `docker login`, or set \
                    SEQUIN_REGISTRY_USERNAME and SEQUIN_REGISTRY_PASSWORD";
        return registry(reference, what);
    }
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        what += &format!(": {error}");
        cause = error.source();
    }
    what.truncate(what.floor_char_boundary(1_000));
    registry(reference, what)
}
