//! Standard output: one message a line. Logs go to standard error.
//!
//! What was written before an error cannot be taken back: it is there twice when it works again.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::sink::{Sink, SinkError, SinkKind, Verdict};

use crate::Batching;
use crate::lines::{BYTES_MAX, lines, write};

/// Standard output, or what stands for it in a test.
pub(crate) struct Stdout<W = std::io::Stdout> {
    out: Arc<Mutex<W>>,
    batching: Batching,
}

impl<W: Write + Send + 'static> Stdout<W> {
    pub(crate) fn new(out: W, batching: Batching) -> Self {
        Self { out: Arc::new(Mutex::new(out)), batching }
    }

    async fn print(&self, batch: &Batch) -> Result<Vec<Verdict>, SinkError> {
        let (text, out) = (lines(batch), Arc::clone(&self.out));
        write(move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            // In one call: two sinks of this process do not mix their lines.
            out.write_all(&text).and_then(|()| out.flush()).map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => {
                    SinkError::unreachable("standard output is closed: its reader is gone")
                }
                _ => SinkError::unreachable(format!("standard output cannot be written: {error}")),
            })
        })
        .await?;
        Ok(vec![Verdict::Delivered; batch.messages().len()])
    }
}

impl<W: Write + Send + 'static> Sink for Stdout<W> {
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
            // The lines are written in order, up to the first that is not.
            grouping: Grouping::Together,
            one_route: false,
        }
    }

    /// Nothing tells but writing.
    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(self.print(batch))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use model::sink::Retry;

    use super::*;
    use crate::conformance::{BATCHING, writes};

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told() {
        let sink = Stdout::new(Closed, BATCHING);
        let error = sink.deliver(&writes(1..=2)).await.unwrap_err();
        assert_eq!(error.retry, Retry::Later { after: None });
        assert!(error.message.contains("standard output is closed"), "{error}");
    }
}
