//! A relative link in a document leads to a file.
//!
//! Anchors and addresses elsewhere are not followed; fenced code is not looked at.

use std::path::{Component, Path, PathBuf};

use super::Problem;
use super::tree::{File, Tree};
use crate::repository;

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let exists = |path: &Path| repository::root().join(path).exists();
    Ok(tree.with_extension("md").flat_map(|file| check_file(file, exists)).collect())
}

fn check_file(file: &File, exists: impl Fn(&Path) -> bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut fenced = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line) {
            if !exists(&resolve(&file.path, target)) {
                let message = format!("a link to `{target}`, which does not exist");
                problems.push(Problem::at(&file.path, index + 1, message));
            }
        }
    }
    problems
}

/// The relative targets of the links of a line, without their anchors.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ']).next()?;
        let target = target.split('#').next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// From the root; a target that begins with a slash is from the root already.
fn resolve(document: &str, target: &str) -> PathBuf {
    let mut path = match target.strip_prefix('/') {
        Some(_) => PathBuf::new(),
        None => Path::new(document).parent().unwrap_or(Path::new("")).to_path_buf(),
    };
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_outside_code_are_followed() {
        let text =
            "[a](b.md) [c](https://x/y) [d](#e) [f](../g.md#h)\n```\n[i](j)\n```\n[k](/l \"m\")\n";
        let file = File { path: "docs/a.md".into(), text: text.into() };
        let places = |known: &[&str]| {
            let known: Vec<_> = known.iter().map(PathBuf::from).collect();
            check_file(&file, |path| known.iter().any(|known| known == path)).len()
        };
        assert_eq!(places(&["docs/b.md", "g.md", "l"]), 0);
        assert_eq!(places(&["docs/b.md", "g.md"]), 1);
        assert_eq!(places(&[]), 3);
    }
}
