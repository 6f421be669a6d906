//! Components that were compiled before.

use std::path::PathBuf;

use plugin::{Host, Limits, Role};

use crate::support::component;

/// A directory of compiled components, and what it holds of a component.
struct Kept(tempfile::TempDir);

impl Kept {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// What a new process makes of the component.
    fn roles(&self, bytes: &[u8]) -> Vec<Role> {
        let host = Host::new(Limits::default()).unwrap().with_cache(self.0.path()).unwrap();
        host.load(bytes).unwrap().roles().collect()
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let digest = plugin::inspect(bytes, &Limits::default()).unwrap().digest.replace(':', "-");
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut files = entries.map(|entry| entry.unwrap().path());
        let named = |path: &PathBuf| path.to_string_lossy().contains(&digest);
        files.find(named).unwrap_or_else(|| panic!("nothing of {digest}"))
    }
}

#[test]
fn another_process_loads_what_was_compiled_and_heals_what_is_damaged() {
    let (kept, filter, transform) = (Kept::new(), component("liar"), component("mirror"));
    assert_eq!(kept.roles(&filter), [Role::Filter]);
    assert_eq!(kept.roles(&transform), [Role::Transform]);
    let file = kept.file(&filter);
    let good = std::fs::read(&file).unwrap();
    // Whoever compiled again would not be taken in by the code of another component.
    std::fs::copy(kept.file(&transform), &file).unwrap();
    assert_eq!(kept.roles(&filter), [Role::Transform]);
    for damage in [good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[damage] ^= 0x10;
        std::fs::write(&file, &bad).unwrap();
        assert_eq!(kept.roles(&filter), [Role::Filter]);
        assert!(std::fs::read(&file).unwrap() != bad, "it is written anew");
        assert_eq!(kept.roles(&filter), [Role::Filter]);
    }
}

#[test]
fn what_was_compiled_is_checked_as_what_is_compiled_now() {
    let (kept, clock, filter) = (Kept::new(), component("wants-clock"), component("liar"));
    for _ in 0..2 {
        let host = Host::new(Limits::default()).unwrap().with_cache(kept.0.path()).unwrap();
        let error = host.load(&clock).unwrap_err();
        assert!(matches!(error, plugin::Error::ImportRefused { .. }), "{error}");
    }
    // Without a cache nothing is kept.
    Host::new(Limits::default()).unwrap().load(&filter).unwrap();
    assert_eq!(std::fs::read_dir(kept.0.path()).unwrap().count(), 1);
}
