//! The functions of a sink: those that it names must be there, and be for what it uses them for.

use model::path::Path;

use super::super::{FunctionKind, Plugin, Role};
use super::{Context, dangling};
use crate::diagnostic::Report;
use crate::document::{self, Chain, Resource};

/// What stands for the absence of a function, as in the predecessor.
const NONE: [&str; 3] = ["none", "null", "nil"];

/// What a sink does with its rows.
#[derive(Default)]
pub(super) struct Roles {
    pub(super) filters: Vec<String>,
    pub(super) routers: Vec<String>,
    pub(super) transforms: Vec<String>,
    pub(super) path: Option<Path>,
}

pub(super) fn resolve(
    context: &Context<'_>,
    sink: &Resource<document::Sink>,
    report: &mut Report<'_>,
) -> Roles {
    let fields = &sink.value.fields;
    let mut roles = Roles::default();
    for (at, name) in chain(sink, "filter", fields.filter.as_ref(), report) {
        if let Some(kind) = find(context, sink, &at, name, report) {
            match kind {
                FunctionKind::Plugin(Plugin { role: Role::Filter, .. }) => {}
                _ => wrong(context, sink, &at, name, "no filter", report),
            }
        }
        roles.filters.push(name.to_owned());
    }
    for (at, name) in chain(sink, "routing", fields.routing.as_ref(), report) {
        match find(context, sink, &at, name, report) {
            Some(FunctionKind::Plugin(Plugin { role: Role::Route, sink_type, .. })) => {
                let destination = sink.value.destination_type();
                if sink_type != destination && !destination.is_empty() {
                    let message = format!(
                        "the function `{name}` routes for `{sink_type}`, and this sink's \
                         destination is `{destination}`"
                    );
                    let help = "use a routing function with the `sink_type` of the destination";
                    report.error_with_help(place(sink, &at), message, help);
                }
            }
            Some(_) => wrong(context, sink, &at, name, "no routing function", report),
            None => {}
        }
        roles.routers.push(name.to_owned());
    }
    let transforms = chain(sink, "transform", fields.transform.as_ref(), report);
    for (at, name) in &transforms {
        match find(context, sink, at, name, report) {
            Some(FunctionKind::Path(_)) if transforms.len() > 1 => {
                let message = format!("the path function `{name}` must be the only transform");
                let help = "what it leaves is no row that another transform could work on";
                report.error_with_help(place(sink, at), message, help);
            }
            Some(FunctionKind::Path(path)) => {
                roles.path = Some(path.clone());
                continue;
            }
            Some(FunctionKind::Plugin(Plugin { role: Role::Transform, .. })) | None => {}
            Some(_) => wrong(context, sink, at, name, "no transform", report),
        }
        roles.transforms.push((*name).to_owned());
    }
    roles
}

/// The SQL of an enrichment function.
pub(super) fn enrichment<'a>(
    context: &'a Context<'_>,
    sink: &Resource<document::Sink>,
    at: &[&str],
    name: &str,
    report: &mut Report<'_>,
) -> Option<&'a str> {
    let at: Vec<String> = at.iter().map(|step| (*step).to_owned()).collect();
    match find(context, sink, &at, name, report)? {
        FunctionKind::Enrichment(sql) => Some(sql),
        _ => {
            wrong(context, sink, &at, name, "no enrichment", report);
            None
        }
    }
}

/// Whether the name stands for no function.
pub(super) fn is_none(name: &str) -> bool {
    NONE.contains(&name)
}

/// The names of a chain, each with where it is written.
fn chain<'a>(
    sink: &Resource<document::Sink>,
    key: &str,
    given: Option<&'a Chain>,
    report: &mut Report<'_>,
) -> Vec<(Vec<String>, &'a str)> {
    let names = match given {
        None => return Vec::new(),
        Some(Chain::One(name)) if is_none(name) => return Vec::new(),
        Some(Chain::One(name)) => return vec![(vec![key.to_owned()], name)],
        Some(Chain::Several(names)) => names,
    };
    let mut chain: Vec<(Vec<String>, &str)> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let at = vec![key.to_owned(), index.to_string()];
        if is_none(name) {
            let message = format!("`{name}` cannot stand in a list");
            let help = format!("take it out; without any function, write `{key}: none`");
            report.error_with_help(place(sink, &at), message, help);
        } else if chain.iter().any(|(_, other)| other == name) {
            let message = format!("`{key}` names the function `{name}` twice");
            report.error(place(sink, &at), message);
        } else {
            chain.push((at, name));
        }
    }
    chain
}

fn find<'a>(
    context: &'a Context<'_>,
    sink: &Resource<document::Sink>,
    at: &[String],
    name: &str,
    report: &mut Report<'_>,
) -> Option<&'a FunctionKind> {
    let known = &context.document.functions;
    if !known.may_know(name) {
        let at: Vec<&str> = at.iter().map(String::as_str).collect();
        dangling(sink, &at, "function", name, &known.names, report);
    }
    context.functions.iter().find(|function| function.name == *name).map(|function| &function.kind)
}

fn wrong(
    context: &Context<'_>,
    sink: &Resource<document::Sink>,
    at: &[String],
    name: &str,
    what: &str,
    report: &mut Report<'_>,
) {
    let mut functions = context.document.functions.list.iter();
    let is = functions.find(|function| function.name == *name).map(|found| found.value.describe());
    let message = format!("the function `{name}` is {what}");
    match is {
        Some(is) => report.error_with_help(place(sink, at), message, format!("it is {is}")),
        None => report.error(place(sink, at), message),
    }
}

fn place(sink: &Resource<document::Sink>, at: &[String]) -> crate::diagnostic::Place {
    let at: Vec<&str> = at.iter().map(String::as_str).collect();
    sink.place(&at)
}
