//! Each behaviour that `tests/BEHAVIOURS.md` promises has a test of its name, and each test named so
//! stands in it.
//!
//! Such a name is `b`, three digits, and words: `fn b012_a_restart_repeats_nothing()`.

use std::collections::BTreeSet;

use super::Problem;
use super::tree::Tree;

const LEDGER: &str = "tests/BEHAVIOURS.md";

/// The task runner's own sources only talk about such names.
const EXEMPT: &str = "host/xtask/";

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let Some(ledger) = tree.get(LEDGER) else {
        return Ok(vec![Problem::new(LEDGER, "missing: it lists every behaviour and its test")]);
    };
    let promised: BTreeSet<&str> = words(&ledger.text).filter(|word| is_name(word)).collect();
    let mut tested = BTreeSet::new();
    let mut problems = Vec::new();
    for file in tree.with_extension("rs").filter(|file| !file.path.starts_with(EXEMPT)) {
        for (index, line) in file.text.lines().enumerate() {
            let Some(name) = function(line).filter(|name| is_name(name)) else {
                continue;
            };
            tested.insert(name);
            if !promised.contains(name) {
                let message = format!("`{name}` is not in {LEDGER}");
                problems.push(Problem::at(&file.path, index + 1, message));
            }
        }
    }
    for name in promised.difference(&tested) {
        problems.push(Problem::new(LEDGER, format!("`{name}` is no test")));
    }
    Ok(problems)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

/// The function that a line begins to define.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let modifiers = ["pub", "async", ""];
    let is_definition = before.split_whitespace().all(|word| modifiers.contains(&word));
    words(after).next().filter(|_| is_definition)
}

fn is_name(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('b') else {
        return false;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits == 3 && rest.get(3..4) == Some("_") && rest.len() > 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).unwrap().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn what_is_promised_and_what_is_tested_agree() {
        let test = ("tests/it/a.rs", "    async fn b001_one() {\n// fn b003_no\n// b004_no\n");
        assert_eq!(problems(&[(LEDGER, "| 1 | `b001_one` | b01_x, b0012_x |"), test]), [""; 0]);
        assert_eq!(problems(&[(LEDGER, "b001_one b002_two"), test]).len(), 1);
        assert_eq!(problems(&[(LEDGER, "nothing"), test]).len(), 1);
        assert_eq!(problems(&[test]).len(), 1, "no ledger at all");
    }
}
