//! Messages as lines: NDJSON, for files and standard output.

use model::batch::Batch;
use model::sink::SinkError;

/// As much as is written at once; a batch is in memory twice while it is written.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// One message per line. A line break within one can only stand between the tokens of its JSON,
/// where a space means the same.
pub(crate) fn lines(batch: &Batch) -> Vec<u8> {
    let messages = batch.messages();
    let bytes = messages.iter().map(|message| message.payload.len() + 1).sum();
    let mut lines = Vec::with_capacity(bytes);
    for message in messages {
        let spaced = |byte| {
            if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }
        };
        lines.extend(message.payload.bytes().map(spaced));
        lines.push(b'\n');
    }
    lines
}

/// Writes on a thread that may wait for a disk or a reader. If the delivery is given up, the write
/// goes on to its end.
pub(crate) async fn write(
    work: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<(), SinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(written) => written,
        Err(_) => Err(SinkError::unreachable("the write was given up")),
    }
}
