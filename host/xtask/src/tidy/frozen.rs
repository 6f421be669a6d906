//! What was released stays as it was: each file that a `SHA256SUMS` lists has its digest, and each
//! version of the plugin contract has a copy below `wit/frozen` that is listed so.
//!
//! The lists are those that `sha256sum` writes. One also stands beside a plugin that is kept built:
//! it says what the component was built of.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Problem;
use super::tree::{File, Tree};
use crate::repository;
use crate::services::hex;

/// The contract that is worked on.
const CONTRACT: &str = "wit/plugin.wit";

/// Its released versions, a directory for each.
const FROZEN: &str = "wit/frozen/";

/// A list of digests, of files below its own directory.
pub(crate) const SUMS: &str = "SHA256SUMS";

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let read = |path: &str| std::fs::read(repository::root().join(path)).ok();
    let mut problems = contract(tree);
    let lists = tree.files().filter(|file| name(&file.path) == SUMS);
    problems.extend(lists.flat_map(|list| sums(list, read)));
    Ok(problems)
}

/// The version in use has its copy, and no copy is without a digest.
fn contract(tree: &Tree) -> Vec<Problem> {
    let Some(contract) = tree.get(CONTRACT) else {
        return vec![Problem::new(CONTRACT, "missing: it is what plugins are written for")];
    };
    let Some(version) = version(&contract.text) else {
        return vec![Problem::new(CONTRACT, "has no line `package sequin:plugin@VERSION;`")];
    };
    let mut problems = Vec::new();
    let copy = format!("{FROZEN}{version}/plugin.wit");
    if tree.get(&copy).is_none_or(|copy| copy.text != contract.text) {
        let message = format!(
            "differs from {copy}: a released version never changes, so give it a new one; one that \
             is not released yet is copied there anew"
        );
        problems.push(Problem::new(CONTRACT, message));
    }
    let listed = tree.get(&format!("{FROZEN}{SUMS}")).map_or("", |list| list.text.as_str());
    let copies = tree.with_extension("wit").filter_map(|file| file.path.strip_prefix(FROZEN));
    for copy in copies.filter(|copy| !entries(listed).any(|(_, path)| path == *copy)) {
        let message = format!("is not in {FROZEN}{SUMS}");
        problems.push(Problem::new(format!("{FROZEN}{copy}"), message));
    }
    problems
}

fn version(wit: &str) -> Option<&str> {
    wit.lines().find_map(|line| line.strip_prefix("package sequin:plugin@")?.strip_suffix(';'))
}

/// Every file of a list is what it was when the list was written.
fn sums(list: &File, read: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Problem> {
    let dir = list.path.strip_suffix(SUMS).unwrap_or_default();
    let wrong = entries(&list.text).filter_map(|(digest, path)| {
        let path = format!("{dir}{path}");
        let message = match read(&path) {
            None => format!("is gone, and {} lists it", list.path),
            Some(bytes) if hex(&Sha256::digest(&bytes)) == digest => return None,
            Some(_) => format!("is not what {} lists: see CONTRIBUTING", list.path),
        };
        Some(Problem::new(path, message))
    });
    wrong.collect()
}

/// Digest and path of each line.
fn entries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| line.split_once("  "))
}

fn name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = "/// Words.\npackage sequin:plugin@0.1.0;\n";
    const LISTED: (&str, &str) = ("wit/frozen/SHA256SUMS", "00  0.1.0/plugin.wit\n");
    const COPY: &str = "wit/frozen/0.1.0/plugin.wit";

    #[test]
    fn a_version_of_the_contract_does_not_change() {
        let found = |files: &[(&str, &str)]| contract(&Tree::of(files)).len();
        assert_eq!(found(&[(CONTRACT, WIT), (COPY, WIT), LISTED]), 0);
        assert_eq!(found(&[(CONTRACT, WIT), (COPY, "package sequin:plugin@0.1.0;\n"), LISTED]), 1);
        assert_eq!(found(&[(CONTRACT, WIT), LISTED]), 1, "no copy");
        assert_eq!(found(&[(CONTRACT, WIT), (COPY, WIT)]), 1, "no digest");
        let next = WIT.replace("0.1.0", "0.2.0");
        assert_eq!(found(&[(CONTRACT, &next), (COPY, WIT), LISTED]), 1, "no copy of the new one");
        assert_eq!(found(&[(CONTRACT, "package sequin:plugin;\n")]), 1);
        assert_eq!(found(&[]), 1);
    }

    #[test]
    fn a_listed_file_keeps_its_digest() {
        let digest = hex(&Sha256::digest(WIT));
        let text = format!("{digest}  0.1.0/plugin.wit\n");
        let list = File { path: LISTED.0.to_owned(), text };
        let with = |bytes: &'static str| {
            move |path: &str| (path == COPY && !bytes.is_empty()).then(|| bytes.as_bytes().to_vec())
        };
        assert!(sums(&list, with(WIT)).is_empty());
        assert_eq!(sums(&list, with("other")).len(), 1);
        assert_eq!(sums(&list, with("")).len(), 1, "gone");
    }
}
