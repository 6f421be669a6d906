//! `sequin plugin publish` and `pull`: components in OCI registries and image layouts.

use std::path::PathBuf;

use anyhow::Context as _;
use config::spec::{VersionSource, layout};
use serde_json::json;

use super::push::signatures_of;
use super::{print, read, usage};
use crate::Failure;
use crate::arrivals::{self, Fetched};
use crate::cli::versions::{PublishArguments, PullArguments};

/// Before the path of an image layout.
const LAYOUT: &str = "oci-layout:";

pub(super) fn publish(arguments: &PublishArguments) -> Result<(), Failure> {
    let PublishArguments { file, to, signatures } = arguments;
    let bytes = read(file)?;
    // What no engine would load is nothing to put there.
    let found = plugin::inspect(&bytes, &plugin::Limits::default()).map_err(usage)?;
    let signatures = signatures_of(file, signatures)?;
    let digest = found.digest.clone();
    let named = found.name.clone().zip(found.version.clone());
    let interfaces = oci::Interfaces { imports: found.imports, exports: found.exports, named };
    let artifact = oci::Artifact { component: bytes, signatures };
    let manifest = match place(to) {
        VersionSource::OciLayout(path, tag) => {
            oci::write_layout(&path, tag.as_deref(), artifact, &interfaces).map_err(usage)?
        }
        VersionSource::Oci(_) | VersionSource::File(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("start the runtime")?;
            let pushed = oci::push(to, arrivals::login(), artifact, &interfaces);
            runtime.block_on(pushed).map_err(usage)?
        }
    };
    let (name, version) = (found.name, found.version);
    let told = json!({
        "name": name, "version": version, "digest": digest, "manifest": manifest, "to": to,
    });
    print(&format!("{told}\n"))?;
    Ok(())
}

pub(super) fn pull(arguments: &PullArguments) -> Result<(), Failure> {
    let PullArguments { from, output, digest } = arguments;
    let Fetched { bytes, signatures } = arrivals::fetch_here(&place(from)).map_err(usage)?;
    let is = bundle::digest(&bytes);
    if let Some(wanted) = digest.as_ref().filter(|wanted| !wanted.eq_ignore_ascii_case(&is)) {
        return Err(usage(format_args!("what came is {is}, not {wanted:.100}")));
    }
    let written = std::fs::write(output, &bytes);
    written.map_err(|error| usage(format_args!("{}: {error}", output.display())))?;
    // The first alone is where all look for one.
    if let Some(signature) = signatures.first() {
        let mut beside = output.clone().into_os_string();
        beside.push(".sig");
        let beside = PathBuf::from(beside);
        let written = std::fs::write(&beside, format!("{signature}\n"));
        written.map_err(|error| usage(format_args!("{}: {error}", beside.display())))?;
    }
    let told = json!({"digest": is, "bytes": bytes.len(), "signatures": signatures.len()});
    print(&format!("{told}\n"))?;
    Ok(())
}

fn place(text: &str) -> VersionSource {
    match text.strip_prefix(LAYOUT) {
        Some(path) => {
            let (path, tag) = layout(path);
            VersionSource::OciLayout(path.into(), tag.map(str::to_owned))
        }
        None => VersionSource::Oci(text.to_owned()),
    }
}
