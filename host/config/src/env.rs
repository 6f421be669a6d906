//! `${VARIABLE}` in the texts of the tree.
//!
//! Filled in after parsing, so that a value with `: `, `#` or a line break stays one value. Keys
//! are left alone, and so is everything under `code`, as in the predecessor. Unlike there, a
//! variable that is not set is an error and not an empty text.

use crate::diagnostic::Report;
use crate::tree::{Kind, Node};

/// Defaults may hold further variables; a document that nests deeper than this means mischief.
const DEPTH_MAX: usize = 8;

/// Below it, a dollar sign is part of SQL or of a program.
const CODE: &str = "code";

/// Looks up a variable.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces, in every text below the node:
/// `${V}` and `$V` the value; `${V:-d}` and `${V:=d}` the value, or `d` if it is not set or empty;
/// `${V-d}` and `${V=d}` the value, or `d` if it is not set; `${V:+x}` and `${V+x}` the text `x`
/// if the variable is set (and, with the colon, not empty), else nothing; `$$` a dollar sign.
pub(crate) fn fill_in(node: &mut Node, env: Env<'_>, report: &mut Report<'_>) {
    match &mut node.kind {
        Kind::Text(text) if text.contains('$') => match expand(text, env, 0) {
            Ok(expanded) => *text = expanded,
            Err(Problem { message, help }) => {
                report.error_with_help(node.place, message, help);
                node.kind = Kind::Anything;
            }
        },
        Kind::List(items) => {
            for item in items {
                fill_in(item, env, report);
            }
        }
        Kind::Map(entries) => {
            for entry in entries.iter_mut().filter(|entry| entry.key != CODE) {
                fill_in(&mut entry.value, env, report);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Anything => {}
    }
}

/// Makes texts such that [`fill_in`] would make them what they are now.
pub(crate) fn escape(node: &mut Node) {
    match &mut node.kind {
        Kind::Text(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Kind::List(items) => items.iter_mut().for_each(escape),
        Kind::Map(entries) => {
            for entry in entries.iter_mut().filter(|entry| entry.key != CODE) {
                escape(&mut entry.value);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Anything => {}
    }
}

#[derive(Debug)]
struct Problem {
    message: String,
    help: &'static str,
}

const DOLLAR_HELP: &str = "a dollar sign itself is written `$$`";

fn expand(text: &str, env: Env<'_>, depth: usize) -> Result<String, Problem> {
    if depth > DEPTH_MAX {
        let message = "defaults of environment variables are nested too deeply".to_owned();
        return Err(Problem { message, help: "give the inner variable a value of its own" });
    }
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some(inside) = after.strip_prefix('{') {
            let (inside, after) = split_braces(inside)?;
            expanded.push_str(&substitute(inside, env, depth)?);
            after
        } else {
            let (name, after) = split_name(after);
            if name.is_empty() {
                expanded.push('$');
            } else {
                expanded.push_str(&required(name, env)?);
            }
            after
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The inside of `${…}`.
fn substitute(inside: &str, env: Env<'_>, depth: usize) -> Result<String, Problem> {
    let (name, operator) = split_name(inside);
    let other = || Problem {
        message: format!("`${{{name}…}}` is no form of an environment variable"),
        help: "write `${NAME}`, `${NAME:-default}` or `${NAME:+replacement}`; \
               a dollar sign itself is written `$$`",
    };
    if name.is_empty() {
        return Err(other());
    }
    let value = env(name);
    let (colon, operator) = match operator.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, operator),
    };
    let usable = value.filter(|value| !(colon && value.is_empty()));
    match operator.as_bytes().first() {
        None if !colon => required(name, env),
        Some(b'-' | b'=') => match usable {
            Some(value) => Ok(value),
            None => expand(operator.get(1..).unwrap_or_default(), env, depth + 1),
        },
        Some(b'+') if usable.is_some() => {
            expand(operator.get(1..).unwrap_or_default(), env, depth + 1)
        }
        Some(b'+') => Ok(String::new()),
        _ => Err(other()),
    }
}

fn required(name: &str, env: Env<'_>) -> Result<String, Problem> {
    env(name).ok_or_else(|| Problem {
        message: format!("the environment variable `{name}` is not set"),
        help: "set it, or give a default with `${NAME:-default}`; \
               a dollar sign itself is written `$$`",
    })
}

fn split_name(text: &str) -> (&str, &str) {
    let part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let end = text.find(|char| !part(char)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match name.starts_with(|char: char| char.is_ascii_digit()) {
        true => ("", text),
        false => (name, rest),
    }
}

/// Splits at the brace that closes one opened before.
fn split_braces(text: &str) -> Result<(&str, &str), Problem> {
    let mut open = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok((
                text.get(..at).unwrap_or_default(),
                text.get(at + 1..).unwrap_or_default(),
            ));
        }
    }
    Err(Problem { message: "`${` is not closed by `}`".to_owned(), help: DOLLAR_HELP })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "SET" => "value",
            "EMPTY" => "",
            "ODD" => "a: b # ${SET}",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn all_forms_of_the_predecessor() {
        let cases = [
            ("${SET}", "value"),
            ("$SET", "value"),
            ("a${SET}b$SET.c", "avaluebvalue.c"),
            ("${EMPTY}", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${SET:-d}", "value"),
            ("${NONE-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE=d}", "d"),
            ("${EMPTY:=d}", "d"),
            ("${SET:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE+x}", ""),
            ("${NONE:-}", ""),
            ("${NONE:-http://h:1/a?b}", "http://h:1/a?b"),
            ("${NONE:-${SET}}", "value"),
            ("${NONE:-${EMPTY:-{}}}", "{}"),
            ("$$SET ${SET}", "$SET value"),
            ("$${SET}", "${SET}"),
            ("costs 5$ or $1", "costs 5$ or $1"),
            ("$", "$"),
            // A value is not looked at again.
            ("${ODD}", "a: b # ${SET}"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &env, 0).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn b244_a_missing_variable_is_named() {
        for text in ["${NONE}", "$NONE", "${SET:+${NONE}}", "${NONE:-$NONE}"] {
            let problem = expand(text, &env, 0).unwrap_err();
            assert_eq!(problem.message, "the environment variable `NONE` is not set", "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let deep = format!("{}x{}", "${N:-".repeat(20), "}".repeat(20));
        for text in ["${SET", "${}", "${:-a}", "${SET:}", "${SET!}", "${SET:?}", "${1}", &deep] {
            expand(text, &env, 0).expect_err(text);
        }
    }
}
