//! A configuration that was sent, laid over what runs: by kind and name, with what goes.

use std::collections::{BTreeMap, BTreeSet};

use config::moved::Moved;
use config::portable::{Id, Portable};
use model::applied::AppliedConfigs as _;
use web::ConfigRefused;

use super::apply::{Proposal, refused, sent, stored};
use super::{Reloader, moved};

/// A proposal laid over what runs.
pub(super) struct Laid {
    pub(super) base: Portable,
    /// What of it has another name in the proposal.
    pub(super) due: Vec<Moved>,
    pub(super) merged: Portable,
    pub(super) owners: BTreeMap<String, String>,
    /// Versions of plugins that the proposal itself declares.
    pub(super) declared: BTreeSet<String>,
}

impl Reloader {
    /// Lays a proposal over what runs.
    pub(super) async fn lay(&self, proposal: &Proposal) -> Result<Laid, ConfigRefused> {
        let Proposal { text, prune, prune_databases, remove, owner, .. } = proposal;
        let new = sent(text)?;
        let base = self.portable()?;
        let due = config::moved::due(&new.moved(), &base.ids().collect());
        let due = due.map_err(|what| refused(409, moved::BOTH, what))?;
        let mut owners = self.owners(&base).await?;
        for it in &due {
            let owner = owners.remove(&it.from.to_string());
            owners.extend(owner.map(|owner| (it.to.to_string(), owner)));
        }
        let runs = base.clone().renamed(&due);
        let mut gone = gone(&runs, &new, &owners, (*prune, owner));
        if let Some(database) = gone.iter().find(|id| id.kind == "database")
            && !prune_databases
        {
            let what = format!(
                "{database} would go, with all that its slot holds: keep it in the file, or say that \
                 it is meant (`--prune-databases`, `prune_databases`)"
            );
            return Err(refused(409, "database_kept", what));
        }
        gone.extend(remove.iter().cloned());
        let merged = runs.with(&new).without(&gone);
        owners.retain(|resource, _| gone.iter().all(|id| id.to_string() != *resource));
        owners.extend(new.ids().map(|id| (id.to_string(), owner.clone())));
        let declared = new.ids().filter(|id| id.kind == "plugin").map(|id| id.name).collect();
        Ok(Laid { base, due, merged, owners, declared })
    }

    /// Whose file each resource that runs came with.
    async fn owners(&self, base: &Portable) -> Result<BTreeMap<String, String>, ConfigRefused> {
        let applied = match self.source.applied() {
            Some(_) => self.store.applied().await.map_err(stored)?,
            None => None,
        };
        let mut owners = applied.map(|applied| applied.owners).unwrap_or_default();
        for id in base.ids() {
            owners.entry(id.to_string()).or_insert_with(|| "default".to_owned());
        }
        Ok(owners)
    }
}

/// What is to go: what the owner had applied and names no more.
fn gone(
    base: &Portable,
    new: &Portable,
    owners: &BTreeMap<String, String>,
    (prune, owner): (bool, &String),
) -> Vec<Id> {
    let named: BTreeSet<Id> = new.ids().collect();
    // Who may sign what is not withdrawn by saying nothing.
    let goes = |id: &Id| {
        prune
            && !named.contains(id)
            && !id.name.is_empty()
            && id.kind != "api_token"
            && owners.get(&id.to_string()) == Some(owner)
    };
    base.ids().filter(goes).collect()
}
