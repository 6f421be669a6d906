//! Settings from the environment, with the predecessor's names where it had them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use sinks::Guard;
use store::Retention;
use tracing_subscriber::EnvFilter;

use crate::alerts::Hook;

/// What `serve` needs beside the configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `SEQUIN_BIND` and `SERVER_PORT`.
    pub(crate) api: SocketAddr,
    /// `SEQUIN_BIND` and `SEQUIN_METRICS_PORT`.
    pub(crate) metrics: SocketAddr,
    /// `SEQUIN_API_TOKEN`: what requests to the API must show.
    pub(crate) api_token: Option<web::Token>,
    /// `SEQUIN_DATA_DIR`.
    pub(crate) data_dir: PathBuf,
    /// `LOG_LEVEL`.
    pub(crate) log_filter: EnvFilter,
    /// `SEQUIN_LOG_FORMAT`.
    pub(crate) log_format: LogFormat,
    /// `SEQUIN_METRICS_USER` and `SEQUIN_METRICS_PASSWORD`: asked for at `/metrics`.
    pub(crate) metrics_login: Option<web::Login>,
    /// `SEQUIN_MEMORY_MB`, in bytes: what the process may take, see `memory.rs`.
    pub(crate) memory_bytes_max: usize,
    /// `SEQUIN_CHANGE_LOG_MB`, in bytes: what may wait on the disk for the sinks of one slot.
    pub(crate) change_log_bytes_max: u64,
    /// `SEQUIN_HTTP_GUARD`: the addresses that no sink's requests go to.
    pub(crate) http_guard: Guard,
    /// `SEQUIN_LETTERS_MAX_DAYS` and `SEQUIN_LETTERS_MAX_MB`: how long dead letters are kept.
    pub(crate) letters: Retention,
    /// `SEQUIN_PLUGIN_COMPILE_SECONDS`: CPU time for the compilation of an upload.
    pub(crate) plugin_compile: Duration,
    /// `SEQUIN_PLUGIN_FUEL`: whether what guests do is counted, which takes a fifth more time.
    pub(crate) plugin_fuel: bool,
    /// `SEQUIN_ALERT_URL` and `SEQUIN_ALERT_TOKEN`: who is told what is wrong.
    pub(crate) alerts: Option<Hook>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Console,
    /// One JSON object a line.
    Json,
}

/// For state that must survive, in a working directory that a service manager or a volume gives.
const DATA_DIR: &str = "sequin-data";
const SERVER_PORT: u16 = 7376;
const METRICS_PORT: u16 = 8376;
/// Leaves enough for fifty thousand messages of 2 kB, and is small beside what a server has.
const MEMORY_MB: usize = 256;
/// Hours of a busy table for a sink that is away, and no large disk.
const CHANGE_LOG_MB: u64 = 8 * 1024;
/// Below, what is trimmed at once is more than what may be there.
const CHANGE_LOG_MB_MIN: u64 = 128;

/// A Python guest, the slowest known, takes 10 s; all threads count.
const COMPILE_SECONDS: u64 = 120;

/// One environment variable. Empty counts as absent, as for the predecessor.
pub(crate) fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is where settings are read")]
    let value = std::env::var(name).ok();
    value.filter(|value| !value.is_empty())
}

/// `SEQUIN_HTTP_GUARD`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn http_guard(env: &dyn Fn(&str) -> Option<String>) -> Result<Guard, String> {
    let mut wrong = Vec::new();
    let guard = setting(env, "SEQUIN_HTTP_GUARD", "metadata, internal or off", &mut wrong);
    match wrong.pop() {
        Some(reason) => Err(reason),
        None => Ok(guard.unwrap_or_default()),
    }
}

/// `SEQUIN_PLUGIN_COMPILE_SECONDS` alone: CPU time.
///
/// # Errors
/// It is none.
pub(crate) fn plugin_compile(env: &dyn Fn(&str) -> Option<String>) -> Result<Duration, String> {
    let mut wrong = Vec::new();
    let seconds = "a number of seconds, 1 or more";
    let compile: Option<NonZero<u32>> =
        setting(env, "SEQUIN_PLUGIN_COMPILE_SECONDS", seconds, &mut wrong);
    let compile = compile.map_or(COMPILE_SECONDS, |seconds| u64::from(seconds.get()));
    wrong.pop().map_or(Ok(Duration::from_secs(compile)), Err)
}

/// `SEQUIN_ALERT_URL` and `SEQUIN_ALERT_TOKEN`. What they are is not shown: they are secrets.
fn alerts(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Hook>, String> {
    let token = env("SEQUIN_ALERT_TOKEN");
    let Some(text) = env("SEQUIN_ALERT_URL") else {
        return match token {
            None => Ok(None),
            Some(_) => Err("SEQUIN_ALERT_TOKEN goes with SEQUIN_ALERT_URL".to_owned()),
        };
    };
    let url = Url::parse(&text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let url = url.ok_or_else(|| "SEQUIN_ALERT_URL must be an http or https URL".to_owned())?;
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("SEQUIN_ALERT_TOKEN must be of printable ASCII characters".to_owned());
    }
    Ok(Some(Hook { url, token }))
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub(crate) fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut wrong = Vec::new();
        let bind = bind(env, &mut wrong);
        let port = |name, default, wrong: &mut Vec<String>| {
            SocketAddr::new(bind, setting(env, name, "a port", wrong).unwrap_or(default))
        };
        let api = port(api_port(env), SERVER_PORT, &mut wrong);
        let metrics = port("SEQUIN_METRICS_PORT", METRICS_PORT, &mut wrong);
        if api == metrics && api.port() != 0 {
            wrong.push(format!("SERVER_PORT and SEQUIN_METRICS_PORT are both {}", api.port()));
        }
        let api_token = env("SEQUIN_API_TOKEN").and_then(|text| {
            let token = web::Token::new(text);
            if token.is_none() {
                let least = web::Token::BYTES_MIN;
                wrong.push(format!(
                    "SEQUIN_API_TOKEN must have {least} or more printable ASCII characters and no \
                     space"
                ));
            }
            token
        });
        let log_level = env("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
        let log_filter = filter(&log_level).unwrap_or_else(|reason| {
            wrong.push(reason);
            EnvFilter::default()
        });
        let log_format = match env("SEQUIN_LOG_FORMAT").as_deref() {
            None | Some("console") => LogFormat::Console,
            Some("json" | "datadog_json") => LogFormat::Json,
            Some(other) => {
                wrong.push(format!("SEQUIN_LOG_FORMAT is `{other}`: it must be console or json"));
                LogFormat::Console
            }
        };
        let megabytes = setting(env, "SEQUIN_MEMORY_MB", "a number of MiB", &mut wrong);
        let megabytes: usize = megabytes.unwrap_or(MEMORY_MB);
        if megabytes == 0 {
            wrong.push("SEQUIN_MEMORY_MB is 0: nothing could be read".to_owned());
        }
        let days = "a number of days, 1 or more";
        let days: Option<NonZero<u32>> = setting(env, "SEQUIN_LETTERS_MAX_DAYS", days, &mut wrong);
        let size = "a number of MiB, 1 or more";
        let size: Option<NonZero<u32>> = setting(env, "SEQUIN_LETTERS_MAX_MB", size, &mut wrong);
        let letters = Retention {
            age_max: days.map(|days| Duration::from_secs(u64::from(days.get()) * 86_400)),
            bytes_max: size.map(|size| u64::from(size.get()) << 20),
        };
        let plugin_fuel =
            setting(env, "SEQUIN_PLUGIN_FUEL", "true or false", &mut wrong).unwrap_or(false);
        let alerts = alerts(env).unwrap_or_else(|reason| {
            wrong.push(reason);
            None
        });
        let plugin_compile = plugin_compile(env).unwrap_or_else(|reason| {
            wrong.push(reason);
            Duration::default()
        });
        let log_megabytes = setting(env, "SEQUIN_CHANGE_LOG_MB", "a number of MiB", &mut wrong);
        let log_megabytes: u64 = log_megabytes.unwrap_or(CHANGE_LOG_MB);
        if log_megabytes < CHANGE_LOG_MB_MIN {
            wrong.push(format!(
                "SEQUIN_CHANGE_LOG_MB is {log_megabytes}: at least {CHANGE_LOG_MB_MIN}"
            ));
        }
        let http_guard = http_guard(env).unwrap_or_else(|reason| {
            wrong.push(reason);
            Guard::default()
        });
        let metrics_login = match (env("SEQUIN_METRICS_USER"), env("SEQUIN_METRICS_PASSWORD")) {
            (Some(user), Some(password)) => {
                Some(web::Login::new(&STANDARD.encode(format!("{user}:{password}"))))
            }
            (None, None) => None,
            _ => {
                let what = "SEQUIN_METRICS_USER and SEQUIN_METRICS_PASSWORD go together";
                wrong.push(format!("{what}: one of them is not set"));
                None
            }
        };
        let data_dir = env("SEQUIN_DATA_DIR").map_or_else(|| DATA_DIR.into(), PathBuf::from);
        if wrong.is_empty() {
            let memory_bytes_max = megabytes << 20;
            Ok(Self {
                api,
                metrics,
                api_token,
                data_dir,
                log_filter,
                log_format,
                metrics_login,
                memory_bytes_max,
                change_log_bytes_max: log_megabytes << 20,
                http_guard,
                letters,
                plugin_compile,
                plugin_fuel,
                alerts,
            })
        } else {
            Err(wrong.iter().map(|line| format!("error: {line}\n")).collect())
        }
    }
}

/// `SEQUIN_BIND` and `SERVER_PORT` alone, for what asks the engine.
///
/// # Errors
/// What is wrong with them, a line each.
pub(crate) fn api(env: &dyn Fn(&str) -> Option<String>) -> Result<SocketAddr, String> {
    let mut wrong = Vec::new();
    let bind = bind(env, &mut wrong);
    let port = setting(env, api_port(env), "a port", &mut wrong).unwrap_or(SERVER_PORT);
    if wrong.is_empty() {
        Ok(SocketAddr::new(bind, port))
    } else {
        Err(wrong.iter().map(|line| format!("error: {line}\n")).collect())
    }
}

fn bind(env: &dyn Fn(&str) -> Option<String>, wrong: &mut Vec<String>) -> IpAddr {
    let all = Ipv4Addr::UNSPECIFIED.into();
    setting(env, "SEQUIN_BIND", "an IP address", wrong).unwrap_or(all)
}

/// The predecessor's order.
fn api_port(env: &dyn Fn(&str) -> Option<String>) -> &'static str {
    if env("SERVER_PORT").is_some() { "SERVER_PORT" } else { "PORT" }
}

/// `SEQUIN_DATA_DIR` alone, for commands that only look.
pub(crate) fn data_dir() -> PathBuf {
    environment("SEQUIN_DATA_DIR").map_or_else(|| DATA_DIR.into(), PathBuf::from)
}

/// Settings of the predecessor that have no counterpart, because what they are about is not there: its
/// own database, Redis, sign-up, telemetry, its connections and processes.
const NOT_NEEDED: [&str; 62] = [
    "PG_URL",
    "PG_HOSTNAME",
    "PG_DATABASE",
    "PG_PORT",
    "PG_USERNAME",
    "PG_PASSWORD",
    "PG_POOL_SIZE",
    "PG_SSL",
    "PG_IPV6",
    "ECTO_IPV6",
    "REDIS_URL",
    "REDIS_POOL_SIZE",
    "REDIS_IPV6",
    "REDIS_TLS",
    "REDIS_SSL",
    "REDIS_TLS_CA_CERT_FILE",
    "REDIS_TLS_CLIENT_CERT_FILE",
    "REDIS_TLS_CLIENT_KEY_FILE",
    "REDIS_TLS_VERIFY",
    "SECRET_KEY_BASE",
    "VAULT_KEY",
    "SERVER_HOST",
    "PHX_HOST",
    "PHX_SERVER",
    "SERVER_CHECK_ORIGIN",
    "LONG_POLL_FALLBACK_MS",
    "FEATURE_ACCOUNT_SELF_SIGNUP",
    "FEATURE_PROVISION_DEFAULT_USER",
    "FEATURE_FUNCTION_TRANSFORMS",
    "GITHUB_CLIENT_ID",
    "GITHUB_CLIENT_SECRET",
    "GITHUB_CLIENT_REDIRECT_URI",
    "ADMIN_USER",
    "ADMIN_PASSWORD",
    "METRICS_HOST",
    "STATSD_HOST",
    "DATADOG_API_KEY",
    "DATADOG_APP_KEY",
    "AGENT_ADDRESS",
    "SEQUIN_TELEMETRY_DISABLED",
    "TELEMETRY_ENABLED",
    "CRASH_REPORTING_DISABLED",
    "SENTRY_DSN",
    "DEFAULT_WORKERS_PER_SINK",
    "BACKFILL_MAX_PENDING_MESSAGES",
    "MAX_MEMORY_MB",
    "MEMORY_BUFFER_PERCENT",
    "HTTP_POOL_SIZE",
    "HTTP_POOL_COUNT",
    "REPLICATION_FLUSH_MAX_ACCUMULATED_BYTES",
    "REPLICATION_FLUSH_MAX_ACCUMULATED_MESSAGES",
    "REPLICATION_FLUSH_MAX_ACCUMULATED_TIME_MS",
    "LOOPS_API_KEY",
    "RETOOL_WORKFLOW_KEY",
    "INCIDENT_IO_API_KEY",
    "PAGERDUTY_INTEGRATION_KEY",
    "SELF_HOSTED",
    "AUTO_ASSIGN_RELEASE_NODE",
    "RELEASE_HOST",
    "RELEASE_VERSION",
    "RELEASE_DISTRIBUTION",
    "RELEASE_COOKIE",
];

/// Which of the predecessor's settings are given and have no effect. Their values are not looked at.
pub(crate) fn not_needed(env: &dyn Fn(&str) -> Option<String>) -> Vec<&'static str> {
    NOT_NEEDED.into_iter().filter(|name| env(name).is_some()).collect()
}

fn setting<T: FromStr>(
    env: &dyn Fn(&str) -> Option<String>,
    name: &str,
    what: &str,
    wrong: &mut Vec<String>,
) -> Option<T> {
    let text = env(name)?;
    let parsed = text.trim().parse().ok();
    if parsed.is_none() {
        wrong.push(format!("{name} is `{text}`: it must be {what}"));
    }
    parsed
}

/// The predecessor's level names and ours; also `tracing` directives such as `info,engine=debug`.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let directives = match level.to_ascii_lowercase().as_str() {
        "notice" => "info".to_owned(),
        "warning" => "warn".to_owned(),
        "critical" | "alert" | "emergency" => "error".to_owned(),
        other => other.to_owned(),
    };
    EnvFilter::try_new(directives)
        .map_err(|_| format!("LOG_LEVEL is `{level}`: it must be debug, info, warn or error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        Settings::read(&|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn defaults_are_the_predecessors_ports() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.api.port(), settings.metrics.port()), (7376, 8376));
        assert_eq!(settings.log_format, LogFormat::Console);
    }

    #[test]
    fn what_the_predecessor_needed_is_taken_and_named() {
        let given = [("PG_URL", "x"), ("SECRET_KEY_BASE", "y"), ("PORT", "9100"), ("PATH", "z")];
        let env = |name: &str| given.iter().find(|(key, _)| *key == name).map(|_| "x".to_owned());
        assert_eq!(not_needed(&env), ["PG_URL", "SECRET_KEY_BASE"]);
        assert_eq!(read(&given).unwrap().api.port(), 9100);
        let both = [("PORT", "9100"), ("SERVER_PORT", "9200")];
        assert_eq!(read(&both).unwrap().api.port(), 9200);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let wrong = read(&[
            ("SERVER_PORT", "http"),
            ("SEQUIN_METRICS_PORT", "70000"),
            ("SEQUIN_BIND", "localhost"),
            ("LOG_LEVEL", "loud=="),
            ("SEQUIN_LOG_FORMAT", "xml"),
            ("SEQUIN_MEMORY_MB", "0"),
            ("SEQUIN_CHANGE_LOG_MB", "127"),
            ("SEQUIN_API_TOKEN", "hunter2"),
            ("SEQUIN_HTTP_GUARD", "none"),
            ("SEQUIN_METRICS_USER", "u"),
        ]);
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.lines().count(), 10, "{wrong}");
        assert!(!wrong.contains("hunter2"), "{wrong}");
        let same = read(&[("SERVER_PORT", "9000"), ("SEQUIN_METRICS_PORT", "9000")]);
        assert!(same.unwrap_err().contains("both 9000"));
    }
}
