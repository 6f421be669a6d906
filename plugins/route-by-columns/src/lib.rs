//! A router that makes routing keys of templates over columns: where a row goes is told by the row.
//!
//! ```yaml
//! functions:
//!   - name: by-region
//!     type: routing
//!     file: plugins/route-by-columns.wasm
//!     config:
//!       table: public.poi
//!       keys:
//!         method: POST
//!         endpoint_path: /regions/{region}/pois/{id}
//!       by_action:
//!         delete: {method: DELETE}
//!       headers: {X-Region: "{region}"}
//!       defaults: {region: world}
//!       missing: fail
//! ```
//!
//! sends POI 7 of the region `alps/north` to `/regions/alps%2Fnorth/pois/7`, and one without a region
//! to `/regions/world/pois/…`.
//!
//! - **keys**: the routing keys that the documentation of the sink lists, such as `topic` of `kafka`;
//!   numbers and booleans stand as they are, texts are templates. A key that is not here keeps the
//!   sink's default.
//! - **by_action**: other keys for `insert`, `update`, `delete` or `read`, over those in `keys`.
//! - **headers**: templates too, for sinks that have headers. They become the key `headers`.
//! - **Templates**: `{column}` is the value of that column, `{@action}`, `{@schema}` and `{@table}`
//!   are what happened and where; `{{` and `}}` are braces. Texts, numbers, booleans and times are
//!   written as in messages; JSON, arrays and bytes fail the row.
//! - **Paths**: in `endpoint_path`, all of a value but letters, digits and `-._~` is percent-encoded,
//!   so that no value leaves its segment, begins a query or ends the path. A row whose value would
//!   make a segment `.` or `..`, which lead elsewhere, fails. An empty value counts as null there.
//! - **Headers**: a value with a control character, such as the end of a line, fails the row.
//! - **table**: only rows of this table are routed, named `schema.table`; those of others go where
//!   the sink sends them by default.
//! - **defaults**: texts for columns that are null. Nothing else takes them.
//! - **missing**: what becomes of a row if a value is null without a default, or not sent (an
//!   unchanged TOAST value, or the old row of a delete: there the key is all that is sent, unless the
//!   replica identity is full). `fail` (the default) fails the row; with `keep`, a key or header whose
//!   template lacks a value is not set, and the sink's default holds.
//! - **A column that the table does not have**: the row fails.

mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use sequin_plugin::serde_json::Value as Json;

use template::{Place, Template};

/// The key that is a path of a URL.
const PATH: &str = "endpoint_path";

/// The key that `headers` becomes.
const HEADERS: &str = "headers";

/// See the documentation of the crate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", from = "Fields")]
#[schemars(crate = "sequin_plugin::schemars", into = "Fields")]
pub struct RouteByColumns {
    table: Option<String>,
    /// By action, in the order of [`ACTIONS`].
    keys: [Vec<(String, Target)>; 4],
    headers: Vec<(String, Template)>,
    defaults: BTreeMap<String, String>,
    missing: Missing,
    wrong: Vec<ConfigError>,
}

const ACTIONS: [&str; 4] = ["insert", "update", "delete", "read"];

/// What a key becomes.
#[derive(Clone, Debug)]
enum Target {
    Text(Template),
    Int(i64),
    Bool(bool),
}

sequin_plugin::config! {
    /// Which routing keys to make of which columns.
    struct Fields {
        /// Only rows of this table are routed, named `schema.table`.
        table: Option<String>,
        /// Routing keys to templates, numbers or booleans.
        #[serde(default)]
        keys: BTreeMap<String, Json>,
        /// Actions to keys that they have instead.
        #[serde(default)]
        by_action: BTreeMap<String, BTreeMap<String, Json>>,
        /// Names of headers to templates.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Columns to the texts that stand for null.
        #[serde(default)]
        defaults: BTreeMap<String, String>,
        /// What becomes of a row that lacks a value.
        #[serde(default)]
        missing: Missing,
    }
}

sequin_plugin::config! {
    /// What becomes of a row that lacks a value.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    #[serde(rename_all = "lowercase")]
    enum Missing {
        /// It fails.
        #[default]
        Fail,
        /// The key keeps the sink's default.
        Keep,
    }
}

impl From<Fields> for RouteByColumns {
    fn from(fields: Fields) -> Self {
        let Fields { table, keys, by_action, headers, defaults, missing } = fields;
        let mut wrong = Vec::new();
        if table.as_ref().is_some_and(|table| !table.contains('.')) {
            wrong.push(ConfigError::new("table", "expected a name such as `public.poi`"));
        }
        if keys.is_empty() && by_action.is_empty() && headers.is_empty() {
            wrong.push(ConfigError::new("", "expected `keys`, `by_action` or `headers`"));
        }
        let usual = targets("keys", keys, !headers.is_empty(), &mut wrong);
        let mut all = ACTIONS.map(|_| usual.clone());
        for (action, keys) in by_action {
            let at = format!("by_action.{action}");
            let own = targets(&at, keys, !headers.is_empty(), &mut wrong);
            let Some(index) = ACTIONS.iter().position(|known| *known == action) else {
                let message = format!("expected one of {}", ACTIONS.join(", "));
                wrong.push(ConfigError::new(at, message));
                continue;
            };
            all[index].extend(own);
        }
        let headers = headers.into_iter().filter_map(|(name, text)| {
            let at = format!("headers.{name}");
            // RFC 9110, 5.6.2: a token.
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                wrong.push(ConfigError::new(at.clone(), "expected a name that a header can have"));
            }
            template(&text, Place::Header, &at, &mut wrong).map(|template| (name, template))
        });
        let headers = headers.collect::<Vec<_>>();
        Self {
            table,
            keys: all.map(|keys| keys.into_iter().collect()),
            headers,
            defaults,
            missing,
            wrong,
        }
    }
}

fn targets(
    at: &str,
    keys: BTreeMap<String, Json>,
    headers: bool,
    wrong: &mut Vec<ConfigError>,
) -> BTreeMap<String, Target> {
    let target = |(key, value): (String, Json)| {
        let at = format!("{at}.{key}");
        let place = if key == PATH { Place::Path } else { Place::Text };
        if key.is_empty() || (key == HEADERS && headers) {
            wrong.push(ConfigError::new(at.clone(), "expected another name"));
        }
        let target = match value {
            Json::String(text) => template(&text, place, &at, wrong).map(Target::Text),
            Json::Bool(value) => Some(Target::Bool(value)),
            Json::Number(number) if number.is_i64() => number.as_i64().map(Target::Int),
            _ => {
                let message = "expected a text, a whole number or a boolean";
                wrong.push(ConfigError::new(at, message));
                None
            }
        };
        target.map(|target| (key, target))
    };
    keys.into_iter().filter_map(target).collect()
}

fn template(text: &str, place: Place, at: &str, wrong: &mut Vec<ConfigError>) -> Option<Template> {
    match Template::parse(text, place) {
        Ok(template) => Some(template),
        Err(message) => {
            wrong.push(ConfigError::new(at, message));
            None
        }
    }
}

impl Plugin for RouteByColumns {
    // What is kept is the configuration, and nothing changes it.
    const WARM: bool = true;

    fn reads(&self) -> Reads {
        let texts = self.keys.iter().flatten().filter_map(|(_, target)| match target {
            Target::Text(template) => Some(template),
            Target::Int(_) | Target::Bool(_) => None,
        });
        let templates = texts.chain(self.headers.iter().map(|(_, template)| template));
        let reads = Reads::columns(templates.flat_map(Template::columns));
        match &self.table {
            Some(table) => reads.of_table(table),
            None => reads,
        }
    }

    fn check(&self) -> Vec<ConfigError> {
        self.wrong.clone()
    }
}

impl Route for RouteByColumns {
    fn route(&self, _sink: &str, row: &Row<'_>, keys: &mut Keys<'_>) -> Result<(), Error> {
        let action = match row.action() {
            Action::Insert => 0,
            Action::Update => 1,
            Action::Delete => 2,
            Action::Read => 3,
        };
        for (key, target) in &self.keys[action] {
            match target {
                Target::Int(value) => keys.set_int(key, *value),
                Target::Bool(value) => keys.set_bool(key, *value),
                Target::Text(template) => {
                    if let Some(text) = self.fill(template, row)? {
                        keys.set(key, text);
                    }
                }
            }
        }
        if self.headers.is_empty() {
            return Ok(());
        }
        let mut headers = BTreeMap::new();
        for (name, template) in &self.headers {
            if let Some(text) = self.fill(template, row)? {
                headers.insert(name, text);
            }
        }
        keys.set_json(HEADERS, sequin_plugin::serde_json::to_string(&headers)?);
        Ok(())
    }
}

impl RouteByColumns {
    /// None if the template lacks a value and may.
    fn fill(&self, template: &Template, row: &Row<'_>) -> Result<Option<String>, Error> {
        match template.fill(row, &self.defaults)? {
            Ok(text) => Ok(Some(text)),
            Err(_) if self.missing == Missing::Keep => Ok(None),
            Err(lacks) => Err(lacks),
        }
    }
}

sequin_plugin::export_route!(RouteByColumns);
