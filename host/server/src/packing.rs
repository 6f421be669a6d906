//! Makes one file of a configuration and of all that it names beside itself: what `sequin config apply`
//! sends, and what `sequin bundle build` writes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bundle::{Bundle, Component, Named};
use config::portable::{Around, Declared, Portable};
use config::{Diagnostic, spec};

use crate::arrivals::{self, Fetched};
use crate::components;
use crate::configuration::plugin_dir;
use crate::plugin::push::signatures_of;
use crate::settings::environment;
use crate::versions;
use crate::{Failure, plugin as command};

/// In place of a file: standard input.
const STDIN: &str = "-";

/// What becomes of variables of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variables {
    /// They are filled in, for an engine to be sent it.
    FillIn,
    /// They stay, for who applies the bundle.
    Keep,
}

/// Packs a `sequin.yaml`, or takes a bundle as it is; `-` is standard input.
///
/// # Errors
/// All that is missing or cannot be read.
pub(crate) fn pack(file: &Path, variables: Variables) -> Result<Bundle, Failure> {
    let bytes = if file == Path::new(STDIN) {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        read.map_err(|error| command::usage(format_args!("standard input: {error}")))?;
        bytes
    } else {
        std::fs::read(file).map_err(|error| {
            command::usage(format_args!("{} cannot be read: {error}", file.display()))
        })?
    };
    if Bundle::is_one(&bytes) {
        return from_bundle(file, &bytes, variables);
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| {
        command::usage(format_args!("{} is neither YAML nor a bundle", file.display()))
    })?;
    from_text(file, &text, variables)
}

/// # Errors
/// It is no bundle, or a variable is missing.
fn from_bundle(file: &Path, bytes: &[u8], variables: Variables) -> Result<Bundle, Failure> {
    let bad = |error| command::usage(format_args!("{}: {error}", file.display()));
    let bundle = Bundle::from_bytes(bytes).map_err(bad)?;
    if !bundle.is_template || variables == Variables::Keep {
        return Ok(bundle);
    }
    let name = format!("{} (sequin.yaml)", file.display());
    let nothing = |path: &Path| {
        let what = format!("the bundle does not hold {}", path.display());
        Err(std::io::Error::other(what))
    };
    let around = Around {
        env: Some(&environment),
        base_dir: Path::new(""),
        read_file: &nothing,
        component: &|_, path| nothing(path),
        version: &|_| nothing(Path::new("the source of a plugin")),
    };
    let portable = Portable::read(&name, &bundle.config, &around).map_err(told)?;
    Ok(Bundle { config: portable.text_to_send(), is_template: false, ..bundle })
}

fn from_text(file: &Path, text: &str, variables: Variables) -> Result<Bundle, Failure> {
    let files = RefCell::<BTreeMap<String, (PathBuf, Vec<u8>)>>::default();
    let component = |_: &str, path: &Path| {
        let bytes = std::fs::read(path)?;
        let digest = bundle::digest(&bytes);
        files.borrow_mut().insert(digest.clone(), (path.to_owned(), bytes));
        Ok(digest)
    };
    let versions = RefCell::<BTreeMap<String, Component>>::default();
    let version = |declared: &Declared<'_>| {
        let Declared { name, version, digest, source } = declared;
        let fetched = arrivals::fetch_here(source).map_err(std::io::Error::other)?;
        let Fetched { bytes, signatures } = fetched;
        let is = bundle::digest(&bytes);
        if let Some(wanted) = digest.filter(|wanted| !wanted.eq_ignore_ascii_case(&is)) {
            let what = format!("what came is {is}, and the configuration says {wanted}");
            return Err(std::io::Error::other(what));
        }
        let named = Some(Named { name: (*name).to_owned(), version: (*version).to_owned() });
        versions.borrow_mut().insert(is.clone(), Component { named, signatures, bytes });
        Ok(is)
    };
    let base_dir = file.parent().unwrap_or(Path::new(""));
    let around = Around {
        env: (variables == Variables::FillIn).then_some(&environment),
        base_dir,
        read_file: &|path| std::fs::read_to_string(path),
        component: &component,
        version: &version,
    };
    let portable = Portable::read(&file.display().to_string(), text, &around).map_err(told)?;
    let mut components = BTreeMap::new();
    for (digest, (path, bytes)) in files.into_inner() {
        let signatures = signatures_of(&path, &[])?;
        components.insert(digest, Component { named: None, signatures, bytes });
    }
    // By its name, where it has one.
    components.extend(versions.into_inner());
    for (function, plugin) in portable.plugins() {
        let known = components.values().filter_map(|it: &Component| it.named.as_ref());
        if known.map(|it| format!("{}@{}", it.name, it.version)).any(|it| it == plugin) {
            continue;
        }
        if let Some((digest, component)) = named(function, plugin, &plugin_dir(base_dir))? {
            // By its name, if one of two functions has one for it.
            let known = components.get(&digest).is_some_and(|it: &Component| it.named.is_some());
            if !known {
                components.insert(digest, component);
            }
        }
    }
    let (config, is_template) = match variables {
        Variables::FillIn => (portable.text_to_send(), false),
        Variables::Keep => (portable.text(), true),
    };
    Ok(Bundle { config, is_template, components: components.into_values().collect() })
}

/// A component of the plugin directory; None if it is not there: then the engine must have it.
fn named(
    function: &str,
    plugin: &str,
    directory: &Path,
) -> Result<Option<(String, Component)>, Failure> {
    if plugin.contains('$') {
        return Err(command::usage(format_args!(
            "function `{function}`: `plugin: {plugin}` is known only once its variables are: write \
             it out"
        )));
    }
    // What is wrong with it the engine says, with its place.
    let Ok(wanted) = versions::parse(plugin) else { return Ok(None) };
    let found = components::local(directory, &wanted);
    let Some(path) = found.map_err(command::usage)? else { return Ok(None) };
    let bytes = std::fs::read(&path)
        .map_err(|error| command::usage(format_args!("{}: {error}", path.display())))?;
    let named = match wanted {
        spec::Component::Named { name, version } => Some(Named { name, version }),
        spec::Component::Digest(_) | spec::Component::File(_) => None,
    };
    let signatures = signatures_of(&path, &[])?;
    Ok(Some((bundle::digest(&bytes), Component { named, signatures, bytes })))
}

fn told(wrong: Vec<Diagnostic>) -> Failure {
    Failure::Usage(wrong.iter().map(|diagnostic| format!("{diagnostic}\n")).collect())
}
