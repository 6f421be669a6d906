//! What a component must stand before it becomes a version.
//!
//! Its bytes are looked at first, which runs and compiles nothing. Then it is compiled and asked to
//! describe itself in a process of its own, with limits of the kernel on CPU time and memory: what is
//! made to exhaust a compiler ends there, and the engine goes on.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use config::spec::Signatures;
use model::store::StoreError;
use model::versions::{Version, VersionsError, check_name, check_version};
use plugin::{Error, Inspection, Limits};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use web::Upload;

use crate::plugin as command;
use crate::settings::Settings;
use crate::{Failure, signatures, wiring};

/// By the clock, on a machine that does other things: so many times the CPU time.
const WALL: u32 = 2;
/// What the process may write to; a Python guest's compiler takes 0.6 GB.
const MEMORY_BYTES: u64 = 3 << 30;
/// Of what a guest says of itself.
const DESCRIBED_BYTES_MAX: usize = 4 << 20;

type Refusal = VersionsError;

/// What can be told of the bytes: the version that they are to be, without its description.
pub(crate) fn check(
    upload: Upload,
    bytes: Vec<u8>,
    policy: Option<&Signatures>,
) -> Result<(Version, Vec<u8>), Refusal> {
    let found = look(&bytes)?;
    if let Some(wanted) = upload.digest.as_ref().filter(|wanted| **wanted != found.digest) {
        let what = format!(
            "what arrived is {}, not {wanted:.100}: it was changed on its way",
            found.digest
        );
        return Err(Refusal::refused("digest_mismatch", what));
    }
    let name = agreed("name", upload.name, found.name.as_deref())?;
    let version = agreed("version", upload.version, found.version.as_deref())?;
    check_name(&name).map_err(|what| Refusal::refused("bad_name", what))?;
    check_version(&version).map_err(|what| Refusal::refused("bad_version", what))?;
    if let Some(policy) = policy {
        // What is signed are the bytes: the name must be in them, or a signature would go with any.
        if found.name.as_deref() != Some(&name) || found.version.as_deref() != Some(&version) {
            let what = format!(
                "signatures are asked for, and the component does not say itself that it is \
                 {name}@{version}: build it so that its metadata has name and version"
            );
            return Err(Refusal::refused("name_unsigned", what));
        }
        signatures::check(policy, &name, &bytes, &upload.signatures)?;
    }
    let metadata = Value::Object(command::told(&found)).to_string();
    let version = Version {
        name,
        version,
        bytes: bytes.len() as u64,
        digest: found.digest,
        metadata,
        signatures: upload.signatures,
        comment: upload.comment,
        by: upload.by,
        at_us: 0,
    };
    Ok((version, bytes))
}

/// What bytes are that could be a version, whatever they are called.
pub(crate) fn look(bytes: &[u8]) -> Result<Inspection, Refusal> {
    let found = plugin::inspect(bytes, &Limits::default()).map_err(|error| refusal(&error))?;
    if !found.refused.is_empty() {
        let what = format!("it imports {}, which no plugin is granted", found.refused.join(", "));
        return Err(Refusal::refused("import_refused", what));
    }
    claims(&found)?;
    Ok(found)
}

/// What its author claims must be what it is.
fn claims(found: &Inspection) -> Result<(), Refusal> {
    let Some(sdk) = &found.sdk else { return Ok(()) };
    let lies = |what: String| Err(Refusal::refused("metadata_mismatch", what));
    let Ok(Value::Object(sdk)) = serde_json::from_str::<Value>(sdk) else {
        return lies("its section `sequin:plugin` is no JSON object".to_owned());
    };
    if let Some(world) = sdk.get("world") {
        let world = world.as_str().unwrap_or_default();
        let is_of = |contract: &str| {
            let version = world.strip_prefix("sequin:plugin@");
            let patch = version.and_then(|version| version.strip_prefix(contract));
            patch.is_some_and(|patch| patch.starts_with('.'))
        };
        if !plugin::contracts().any(is_of) {
            let all: Vec<String> = plugin::contracts().map(|it| format!("@{it}")).collect();
            let what = format!(
                "it says that it is written for {world:?}; this host has sequin:plugin {}",
                all.join(" and ")
            );
            return Err(Refusal::refused("unknown_world", what));
        }
        if !is_of(found.contract) {
            let contract = found.contract;
            return lies(format!(
                "it says that it is written for {world:?}, and is of @{contract}"
            ));
        }
    }
    let claimed = sdk.get("roles").and_then(Value::as_array).into_iter().flatten();
    for role in claimed {
        let role = role.as_str().unwrap_or_default();
        if !found.roles.iter().any(|has| has.as_str() == role) {
            return lies(format!("it says that it is a {role:?}, and exports nothing of that"));
        }
    }
    Ok(())
}

/// What is asked for and what the component says: both must be the same, and one must be there.
fn agreed(what: &str, asked: Option<String>, found: Option<&str>) -> Result<String, Refusal> {
    match (asked, found) {
        (Some(asked), Some(found)) if asked != found => {
            let text = format!(
                "it is pushed with the {what} `{asked:.100}`, and says itself that it is `{found:.100}`"
            );
            Err(Refusal::refused("metadata_mismatch", text))
        }
        (Some(asked), _) => Ok(asked),
        (None, Some(found)) => Ok(found.to_owned()),
        (None, None) => {
            let code = if what == "name" { "bad_name" } else { "bad_version" };
            let text = format!("the component says no {what}, and none was given: `--{what}`");
            Err(Refusal::refused(code, text))
        }
    }
}

fn refusal(error: &Error) -> Refusal {
    let code = match error {
        Error::CoreModule => "core_module",
        Error::TooLarge { .. } => "too_large",
        Error::NoRole { .. } => "no_role",
        Error::ImportRefused { .. } => "import_refused",
        _ => "invalid_component",
    };
    Refusal::refused(code, error.to_string())
}

/// Compiles the component and asks what it says of itself, in a process of its own.
pub(crate) async fn describe(bytes: &[u8], cpu: Duration) -> Result<Map<String, Value>, Refusal> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Refusal::Store(StoreError::Unavailable(format!("{what}: {error}")))
    };
    let limit = |what: String| {
        let what = format!(
            "{what} while it was compiled and asked what it is (at most {} s of CPU time, \
             SEQUIN_PLUGIN_COMPILE_SECONDS, and {} GB of memory)",
            cpu.as_secs(),
            MEMORY_BYTES >> 30
        );
        Refusal::refused("compile_limit", what)
    };
    let program = std::env::current_exe().map_err(|error| failed("find this program", &error))?;
    let mut child = tokio::process::Command::new(program)
        .args(["plugin", "describe-upload"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("start the compiler", &error))?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends early says why itself.
            stdin.write_all(bytes).await.ok();
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(cpu * WALL, work).await {
        Ok(output) => output.map_err(|error| failed("run the compiler", &error))?,
        Err(_) => return Err(limit(format!("it took more than {} s", (cpu * WALL).as_secs()))),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) if output.stdout.len() <= DESCRIBED_BYTES_MAX => {
            let described = serde_json::from_slice(&output.stdout);
            described.map_err(|error| failed("read what the compiler says", &error))
        }
        Some(0) => Err(Refusal::refused("too_large", "what it says of itself is too much")),
        Some(64) => {
            let what = said.trim().trim_start_matches("error: ").to_owned();
            Err(Refusal::refused("invalid_component", what))
        }
        _ => Err(limit(format!("the compiler ended ({})", output.status))),
    }
}

/// `sequin plugin describe-upload`: the other end of [`describe`].
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let cpu = settings.plugin_compile.as_secs();
    let limits = [(Resource::Cpu, cpu), (Resource::Data, MEMORY_BYTES), (Resource::Core, 0)];
    for (resource, most) in limits {
        let most = Some(most);
        setrlimit(resource, Rlimit { current: most, maximum: most }).context("set a limit")?;
    }
    let mut bytes = Vec::new();
    let most = web::UPLOAD_BYTES_MAX as u64 + 1;
    std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin(), most), &mut bytes)
        .context("read the component")?;
    // What is compiled here is found by the engine.
    let host =
        wiring::host(&settings.data_dir, settings.plugin_fuel).context("start the plugin host")?;
    let program = host.load(&bytes).map_err(command::usage)?;
    let described = host.describe("it", &program).map_err(command::usage)?;
    let schema = described.config_schema.map(|text| serde_json::from_str::<Value>(&text));
    let schema = schema.transpose().map_err(command::usage)?;
    let told = json!({
        "config_schema": schema,
        "capabilities": described.capabilities,
        "warm": described.warm,
    });
    command::print(&told.to_string())?;
    Ok(())
}

/// What it is, with what it says of itself.
pub(crate) fn with(metadata: &str, described: Map<String, Value>) -> Result<String, Refusal> {
    let wrong = |error: serde_json::Error| StoreError::Unavailable(error.to_string());
    let mut metadata: Map<String, Value> = serde_json::from_str(metadata).map_err(wrong)?;
    metadata.extend(described);
    Ok(Value::Object(metadata).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T, VersionsError>) -> &'static str {
        match result {
            Ok(_) => "good",
            Err(VersionsError::Refused { code, .. }) => code,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn b271_what_a_component_claims_must_be_what_it_is() {
        let claims = |sdk: &str| {
            let roles = vec![plugin::Role::Filter];
            let sdk = Some(sdk.to_owned());
            code(claims(&Inspection { sdk, roles, contract: "0.2", ..Inspection::default() }))
        };
        assert_eq!(claims(r#"{"world":"sequin:plugin@0.2.0","sdk":"rust 1"}"#), "good");
        assert_eq!(claims(r#"{"world":"sequin:plugin@0.1.0"}"#), "metadata_mismatch");
        assert_eq!(claims(r#"{"world":"sequin:plugin@0.20.0"}"#), "unknown_world");
        assert_eq!(claims(r#"{"roles":["filter"]}"#), "good");
        assert_eq!(claims(r#"{"roles":["filter","transform"]}"#), "metadata_mismatch");
        assert_eq!(claims(r#"{"world":"sequin:plugin@9.0.0"}"#), "unknown_world");
        assert_eq!(claims(r#"{"world":7}"#), "unknown_world");
        assert_eq!(claims("rust"), "metadata_mismatch");
    }

    #[test]
    fn b271_a_name_is_what_both_say() {
        let agreed = |asked: Option<&str>, found| agreed("name", asked.map(str::to_owned), found);
        assert_eq!(agreed(None, Some("a")).unwrap(), "a");
        assert_eq!(agreed(Some("a"), None).unwrap(), "a");
        assert_eq!(code(agreed(Some("a"), Some("b"))), "metadata_mismatch");
        assert_eq!(code(agreed(None, None)), "bad_name");
    }
}
