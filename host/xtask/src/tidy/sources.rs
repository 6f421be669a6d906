//! Rules about single source files.
//!
//! Reads lines, not syntax: a comment line is skipped, and what follows the first `#[cfg(test)]` of a
//! file counts as tests (the house puts them last).

use super::Problem;
use super::tree::{File, Tree};

/// A file that needs more has two purposes.
const LINES_MAX: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils.rs", "common.rs", "helpers.rs", "manager.rs", "types.rs"];

/// The one place that spawns tasks.
const SUPERVISE: &str = "host/engine/src/supervise.rs";

/// What may not be written, and what to do instead. In two halves, for this file is checked too.
const FORBIDDEN: [(&str, &str); 5] = [
    (concat!("#[", "ignore"), "no test is ignored: fix it or delete it"),
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("#[", "allow("), "write `expect`, with a reason"),
    (concat!("#![", "allow("), "write `expect`, with a reason"),
];

const SPAWNS: [&str; 2] = [concat!("tokio::", "spawn("), concat!("task::", "spawn(")];

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    Ok(tree.with_extension("rs").flat_map(check_file).collect())
}

fn check_file(file: &File) -> Vec<Problem> {
    let File { path, text } = file;
    let mut problems = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems
            .push(Problem::new(path, format!("{lines} lines, more than {LINES_MAX}: split it")));
    }
    if name == "mod.rs" {
        problems.push(Problem::new(path, "name it after its directory, beside it"));
    }
    if EMPTY_NAMES.contains(&name) {
        problems.push(Problem::new(path, "name it after what it holds"));
    }
    // A test has nothing to supervise.
    let is_test = path.starts_with("tests/") || path.contains("/tests/") || name == "tests.rs";
    let mut may_spawn = path == SUPERVISE || is_test;
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        may_spawn |= code.starts_with("#[cfg(test)]");
        for (pattern, message) in FORBIDDEN {
            if code.contains(pattern) {
                problems.push(Problem::at(path, index + 1, format!("`{pattern}`: {message}")));
            }
        }
        if !may_spawn && SPAWNS.iter().any(|spawn| code.contains(spawn)) {
            let message = format!("a bare spawn: only {SUPERVISE} spawns");
            problems.push(Problem::at(path, index + 1, message));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[(path, text)]);
        check(&tree).unwrap().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn names_and_lengths() {
        assert_eq!(messages("a/b.rs", &"x\n".repeat(600)), [""; 0]);
        assert_eq!(messages("a/b.rs", &"x\n".repeat(601)).len(), 1);
        assert_eq!(messages("a/mod.rs", "").len(), 1);
        assert_eq!(messages("a/utils.rs", "").len(), 1);
    }

    #[test]
    fn forbidden_words_with_their_line() {
        for (word, _) in FORBIDDEN {
            let found = messages("a.rs", &format!("// {word}\n    {word}\n"));
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].starts_with("a.rs:2: "), "{}", found[0]);
        }
    }

    #[test]
    fn only_supervise_and_tests_spawn() {
        for spawn in SPAWNS {
            assert_eq!(messages("host/engine/src/slot.rs", spawn).len(), 1);
            assert_eq!(messages(SUPERVISE, spawn), [""; 0]);
            assert_eq!(messages("tests/it/a.rs", spawn), [""; 0]);
            assert_eq!(
                messages("a.rs", &format!("#[cfg(test)]\nmod tests {{ {spawn} }}")),
                [""; 0]
            );
        }
        assert_eq!(messages("a.rs", "tokio::task::spawn_blocking(f)"), [""; 0]);
    }
}
