//! The table of destinations. A new one is a line in it, its options in `host/options` (a file with
//! `Options`, which a user writes, and `Ready`, which `Options::validate` makes of them), and its
//! part of the schema.

use crate::diagnostic::{Place, Report};
use crate::document::{Document, Resource, Sink, keys};
use crate::nearest::nearest;
use crate::tree::{self, Kind, Node};

/// What the predecessor can send to, and we cannot yet. A name leaves this list when it comes into
/// the table.
const NOT_YET: [&str; 12] = [
    "kafka",
    "sqs",
    "sns",
    "kinesis",
    "s2",
    "redis_string",
    "gcp_pubsub",
    "nats",
    "rabbitmq",
    "azure_event_hub",
    "meilisearch",
    "elasticsearch",
];

/// The predecessor's way through a queue of its own.
pub(crate) const WEBHOOK_NOT_YET: [keys::NotYet; 1] = [("via_sqs", keys::is_false)];

/// Destinations whose messages have no place that could be chosen one by one.
const UNROUTED: [&str; 5] = ["sequin_stream", "file", "stdout", "benchmark", "null"];

/// Per line: the comment, `type` in the YAML, the variant, the module of its options.
macro_rules! destinations {
    ($($(#[$comment:meta])* $name:literal $variant:ident $module:ident;)*) => {
        /// Where a sink sends to.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Destination {
            /// Messages are posted to an HTTP endpoint.
            Webhook(options::webhook::Ready),
            /// A table of a database keeps them: a change retention, and no destination of `sinks[]`.
            Retention(Box<crate::spec::Retention>),
            $($(#[$comment])* $variant(options::$module::Ready),)*
        }

        /// A destination as a user wrote it.
        pub(crate) enum Written {
            Webhook(options::webhook::Options),
            $($variant(options::$module::Options),)*
        }

        /// The types that can be run.
        pub(crate) const KNOWN: &[&str] = &["webhook", $($name),*];

        /// Hands the name of each and what holds its part of the schema to its options.
        #[cfg(test)]
        pub(crate) fn each_for_tests(hand: &mut dyn FnMut(&'static str, fn(&str))) {
            use crate::schema::check_destination;
            hand("webhook", check_destination::<options::webhook::Options>);
            $(hand($name, check_destination::<options::$module::Options>);)*
        }

        fn options(name: &str, node: &Node, report: &mut Report<'_>) -> Option<Written> {
            match name {
                "webhook" => {
                    let mut node = node.clone();
                    keys::not_yet(&mut node, &WEBHOOK_NOT_YET, report);
                    tree::read(&node, report).map(Written::Webhook)
                }
                $($name => tree::read(node, report).map(Written::$variant),)*
                _ => None,
            }
        }

        impl Written {
            /// Its `type`.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    Self::Webhook(_) => "webhook",
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// The destination, if nothing is wrong with it; what is wrong is told.
            pub(crate) fn ready(
                &self,
                document: &Document,
                endpoints: &[options::endpoint::Ready],
                sink: &Resource<Sink>,
                report: &mut Report<'_>,
            ) -> Option<Destination> {
                use crate::spec::told;
                match self {
                    Self::Webhook(options) => {
                        crate::spec::webhook(document, endpoints, sink, options, report)
                            .map(Destination::Webhook)
                    }
                    $(Self::$variant(options) => {
                        told(sink, &["destination"], options.validate(), report)
                            .map(Destination::$variant)
                    })*
                }
            }
        }
    };
}

destinations! {
    /// Rows are documents of a Typesense collection.
    "typesense" Typesense typesense;
    /// Consumers fetch the messages over HTTP.
    "sequin_stream" SequinStream sequin_stream;
    /// Messages are entries of a Redis stream.
    "redis_stream" RedisStream redis_stream;
    /// Messages are lines of a file.
    "file" File file;
    /// Messages are lines of standard output.
    "stdout" Stdout stdout;
    /// Messages are dropped, for measuring.
    "benchmark" Benchmark benchmark;
}

/// The destination that `sink_type` of a routing function means.
pub(crate) fn routed(written: &str, place: Place, report: &mut Report<'_>) -> Option<&'static str> {
    // As the predecessor's code calls it.
    let name = if written == "http_push" { "webhook" } else { modern(written) };
    let known = || KNOWN.iter().copied().filter(|name| !UNROUTED.contains(name));
    if let Some(name) = known().find(|known| *known == name) {
        return Some(name);
    }
    let all = format!("it is one of `{}`", known().collect::<Vec<_>>().join("`, `"));
    let (message, help) = if UNROUTED.contains(&name) {
        (format!("there is nothing to route at the destination `{name}`"), all)
    } else if NOT_YET.contains(&name) {
        (format!("the destination `{name}` is not supported yet"), all)
    } else {
        let guess = nearest(name, known().chain(NOT_YET));
        let help = guess.map_or(all, |known| format!("did you mean `{known}`?"));
        (format!("there is no destination `{name}`"), help)
    };
    report.error_with_help(place, format_args!("`sink_type`: {message}"), help);
    None
}

/// What was called otherwise before.
fn modern(name: &str) -> &str {
    if name == "redis" { "redis_stream" } else { name }
}

/// Reads `destination` of a sink.
pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Written> {
    if !matches!(node.kind, Kind::Map(_)) {
        let message = format!("`destination` must be a map, not {}", node.describe());
        report.error(node.place, message);
        return None;
    }
    let all = || format!("the destinations so far are `{}`", KNOWN.join("`, `"));
    let Some(kind) = node.take("type") else {
        report.error_with_help(node.place, "`destination.type` is missing", all());
        return None;
    };
    match kind.value.text().map(modern) {
        Some(name) if KNOWN.contains(&name) => options(name, &node, report),
        Some(other) if NOT_YET.contains(&other) => {
            let message = format!("the destination `{other}` is not supported yet");
            report.error_with_help(kind.value.place, message, all());
            None
        }
        Some(other) => {
            let help = match nearest(other, KNOWN.iter().copied().chain(NOT_YET)) {
                Some(known) => format!("did you mean `{known}`?"),
                None => all(),
            };
            let message = format!("there is no destination `{other}`");
            report.error_with_help(kind.value.place, message, help);
            None
        }
        None => {
            let message =
                format!("`destination.type` must be a text, not {}", kind.value.describe());
            report.error(kind.value.place, message);
            None
        }
    }
}
