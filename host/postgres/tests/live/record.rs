//! What real servers send, byte by byte: the seeds of the fuzz targets.
//!
//! As a test it holds that the script below makes a server say everything that pgoutput can say to
//! us. `cargo x fuzz record` names a directory, and the recordings become files in it, in the forms
//! that `src/fuzz.rs` reads.

mod facts;
mod listener;
mod script;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use postgres::{ChannelBinding, Options, Password, SslMode, Tls};

use crate::certificates::Authority;
use crate::cluster::{Cluster, Database, majors};
use crate::connect::failure;
use crate::support::{broken, connect, read};
use facts::Facts;
use listener::Listener;
use script::Scene;

const PASSWORD: &str = "hunter2";

/// Bits of the first byte of a file for `frame`.
const TEMPORARY_SLOT: u8 = 1;
const STREAM: u8 = 2;
const CERTIFICATE: u8 = 3;
const WITH_PASSWORD: u8 = 4;
const PREFER_BINDING: u8 = 8;

/// How many bytes come at once, and how many messages are sealed together: odd, so that the ends of
/// things fall anywhere.
const CHUNK: u8 = 7;
const SEAL: u8 = 2;

/// Of a stream: more of the same teaches nothing.
const STREAM_BYTES_MAX: usize = 4096;

#[tokio::test]
async fn recordings_have_every_kind_of_message() {
    let majors = majors();
    let mut files = Files::default();
    let mut kinds = HashSet::new();
    // The oldest and the newest.
    for bin in majors.first().into_iter().chain(majors.last().filter(|_| majors.len() > 1)) {
        let cluster = Cluster::start_with(bin.clone(), &["wal_level=logical"], &[]).await;
        let cluster = Arc::new(cluster);
        let mut session = cluster.session("postgres").await;
        let version = session.value("show server_version_num").await;
        let major: u32 = version.parse::<u32>().unwrap() / 10_000;
        session.run(&script::roles(PASSWORD, major)).await;
        logins(&cluster, major, &mut files).await;
        kinds.extend(play(&cluster, major, script::scenes(major), None, &mut files).await);
        // Under its own name, not under its root's: not what we would create.
        let leaves = vec![script::partitions("leaves")];
        play(&cluster, major, leaves, Some("leaves"), &mut files).await;
    }
    let certificate = Authority::new("authority").issue("server", &["localhost"]).certificate;
    files.add("frame", "pg-certificate", [&[CERTIFICATE, CHUNK], &der(&certificate)[..]].concat());
    let expected: HashSet<u8> = b"BCDIMORTUY".iter().copied().collect();
    assert_eq!(kinds, expected);
    files.write();
}

/// Each way to log in, and not to; a temporary slot; a stream that the server breaks.
async fn logins(cluster: &Arc<Cluster>, major: u32, files: &mut Files) {
    let file = |setup: u8, bytes: &[u8]| [&[setup, CHUNK], bytes].concat();
    for user in ["by_trust", "by_password", "by_md5", "by_scram"] {
        let (mut db, listener, options) = listened(cluster, user).await;
        db.sql.run("create table t (id int primary key, name text)").await;
        let mut source = connect(options.clone()).await;
        db.sql.run("insert into t values (1, 'ž')").await;
        read(&mut *source, 1).await;
        source.close().await.unwrap();
        let setup = WITH_PASSWORD | PREFER_BINDING;
        if user == "by_scram" && major < 16 {
            continue;
        }
        let name = format!("pg{major}-login-{user}");
        files.add("frame", &name, file(setup, &listener.replication()));
        if user == "by_md5" {
            let wrong = Options { password: Some(Password::new("wrong")), ..options };
            assert_eq!(failure(wrong).await, Ok("authentication"));
            let name = format!("pg{major}-refused-password");
            files.add("frame", &name, file(setup, &listener.replication()));
        }
    }
    let (_, listener, mut options) = listened(cluster, "by_trust").await;
    options.database = "missing".to_owned();
    assert_eq!(failure(options).await, Ok("database_missing"));
    files.add("frame", &format!("pg{major}-refused-database"), file(0, &listener.replication()));

    let (mut db, listener, mut options) = listened(cluster, "by_trust").await;
    options.slot_temporary = true;
    db.sql.run("create table t (id int primary key)").await;
    let mut source = connect(options).await;
    db.sql.run("insert into t values (1)").await;
    read(&mut *source, 1).await;
    db.sql.run("select pg_terminate_backend(active_pid) from pg_replication_slots").await;
    broken(&mut *source).await;
    let name = format!("pg{major}-terminated");
    files.add("frame", &name, file(TEMPORARY_SLOT, &listener.replication()));
}

/// Scenes, message by message; the kinds of messages that came.
async fn play(
    cluster: &Arc<Cluster>,
    major: u32,
    scenes: Vec<Scene>,
    publication: Option<&str>,
    files: &mut Files,
) -> HashSet<u8> {
    let (mut db, listener, mut options) = listened(cluster, "by_trust").await;
    db.sql.run(script::PREPARATION).await;
    if let Some(publication) = publication {
        db.sql.run(&format!("create publication {publication} for all tables")).await;
        publication.clone_into(&mut options.publication);
    }
    let mut source = connect(options).await;
    let mut kinds = HashSet::new();
    let mut told = 0;
    for (name, setup, statements) in scenes {
        db.sql.run(&setup).await;
        for statement in &statements {
            db.sql.run(statement).await;
        }
        read(&mut *source, statements.len()).await;
        let raw = listener.replication();
        let all = messages(&raw);
        let scene = &all[told..];
        told = all.len();
        kinds.extend(scene.iter().map(|message| message[0]));
        let facts = Facts::ask(&mut db.sql).await;
        let mut file = facts.encode(&scene.concat());
        file.push(SEAL);
        for message in scene {
            file.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
            file.extend(*message);
        }
        files.add("tuple", &format!("pg{major}-{name}"), file);
        // The scenes with all types; in the others there is nothing new.
        let values =
            if script::HAVE_VALUES.contains(&name) { script::values(scene) } else { vec![] };
        for (type_oid, text) in values {
            let mut file = facts.encode(&type_oid.to_be_bytes());
            file.extend(type_oid.to_be_bytes());
            file.extend(&text);
            let n = files.count("value");
            files.add("value", &format!("pg{major}-{name}-{n:03}"), file);
        }
    }
    source.close().await.unwrap();
    if publication.is_some() {
        return kinds;
    }
    let raw = listener.replication();
    let start = frames(&raw).find(|(_, tag, _)| *tag == b'W').map(|(end, ..)| end).unwrap();
    let end = frames(&raw).map(|(end, ..)| end).filter(|end| *end < start + STREAM_BYTES_MAX);
    let stream = &raw[start..end.last().unwrap()];
    files.add("frame", &format!("pg{major}-stream"), [&[STREAM, CHUNK], stream].concat());
    kinds
}

/// A database of its own, reached past a listener by this user.
async fn listened(cluster: &Arc<Cluster>, user: &str) -> (Database, Listener, Options) {
    let db = Database::create_in(Arc::clone(cluster)).await;
    let listener = Listener::start(cluster.port);
    let options = Options {
        host: "127.0.0.1".to_owned(),
        port: listener.port,
        user: user.to_owned(),
        password: Some(Password::new(PASSWORD)),
        tls: Tls {
            mode: SslMode::Disable,
            roots: None,
            client: None,
            channel_binding: ChannelBinding::Prefer,
        },
        ..db.options()
    };
    (db, listener, options)
}

/// Whole frames: where they end, their tags and bodies.
fn frames(raw: &[u8]) -> impl Iterator<Item = (usize, u8, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (header, rest) = raw.get(at..)?.split_first_chunk::<5>()?;
        let [tag, len @ ..] = *header;
        let body = rest.get(..usize::try_from(u32::from_be_bytes(len)).ok()? - 4)?;
        at += 5 + body.len();
        Some((at, tag, body))
    })
}

/// What the output plugin said.
fn messages(raw: &[u8]) -> Vec<&[u8]> {
    let data = |(_, tag, body): (usize, u8, &'_ [u8])| tag == b'd' && body[0] == b'w';
    frames(raw).filter(|frame| data(*frame)).map(|(_, _, body)| &body[25..]).collect()
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// What was recorded, each content once.
#[derive(Default)]
struct Files {
    files: Vec<(&'static str, String, Vec<u8>)>,
    known: HashSet<Vec<u8>>,
}

impl Files {
    fn add(&mut self, target: &'static str, name: &str, bytes: Vec<u8>) {
        if self.known.insert(bytes.clone()) {
            self.files.push((target, name.to_owned(), bytes));
        }
    }

    fn count(&self, target: &str) -> usize {
        self.files.iter().filter(|file| file.0 == target).count()
    }

    /// If anybody wants them.
    fn write(&self) {
        #[expect(clippy::disallowed_methods, reason = "a test without settings to read it from")]
        let Some(dir) = std::env::var_os("SEQUIN_FUZZ_CORPUS").map(PathBuf::from) else { return };
        for (target, name, bytes) in &self.files {
            let dir = dir.join(target);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }
}
