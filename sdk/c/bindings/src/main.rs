//! Writes the C bindings of each role: from the directory of a contract into the SDK.
//!
//! A component exports what its world names, so each role has bindings of its own; they are called
//! the same in all of them (`plugin.h`, `plugin_string_t`), so that the SDK above them is one.

use std::path::PathBuf;

use anyhow::Context as _;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut path = |what| arguments.next().with_context(|| format!("no directory {what}"));
    let (wit, out) = (path("of a contract")?, path("to write to")?);
    for role in ["filter", "route", "transform"] {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(&wit)?;
        let world = resolve.select_world(&[package], Some(&format!("{role}-plugin")))?;
        let mut files = Files::default();
        let options = wit_bindgen_c::Opts {
            rename_world: Some("plugin".to_owned()),
            ..wit_bindgen_c::Opts::default()
        };
        options.build().generate(&mut resolve, world, &mut files)?;
        let dir = out.join(role);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        for (name, bytes) in files.iter() {
            std::fs::write(dir.join(name), bytes).with_context(|| format!("write {name}"))?;
        }
    }
    Ok(())
}
