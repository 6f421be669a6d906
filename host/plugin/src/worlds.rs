//! The versions of the contract that are linked side by side, and what each of them has.
//!
//! A component exports the interfaces of one of them, and goes on as it is whatever came after. A
//! further one is a line in [`World::ALL`], its copy below `wit/frozen`, and what is new in it.

use model::grants::Capability;

use crate::program::Role;

/// A minor version: its patch versions link with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct World {
    /// As `0.1.`.
    prefix: &'static str,
    /// As it is linked and shown.
    version: &'static str,
    /// What can be granted in it.
    capabilities: &'static [Capability],
}

/// Where every name of the contract begins.
const PACKAGE: &str = "sequin:plugin/";

/// Interfaces without functions, which others use.
const OF_TYPES: [&str; 2] = ["types", "calls"];

/// What an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    /// Everyone has it.
    Free,
    /// It is to be granted.
    Capability(Capability),
}

impl World {
    /// All there are, the newest first.
    pub(crate) const ALL: [Self; 2] = [
        Self { prefix: "0.2.", version: "0.2.0", capabilities: &Capability::ALL },
        Self { prefix: "0.1.", version: "0.1.0", capabilities: &[] },
    ];

    /// The name of an interface, as `lifecycle`, with the version.
    pub(crate) fn interface(self, name: &str) -> String {
        format!("{PACKAGE}{name}@{}", self.version)
    }

    /// That of a role.
    pub(crate) fn role(self, role: Role) -> String {
        self.interface(role.as_str())
    }

    pub(crate) const fn capabilities(self) -> &'static [Capability] {
        self.capabilities
    }

    /// As `0.2`.
    pub(crate) fn minor(self) -> &'static str {
        self.prefix.trim_end_matches('.')
    }

    /// Whether an export is this interface, in whatever patch version: as for the linker.
    pub(crate) fn exports(self, export: &str, name: &str) -> bool {
        self.name_of(export) == Some(name)
    }

    /// What follows the package, if it is of this world.
    fn name_of(self, qualified: &str) -> Option<&str> {
        let (name, version) = qualified.strip_prefix(PACKAGE)?.split_once('@')?;
        version.starts_with(self.prefix).then_some(name)
    }

    fn import(self, import: &str) -> Option<Import> {
        let name = self.name_of(import)?;
        if name == "log" || OF_TYPES.contains(&name) {
            return Some(Import::Free);
        }
        let capability = Capability::named(name)?;
        self.capabilities.contains(&capability).then_some(Import::Capability(capability))
    }
}

/// The versions of the contract that this host has, as `0.2`, the newest first.
pub fn contracts() -> impl Iterator<Item = &'static str> {
    World::ALL.into_iter().map(World::minor)
}

/// What an import is; None if it is nothing that a plugin can have.
pub(crate) fn import(import: &str) -> Option<Import> {
    World::ALL.into_iter().find_map(|world| world.import(import))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compatible_versions_link() {
        let [new, old] = World::ALL;
        assert!(old.exports("sequin:plugin/filter@0.1.7", "filter"));
        assert!(!old.exports("sequin:plugin/filter@0.2.0", "filter"));
        assert!(new.exports("sequin:plugin/filter@0.2.0", "filter"));
        for no in ["sequin:plugin/filter", "sequin:plugin/filter@0.20.0", "a:b/filter@0.1.0"] {
            assert!(World::ALL.iter().all(|world| !world.exports(no, "filter")), "{no}");
        }
    }

    #[test]
    fn b269_what_is_no_capability_of_its_world_is_nothing() {
        for free in ["log@0.1.0", "types@0.1.3", "log@0.2.0", "calls@0.2.0"] {
            assert_eq!(import(&format!("sequin:plugin/{free}")), Some(Import::Free), "{free}");
        }
        let clock = Some(Import::Capability(Capability::Clock));
        assert_eq!(import("sequin:plugin/clock@0.2.0"), clock);
        for no in [
            "sequin:plugin/clock@0.1.0",
            "sequin:plugin/clock@0.3.0",
            "sequin:plugin/files@0.2.0",
            "sequin:plugin/clock",
            "wasi:clocks/monotonic-clock@0.2.12",
        ] {
            assert_eq!(import(no), None, "{no}");
        }
    }
}
