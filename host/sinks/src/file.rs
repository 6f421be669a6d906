//! A file: one message a line, appended; with `sync`, delivered once the disk has it.

mod appender;

use std::sync::{Arc, Mutex, PoisonError};

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::sink::{Sink, SinkError, SinkKind, Verdict};
use options::file::Ready;

use crate::Batching;
use crate::lines::{BYTES_MAX, lines, write};
use appender::Appender;

/// A file.
pub(crate) struct File {
    appender: Arc<Mutex<Appender>>,
    batching: Batching,
}

impl File {
    pub(crate) fn new(options: Ready, batching: Batching) -> Self {
        Self { appender: Arc::new(Mutex::new(Appender::new(options))), batching }
    }

    async fn on_disk(
        &self,
        work: impl FnOnce(&mut Appender) -> Result<(), SinkError> + Send + 'static,
    ) -> Result<(), SinkError> {
        let appender = Arc::clone(&self.appender);
        // What is half done is made good at the next opening.
        write(move || work(&mut appender.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

impl Sink for File {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: self.batching.messages_max.max(1),
            bytes_max: BYTES_MAX,
            message_bytes_max: None,
            request_overhead: 0,
            // The end of its line.
            message_overhead: 1,
            linger: self.batching.linger,
            requests_max: 1,
            // What fails is cut back as a whole.
            grouping: Grouping::Together,
            one_route: false,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.on_disk(|appender| appender.check()))
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(async move {
            let text = lines(batch);
            self.on_disk(move |appender| appender.append(&text)).await?;
            Ok(vec![Verdict::Delivered; batch.messages().len()])
        })
    }
}
