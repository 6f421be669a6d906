//! `cargo x tidy`: the rules of the house that no compiler or linter knows.
//!
//! Each rule is a plain function from text to problems, so that it is tested on small examples; the
//! tests below run them over this repository too. Nothing is fixed here, and nothing but the files of
//! the repository is looked at.

mod crates;
mod frozen;
mod layout;
mod ledger;
mod links;
mod sources;
mod tree;

use std::fmt;

use anyhow::ensure;

use crate::repository;
use tree::Tree;

/// One violation of one rule.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    /// The file, from the root; with the line, where it is one line's.
    place: String,
    /// What is wrong, and what to do about it.
    message: String,
}

impl Problem {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }

    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A rule: its name, and its check over the whole tree.
type Rule = (&'static str, fn(&Tree) -> anyhow::Result<Vec<Problem>>);

const RULES: [Rule; 7] = [
    ("crates", crates::check),
    ("sources", sources::check),
    ("ledger", ledger::check),
    ("layout", layout::check),
    ("links", links::check),
    ("frozen", frozen::check),
    ("dependency reasons", crates::check_reasons),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let tree = Tree::read(repository::root())?;
    let mut count = 0;
    for (name, check) in RULES {
        for problem in check(&tree)? {
            println!("{problem} [{name}]");
            count += 1;
        }
    }
    ensure!(count == 0, "{count} against the rules of the house");
    println!("tidy: {} files in order", tree.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_in_order(name: &str) {
        let tree = Tree::read(repository::root()).unwrap();
        let (_, check) = RULES.iter().find(|rule| rule.0 == name).unwrap();
        let problems: Vec<_> = check(&tree).unwrap().iter().map(Problem::to_string).collect();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }

    #[test]
    fn dependencies_point_one_way() {
        assert_in_order("crates");
    }

    #[test]
    fn each_dependency_has_a_reason() {
        assert_in_order("dependency reasons");
    }

    #[test]
    fn sources_follow_the_rules() {
        assert_in_order("sources");
    }

    #[test]
    fn each_promised_behaviour_has_a_test() {
        assert_in_order("ledger");
    }

    #[test]
    fn each_sink_is_complete_and_one_command_tests_all() {
        assert_in_order("layout");
    }

    #[test]
    fn what_was_released_stays_as_it_was() {
        assert_in_order("frozen");
    }

    #[test]
    fn links_between_documents_lead_somewhere() {
        assert_in_order("links");
    }
}
