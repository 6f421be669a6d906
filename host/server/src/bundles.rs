//! `sequin bundle`: a configuration and what it names as one file.

use std::path::Path;

use bundle::{Bundle, Component, Named};
use config::portable::{Around, Portable};
use serde_json::{Value, json};

use crate::Failure;
use crate::cli::configs::BundleCommand;
use crate::packing::{Variables, pack};
use crate::platform::upload;
use crate::plugin::{print, usage};
use crate::tell;

pub(crate) fn run(command: &BundleCommand) -> Result<(), Failure> {
    match command {
        BundleCommand::Build { file, output } => build(file, output),
        BundleCommand::Inspect { file } => {
            print(&format!("{:#}\n", told(&pack(file, Variables::Keep)?)))?;
            Ok(())
        }
        BundleCommand::Verify { file } => verify(file),
    }
}

fn build(file: &Path, output: &Path) -> Result<(), Failure> {
    let bundle = pack(file, Variables::Keep)?;
    let bytes = bundle.to_bytes();
    let written = component::write_if_changed(output, &bytes);
    written.map_err(|error| usage(format_args!("{}: {error}", output.display())))?;
    for plugin in missing(&bundle)? {
        tell(&format!("warning: {plugin} is not here: the engine must have it already"));
    }
    tell(&format!(
        "{}: {} components, {} bytes, {}",
        output.display(),
        bundle.components.len(),
        bytes.len(),
        bundle::digest(&bytes)
    ));
    Ok(())
}

fn verify(file: &Path) -> Result<(), Failure> {
    let bundle = pack(file, Variables::Keep)?;
    for component in &bundle.components {
        let found = upload::look(&component.bytes);
        let found = found
            .map_err(|error| usage(format_args!("component {}: {error}", component.digest())))?;
        if let Some(Named { name, version }) = &component.named {
            let says = (found.name.as_deref(), found.version.as_deref());
            let agrees = |says: Option<&str>, is: &str| says.is_none_or(|says| says == is);
            if !agrees(says.0, name) || !agrees(says.1, version) {
                let digest = component.digest();
                return Err(usage(format_args!(
                    "component {digest} is listed as {name}@{version}, and says itself that it is \
                     {}@{}",
                    says.0.unwrap_or("?"),
                    says.1.unwrap_or("?")
                )));
            }
        }
    }
    for plugin in missing(&bundle)? {
        tell(&format!("warning: {plugin} is not in it: the engine must have it already"));
    }
    print(&format!("{} is whole: {} components\n", file.display(), bundle.components.len()))?;
    Ok(())
}

/// What the configuration names and the bundle does not hold.
fn missing(bundle: &Bundle) -> Result<Vec<String>, Failure> {
    let nothing = |path: &Path| {
        Err(std::io::Error::other(format!("the bundle does not hold {}", path.display())))
    };
    let around = Around {
        env: None,
        base_dir: Path::new(""),
        read_file: &nothing,
        component: &|_, path| nothing(path),
        version: &|_| nothing(Path::new("the source of a plugin")),
    };
    let portable = Portable::read("sequin.yaml", &bundle.config, &around).map_err(|wrong| {
        Failure::Usage(wrong.iter().map(|diagnostic| format!("{diagnostic}\n")).collect())
    })?;
    let has = |plugin: &str| {
        bundle.components.iter().any(|component| {
            let named = component.named.as_ref();
            let named = named.map(|it| format!("{}@{}", it.name, it.version));
            named.as_deref() == Some(plugin) || component.digest() == plugin
        })
    };
    let mut all: Vec<String> = portable
        .plugins()
        .filter(|(_, plugin)| !has(plugin))
        .map(|(_, plugin)| plugin.to_owned())
        .collect();
    all.sort();
    all.dedup();
    Ok(all)
}

fn told(bundle: &Bundle) -> Value {
    let component = |component: &Component| {
        let Component { named, signatures, bytes } = component;
        let mut told = json!({
            "digest": component.digest(),
            "bytes": bytes.len(),
            "name": named.as_ref().map(|it| &it.name),
            "version": named.as_ref().map(|it| &it.version),
            "signatures": signatures.len(),
        });
        match (upload::look(bytes), &mut told) {
            (Ok(found), Value::Object(told)) => {
                told.insert("component".to_owned(), Value::Object(crate::plugin::told(&found)));
            }
            (Err(error), Value::Object(told)) => {
                told.insert("problem".to_owned(), error.to_string().into());
            }
            _ => {}
        }
        told
    };
    json!({
        "digest": bundle::digest(&bundle.to_bytes()),
        "variables_to_fill_in": bundle.is_template,
        "config_bytes": bundle.config.len(),
        "components": bundle.components.iter().map(component).collect::<Vec<_>>(),
    })
}
