//! Configurations that were applied over the API, and where they are kept.

use std::collections::BTreeMap;

use crate::BoxFuture;
use crate::store::Epoch;
use crate::versions::{Deed, VersionsError};

type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

/// A configuration that was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// As `sequin.yaml`, with everything in it; components are named by their digest.
    pub text: String,
    /// Whose file each resource came with, by what it is called.
    pub owners: BTreeMap<String, String>,
    /// The digests of components that it names.
    pub digests: Vec<String>,
    /// By whom: claimed, not proven.
    pub by: String,
    /// In microseconds since 1970.
    pub at_us: i64,
}

/// Keeps what was applied.
pub trait AppliedConfigs: Send + Sync {
    /// What was applied last; None if nothing was.
    fn applied(&self) -> Answer<'_, Option<Applied>>;

    /// Records what is to run from now on, with signatures of components by their digest, and who did
    /// it. The one before is kept.
    fn apply(
        &self,
        epoch: Epoch,
        applied: Applied,
        signatures: Vec<(String, String)>,
        deed: Deed,
    ) -> Answer<'_, ()>;

    /// Takes back what was recorded last, which does not run after all: the one before counts again.
    fn withdraw(&self, epoch: Epoch, deed: Deed) -> Answer<'_, ()>;

    /// Signatures that came with components, by their digest.
    fn signatures(&self) -> Answer<'_, BTreeMap<String, Vec<String>>>;
}
