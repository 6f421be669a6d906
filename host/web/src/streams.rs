//! Which streams there are to fetch from.

use std::sync::{Arc, PoisonError, RwLock};

use model::pull::Pull;

/// The streams of the sinks that run. They change with the configuration.
#[derive(Default)]
pub struct Streams(RwLock<Vec<Stream>>);

/// A stream with its names.
#[derive(Clone)]
pub struct Stream {
    /// The id of its sink.
    pub id: Arc<str>,
    /// The name of its sink.
    pub name: Arc<str>,
    /// It.
    pub pull: Arc<dyn Pull>,
}

impl Streams {
    /// Replaces all streams.
    pub fn set(&self, streams: Vec<Stream>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = streams;
    }

    /// The stream with this id, or else this name.
    pub(crate) fn find(&self, id_or_name: &str) -> Option<Arc<dyn Pull>> {
        let streams = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let by_id = streams.iter().find(|stream| *stream.id == *id_or_name);
        let found = by_id.or_else(|| streams.iter().find(|stream| *stream.name == *id_or_name));
        found.map(|stream| Arc::clone(&stream.pull))
    }
}
