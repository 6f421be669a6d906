//! `sequin context`: engines by names, so that commands need no variables.
//!
//! They are in one file of the user's own (mode 0600): names, addresses, and where a token is, or the
//! token itself, which is read from standard input and never from the command line.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Failure;
use crate::cli::ContextCommand;
use crate::plugin::{print, usage};
use crate::settings::environment;

/// Where the file is, if not among the user's settings.
const FILE: &str = "SEQUIN_CONTEXTS";
/// Which context, if not the one that was chosen last.
const WHICH: &str = "SEQUIN_CONTEXT";
/// Nobody but the user.
const MODE: u32 = 0o600;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    contexts: BTreeMap<String, Context>,
}

/// An engine. At most one of the tokens is there; without one, `SEQUIN_API_TOKEN` counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// The engine that is meant.
pub(crate) struct Meant {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

/// The context that counts, if there is one.
///
/// # Errors
/// The file cannot be read, or the context or its token is not there.
pub(crate) fn meant() -> Result<Option<Meant>, Failure> {
    let path = file();
    let wanted = environment(WHICH);
    let Some(contexts) = path.as_deref().map(read).transpose()?.flatten() else {
        return match wanted {
            None => Ok(None),
            Some(name) => Err(usage(format_args!("{WHICH}: there is no context `{name:.100}`"))),
        };
    };
    let Some(name) = wanted.or(contexts.current) else { return Ok(None) };
    let Some(context) = contexts.contexts.get(&name) else {
        return Err(usage(format_args!(
            "there is no context `{name:.100}`: `sequin context list`"
        )));
    };
    let token = match context {
        Context { token: Some(token), .. } => Some(token.clone()),
        Context { token_env: Some(variable), .. } => {
            Some(environment(variable).ok_or_else(|| {
                usage(format_args!(
                    "context `{name}` has its token in {variable}, which is not set"
                ))
            })?)
        }
        Context { token_file: Some(file), .. } => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| {
                usage(format_args!("context `{name}`, token file {}: {error}", file.display()))
            })?;
            Some(text.trim().to_owned())
        }
        _ => None,
    };
    Ok(Some(Meant { url: context.url.clone(), token }))
}

pub(crate) fn run(command: &ContextCommand) -> Result<(), Failure> {
    let path = file().ok_or_else(|| {
        usage(format_args!("where contexts are kept is not known: set {FILE}, or HOME"))
    })?;
    let mut contexts = read(&path)?.unwrap_or_default();
    match command {
        ContextCommand::List => {
            let lines = contexts.contexts.iter().map(|(name, context)| {
                let Context { url, token_env, token_file, token } = context;
                let told = json!({
                    "name": name, "current": contexts.current.as_ref() == Some(name), "url": url,
                    "token_env": token_env, "token_file": token_file, "token": token.is_some(),
                });
                format!("{told}\n")
            });
            return Ok(print(&lines.collect::<String>()).map(drop)?);
        }
        ContextCommand::Add { name, url, token_env, token_file, token_stdin } => {
            let given =
                Url::parse(url).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
            let given =
                given.ok_or_else(|| usage(format_args!("`{url:.200}` is no http or https URL")))?;
            if !given.username().is_empty() || given.password().is_some() {
                return Err(usage(
                    "the URL holds a login: give the token by file, variable or input",
                ));
            }
            let token = token_stdin.then(|| {
                let mut text = String::new();
                let read = std::io::stdin().read_to_string(&mut text);
                read.map(|_| text.trim().to_owned())
            });
            let token = token
                .transpose()
                .map_err(|error| usage(format_args!("standard input: {error}")))?;
            if token.as_deref() == Some("") {
                return Err(usage("there is no token at standard input"));
            }
            let (token_env, token_file) = (token_env.clone(), token_file.clone());
            // A path of somewhere else means nothing later.
            let token_file = token_file.map(|file| std::path::absolute(&file).unwrap_or(file));
            let context = Context { url: url.clone(), token_env, token_file, token };
            contexts.contexts.insert(name.clone(), context);
            contexts.current.get_or_insert_with(|| name.clone());
        }
        ContextCommand::Use { name } => {
            if !contexts.contexts.contains_key(name) {
                let known: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
                let known = known.join(", ");
                return Err(usage(format_args!(
                    "there is no context `{name:.100}`; there are: {known}"
                )));
            }
            contexts.current = Some(name.clone());
        }
        ContextCommand::Remove { name } => {
            if contexts.contexts.remove(name).is_none() {
                return Err(usage(format_args!("there is no context `{name:.100}`")));
            }
            contexts.current = contexts.current.filter(|current| current != name);
        }
    }
    write(&path, &contexts).map_err(|error| usage(format_args!("{}: {error}", path.display())))?;
    let current = contexts.current.as_deref().unwrap_or("none: this machine's engine is asked");
    Ok(print(&format!("the context is {current}\n")).map(drop)?)
}

fn file() -> Option<PathBuf> {
    if let Some(file) = environment(FILE) {
        return Some(file.into());
    }
    let settings = environment("XDG_CONFIG_HOME").map(PathBuf::from);
    let settings =
        settings.or_else(|| Some(PathBuf::from(environment("HOME")?).join(".config")))?;
    Some(settings.join("sequin").join("contexts.json"))
}

/// None if it is not there.
fn read(path: &Path) -> Result<Option<Contexts>, Failure> {
    let failed = |error: &dyn std::fmt::Display| usage(format_args!("{}: {error}", path.display()));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mode = std::fs::metadata(path).map_err(|error| failed(&error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(failed(&format_args!(
            "others can read it, and it may hold tokens: `chmod 600` it"
        )));
    }
    serde_json::from_str(&text).map(Some).map_err(|error| failed(&error))
}

/// Whole or not at all, and never readable by others.
fn write(path: &Path, contexts: &Contexts) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
    let beside = path.with_extension("part");
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&beside)?;
    // One that a kill left behind has the mode that it had.
    file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    file.write_all(&serde_json::to_vec_pretty(contexts)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
