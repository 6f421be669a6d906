//! Functions: which component, with which configuration.

use std::path::Path;

use super::{Function, Role};
use crate::diagnostic::Report;
use crate::document::{self, Resources};

pub(super) fn resolve(
    functions: &Resources<document::Function>,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Vec<Function> {
    let mut resolved = Vec::new();
    for function in &functions.list {
        report.enter(format!("function `{}`", function.name));
        let document::Function { role, file, config } = &function.value;
        if file.is_empty() {
            let place = function.place(&["file"]);
            report.error_with_help(place, "`file` is empty", "name a component: `my-filter.wasm`");
        }
        resolved.push(Function {
            name: function.name.clone(),
            role: match role {
                document::Role::Filter => Role::Filter,
                document::Role::Transform => Role::Transform,
            },
            file: base_dir.join(file),
            config_json: config.clone(),
        });
    }
    report.leave();
    resolved
}
