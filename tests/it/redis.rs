//! Redis as a destination, against a real one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Cluster, Redis, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, SOON, engine, plugin, streaming, yaml};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, name text)";

/// A Postgres, a Redis, and an engine between them.
struct World {
    sequin: Sequin,
    redis: Redis,
    client: Client,
    _postgres: Cluster,
}

impl World {
    /// `options` are of the destination, `more` what stands behind the sink.
    async fn start(redis: Redis, options: &str, more: &str) -> Result<Self> {
        let at = format!("host: 127.0.0.1, port: {}", redis.port());
        Self::start_at(redis, &at, options, more).await
    }

    /// Likewise, of a server that is found in another way.
    async fn start_at(redis: Redis, at: &str, options: &str, more: &str) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(TABLE).await?;
        let sinks = format!(
            "sinks:
  - name: redis
    database: source
    batch_size: 100
    retry_backoff: {{first_ms: 100, cap_ms: 500}}
    destination: {{type: redis_stream, {at}, timeout_ms: 2000, {options}}}
{more}"
        );
        let config = yaml(postgres.port(), "http://127.0.0.1:1", &sinks);
        let sequin = engine(&config).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, redis, client, _postgres: postgres })
    }

    /// The entries of a stream, once there are so many.
    async fn entries(&self, stream: &str, count: usize) -> Result<Vec<(String, Value)>> {
        let found = until("the entries", LATER, async || {
            let found = self.redis.entries(stream).await?;
            Ok(if found.len() >= count { Ok(found) } else { Err(format!("{}", found.len())) })
        });
        let found = found.await.with_context(|| self.sequin.log())?;
        let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        let of = |(id, fields): (String, Vec<(String, String)>)| {
            let fields = fields.into_iter().map(|(name, value)| (name, json(value)));
            (id, Value::Object(fields.collect()))
        };
        Ok(found.into_iter().map(of).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_message_is_one_of_an_entry_and_ids_are_places() -> Result<()> {
    let world = World::start(Redis::start(&[]).await?, "stream_key: poi", "").await?;
    world
        .client
        .batch_execute("INSERT INTO t VALUES (1, 'ü\n\"'), (2, NULL); DELETE FROM t WHERE id = 1")
        .await?;
    let entries = world.entries("poi", 3).await?;
    let (first, message) = &entries[0];
    assert_eq!(message["record"], json!({"id": 1, "name": "ü\n\""}));
    assert_eq!((&message["action"], &message["changes"]), (&json!("insert"), &Value::Null));
    assert_eq!(entries[2].1["action"], "delete");
    let metadata = &message["metadata"];
    assert_eq!(*first, format!("{}-1", metadata["commit_lsn"]));
    assert_eq!(metadata["consumer"]["name"], "redis");
    let output = world.sequin.command(&["sink", "test", "redis"]).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_field_holds_all_of_a_message_and_the_oldest_entries_go() -> Result<()> {
    let options = "stream_key: poi, format: json, field_name: m, max_length: 100, ids: time";
    let world = World::start(Redis::start(&[]).await?, options, "").await?;
    let sql = "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 2000) i";
    world.client.batch_execute(sql).await?;
    until("the last entry", SOON, async || {
        let found = world.redis.entries("poi").await?;
        let last = found.last().map(|(_, fields)| fields[0].clone());
        let is_it =
            last.as_ref().is_some_and(|(name, value)| name == "m" && value.contains("\"id\":2000"));
        Ok(if is_it && found.len() < 400 { Ok(()) } else { Err(format!("{}", found.len())) })
    })
    .await
}

/// A router chooses the stream; without it each table has one.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_chosen_by_routers_or_tables() -> Result<()> {
    let world = World::start(Redis::start(&[]).await?, "", "").await?;
    world.client.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    assert_eq!(world.entries("sequin.public.t", 1).await?.len(), 1);
    let more = format!(
        "    routing: by-name
functions:
  - name: by-name
    type: routing
    sink_type: redis_stream
    file: {}
    config: {{keys: {{stream_key: 'by-{{name}}'}}}}
",
        plugin("route-by-columns")
    );
    let world = World::start(Redis::start(&[]).await?, "", &more).await?;
    let sql = "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'a'), (4, 'not a key')";
    world.client.batch_execute(sql).await?;
    assert_eq!(world.entries("by-a", 2).await?.len(), 2);
    assert_eq!(world.entries("by-b", 1).await?.len(), 1);
    until("the letter", SOON, async || {
        let output = world.sequin.command(&["letters"]).await?;
        let said = String::from_utf8(output.stdout)?;
        let is_it = said.contains("invalid_route") && said.contains("white space");
        Ok(if is_it { Ok(()) } else { Err(said) })
    })
    .await
}

/// Rows with two changes each, in six rounds; `harm` is done behind each.
async fn rounds(
    world: &mut World,
    harm: impl AsyncFn(&mut World) -> Result<()>,
) -> Result<BTreeMap<i64, Vec<String>>> {
    const ROWS: usize = 200;
    for round in 0..6 {
        let (first, last) = (round * ROWS + 1, round * ROWS + ROWS);
        let sql = format!(
            "INSERT INTO t SELECT i, 'a' FROM generate_series({first}, {last}) i;
             UPDATE t SET name = 'b' WHERE id BETWEEN {first} AND {last}"
        );
        world.client.batch_execute(&sql).await?;
        harm(world).await?;
    }
    let mut seen: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    until("all of them", LATER, async || {
        seen.clear();
        for (_, message) in world.entries("poi", 1).await? {
            let id = message["record"]["id"].as_i64().context("an id")?;
            let action = message["action"].as_str().unwrap_or_default().to_owned();
            seen.entry(id).or_default().push(action);
        }
        let whole = seen.values().filter(|actions| actions.iter().any(|it| it == "update")).count();
        Ok(if whole == 6 * ROWS { Ok(()) } else { Err(whole.to_string()) })
    })
    .await
    .with_context(|| world.sequin.log())?;
    Ok(seen)
}

/// The engine is killed again and again: what it sends again is known by its place, and is there once.
#[tokio::test(flavor = "multi_thread")]
async fn b130_what_a_killed_engine_sends_again_is_there_once() -> Result<()> {
    let mut world = World::start(Redis::start(&[]).await?, "stream_key: poi", "").await?;
    let seen = rounds(&mut world, async |world| {
        world.sequin.kill9().await?;
        world.sequin.restart().await
    });
    for (id, actions) in seen.await? {
        assert_eq!(actions, ["insert", "update"], "{id}");
    }
    Ok(())
}

/// The server is killed again and again: nothing is lost, and each row's changes come in order. What was
/// appended late (others went on while it waited) and is sent once more is there twice.
#[tokio::test(flavor = "multi_thread")]
async fn b120_b141_kills_of_the_server_lose_and_reorder_nothing() -> Result<()> {
    let mut world = World::start(Redis::start(&[]).await?, "stream_key: poi", "").await?;
    let seen = rounds(&mut world, async |world| {
        world.redis.kill().await?;
        world.redis.start_again().await
    });
    for (id, mut actions) in seen.await? {
        actions.dedup();
        let first: Vec<&str> = actions.iter().take(2).map(String::as_str).collect();
        assert_eq!(first, ["insert", "update"], "{id}");
    }
    Ok(())
}

/// The server dies, and sentinels make its replica the one to write to: nothing that was answered for is
/// lost, as a replica has it.
#[tokio::test(flavor = "multi_thread")]
async fn b141_a_failover_loses_nothing() -> Result<()> {
    let mut primary = Redis::start(&[]).await?;
    let replica = primary.replica().await?;
    let sentinel = primary.sentinel().await?;
    until("the sentinel to know the replica", SOON, async || {
        let said = sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).await?;
        let is_known = said.contains(&replica.port().to_string());
        Ok(if is_known { Ok(()) } else { Err(said) })
    })
    .await?;
    let at = format!("hosts: ['127.0.0.1:{}'], sentinel_master: main", sentinel.port());
    let options = "stream_key: poi, min_replicas: 1";
    let world = World::start_at(replica, &at, options, "").await?;
    let insert = "INSERT INTO t SELECT i, 'a' FROM generate_series($1, $2) i".to_owned();
    let insert = |first: usize, last: usize| {
        insert.replace("$1", &first.to_string()).replace("$2", &last.to_string())
    };
    world.client.batch_execute(&insert(1, 500)).await?;
    world.entries("poi", 1).await?;
    primary.kill().await?;
    world.client.batch_execute(&insert(501, 1_000)).await?;
    // The one that is left has nobody to copy it: until somebody says otherwise, nothing counts.
    until("the failover", LATER, async || {
        let said = world.redis.ask(&["INFO", "replication"]).await?;
        Ok(if said.contains("role:master") { Ok(()) } else { Err(said) })
    })
    .await?;
    let second = world.redis.replica().await?;
    let ids = async || {
        let mut ids: Vec<i64> = Vec::new();
        for (_, message) in world.entries("poi", 1).await? {
            ids.push(message["record"]["id"].as_i64().context("an id")?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok::<_, anyhow::Error>(ids.len())
    };
    until("all of them", LATER, async || {
        let found = ids().await?;
        Ok(if found == 1_000 { Ok(()) } else { Err(found.to_string()) })
    })
    .await
    .with_context(|| world.sequin.log())?;
    drop(second);
    Ok(())
}

/// What the server refuses is told, and what it refuses for now is tried until it takes it.
#[tokio::test(flavor = "multi_thread")]
async fn b118_b120_refusals_are_told_and_nothing_is_lost() -> Result<()> {
    let redis = Redis::start(&[]).await?;
    redis.ask(&["SET", "poi", "no stream"]).await?;
    let world = World::start(redis, "stream_key: poi", "").await?;
    let tested = async || {
        let output = world.sequin.command(&["sink", "test", "redis"]).await?;
        Ok::<_, anyhow::Error>(String::from_utf8([output.stdout, output.stderr].concat())?)
    };
    let said = tested().await?;
    assert!(said.contains("WRONGTYPE") && said.contains("is a string, and no stream"), "{said}");
    world.client.batch_execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await?;
    until("the refusal", SOON, async || {
        let log = world.sequin.log();
        Ok(if log.contains("WRONGTYPE") { Ok(()) } else { Err(log) })
    })
    .await?;
    world.redis.ask(&["DEL", "poi"]).await?;
    assert_eq!(world.entries("poi", 2).await?.len(), 2);
    for (broken, whole, code) in [
        (&["CONFIG", "SET", "maxmemory", "1"][..], &["CONFIG", "SET", "maxmemory", "0"][..], "OOM"),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"], "READONLY"),
    ] {
        let before = world.redis.entries("poi").await?.len();
        world.redis.ask(broken).await?;
        world.client.batch_execute("UPDATE t SET name = name || 'x'").await?;
        until("the refusal", SOON, async || {
            let log = world.sequin.log();
            Ok(if log.contains(code) { Ok(()) } else { Err(log) })
        })
        .await?;
        assert_eq!(world.redis.entries("poi").await?.len(), before, "{code}");
        world.redis.ask(whole).await?;
        assert_eq!(world.entries("poi", before + 2).await?.len(), before + 2, "{code}");
    }
    Ok(())
}

/// A login that is wrong is told without the password, and right it is one of the ACL.
#[tokio::test(flavor = "multi_thread")]
async fn b237_a_login_of_the_acl_is_used_and_never_shown() -> Result<()> {
    let redis = Redis::start(&[]).await?;
    let user = ["ACL", "SETUSER", "sequin", "on", ">hunter2hunter2", "~poi", "+@all"];
    redis.ask(&user).await?;
    let options = "stream_key: poi, username: sequin, password: hunter2hunter2";
    let world = World::start(redis, options, "").await?;
    world.client.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    assert_eq!(world.entries("poi", 1).await?.len(), 1);
    world.redis.ask(&["ACL", "SETUSER", "sequin", "resetpass", ">another"]).await?;
    world.redis.ask(&["CLIENT", "KILL", "USER", "sequin"]).await?;
    world.client.batch_execute("INSERT INTO t VALUES (2, 'a')").await?;
    until("the refusal", SOON, async || {
        let log = world.sequin.log();
        Ok(if log.contains("login is refused") || log.contains("WRONGPASS") {
            Ok(())
        } else {
            Err(log)
        })
    })
    .await?;
    assert!(!world.sequin.log().contains("hunter2"));
    world.redis.ask(&["ACL", "SETUSER", "sequin", ">hunter2hunter2"]).await?;
    assert_eq!(world.entries("poi", 2).await?.len(), 2);
    Ok(())
}

/// Certificates are checked on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn with_tls_both_sides_show_who_they_are() -> Result<()> {
    let (redis, port, certificates) = Redis::start_with_tls().await?;
    let (ca, cert, key) =
        (certificates.authority(), certificates.client(), certificates.client_key());
    let ca = format!("tls_ca_file: {}", ca.display());
    let own = format!("tls_cert_file: {}, tls_key_file: {}", cert.display(), key.display());
    // The name in the certificate is one of those it may have.
    let at = format!("host: localhost, port: {port}, tls: true");
    let options = format!("stream_key: poi, {ca}, {own}");
    let world = World::start_at(redis, &at, &options, "").await?;
    world.client.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    assert_eq!(world.entries("poi", 1).await?.len(), 1);
    let output = world.sequin.command(&["sink", "test", "redis"]).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Of an authority that nobody knows, without a certificate of ours, and not encrypted at all.
    for (tls, options, why) in
        [("true", own, "certificate"), ("true", ca, "certificate"), ("false", String::new(), "")]
    {
        let at = format!("host: localhost, port: {port}, tls: {tls}");
        let other = World::start_at(Redis::start(&[]).await?, &at, &options, "").await?;
        let output = other.sequin.command(&["sink", "test", "redis"]).await?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{options}: {said}");
        assert!(said.to_lowercase().contains(why), "{options}: {said}");
    }
    Ok(())
}

/// Streams lie on all nodes of a cluster, and one of those dies and comes back meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn b120_a_cluster_has_all_of_each_stream() -> Result<()> {
    const STREAMS: usize = 12;
    const ROWS: usize = 600;
    let [first, mut second, third] = Redis::cluster().await?;
    let at = format!("hosts: ['127.0.0.1:{}'], cluster: true", first.port());
    let more = format!(
        "    routing: by-name
functions:
  - name: by-name
    type: routing
    sink_type: redis_stream
    file: {}
    config: {{keys: {{stream_key: 'poi-{{name}}'}}}}
",
        plugin("route-by-columns")
    );
    let world = World::start_at(first, &at, "", &more).await?;
    let rows = |from: usize| {
        let until = from + ROWS - 1;
        format!("INSERT INTO t SELECT i, i % {STREAMS} FROM generate_series({from}, {until}) i")
    };
    world.client.batch_execute(&rows(1)).await?;
    second.kill().await?;
    world.client.batch_execute(&rows(ROWS + 1)).await?;
    second.start_again().await?;
    let mut nodes = BTreeSet::new();
    for stream in 0..STREAMS {
        let name = format!("poi-{stream}");
        let wanted: BTreeSet<usize> = (1..=2 * ROWS).filter(|id| id % STREAMS == stream).collect();
        until("all of a stream", LATER, async || {
            let entries = world.entries(&name, 1).await?;
            let id = |message: &Value| {
                message["record"]["id"].as_u64().and_then(|id| usize::try_from(id).ok())
            };
            let ids: BTreeSet<usize> =
                entries.iter().filter_map(|(_, message)| id(message)).collect();
            Ok(if ids == wanted { Ok(()) } else { Err(format!("{name}: {ids:?}")) })
        })
        .await
        .with_context(|| world.sequin.log())?;
        let found = world.redis.ask(&["CLUSTER", "KEYSLOT", &name]).await?;
        nodes.insert(found.parse::<u32>()? / 5_462);
    }
    assert_eq!(nodes.len(), 3, "every node has some");
    drop(third);
    Ok(())
}

/// What was edited goes to its table's stream, as what was not.
#[tokio::test(flavor = "multi_thread")]
async fn b235_an_edited_message_goes_where_its_table_says() -> Result<()> {
    let redis = Redis::start(&[]).await?;
    redis.ask(&["SET", "sequin.public.t", "no stream"]).await?;
    let world = World::start(redis, "", "").await?;
    world.client.batch_execute("INSERT INTO t VALUES (1, 'bad')").await?;
    let cli = async |command: &[&str]| {
        let output = world.sequin.command(command).await?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok::<_, anyhow::Error>(said)
    };
    let waiting = until("the message to wait", SOON, async || {
        let said = cli(&["messages", "list", "redis"]).await?;
        Ok(serde_json::from_str::<Value>(&said).map_err(|_| said))
    })
    .await
    .with_context(|| world.sequin.log())?;
    let id = waiting["id"].as_str().context("an id")?;
    let shown = cli(&["messages", "show", "redis", id]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    let message = shown["message"].to_string().replace("bad", "mended");
    world.redis.ask(&["SET", "sequin", "neither"]).await?;
    // Its replay is refused as it was, and goes on; the message may be under way just then.
    until("the message to be edited", SOON, async || {
        let said = cli(&["messages", "edit", "redis", id, "--message", &message]).await?;
        Ok(if said.contains("\"selected\":1") { Ok(()) } else { Err(said) })
    })
    .await?;
    world.redis.ask(&["DEL", "sequin.public.t"]).await?;
    let entries = world.entries("sequin.public.t", 1).await?;
    assert_eq!(entries[0].1["record"], json!({"id": 1, "name": "mended"}));
    Ok(())
}
