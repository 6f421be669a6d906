//! From what went wrong to whom it concerns: the one place that decides whether a failure passes
//! or somebody must act.
//!
//! By SQLSTATE, see <https://www.postgresql.org/docs/current/errcodes-appendix.html>. Texts carry
//! the server's own words and never a password: the server does not know it, and we do not add it.

use model::lsn::Lsn;
use model::source::SourceError;

use crate::decode::Fault;
use crate::options::Options;
use crate::wire;
use crate::wire::report::Report;
use crate::wire::tls::Failure;

/// What was being done: the same SQLSTATE means different things at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connecting and logging in.
    Login,
    /// Checking and creating publication and slot, or asking the catalog, over SQL.
    Prepare,
    /// `START_REPLICATION`.
    Start,
    /// Reading the stream.
    Stream,
}

pub(crate) fn definite(
    code: &'static str,
    message: String,
    help: impl Into<String>,
) -> SourceError {
    SourceError::Definite { code, message, help: help.into() }
}

pub(crate) fn transient(message: impl Into<String>) -> SourceError {
    SourceError::Transient(message.into())
}

/// The server's answer was an error.
pub(crate) fn refused(report: &Report, phase: Phase, options: &Options) -> SourceError {
    let Options { user, database, slot, publication, .. } = options;
    let said = report.to_string();
    let (code, help) = match (report.code.as_str(), phase) {
        // It has no SQLSTATE of its own. In another language it is the next one.
        ("28000", _) if report.message.contains("client certificate") => {
            ("tls_certificate", CLIENT_HELP.to_owned())
        }
        (code, _) if code.starts_with("28") => (
            "authentication",
            format!("check user {user}, its password and the server's pg_hba.conf"),
        ),
        ("3D000", _) => ("database_missing", format!("create database {database} or name another")),
        ("42501", _) => (
            "privilege",
            format!(
                "grant {user} the attribute REPLICATION (hosted servers have a role for it), \
                 SELECT on the tables, and for creating a publication CREATE on database {database} \
                 and ownership of its tables (superuser for all tables)"
            ),
        ),
        ("42704", Phase::Start) => (
            "slot_missing",
            format!("create slot {slot} with plugin pgoutput, or allow its creation"),
        ),
        // Postgres before 18 looks the publication up as of the change's own time: one that was
        // created after the slot is never found for the changes before.
        ("42704", Phase::Stream) => {
            ("publication_missing", late_publication_help(slot, publication))
        }
        // Postgres from 18 on goes on without it, which would be a loss without a word. On the
        // stream it is the only thing with this state that is not about the slot.
        ("55000", Phase::Stream) if skips_publication(report) => {
            ("publication_missing", late_publication_help(slot, publication))
        }
        ("55000" | "58P01", Phase::Start | Phase::Stream) => ("slot_lost", lost_help(slot)),
        // character_not_in_repertoire, untranslatable_character.
        ("22021" | "22P05", _) => (
            "encoding",
            "the name of a table, column or type has no form in UTF-8 (a database with encoding \
             SQL_ASCII?): rename it"
                .to_owned(),
        ),
        ("25006", Phase::Prepare) => (
            "read_only",
            "the server is a standby or read-only: create the publication on the primary, and let \
             the slot be of this server"
                .to_owned(),
        ),
        ("0A000" | "22023" | "42601" | "42602", _) => (
            "refused",
            "the server does not take this request: check its version and the names given"
                .to_owned(),
        ),
        _ => return transient(said),
    };
    definite(code, said, help)
}

pub(crate) fn lost_help(slot: &str) -> String {
    format!(
        "the changes since its confirmed position are gone from the server: {}, and backfill",
        anew(slot)
    )
}

/// How an operator begins anew at the present.
fn anew(slot: &str) -> String {
    format!(
        "drop the slot (SELECT pg_drop_replication_slot('{slot}')), stop the engine, run `sequin \
         accept-loss {slot}` and start it, so that the slot is created again"
    )
}

/// For a publication that was not there when a change was written.
pub(crate) fn late_publication_help(slot: &str, publication: &str) -> String {
    format!(
        "a change is published by what was in force when it was written, so a publication made \
         later than slot {slot} does not help it: create publication \"{publication}\" if it is not \
         there, then {}, and backfill",
        anew(slot)
    )
}

/// Whether a notice says that changes are left out because there is no publication for them.
pub(crate) fn skips_publication(report: &Report) -> bool {
    report.code == "55000" && report.routine == "LoadPublications"
}

/// Our own connection failed.
pub(crate) fn wire(error: &wire::Error, phase: Phase, options: &Options) -> SourceError {
    match error {
        wire::Error::Server(report) => refused(report, phase, options),
        wire::Error::NoPassword | wire::Error::Authentication(_) => definite(
            "authentication",
            format!("{error} (user {})", options.user),
            "configure the password, or a method that the server and we know: trust, password, \
             md5 or scram-sha-256 in pg_hba.conf",
        ),
        wire::Error::Tls(failure) => tls(failure, options),
        wire::Error::Io(io) => match Failure::of(io) {
            Some(failure) => tls(&failure, options),
            None => transient(format!("{}: {error}", options.addresses())),
        },
        wire::Error::Closed | wire::Error::Malformed(_) => {
            transient(format!("{}: {error}", options.addresses()))
        }
    }
}

const CLIENT_HELP: &str = "give sslcert and sslkey: a certificate that the server's ssl_ca_file \
                           vouches for, with the user as its common name if pg_hba.conf says cert";

/// A connection is not encrypted as it shall be.
fn tls(failure: &Failure, options: &Options) -> SourceError {
    let (code, help) = match failure {
        Failure::Refused => (
            "tls_refused",
            "switch TLS on at the server (ssl = on), or off here with sslmode disable",
        ),
        Failure::Incompatible(_) => (
            "tls_refused",
            "the server must speak TLS 1.2 or newer, with a cipher that is not outdated",
        ),
        Failure::Expired(_) => (
            "tls_certificate",
            "renew the server's certificate, and check the clocks of both machines",
        ),
        Failure::OtherHost(_) => (
            "tls_certificate",
            "connect by a name that the certificate is for (as subject alternative name), or use \
             sslmode verify-ca",
        ),
        Failure::Untrusted(_) => {
            ("tls_certificate", "name the certificate of who issued the server's as sslrootcert")
        }
        Failure::Client(_) => ("tls_certificate", CLIENT_HELP),
        Failure::Setting(_) => (
            "connect_options",
            "correct the TLS settings of the database: PEM files, the key without a passphrase",
        ),
    };
    definite(code, format!("{}: {failure}", options.addresses()), help)
}

/// The server gave up in the middle of the stream. What it cannot send once, it can never send.
pub(crate) fn stopped(report: &Report, commit: Option<Lsn>, options: &Options) -> SourceError {
    let unsendable = match report.code.as_str() {
        // program_limit_exceeded: all of a row together.
        "54000" => true,
        // One value alone has no SQLSTATE of its own, and its words are never translated: a value's
        // text may have 1 GB (`MaxAllocSize`), and the text of a `bytea` is twice its size.
        "XX000" => report.message.starts_with("invalid memory alloc request size"),
        _ => false,
    };
    let (code, cause) = match &*report.code {
        _ if unsendable => (
            "row_too_large_for_server",
            "the server cannot send a row: a value or all of them together have more than 1 GB as \
             text",
        ),
        "22021" | "22P05" => {
            ("encoding", "the server cannot send a row: a text of it has no form in UTF-8")
        }
        _ => return refused(report, Phase::Stream, options),
    };
    let message = format!("slot {}: {cause}: {report}", options.slot);
    definite(code, message, skip_help(commit, options))
}

/// What to do about a transaction that stops the slot. Corrections of the row come behind it.
fn skip_help(commit: Option<Lsn>, options: &Options) -> String {
    let slot = options.slot.replace('\'', "''");
    // The slot goes on behind the first record that ends at or behind the position it is given.
    let (what, position) = match commit {
        Some(commit) => {
            ("the transaction with that row", Lsn(commit.0.saturating_add(1)).to_string())
        }
        None => ("everything up to a position behind it", "POSITION".to_owned()),
    };
    format!(
        "correct the value or leave its column out of the publication (column list); once every \
         sink has delivered what came before, since a restart would not see it again, skip {what} \
         with `select pg_replication_slot_advance('{slot}', '{position}')`, and send its other rows \
         again (update them)"
    )
}

/// A query failed.
pub(crate) fn sql(error: &tokio_postgres::Error, options: &Options) -> SourceError {
    match error.as_db_error() {
        Some(db) => refused(&Report::of(db), Phase::Prepare, options),
        None => {
            if let Some(failure) = Failure::behind(error) {
                return tls(&failure, options);
            }
            let mut text = format!("{}: {error}", options.addresses());
            // "error communicating with the server" has its cause one level down.
            if let Some(cause) = std::error::Error::source(error) {
                text.push_str(": ");
                text.push_str(&cause.to_string());
            }
            transient(text)
        }
    }
}

/// The stream cannot be decoded.
pub(crate) fn fault(fault: &Fault, commit: Option<Lsn>, options: &Options) -> SourceError {
    match fault {
        Fault::Malformed(_) | Fault::Protocol(_) => transient(format!(
            "slot {}: {fault}; the stream is opened again at the confirmed position",
            options.slot
        )),
        Fault::RowTooLarge { .. } => definite(
            "row_too_large",
            format!("slot {}: {fault}", options.slot),
            skip_help(commit, options),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlstate_says_who_must_act() {
        let options = Options::new("h", "u", "d", "s", "p");
        for (code, phase, expected) in [
            ("28P01", Phase::Login, Some("authentication")),
            ("28000", Phase::Prepare, Some("authentication")),
            ("3D000", Phase::Login, Some("database_missing")),
            ("42501", Phase::Login, Some("privilege")),
            ("42704", Phase::Start, Some("slot_missing")),
            ("42704", Phase::Stream, Some("publication_missing")),
            ("42704", Phase::Prepare, None),
            ("55000", Phase::Start, Some("slot_lost")),
            ("25006", Phase::Prepare, Some("read_only")),
            ("58P01", Phase::Stream, Some("slot_lost")),
            ("0A000", Phase::Start, Some("refused")),
            ("55006", Phase::Start, None),
            ("57P01", Phase::Stream, None),
            ("57P02", Phase::Stream, None),
            ("57P03", Phase::Login, None),
            ("53300", Phase::Login, None),
            ("53400", Phase::Prepare, None),
            ("08006", Phase::Stream, None),
            ("XX000", Phase::Stream, None),
        ] {
            let report = Report { code: code.into(), ..Report::default() };
            let got = match refused(&report, phase, &options) {
                SourceError::Definite { code, .. } => Some(code),
                SourceError::Transient(_) => None,
            };
            assert_eq!(got, expected, "{code} in {phase:?}");
        }
    }
}
