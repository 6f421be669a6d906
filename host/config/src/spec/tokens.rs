//! Tokens of the API that the configuration names.

use model::tokens::{Limits, Scope};

use super::ApiToken;
use crate::diagnostic::Report;
use crate::document::{Resource, Resources, tokens};

/// Shorter ones are guessed.
const BYTES_MIN: usize = 16;

pub(super) fn resolve(
    written: &Resources<tokens::ApiToken>,
    report: &mut Report<'_>,
) -> Vec<ApiToken> {
    let resolved = written.list.iter().filter_map(|from| {
        report.enter(format!("api token `{}`", from.name));
        let resolved = token(from, report);
        report.leave();
        resolved
    });
    resolved.collect()
}

fn token(from: &Resource<tokens::ApiToken>, report: &mut Report<'_>) -> Option<ApiToken> {
    let Some(token) = &from.value.token else {
        let help = "name a variable of the environment: `token: ${CI_TOKEN}`; `sequin token create` \
                    makes one that is shown once";
        report.error_with_help(from.place(&[]), "`token` is missing", help);
        return None;
    };
    let bytes = token.reveal().as_bytes();
    if bytes.len() < BYTES_MIN || !bytes.iter().all(u8::is_ascii_graphic) {
        let message = format!(
            "`token` must have {BYTES_MIN} or more printable ASCII characters and no space"
        );
        report.error(from.place(&["token"]), message);
    }
    let limits = from.value.resources.as_ref().map_or_else(Limits::default, |patterns| {
        if patterns.is_empty() {
            let message = "`resources` is empty: leave it out if the token is for everything";
            report.error(from.place(&["resources"]), message);
        }
        Limits::new(patterns.clone()).unwrap_or_else(|what| {
            report.error(from.place(&["resources"]), what);
            Limits::default()
        })
    });
    let Some(words) = &from.value.scopes else {
        // The predecessor's may do everything.
        let (name, scopes) = (from.name.clone(), vec![Scope::Admin]);
        return Some(ApiToken { name, token: token.clone(), scopes, limits });
    };
    if words.is_empty() {
        report.error(from.place(&["scopes"]), "`scopes` is empty: the token could do nothing");
    }
    let mut scopes: Vec<Scope> = Vec::new();
    for word in words {
        match Scope::from_word(word) {
            Some(scope) if scopes.contains(&scope) => {}
            Some(scope) => scopes.push(scope),
            None => {
                let known = Scope::ALL.map(Scope::as_str).join("`, `");
                let message = format!("there is no scope `{word}`: there are `{known}`");
                report.error(from.place(&["scopes"]), message);
            }
        }
    }
    scopes.sort();
    Some(ApiToken { name: from.name.clone(), token: token.clone(), scopes, limits })
}
