//! `sequin plugin new`: a plugin to begin with.

mod other;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::build::SDK;
use super::usage;
use crate::Failure;
use crate::cli::{Language, NewArguments, RoleName};

/// Where the SDK is in git, once it is published: its crate is on no registry.
const SDK_GIT: Option<&str> = None;

pub(crate) fn run(arguments: &NewArguments) -> Result<(), Failure> {
    let dir = &arguments.path;
    let name = dir.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name));
    let name = name.ok_or_else(|| {
        usage(format_args!(
            "{} is no name for a plugin: letters, digits, - and _, a letter first",
            dir.display()
        ))
    })?;
    let template = Template::new(arguments.role);
    let yaml = template.yaml(name);
    let language = arguments.lang;
    let (commands, steps) = other::commands(language);
    let sdk = match language {
        Language::Rust => sdk(arguments.sdk.as_deref())?,
        _ if arguments.sdk.is_some() => {
            return Err(usage("--sdk is for Rust: the other SDKs are part of this program"));
        }
        Language::C => "`sdk` is the SDK: `sequin_plugin.h` is what there is to know.".to_owned(),
        Language::Python => {
            "`sequin_plugin` is the SDK: its `__init__.py` begins with what there is \
                             to know."
                .to_owned()
        }
        Language::Js | Language::Ts => {
            "`sequin-plugin.js` is the SDK: it begins with what there is to know.".to_owned()
        }
    };
    let fill = |text: &str| {
        text.replace("{name}", name)
            .replace("{description}", template.description)
            .replace("{sdk}", &sdk)
            .replace("{role}", template.role)
            .replace("{commands}", commands)
            .replace("{yaml}", &yaml)
            .into_bytes()
    };
    let config = format!("{}\n", template.config).into_bytes();
    let messages = include_bytes!("new/messages.jsonl.txt").to_vec();
    let workflow = include_str!("new/workflow.yml.txt").replace("{steps}", steps);
    let mut files = vec![
        ("fixtures/first/config.json", config.clone()),
        ("fixtures/first/messages.jsonl", messages.clone()),
        ("fixtures/first/outcomes.jsonl", template.outcomes.as_bytes().to_vec()),
        (".github/workflows/plugin.yml", workflow.into_bytes()),
    ];
    if language == Language::Rust {
        files.extend([
            ("Cargo.toml", fill(include_str!("new/Cargo.toml.txt"))),
            (".gitignore", include_bytes!("new/gitignore.txt").to_vec()),
            ("README.md", fill(include_str!("new/README.md.txt"))),
            ("config.json", config),
            ("messages.jsonl", messages),
            ("src/lib.rs", template.code.as_bytes().to_vec()),
        ]);
    } else {
        files.push(("README.md", fill(include_str!("new/other.md.txt"))));
        files.extend(other::files(language, arguments.role, name, template.description));
    }
    let made = std::fs::create_dir(dir);
    made.map_err(|error| usage(format_args!("{} cannot be made: {error}", dir.display())))?;
    for (file, bytes) in files {
        write(&dir.join(file), &bytes)?;
    }
    super::print(&format!("{}: its README.md has the next commands\n", dir.display()))?;
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = file.parent().context("a file of a crate lies in its directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
}

/// As cargo has it for packages.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The value of the dependency: the copy that was named, the one in the repository that this
/// program was built in, or the one in git.
fn sdk(named: Option<&Path>) -> Result<String, Failure> {
    let found = match named {
        Some(dir) => {
            let whole = dir.canonicalize().ok().filter(|dir| dir.join("Cargo.toml").is_file());
            Some(whole.ok_or_else(|| {
                usage(format_args!("--sdk {}: there is no Cargo.toml in it", dir.display()))
            })?)
        }
        None => beside_this_program(),
    };
    match (found, SDK_GIT) {
        (Some(dir), _) => {
            // A literal text of JSON is one of TOML.
            let path = serde_json::to_string(&dir).context("write the path of the SDK")?;
            Ok(format!("{{ path = {path} }}"))
        }
        (None, Some(git)) => Ok(format!("{{ git = \"{git}\" }}")),
        (None, None) => Err(usage(format_args!(
            "{SDK} is on no registry yet: say where a copy is, with --sdk DIR (sdk/rust in the \
             repository of sequin)"
        ))),
    }
}

fn beside_this_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let mut sdks = program.ancestors().map(|dir| dir.join("sdk/rust"));
    sdks.find(|sdk| sdk.join("Cargo.toml").is_file())
}

/// What differs by role.
struct Template {
    role: &'static str,
    description: &'static str,
    code: &'static str,
    config: &'static str,
    outcomes: &'static str,
}

impl Template {
    fn new(role: RoleName) -> Self {
        match role {
            RoleName::Filter => Self {
                role: "filter",
                description: "Keeps the rows in which a boolean column is true.",
                code: include_str!("new/filter.rs.txt"),
                config: r#"{"column": "is_public"}"#,
                outcomes: include_str!("new/outcomes-filter.txt"),
            },
            RoleName::Transform => Self {
                role: "transform",
                description: "Adds a text in lower case, as a column of its own.",
                code: include_str!("new/transform.rs.txt"),
                config: r#"{"column": "name"}"#,
                outcomes: include_str!("new/outcomes-transform.txt"),
            },
            RoleName::Route => Self {
                role: "route",
                description: "Sends the rows of each table to a path of its own.",
                code: include_str!("new/route.rs.txt"),
                config: r#"{"below": "/changes"}"#,
                outcomes: include_str!("new/outcomes-route.txt"),
            },
        }
    }

    /// How the engine is told of it.
    fn yaml(&self, name: &str) -> String {
        if self.role == "route" {
            return format!(
                "In `sequin.yaml`, beside `routing: {name}` in a sink to a webhook:\n\n```yaml\n\
                 functions:\n  - name: {name}\n    type: routing\n    sink_type: webhook\n    file: \
                 {name}.wasm\n    config: {config}\n```",
                config = self.config,
            );
        }
        format!(
            "In `sequin.yaml`, beside `{role}: {name}` in a sink:\n\n```yaml\nfunctions:\n  - name: \
             {name}\n    type: {role}\n    file: {name}.wasm\n    config: {config}\n```",
            role = self.role,
            config = self.config,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_packages() {
        assert!(is_name("price-with-tax") && is_name("a_1"));
        for bad in ["", "1a", "a b", "-a", "é", "a.b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
