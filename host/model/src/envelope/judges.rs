//! The plugins that were asked about a row, as its message names them.

use std::sync::Arc;

use crate::json;
use crate::plugin::Plugin;

/// Appends `"plugins":{"name":"sha256:…"},` with those that were asked, each once, in their order.
pub(super) fn push(out: &mut String, judges: &[Arc<dyn Plugin>]) {
    let mut lead = "\"plugins\":{";
    for (index, judge) in judges.iter().enumerate() {
        let is_same = |other: &Arc<dyn Plugin>| other.name() == judge.name();
        if judges.iter().take(index).any(is_same) {
            continue;
        }
        out.push_str(lead);
        json::string(out, judge.name());
        out.push(':');
        json::string(out, judge.digest());
        lead = ",";
    }
    if !judges.is_empty() {
        out.push_str("},");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxFuture;
    use crate::plugin::{Outcome, PluginError, Rows};

    #[test]
    fn a_message_names_the_plugins_that_were_asked_about_it() {
        struct Named(&'static str, &'static str);
        impl Plugin for Named {
            fn name(&self) -> &str {
                self.0
            }
            fn digest(&self) -> &str {
                self.1
            }
            fn run(&self, _: Rows) -> BoxFuture<'_, Outcomes> {
                Box::pin(async { Vec::new() })
            }
        }
        type Outcomes = Vec<Result<Outcome, PluginError>>;
        let judges: [Arc<dyn Plugin>; 3] = [
            Arc::new(Named("keep", "sha256:1")),
            Arc::new(Named("make", "sha256:2")),
            Arc::new(Named("keep", "sha256:1")),
        ];
        let mut text = String::new();
        push(&mut text, &judges);
        assert_eq!(text, r#""plugins":{"keep":"sha256:1","make":"sha256:2"},"#);
    }
}
