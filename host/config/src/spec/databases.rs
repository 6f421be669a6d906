//! Databases: how to connect, and what to replicate from.

mod server;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::{
    Await, CreatePublication, Database, OnMismatch, Origin, Publication, Server, Slot, id,
};
use crate::diagnostic::Report;
use crate::document::{self, Resource, Resources};
use server::{Part, primary, server};

/// Postgres cuts off longer names.
const NAME_BYTES_MAX: usize = 63;
/// On by default: it proves that the stream is alive, and lets a quiet slot move on. A tenth of what
/// is taken for silence; written only after so long without changes.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// A second to a day.
const HEARTBEAT_MS: RangeInclusive<u64> = 1_000..=86_400_000;
/// The predecessor's, of an apply that waits for a database; and more than any request lasts.
const AWAIT_MS: u64 = 30_000;
const AGAIN_MS: u64 = 3_000;
const AWAIT_MS_MAX: u64 = 600_000;

/// What databases are used for, by their names.
pub(super) struct Used<'a> {
    /// Something reads from them, and so they have a slot.
    pub(super) read: BTreeSet<&'a str>,
    /// Changes are kept in them.
    pub(super) kept_in: BTreeSet<&'a str>,
}

/// The databases that are read, and how each database is reached.
pub(super) fn resolve(
    databases: &Resources<document::Database>,
    used: &Used<'_>,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> (Vec<Database>, BTreeMap<String, Server>) {
    let (mut resolved, mut servers) = (Vec::new(), BTreeMap::new());
    for database in &databases.list {
        report.enter(format!("database `{}`", database.name));
        let part = Part { of: database, key: None, fields: &database.value.fields.server() };
        let server = server(&part, None, base_dir, report);
        servers.extend(server.iter().map(|server| (database.name.clone(), server.clone())));
        let name = database.name.as_str();
        let is_only_written = used.kept_in.contains(name) && !used.read.contains(name);
        if is_only_written && !database.value.fields.names_replication() {
            continue;
        }
        let primary = primary(database, server.as_ref(), base_dir, report);
        let slot = slot(database, report);
        let publication = publication(database, report);
        let heartbeat = heartbeat(database, report);
        if let (Some(server), Some(primary), Some(slot), Some(publication)) =
            (server, primary, slot, publication)
        {
            resolved.push(Database {
                name: database.name.clone(),
                id: id("database", &database.name),
                hostname: server.hostname,
                port: server.port,
                more_hosts: server.more_hosts,
                database: server.database,
                username: server.username,
                password: server.password,
                tls: server.tls,
                primary,
                slot,
                publication,
                heartbeat,
                annotations: database.value.annotations.clone(),
            });
        }
    }
    report.leave();
    (resolved, servers)
}

fn slot(from: &Resource<document::Database>, report: &mut Report<'_>) -> Option<Slot> {
    let fields = &from.value.fields;
    let (path, name, given): (&[&str], _, _) = match (&fields.slot, &fields.slot_name) {
        (Some(_), Some(_)) => {
            twice(from, "slot", "slot_name", report);
            return None;
        }
        (Some(slot), None) => (&["slot", "name"], &slot.name, Some(slot)),
        (None, Some(name)) => (&["slot_name"], name, None),
        (None, None) => {
            let help = "add `slot: {name: my_slot, create_if_not_exists: true}`";
            report.error_with_help(from.place(&[]), "`slot` is missing", help);
            return None;
        }
    };
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        let message = format!("{name:?} cannot be the name of a slot");
        let help = "Postgres takes 1 to 63 lower case letters, digits and `_`";
        report.error_with_help(from.place(path), message, help);
        return None;
    }
    let origin = match given.and_then(|slot| slot.origin.as_deref()) {
        None | Some("any") => Origin::Any,
        Some("none") => Origin::None,
        Some(_) => {
            let help = "it is `any`, or `none` for changes made on this server alone";
            let message = "`origin` is none that is known";
            report.error_with_help(from.place(&["slot", "origin"]), message, help);
            return None;
        }
    };
    let (create, failover) =
        given.map_or((false, false), |slot| (slot.create_if_not_exists, slot.failover));
    let on_mismatch = match given.and_then(|slot| slot.on_mismatch.as_deref()) {
        None | Some("fail") => OnMismatch::Fail,
        Some("continue_from_slot") => OnMismatch::ContinueFromSlot,
        Some(_) => {
            let help = "it is `fail`, or `continue_from_slot` to lose what lies between";
            let message = "`on_mismatch` is none that is known";
            report.error_with_help(from.place(&["slot", "on_mismatch"]), message, help);
            return None;
        }
    };
    Some(Slot { name: name.clone(), create, failover, origin, on_mismatch })
}

/// How long an apply waits for each, where it is to.
pub(super) fn awaited(
    databases: &Resources<document::Database>,
    report: &mut Report<'_>,
) -> BTreeMap<String, Await> {
    let mut all = BTreeMap::new();
    for from in &databases.list {
        let Some(given) = from.value.fields.await_database else { continue };
        report.enter(format!("database `{}`", from.name));
        let mut within = |key: &str, given: Option<u64>, default: u64, most: u64| {
            let ms = given.unwrap_or(default);
            if !(1..=most).contains(&ms) {
                let message = format!("`await_database.{key}` must be between 1 and {most}");
                report.error(from.place(&["await_database", key]), message);
            }
            Duration::from_millis(ms)
        };
        let timeout = within("timeout_ms", given.timeout_ms, AWAIT_MS, AWAIT_MS_MAX);
        let interval = within("interval_ms", given.interval_ms, AGAIN_MS, AWAIT_MS_MAX);
        report.leave();
        all.insert(from.name.clone(), Await { timeout, interval });
    }
    all
}

fn heartbeat(from: &Resource<document::Database>, report: &mut Report<'_>) -> Option<Duration> {
    let given = match from.value.fields.heartbeat_interval_ms {
        None => return Some(HEARTBEAT),
        Some(0) => return None,
        Some(given) => given,
    };
    let milliseconds = u64::try_from(given).ok().filter(|ms| HEARTBEAT_MS.contains(ms));
    if milliseconds.is_none() {
        let (from_ms, to_ms) = (HEARTBEAT_MS.start(), HEARTBEAT_MS.end());
        let message =
            format!("`heartbeat_interval_ms` must be between {from_ms} and {to_ms}, or 0");
        report.error(from.place(&["heartbeat_interval_ms"]), message);
    }
    milliseconds.map(Duration::from_millis)
}

fn publication(
    from: &Resource<document::Database>,
    report: &mut Report<'_>,
) -> Option<Publication> {
    let fields = &from.value.fields;
    let (path, name, create): (&[&str], _, _) =
        match (&fields.publication, &fields.publication_name) {
            (Some(_), Some(_)) => {
                twice(from, "publication", "publication_name", report);
                return None;
            }
            (Some(given), None) => {
                (&["publication", "name"], &given.name, create(from, given, report))
            }
            (None, Some(name)) => (&["publication_name"], name, None),
            (None, None) => {
                let help = "add `publication: {name: my_publication, create_if_not_exists: true}`";
                report.error_with_help(from.place(&[]), "`publication` is missing", help);
                return None;
            }
        };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        let message = format!("a publication's name has 1 to {NAME_BYTES_MAX} bytes");
        report.error(from.place(path), message);
        return None;
    }
    Some(Publication { name: name.clone(), create })
}

fn create(
    from: &Resource<document::Database>,
    given: &document::Publication,
    report: &mut Report<'_>,
) -> Option<CreatePublication> {
    let place = from.place(&["publication", "init_sql"]);
    let root = "publish_via_partition_root";
    if given.publish_via_partition_root.is_some() {
        let place = from.place(&["publication", root]);
        if given.init_sql.is_some() {
            let message = format!("`{root}` and `init_sql` cannot be given together");
            let help = format!("say it in the statement: `with ({root} = ...)`");
            report.error_with_help(place, message, help);
        } else if !given.create_if_not_exists {
            let help = "add `create_if_not_exists: true`";
            let message = format!("`{root}` is ignored: nothing is created");
            report.warning(place, message, help);
        }
    }
    match &given.init_sql {
        Some(_) if !given.create_if_not_exists => {
            let help = "add `create_if_not_exists: true`";
            report.warning(place, "`init_sql` is ignored: nothing is created", help);
            None
        }
        Some(sql) if creates(sql, &given.name) => Some(CreatePublication::Sql(sql.clone())),
        Some(_) => {
            let message = format!("`init_sql` must begin with `create publication {}`", given.name);
            report.error(place, message);
            None
        }
        None => {
            // The predecessor's default.
            let via_partition_root = given.publish_via_partition_root.unwrap_or(true);
            let all = CreatePublication::AllTables { via_partition_root };
            given.create_if_not_exists.then_some(all)
        }
    }
}

/// Whether the statement begins with `create publication`, the name (quoted or not) and a space.
fn creates(sql: &str, name: &str) -> bool {
    let mut words = sql.split_whitespace();
    let mut is = |word: &str| words.next().is_some_and(|other| other.eq_ignore_ascii_case(word));
    if !is("create") || !is("publication") {
        return false;
    }
    let named = words.next().unwrap_or_default();
    let unquoted = named.strip_prefix('"').and_then(|named| named.strip_suffix('"'));
    unquoted.unwrap_or(named).eq_ignore_ascii_case(name) && words.next().is_some()
}

fn twice(from: &Resource<document::Database>, block: &str, flat: &str, report: &mut Report<'_>) {
    let message = format!("`{block}` and `{flat}` cannot be given together");
    report.error_with_help(from.place(&[flat]), message, format!("keep `{block}`"));
}
