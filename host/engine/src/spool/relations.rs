//! Relation versions by their hash: each is hashed once, and what is read from the log is the same
//! object as what the stream brought, as long as that is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::chunk::RelationHash;
use model::relation::Relation;
use model::store::{ChangeLog, StoreError};

/// Versions remembered. A schema has far fewer; past it the memory is emptied and filled again.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Default)]
pub(crate) struct Relations(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By address. The relation is kept so that its address is not used again.
    hashes: HashMap<usize, (Arc<Relation>, RelationHash)>,
    relations: HashMap<RelationHash, Arc<Relation>>,
}

impl Relations {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hash(&self, relation: &Arc<Relation>) -> RelationHash {
        let address = Arc::as_ptr(relation).addr();
        let mut known = self.lock();
        if let Some((_, hash)) = known.hashes.get(&address) {
            return *hash;
        }
        let hash = RelationHash::of(&relation.to_bytes());
        if known.hashes.len() >= REMEMBERED_MAX {
            *known = Known::default();
        }
        known.hashes.insert(address, (Arc::clone(relation), hash));
        known.relations.entry(hash).or_insert_with(|| Arc::clone(relation));
        hash
    }

    /// The relation versions of these hashes.
    pub(super) async fn find(
        &self,
        log: &dyn ChangeLog,
        hashes: &[RelationHash],
    ) -> Result<Vec<Arc<Relation>>, StoreError> {
        let mut found = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let known = self.lock().relations.get(hash).map(Arc::clone);
            let relation = match known {
                Some(known) => known,
                None => {
                    let bytes = log.relation(*hash).await?;
                    let read = Relation::from_bytes(&bytes);
                    let read = read.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                    let mut known = self.lock();
                    let kept = known.relations.entry(*hash).or_insert_with(|| Arc::new(read));
                    Arc::clone(kept)
                }
            };
            found.push(relation);
        }
        Ok(found)
    }
}
