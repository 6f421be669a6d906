//! The record of what was changed over the API.

use std::sync::Arc;

use model::BoxFuture;
use model::versions::{Deed, Versions as _};
use store::Embedded;
use tracing::warn;

use crate::reload::now_us;

/// Keeps it in the store.
pub(crate) struct Audit(Arc<Embedded>);

impl Audit {
    pub(crate) fn new(store: Arc<Embedded>) -> Self {
        Self(store)
    }
}

impl web::Audit for Audit {
    fn note(&self, by: String, what: &'static str, subject: String) -> BoxFuture<'static, ()> {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let what = what.to_owned();
            let deed = Deed { at_us: now_us(), by, what, subject, ..Deed::default() };
            if let Err(error) = store.note(store.epoch(), deed.clone()).await {
                // It is done all the same.
                let Deed { by, what, subject, .. } = deed;
                warn!(%error, by, what, subject, "what was changed cannot be recorded");
            }
        })
    }
}
