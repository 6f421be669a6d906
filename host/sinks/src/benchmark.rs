//! A sink that takes everything and keeps nothing: what is left is the cost of what comes before.
//! The engine counts.

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::sink::{Sink, SinkError, SinkKind, Verdict};

use crate::Batching;

/// Nothing.
pub(crate) struct Benchmark {
    batching: Batching,
}

impl Benchmark {
    pub(crate) fn new(batching: Batching) -> Self {
        Self { batching }
    }
}

impl Sink for Benchmark {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: self.batching.messages_max.max(1),
            bytes_max: usize::MAX,
            message_bytes_max: None,
            request_overhead: 0,
            message_overhead: 0,
            linger: self.batching.linger,
            requests_max: 1,
            grouping: Grouping::Together,
            one_route: false,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        let verdicts = vec![Verdict::Delivered; batch.messages().len()];
        Box::pin(async { Ok(verdicts) })
    }
}
