//! `sequin.yaml`, from text to a specification that holds together.
//!
//! Three stages, each with its own name: the **tree** is the YAML with the place of every node and
//! the environment filled in, the **document** says 1:1 what the user wrote, the **spec** is what
//! it means, with every reference resolved and every default applied. Whatever is wrong is told at
//! once, each thing with its file, line, column and what to do about it. Nothing is ignored in
//! silence: unknown keys are errors, and what the predecessor knew but this engine does not (yet)
//! is an error or a warning.
//!
//! Pure: no file is opened, no environment read, no clock, no client; what is needed of them is
//! handed in.

mod destinations;
mod diagnostic;
mod document;
mod env;
pub mod moved;
mod nearest;
pub mod portable;
mod schema;
pub mod spec;
mod tree;

use std::path::Path;

pub use diagnostic::{Diagnostic, Severity};
pub use nearest::nearest;
pub use portable::Portable;
pub use schema::SCHEMA;
pub use spec::Spec;

use diagnostic::Report;

/// What a configuration is read in. Nothing else of the machine is looked at.
pub struct Surroundings<'a> {
    /// Relative paths in the text are resolved against it.
    pub base_dir: &'a Path,
    /// Where components are that are named by `plugin`.
    pub plugin_dir: &'a Path,
    /// Looks up an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file that the text names, for SQL.
    pub read_file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// Reads a configuration. `file_name` is for messages. Hands back warnings beside the spec.
///
/// # Errors
/// Everything that is wrong, in the order of the text, with the warnings among it.
pub fn read(
    file_name: &str,
    text: &str,
    around: &Surroundings<'_>,
) -> Result<(Spec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut report = Report::new(file_name, text);
    let spec = tree::parse(text, &mut report).and_then(|mut root| {
        env::fill_in(&mut root, around.env, &mut report);
        let document = document::read(root, text, &mut report);
        spec::resolve(&document, around, &mut report)
    });
    let (diagnostics, failed) = report.finish();
    match spec {
        Some(spec) if !failed => Ok((spec, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// The configuration as YAML, with environment variables, anchors and merge keys filled in. Read
/// again it means the same, in any environment, but for `env:` of grants, which stays a reference: a
/// dollar sign of a value is written `$$`. It holds
/// the secrets, and what is wrong beyond that with the configuration.
///
/// # Errors
/// It is no YAML, or a variable is missing.
pub fn interpolate(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Vec<Diagnostic>> {
    let mut report = Report::new(file_name, text);
    let root = tree::parse(text, &mut report).map(|mut root| {
        env::fill_in(&mut root, env, &mut report);
        env::escape(&mut root);
        document::drop_anchor_holders(&mut root, text);
        root
    });
    let (diagnostics, failed) = report.finish();
    match root {
        Some(root) if !failed => Ok(tree::yaml(&root)),
        _ => Err(diagnostics),
    }
}
