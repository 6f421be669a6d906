//! Lines that guests write to the log.
//!
//! Guarantees that a batch writes no more than its share, with its rows that are run again counted
//! in, that no line is longer than its limit, and that none can pass for two. What a guest says is
//! its author's business: the host adds the plugin's name and digest, and no data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bindings::Level;

/// Where the lines of one batch go, and how many there may still be.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    left: Arc<AtomicU32>,
    line_bytes_max: usize,
}

/// The lines of one instance.
#[derive(Debug)]
pub(crate) struct Lines {
    plugin: Arc<str>,
    digest: Arc<str>,
    quota: Quota,
    last_error: Option<String>,
}

impl Quota {
    pub(crate) fn new(lines_max: u32, line_bytes_max: usize) -> Self {
        Self { left: Arc::new(AtomicU32::new(lines_max)), line_bytes_max }
    }

    /// Takes one line; the number left before it.
    fn take(&self) -> u32 {
        let order = Ordering::Relaxed;
        let less = |left: u32| Some(left.saturating_sub(1));
        self.left.fetch_update(order, order, less).unwrap_or_default()
    }
}

impl Lines {
    pub(crate) fn new(plugin: Arc<str>, digest: Arc<str>, quota: Quota) -> Self {
        Self { plugin, digest, quota, last_error: None }
    }

    /// What the guest wrote last as an error: after a trap, its reason.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(crate) fn write(&mut self, level: Level, message: &str) {
        let line = cut(message, self.quota.line_bytes_max).replace(char::is_control, " ");
        if level == Level::Error {
            self.last_error = Some(line.clone());
        }
        let left = self.quota.take();
        if left == 0 {
            return;
        }
        let (plugin, digest) = (&*self.plugin, short(&self.digest));
        match level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, digest, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, digest, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, digest, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, digest, "{line}"),
        }
        if left == 1 {
            tracing::warn!(target: "plugin", plugin, digest, "more lines of this batch are dropped");
        }
    }
}

/// The text up to a length, at a character's boundary.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

/// What an author wrote, in bytes: it is shown to people.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// What an author wrote, fit for a terminal: no control characters, no end in sight cut off.
pub(crate) fn shown(text: &str) -> String {
    cut(text, SHOWN_BYTES_MAX).replace(char::is_control, " ")
}

/// A digest as people compare it: its first 12 hexadecimal digits.
fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    cut(digits, 12)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Keeps the fields of events of the target `plugin`.
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Recorder {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "plugin"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            struct Fields(String);
            impl Visit for Fields {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    self.0.push_str(&format!("{field}={value:?} "));
                }
            }
            let mut fields = Fields(event.metadata().level().to_string() + " ");
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn what_an_author_wrote_is_shown_on_one_line_of_some_length() {
        assert_eq!(shown("a\n\u{1b}[31mb"), "a  [31mb");
        assert_eq!(shown(&"ž".repeat(10_000)).len(), SHOWN_BYTES_MAX);
    }

    #[test]
    fn b277_lines_of_a_batch_are_cut_and_counted() {
        let recorded = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Recorder(Arc::clone(&recorded)), || {
            let quota = Quota::new(3, 10);
            let lines = || Lines::new("p".into(), "sha256:0123456789abcdef".into(), quota.clone());
            lines().write(Level::Info, "one\ntwo \u{1b}[31m three");
            // Another instance of the same batch.
            let mut again = lines();
            for _ in 0..100 {
                again.write(Level::Warn, "more");
            }
            again.write(Level::Error, "panicked žluťoučký");
            assert_eq!(again.last_error(), Some("panicked "), "kept though not written");
        });
        let more = r#"WARN message=more plugin="p" digest="0123456789ab" "#;
        let expected = [
            r#"INFO message=one two  [ plugin="p" digest="0123456789ab" "#,
            more,
            more,
            r#"WARN message=more lines of this batch are dropped plugin="p" digest="0123456789ab" "#,
        ];
        assert_eq!(*recorded.lock().unwrap(), expected);
    }
}
