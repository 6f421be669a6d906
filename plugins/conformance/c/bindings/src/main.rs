//! Writes the C bindings of the world `plugin`: from the directory of a contract into another.

use std::path::PathBuf;

use anyhow::Context as _;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut path = |what| arguments.next().with_context(|| format!("no directory {what}"));
    let (wit, out) = (path("of a contract")?, path("to write to")?);
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&wit)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    for (name, bytes) in files.iter() {
        std::fs::write(out.join(name), bytes).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}
