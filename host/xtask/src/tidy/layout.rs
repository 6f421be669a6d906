//! What must exist together: a sink and its options; the one command that tests everything, in the
//! README and in CI.

use super::Problem;
use super::tree::Tree;

const SINKS: &str = "host/sinks/src/";
const OPTIONS: &str = "host/options/src/";
const COMMAND: &str = "cargo x test";

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let mut problems = sinks(tree);
    problems.extend(one_command(tree));
    Ok(problems)
}

/// A sink is a file of `sinks` that implements the port.
fn sinks(tree: &Tree) -> Vec<Problem> {
    tree.with_extension("rs")
        .filter(|file| is_sink_implementation(&file.text))
        .filter_map(|file| file.path.strip_prefix(SINKS))
        .filter(|name| !name.contains('/') && !["lib.rs", "http.rs"].contains(name))
        .filter(|name| tree.get(&format!("{OPTIONS}{name}")).is_none())
        .map(|name| {
            let message = format!("a sink without options: write {OPTIONS}{name}");
            Problem::new(format!("{SINKS}{name}"), message)
        })
        .collect()
}

fn is_sink_implementation(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("impl ") && line.contains("Sink for "))
}

fn one_command(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let readme = tree.get("README.md").map_or("", |file| file.text.as_str());
    if !readme.contains(COMMAND) {
        problems.push(Problem::new("README.md", format!("does not name `{COMMAND}`")));
    }
    let ci = tree.get(".ci/run").map_or("", |file| file.text.as_str());
    let cargo: Vec<_> = ci.lines().filter(|line| line.trim_start().starts_with("cargo ")).collect();
    if cargo != [COMMAND] {
        problems.push(Problem::new(".ci/run", format!("does not run exactly `{COMMAND}`")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_needs_options() {
        let sink = ("host/sinks/src/webhook.rs", "impl Sink for Webhook {\n");
        assert_eq!(sinks(&Tree::of(&[sink])).len(), 1);
        assert!(sinks(&Tree::of(&[sink, ("host/options/src/webhook.rs", "")])).is_empty());
        assert!(sinks(&Tree::of(&[("host/sinks/src/http.rs", sink.1)])).is_empty());
        assert!(sinks(&Tree::of(&[("host/sinks/src/body.rs", "fn body() {}")])).is_empty());
    }

    #[test]
    fn one_command_everywhere() {
        let readme = ("README.md", "Run `cargo x test`.");
        let ci = (".ci/run", "cd x\n# cargo\ncargo x test\n");
        assert!(one_command(&Tree::of(&[readme, ci])).is_empty());
        assert_eq!(one_command(&Tree::of(&[])).len(), 2);
        assert_eq!(one_command(&Tree::of(&[readme, (".ci/run", "cargo x test -p x")])).len(), 1);
    }
}
