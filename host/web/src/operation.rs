//! What the API can be asked: each route with its handler, what it needs, and what describes it.
//!
//! There is no other way to add a route, so that none is without a scope, a record of what it changes,
//! or its place in the OpenAPI document.

use std::collections::{BTreeMap, HashMap};

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use model::tokens::Scope;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::shape;

/// Routes, with a state of type `S` that they still need.
pub(crate) struct Routes<S = ()> {
    router: Router<S>,
    operations: Vec<Operation>,
}

/// One method of one path.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// With parameters in braces.
    pub(crate) path: String,
    /// Stable: clients that are generated call their functions by it.
    pub(crate) id: String,
    /// For people, one line.
    pub(crate) summary: String,
    /// What a token needs.
    pub(crate) scope: Scope,
    /// Whether it is told in the record of changes.
    pub(crate) is_change: bool,
    /// Whose resource the first parameter of the path names.
    pub(crate) kind: Option<&'static str>,
    /// Whether its handler looks at what a token is for.
    pub(crate) is_judged: bool,
    /// As in the document.
    pub(crate) query: Vec<Value>,
    pub(crate) headers: Vec<Value>,
    /// By content type, with its schema; and whether it may be left out.
    pub(crate) bodies: Vec<(&'static str, Value)>,
    pub(crate) needs_body: bool,
    /// What it answers when it does what it is asked for.
    pub(crate) answers: BTreeMap<u16, Answered>,
    /// Statuses of refusals, beside those that its form brings with it.
    pub(crate) refusals: Vec<u16>,
}

/// An answer.
pub(crate) struct Answered {
    /// None: it has no body.
    pub(crate) content: Option<(&'static str, Value)>,
    /// Operations that take a field of the body as a parameter: operation, parameter, field.
    pub(crate) links: Vec<[String; 3]>,
    /// Whether it has an `ETag`.
    pub(crate) has_etag: bool,
}

/// `GET`, which changes nothing and for which it is enough to be let look.
pub(crate) fn get(path: &str, id: &str, summary: &str) -> Operation {
    Operation::new(Method::GET, path, id, summary)
}

/// `POST`.
pub(crate) fn post(path: &str, id: &str, summary: &str) -> Operation {
    Operation::new(Method::POST, path, id, summary)
}

/// `PUT`.
pub(crate) fn put(path: &str, id: &str, summary: &str) -> Operation {
    Operation::new(Method::PUT, path, id, summary)
}

/// `PATCH`.
pub(crate) fn patch(path: &str, id: &str, summary: &str) -> Operation {
    Operation::new(Method::PATCH, path, id, summary)
}

/// `DELETE`.
pub(crate) fn delete(path: &str, id: &str, summary: &str) -> Operation {
    Operation::new(Method::DELETE, path, id, summary)
}

impl Operation {
    fn new(method: Method, path: &str, id: &str, summary: &str) -> Self {
        let is_read = method == Method::GET;
        Self {
            scope: if is_read { Scope::Read } else { Scope::Config },
            is_change: !is_read,
            kind: None,
            is_judged: false,
            method,
            path: path.to_owned(),
            id: id.to_owned(),
            summary: summary.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            bodies: Vec::new(),
            needs_body: true,
            answers: BTreeMap::new(),
            refusals: Vec::new(),
        }
    }

    /// Needs this scope instead.
    pub(crate) fn scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// It asks and changes nothing, whatever its method.
    pub(crate) fn asks(self) -> Self {
        Self { is_change: false, ..self }
    }

    /// The first parameter of its path names a resource of this kind.
    pub(crate) fn of(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// It looks itself at what a token is for: see [`crate::caller::may`].
    pub(crate) fn judged(self) -> Self {
        Self { is_judged: true, ..self }
    }

    /// Takes these parameters in its query.
    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query.extend(shape::parameters(shape::of::<T>()));
        self
    }

    /// Looks at this header.
    pub(crate) fn header(mut self, name: &str, told: &str) -> Self {
        self.headers.push(json!({
            "name": name, "in": "header", "required": false, "description": told,
            "schema": {"type": "string"},
        }));
        self
    }

    /// Takes JSON of this type as its body.
    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        self.takes_as("application/json", shape::of::<T>())
    }

    /// Takes a body of this content type.
    pub(crate) fn takes_as(mut self, content: &'static str, schema: Value) -> Self {
        self.bodies.push((content, schema));
        self
    }

    /// Its body may be left out.
    pub(crate) fn or_nothing(self) -> Self {
        Self { needs_body: false, ..self }
    }

    /// Answers with JSON of this schema.
    pub(crate) fn answers(self, status: StatusCode, schema: Value) -> Self {
        self.answers_as(status, "application/json", schema)
    }

    /// Answers with something else.
    pub(crate) fn answers_as(
        mut self,
        status: StatusCode,
        content: &'static str,
        schema: Value,
    ) -> Self {
        let content = Some((content, schema));
        let answered = Answered { content, links: Vec::new(), has_etag: false };
        self.answers.insert(status.as_u16(), answered);
        self
    }

    /// Answers 204.
    pub(crate) fn answers_nothing(mut self) -> Self {
        let answered = Answered { content: None, links: Vec::new(), has_etag: false };
        self.answers.insert(StatusCode::NO_CONTENT.as_u16(), answered);
        self
    }

    /// What it answers has an `ETag`.
    pub(crate) fn etag(mut self) -> Self {
        self.answers.values_mut().for_each(|answer| answer.has_etag = true);
        self
    }

    /// A field of what it answers is what another operation takes as a parameter.
    pub(crate) fn link(mut self, operation: &str, parameter: &str, field: &str) -> Self {
        let link = [operation, parameter, field].map(str::to_owned);
        self.answers.values_mut().for_each(|answer| answer.links.push(link.clone()));
        self
    }

    /// May refuse with these, too.
    pub(crate) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }

    /// With one more.
    pub(crate) fn with<T: 'static>(
        mut self,
        operation: Operation,
        handler: impl Handler<T, S>,
    ) -> Self {
        // Those that are made here are methods that have a filter.
        let filter = MethodFilter::try_from(operation.method.clone()).unwrap_or(MethodFilter::GET);
        let route: MethodRouter<S> = on(filter, handler);
        self.router = self.router.route(&operation.path, route);
        self.operations.push(operation);
        self
    }

    pub(crate) fn with_state(self, state: S) -> Routes {
        Routes { router: self.router.with_state(state), operations: self.operations }
    }
}

impl Routes {
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// The routes as they are served, and what each is.
    pub(crate) fn split(self) -> (Router, Operations) {
        (self.router, Operations(self.operations))
    }
}

/// All operations.
pub(crate) struct Operations(pub(crate) Vec<Operation>);

/// What the doorkeeper has to know of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) scope: Scope,
    pub(crate) is_change: bool,
    pub(crate) kind: Option<&'static str>,
    pub(crate) is_judged: bool,
}

impl Operations {
    /// By path and method.
    pub(crate) fn needs(&self) -> HashMap<(String, Method), Needs> {
        let of = |operation: &Operation| {
            let Operation { scope, is_change, kind, is_judged, .. } = *operation;
            let needs = Needs { scope, is_change, kind, is_judged };
            ((operation.path.clone(), operation.method.clone()), needs)
        };
        self.0.iter().map(of).collect()
    }
}
