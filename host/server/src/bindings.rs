//! What sinks are bound to: what `sequin.yaml` says, unless somebody holds it.
//!
//! A hold wins over the file, at a start too: whoever went back at night is not undone by the next
//! apply or restart. All else of that apply is done: a hold on one chain must keep nobody from
//! changing a password, and no engine from starting. It ends when it is released, or when the file
//! says the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::Spec;
use config::spec::{Component, Sink};
use model::applied::AppliedConfigs as _;
use model::grants::KeyValue;
use model::versions::{
    Binding, BindingName, Generation, Hold, How, Link, Made, Role, Version, Versions, VersionsError,
};
use store::{Embedded, FunctionStore};

use crate::arrivals::Arrivals;

/// What is known of versions and bindings while a configuration is built.
#[derive(Clone)]
pub(crate) struct Known {
    versions: Vec<Version>,
    pub(crate) bindings: BTreeMap<BindingName, Binding>,
    /// Functions whose component is this, whatever the spec names.
    pub(crate) pins: BTreeMap<String, String>,
    /// Components that came with a configuration.
    brought: Vec<Brought>,
    /// Components that should have come and cannot be used, by `name@version` or digest, and why.
    problems: BTreeMap<String, String>,
    /// Signatures that came with components, by their digest.
    signatures: BTreeMap<String, Vec<String>>,
    /// Nothing is to be written.
    is_trial: bool,
    store: Arc<Embedded>,
}

/// A component that comes with a configuration, looked at.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    pub(crate) digest: String,
    pub(crate) bytes: Arc<Vec<u8>>,
    /// What it is to be known as; None: by its digest alone.
    pub(crate) version: Option<Version>,
    pub(crate) signatures: Vec<String>,
}

impl Brought {
    /// Whether it is that version.
    pub(crate) fn is(&self, name: &str, version: &str) -> bool {
        self.version.as_ref().is_some_and(|it| it.name == name && it.version == version)
    }
}

/// One chain of a sink as it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) links: Vec<Link>,
    /// `sequin.yaml` says something else, and this is why that is not done.
    pub(crate) refused: Option<Hold>,
    /// There was a hold, and `sequin.yaml` says the same by now.
    pub(crate) met: bool,
}

/// By sink and role.
pub(crate) type Chains = BTreeMap<BindingName, Chain>;

impl Known {
    /// What the store has.
    pub(crate) async fn read(store: &Arc<Embedded>) -> Result<Self, VersionsError> {
        let versions = store.versions().await?;
        let bindings = store.bindings().await?.into_iter();
        let bindings = bindings.map(|binding| (binding.name.clone(), binding)).collect();
        let signatures = store.signatures().await?;
        let (pins, brought, problems) = Default::default();
        let store = Arc::clone(store);
        let is_trial = false;
        Ok(Self { versions, bindings, pins, brought, problems, signatures, is_trial, store })
    }

    /// As if this had come already, and nothing is to be written.
    pub(crate) fn trying(self, brought: Vec<Brought>) -> Self {
        let arrivals = Arrivals { brought, ..Arrivals::default() };
        Self { is_trial: true, ..self.with(arrivals) }
    }

    /// With what comes with a configuration.
    pub(crate) fn with(mut self, arrivals: Arrivals) -> Self {
        let Arrivals { brought, problems } = arrivals;
        for Brought { digest, version, signatures, .. } in &brought {
            self.signatures.entry(digest.clone()).or_default().extend(signatures.iter().cloned());
            let same =
                |it: &Version, new: &Version| it.name == new.name && it.version == new.version;
            if let Some(new) = version
                && !self.versions.iter().any(|it| same(it, new))
            {
                self.versions.push(new.clone());
            }
        }
        self.brought.extend(brought);
        self.problems.extend(problems);
        self
    }

    /// What versions are that a configuration declares and that are here, by `name@version`.
    pub(crate) fn digests_of(&self, spec: &Spec) -> BTreeMap<String, String> {
        let found = spec.versions.iter().filter_map(|declared| {
            let is_it = |it: &&Version| it.name == declared.name && it.version == declared.version;
            let known = self.versions.iter().find(is_it)?;
            Some((format!("{}@{}", known.name, known.version), known.digest.clone()))
        });
        found.collect()
    }

    /// What came with the configuration.
    pub(crate) fn brought(&self) -> &[Brought] {
        &self.brought
    }

    /// What is wrong with components that should have come with it.
    pub(crate) fn problems(&self) -> &BTreeMap<String, String> {
        &self.problems
    }

    /// The bytes of what was uploaded; None if nothing of that name or digest was.
    pub(crate) fn component(&self, component: &Component) -> Option<Result<Vec<u8>, String>> {
        let digest = match component {
            Component::File(_) => return None,
            Component::Digest(digest) => digest,
            Component::Named { name, version } => {
                let is_it = |it: &&Version| it.name == *name && it.version == *version;
                &self.versions.iter().find(is_it)?.digest
            }
        };
        if let Some(brought) = self.brought.iter().find(|it| it.digest == *digest) {
            return Some(Ok(brought.bytes.to_vec()));
        }
        match self.store.bytes(digest) {
            Err(VersionsError::Refused { code: "unknown_digest", .. })
                if matches!(component, Component::Digest(_)) =>
            {
                None
            }
            bytes => Some(bytes.map_err(|error| error.to_string())),
        }
    }

    /// Keeps the bytes of what is used, so that a generation can be gone back to when its file is
    /// another by then.
    pub(crate) fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), VersionsError> {
        if self.is_trial { Ok(()) } else { self.store.keep(digest, bytes) }
    }

    /// Where a function keeps its values.
    pub(crate) fn kept_by(&self, function: &str) -> Arc<dyn KeyValue> {
        Arc::new(FunctionStore::new(Arc::clone(&self.store), function))
    }

    /// What a component is called where it was uploaded.
    pub(crate) fn names(&self, digest: &str) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(move |version| version.digest == *digest)
    }

    /// The signatures that a component came with.
    pub(crate) fn signatures(&self, digest: &str) -> impl Iterator<Item = &String> {
        let uploads = self.names(digest).flat_map(|version| &version.signatures);
        self.signatures.get(digest).into_iter().flatten().chain(uploads)
    }

    /// As if this had been recorded already.
    pub(crate) fn having(mut self, made: &Made) -> Self {
        let Made { name, generation, .. } = made;
        let hold = made.hold.then(|| Hold {
            refused: made.refused,
            generation: generation.number,
            by: generation.by.clone(),
            reason: generation.reason.clone(),
            at_us: generation.at_us,
        });
        let binding = Binding { name: name.clone(), current: generation.clone(), hold };
        self.bindings.insert(name.clone(), binding);
        self
    }

    /// What somebody holds, whatever `sequin.yaml` wants.
    pub(crate) fn held(&self, name: &BindingName) -> Option<Chain> {
        let binding = self.bindings.get(name)?;
        let (links, hold) = (binding.current.links.clone(), binding.hold.clone()?);
        Some(Chain { links, refused: Some(hold), met: false })
    }

    /// The chain that runs where `sequin.yaml` wants this one.
    pub(crate) fn decide(&self, name: &BindingName, wanted: Vec<Link>) -> Chain {
        let binding = self.bindings.get(name);
        match binding.and_then(|binding| Some((&binding.current, binding.hold.as_ref()?))) {
            None => Chain { links: wanted, ..Chain::default() },
            Some((current, hold)) if current.links == wanted => {
                // Where it never said anything else, the next apply may undo what was held.
                Chain { links: wanted, refused: None, met: hold.refused }
            }
            Some((current, hold)) => {
                Chain { links: current.links.clone(), refused: Some(hold.clone()), met: false }
            }
        }
    }

    /// The generations that these chains are, where they are other than the last ones.
    pub(crate) fn made(&self, chains: &Chains, at_us: i64) -> Vec<Made> {
        let made = |(name, chain): (&BindingName, &Chain)| {
            let current = self.bindings.get(name).map(|binding| &binding.current);
            let same = current.map_or(chain.links.is_empty(), |it| it.links == chain.links);
            let generation = Generation {
                number: current.map_or(0, |current| current.number) + 1,
                links: chain.links.clone(),
                how: How::Apply,
                by: "sequin.yaml".to_owned(),
                reason: String::new(),
                at_us,
                behind: None,
            };
            (!same).then(|| Made { name: name.clone(), generation, hold: false, refused: false })
        };
        chains.iter().filter_map(made).collect()
    }
}

/// The functions of a sink for a role.
pub(crate) fn functions(sink: &Sink, role: Role) -> &[String] {
    match role {
        Role::Filter => &sink.filters,
        Role::Route => &sink.routers,
        Role::Transform => &sink.transforms,
    }
}

/// What is told where a hold keeps the file from being done.
pub(crate) fn held(name: &BindingName, hold: &Hold) -> String {
    let mut at = String::new();
    model::json::timestamp(&mut at, hold.at_us);
    format!(
        "held: the {name} stays at generation {}, which `{}` made at {at} because: {}. What \
         sequin.yaml says of it is not done; all else is. Let sequin.yaml say the same, or release \
         it: `sequin plugin release {} --role {}`",
        hold.generation,
        hold.by,
        if hold.reason.is_empty() { "no reason was given" } else { &hold.reason },
        name.sink,
        name.role,
    )
}

/// The chains that run differently from before.
pub(crate) fn changed<'a>(old: &'a Chains, new: &'a Chains, sink: &str) -> Vec<Role> {
    let links = |chains: &'a Chains, role| {
        let chain = chains.get(&BindingName { sink: sink.to_owned(), role });
        chain.map_or(&[][..], |chain| &chain.links)
    };
    Role::ALL.into_iter().filter(|role| links(old, *role) != links(new, *role)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(digest: &str) -> Link {
        Link { function: "f".into(), digest: digest.into(), config: "{}".into() }
    }

    fn name() -> BindingName {
        BindingName { sink: "s".into(), role: Role::Filter }
    }

    async fn known(hold: bool) -> (tempfile::TempDir, Known) {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let known = Known::read(&store).await.unwrap();
        let chains = Chains::from([(name(), Chain { links: vec![link("1")], ..Chain::default() })]);
        let [made] = &known.made(&chains, 7)[..] else { panic!() };
        let known = known.having(&Made { hold, ..made.clone() });
        (directory, known)
    }

    #[tokio::test]
    async fn b270_a_hold_wins_until_the_file_says_the_same() {
        let (_directory, held) = known(true).await;
        let chain = held.decide(&name(), vec![link("2")]);
        assert_eq!((&chain.links, chain.met), (&vec![link("1")], false));
        assert_eq!(chain.refused.as_ref().map(|hold| hold.generation), Some(1));
        let chains = Chains::from([(name(), chain)]);
        assert_eq!(held.made(&chains, 8), [], "nothing is other");
        let met = held.decide(&name(), vec![link("1")]);
        assert_eq!((met.refused, met.met), (None, false), "it never said anything else");
        let mut said = held.clone();
        let hold = said.bindings.get_mut(&name()).unwrap().hold.as_mut().unwrap();
        hold.refused = true;
        let met = said.decide(&name(), vec![link("1")]);
        assert_eq!((met.refused, met.met), (None, true));
        let (_directory, free) = known(false).await;
        let chain = free.decide(&name(), vec![link("2")]);
        assert_eq!((&chain.links, &chain.refused), (&vec![link("2")], &None));
        let [made] = &free.made(&Chains::from([(name(), chain)]), 8)[..] else { panic!() };
        assert_eq!((made.generation.number, made.hold), (2, false));
    }

    #[tokio::test]
    async fn b250_a_chain_that_is_gone_is_a_generation_of_nothing() {
        let (_directory, free) = known(false).await;
        let chains = Chains::from([(name(), free.decide(&name(), Vec::new()))]);
        let [made] = &free.made(&chains, 8)[..] else { panic!() };
        assert_eq!((made.generation.number, made.generation.links.len()), (2, 0));
    }

    #[test]
    fn b270_a_refusal_says_who_when_and_why() {
        let hold = Hold {
            refused: true,
            generation: 3,
            by: "ann".into(),
            reason: "it drops rows".into(),
            at_us: 0,
        };
        let told = held(&name(), &hold);
        for part in ["held:", "generation 3", "ann", "1970-01-01", "it drops rows", "release s"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
