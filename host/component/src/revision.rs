//! The commit of a plugin's sources.

use std::path::Path;
use std::process::{Command, Stdio};

/// The last commit that touched what a plugin is built of: all of `sources`, without `except`, which
/// is what the build itself writes there.
///
/// It is not the commit that is checked out, because the revision is part of the digest: a commit to
/// anything else must not look like a new plugin. With changes that are not committed, in a shallow
/// clone, which does not know when a file was last touched, or with sources in several repositories
/// there is no revision rather than a wrong one; likewise without git.
#[must_use]
pub fn revision(dir: &Path, sources: &[&Path], except: &[&Path]) -> Option<String> {
    let git = |arguments: &[&str], of_sources: bool| {
        let mut git = Command::new("git");
        git.current_dir(dir).args(arguments);
        if of_sources {
            git.arg("--").args(sources);
            git.args(except.iter().map(|path| format!(":(exclude){}", path.display())));
        }
        let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let clean = git(&["status", "--porcelain"], true)?.is_empty();
    let whole = git(&["rev-parse", "--is-shallow-repository"], false)? == "false";
    let commit = git(&["log", "-1", "--format=%H"], true)?;
    (clean && whole && !commit.is_empty()).then_some(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        let mut git = Command::new("git");
        git.current_dir(dir).args(identity).args(arguments).stdout(Stdio::null());
        assert!(git.status().unwrap().success(), "{arguments:?}");
    }

    #[test]
    fn a_revision_is_that_of_the_sources_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (root, plugin) = (dir.path(), dir.path().join("plugin"));
        let of = |except: &[&Path]| revision(&plugin, &[&plugin], except);
        std::fs::create_dir(&plugin).unwrap();
        assert_eq!(of(&[]), None, "no repository");
        let commit = |file: &str| {
            std::fs::write(root.join(file), file).unwrap();
            git(root, &["add", "."]);
            git(root, &["commit", "--quiet", "--message", file]);
        };
        git(root, &["init", "--quiet"]);
        commit("plugin/a");
        let first = of(&[]).unwrap();
        assert_eq!(first.len(), 40);
        commit("elsewhere");
        assert_eq!(of(&[]), Some(first.clone()), "a commit to something else");
        let built = plugin.join("plugin.wasm");
        std::fs::write(&built, "").unwrap();
        assert_eq!(of(&[&built]), Some(first.clone()), "what the build writes");
        assert_eq!(of(&[]), None, "a file that is not committed");
        commit("plugin/b");
        assert_ne!(of(&[]).unwrap(), first);
        assert_eq!(
            revision(&plugin, &[&plugin, Path::new("/")], &[]),
            None,
            "several repositories"
        );
    }
}
