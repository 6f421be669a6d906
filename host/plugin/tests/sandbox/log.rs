//! What plugins write to the log of the engine.

use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{component, host, named};
use plugin::Role;

/// Lines of guests, on whatever thread.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
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
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn b277_a_flood_is_cut_off_and_says_whose_it_is() {
    tracing::subscriber::set_global_default(Recorder).unwrap();
    let program = host().load(&component("flood")).unwrap();
    let bind = |name: &str| {
        let config = r#"{"column": "name", "when": "flood"}"#;
        host().bind(name, &program, Role::Transform, "", config).unwrap()
    };
    let (river, neighbour) = (bind("river"), bind("neighbour"));
    // A batch that floods, and its three rows singly: one allowance for all.
    let names = ["a", "flood", "c"];
    let (flooded, calm) = tokio::join!(river.run(named(&names)), neighbour.run(named(&["a", "b"])));
    assert!(flooded[1].is_err() && calm.iter().all(Result::is_ok), "{flooded:?}");
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = &program.digest()["sha256:".len()..][..12];
    let of = |name: &str| {
        let author = format!(r#"plugin="{name}" digest="{digest}" "#);
        lines.iter().filter(|line| line.ends_with(&author)).collect::<Vec<_>>()
    };
    // 100 lines, and one that says that there were more.
    assert_eq!(of("river").len(), 101);
    assert!(of("river")[100].contains("more lines of this batch are dropped"));
    assert_eq!(of("neighbour").len(), 2);
    assert!(lines.iter().all(|line| line.len() < 1200), "cut to a kilobyte");
}
