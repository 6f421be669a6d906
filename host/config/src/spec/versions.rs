//! Versions of plugins that the configuration brings, and where they come from.

use model::versions::{check_name, check_version};

use super::{Version, VersionSource};
use crate::Surroundings;
use crate::diagnostic::{Place, Report};
use crate::document::{PlacedPlugins, plugins};

/// Hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 64;

pub(super) fn resolve(
    written: Option<&PlacedPlugins>,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Vec<Version> {
    let Some(PlacedPlugins { value, versions, place }) = written else { return Vec::new() };
    let mut all: Vec<Version> = Vec::new();
    for (at, given) in value.versions.iter().flatten().enumerate() {
        let place = versions.get(at).copied().unwrap_or(*place);
        let called = format!("{}@{}", given.name, given.version);
        report.enter(format!("plugin `{called}`"));
        if all.iter().any(|it| it.name == given.name && it.version == given.version) {
            report.error(place, "it is given twice");
        }
        let wrong = [check_name(&given.name).err(), check_version(&given.version).err()];
        wrong.into_iter().flatten().for_each(|wrong| report.error(place, wrong));
        let digest = given.digest.as_deref().and_then(|text| digest(text, place, report));
        let source = given.source.as_ref().and_then(|it| source(it, around, place, report));
        if let (Some(VersionSource::Oci(_)), None) = (&source, &given.digest) {
            let help = "with it nobody but you decides what runs, whatever the registry answers: \
                        `sequin plugin publish` tells it, and `sequin plugin inspect`";
            report.error_with_help(place, "what comes from a registry needs its `digest`", help);
        }
        report.leave();
        let (name, version) = (given.name.clone(), given.version.clone());
        all.push(Version { name, version, digest, source });
    }
    all
}

fn digest(text: &str, place: Place, report: &mut Report<'_>) -> Option<String> {
    let digits = text.strip_prefix("sha256:").map(str::to_ascii_lowercase).filter(|digits| {
        digits.len() == DIGEST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if digits.is_none() {
        let help = "`sha256:` and 64 hexadecimal digits, of the component itself";
        report.error_with_help(place, format_args!("`digest` cannot be `{text}`"), help);
    }
    digits.map(|digits| format!("sha256:{digits}"))
}

fn source(
    given: &plugins::Source,
    around: &Surroundings<'_>,
    place: Place,
    report: &mut Report<'_>,
) -> Option<VersionSource> {
    let plugins::Source { file, oci, oci_layout } = given;
    let texts = [file, oci, oci_layout];
    if texts.iter().filter(|text| text.is_some()).count() != 1
        || texts.iter().any(|text| text.as_deref() == Some(""))
    {
        let help = "a component's path, an artifact in a registry, or the path of an OCI image \
                    layout; without `source` the version must have been uploaded";
        let message = "`source` needs one of `file`, `oci` and `oci_layout`";
        report.error_with_help(place, message, help);
        return None;
    }
    if let Some(reference) = oci {
        // What else is wrong with it the registry's client says.
        if reference.contains("://") || !reference.contains('/') {
            let help = "`registry.example.com/team/name:1.2.3`, without a scheme";
            let message = format!("`oci` cannot be `{reference}`");
            report.error_with_help(place, message, help);
            return None;
        }
        return Some(VersionSource::Oci(reference.clone()));
    }
    if let Some(path) = oci_layout {
        let (path, tag) = layout(path);
        let tag = tag.map(str::to_owned);
        return Some(VersionSource::OciLayout(around.base_dir.join(path), tag));
    }
    file.as_ref().map(|file| VersionSource::File(around.base_dir.join(file)))
}

/// A directory, and behind a colon a tag.
#[must_use]
pub fn layout(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !path.is_empty() && !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    }
}
