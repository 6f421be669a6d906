//! `sequin token`: tokens of an engine's API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::TokenCommand;
use crate::plugin::print;
use crate::tell;

pub(crate) fn run(command: &TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, scopes, resources, days } => {
            let scopes = (!scopes.is_empty()).then_some(scopes);
            let body = json!({
                "name": name, "scopes": scopes, "resources": resources, "expires_in_days": days,
            });
            let made = ask(Request {
                method: Method::POST,
                path: &["api_keys"],
                body: body.to_string().into_bytes(),
                ..Request::default()
            })?;
            let scopes = made.get("scopes").and_then(Value::as_array).into_iter().flatten();
            let scopes: Vec<&str> = scopes.filter_map(Value::as_str).collect();
            tell(&format!("{name} may do {}; it is shown this once:", scopes.join(", ")));
            let token = made.get("token").and_then(Value::as_str).unwrap_or_default();
            Ok(print(&format!("{token}\n")).map(drop)?)
        }
        TokenCommand::List => {
            let told = ask(Request { path: &["api_keys"], ..Request::default() })?;
            let all = told.get("data").and_then(Value::as_array);
            let lines = all.into_iter().flatten().map(|token| format!("{token}\n"));
            Ok(print(&lines.collect::<String>()).map(drop)?)
        }
        TokenCommand::Revoke { token } => {
            let path = ["api_keys", token.as_str()];
            ask(Request { method: Method::DELETE, path: &path, ..Request::default() })?;
            Ok(print(&format!("{token} is refused from now on\n")).map(drop)?)
        }
    }
}
