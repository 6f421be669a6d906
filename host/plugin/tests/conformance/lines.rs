//! The log, which is all that a guest is granted.

use std::sync::{Mutex, OnceLock, PoisonError};

use plugin::Role;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::guests::Guest;
use crate::rows::{all_said, rows};

over_each_guest!(each_level_reaches_the_log);

/// Lines of guests, as digest, level and text. Guests run on threads of the host, so it is there for
/// the whole process.
static LINES: Mutex<Vec<[String; 3]>> = Mutex::new(Vec::new());

struct Recorder;

#[derive(Default)]
struct Fields {
    digest: String,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "digest" {
            value.clone_into(&mut self.digest);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

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
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = [fields.digest, event.metadata().level().to_string(), fields.message];
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

async fn each_level_reaches_the_log(guest: &Guest) {
    static RECORDING: OnceLock<()> = OnceLock::new();
    RECORDING.get_or_init(|| tracing::subscriber::set_global_default(Recorder).unwrap());
    let plugin = guest.bind(Role::Transform, "{}");
    plugin.run(rows(&all_said(&["log"]))).await;
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    // Tests of other guests may share the process.
    let ours = lines.iter().filter(|[digest, ..]| {
        !digest.is_empty() && plugin.digest().strip_prefix("sha256:").unwrap().starts_with(digest)
    });
    let found: Vec<_> = ours.map(|[_, level, text]| format!("{level} {text}")).collect();
    assert_eq!(found, ["DEBUG debug", "INFO info", "WARN warn", "ERROR error"]);
}
