//! HTTP endpoints: part of the sinks that use them, and checked even if none does.

use options::endpoint::{Options, Ready};

use super::told;
use crate::diagnostic::Report;
use crate::document::Resources;

pub(super) fn resolve(endpoints: &Resources<Options>, report: &mut Report<'_>) -> Vec<Ready> {
    let mut resolved = Vec::new();
    for endpoint in &endpoints.list {
        report.enter(format!("http endpoint `{}`", endpoint.name));
        resolved.extend(told(endpoint, &[], endpoint.value.validate(), report));
    }
    report.leave();
    resolved
}
