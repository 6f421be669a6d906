//! The table of destinations. A new one is a line in it, its options in `host/options` (a file with
//! `Options`, which a user writes, and `Ready`, which `Options::validate` makes of them), and its
//! part of the schema.

use crate::diagnostic::Report;
use crate::document::{Document, Resource, Sink};
use crate::nearest::nearest;
use crate::tree::{self, Kind, Node};

/// What the predecessor can send to, and we cannot yet. A name leaves this list when it comes into
/// the table.
const NOT_YET: [&str; 14] = [
    "kafka",
    "sqs",
    "sns",
    "kinesis",
    "s2",
    "redis_stream",
    "redis",
    "redis_string",
    "gcp_pubsub",
    "nats",
    "rabbitmq",
    "azure_event_hub",
    "meilisearch",
    "elasticsearch",
];

/// Per line: the comment, `type` in the YAML, the variant, the module of its options.
macro_rules! destinations {
    ($($(#[$comment:meta])* $name:literal $variant:ident $module:ident;)*) => {
        /// Where a sink sends to.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Destination {
            /// Messages are posted to an HTTP endpoint.
            Webhook(options::webhook::Ready),
            $($(#[$comment])* $variant(options::$module::Ready),)*
        }

        /// A destination as a user wrote it.
        pub(crate) enum Written {
            Webhook(options::webhook::Options),
            $($variant(options::$module::Options),)*
        }

        /// The types that can be run.
        pub(crate) const KNOWN: &[&str] = &["webhook", $($name),*];

        fn options(name: &str, node: &Node, report: &mut Report<'_>) -> Option<Written> {
            match name {
                "webhook" => tree::read(node, report).map(Written::Webhook),
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
    /// Messages are lines of a file.
    "file" File file;
    /// Messages are lines of standard output.
    "stdout" Stdout stdout;
    /// Messages are dropped, for measuring.
    "benchmark" Benchmark benchmark;
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
    match kind.value.text() {
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
