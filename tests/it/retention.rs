//! Change retentions: the changes of one table as rows of another.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::postgres::Setup;
use tests::{Cluster, Proxy, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, engine, streaming};

const SCHEMA: &str = "
    CREATE TABLE orders (
        id bigint PRIMARY KEY, state text, total numeric, placed_at timestamptz, tags text[],
        address jsonb, note text);
    CREATE TABLE lines (order_id bigint, line int, article text, PRIMARY KEY (order_id, line));";

/// A source, a database that changes are kept in, and an engine that reaches it through a proxy.
struct World {
    sequin: Sequin,
    source: Client,
    audit: Client,
    proxy: Proxy,
    postgres: Cluster,
}

impl World {
    /// With these change retentions, as lines of YAML, and the table `kept` for them.
    async fn start(retentions: &str) -> Result<Self> {
        let world = Self::prepare(retentions).await?;
        world.make_table("kept").await?;
        world.begin().await
    }

    async fn prepare(retentions: &str) -> Result<Self> {
        let postgres = Cluster::start().await?;
        postgres.create_database("audit").await?;
        let source = postgres.client("postgres").await?;
        source.batch_execute(SCHEMA).await?;
        let audit = postgres.client("audit").await?;
        let proxy = Proxy::start(postgres.port()).await?;
        let config = config(postgres.port(), proxy.port(), retentions);
        let sequin = engine(&config).prepare()?;
        Ok(Self { sequin, source, audit, proxy, postgres })
    }

    async fn begin(mut self) -> Result<Self> {
        self.sequin.restart().await?;
        streaming(&self.sequin).await?;
        Ok(self)
    }

    /// As whoever runs it does: what the command prints goes to psql.
    async fn make_table(&self, name: &str) -> Result<()> {
        let made = self.sequin.command(&["change-retention", "ddl", "--table", name]).await?;
        ensure!(made.status.success(), "{made:?}");
        Ok(self.audit.batch_execute(std::str::from_utf8(&made.stdout)?).await?)
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.source.batch_execute(sql).await.with_context(|| sql.to_owned())
    }

    /// Rows of the table as JSON, in their order.
    async fn rows(&self, table: &str) -> Result<Vec<Value>> {
        let sql = format!("SELECT to_jsonb(k)::text FROM {table} k ORDER BY seq");
        let rows = self.audit.query(&sql, &[]).await?;
        Ok(rows.iter().map(|row| serde_json::from_str(row.get(0))).collect::<Result<_, _>>()?)
    }

    /// Waits until there are so many rows.
    async fn until_rows(&self, table: &str, count: usize) -> Result<Vec<Value>> {
        let what = format!("{count} rows of {table}");
        let rows = until(&what, LATER, async || {
            let rows = self.rows(table).await?;
            Ok(if rows.len() == count { Ok(rows) } else { Err(format!("{rows:?}")) })
        });
        rows.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    /// What the API says.
    async fn api(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value)> {
        let url = format!("{}/api/{path}", self.sequin.url());
        let mut asked = tests::http::client()?.request(method.parse()?, url);
        if !body.is_null() {
            asked = asked.header("content-type", "application/json").body(body.to_string());
        }
        let answer = asked.send().await?;
        Ok((answer.status().as_u16(), serde_json::from_str(&answer.text().await?)?))
    }

    /// Waits until the health of a retention says this.
    async fn until_health(&self, name: &str, wanted: &str) -> Result<()> {
        until(wanted, LATER, async || {
            let (_, shown) =
                self.api("GET", &format!("change_retentions/{name}"), Value::Null).await?;
            let health = shown["health"].to_string();
            Ok(if health.contains(wanted) { Ok(()) } else { Err(health) })
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }
}

/// Nothing is read from the database that changes are kept in: it has no slot.
fn config(source: u16, audit: u16, retentions: &str) -> String {
    format!(
        "databases:
  - {{name: source, hostname: 127.0.0.1, port: {source}, database: postgres,
     username: postgres, password: postgres,
     slot: {{name: source_it, create_if_not_exists: true}},
     publication: {{name: source_it, create_if_not_exists: true}}}}
  - {{name: audit, hostname: 127.0.0.1, port: {audit}, database: audit,
     username: postgres, password: postgres}}
change_retentions:
{retentions}sinks: []
"
    )
}

/// A retention of a table of the source.
fn retention(name: &str, table: &str, rest: &str) -> String {
    format!(
        "  - name: {name}
    source_database: source
    source_table_name: {table}
    destination_database: audit
    destination_table_name: kept
{rest}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_rows_of_the_predecessors_shape() -> Result<()> {
    let both = retention("orders", "orders", "") + &retention("lines", "lines", "");
    let world = World::start(&both).await?;
    world
        .run(
            "INSERT INTO orders (id, state, total, tags, address)
                VALUES (1, 'new', 12345678901234567890.10, '{a,b}', '{\"city\": \"Bern\"}');
             BEGIN;
             SELECT pg_logical_emit_message(true, 'sequin:transaction_annotations.set', '{\"by\":\"me\"}');
             UPDATE orders SET state = 'paid' WHERE id = 1;
             DELETE FROM orders WHERE id = 1;
             COMMIT;
             INSERT INTO lines VALUES (1, 2, 'pen')",
        )
        .await?;
    let rows = world.until_rows("kept", 4).await?;
    let oids = world.source.query_one("SELECT 'orders'::regclass::oid::int8", &[]).await?;
    let oid: i64 = oids.get(0);
    let actions: Vec<_> = rows.iter().map(|row| &row["action"]).collect();
    assert_eq!(actions, ["insert", "update", "delete", "insert"]);
    let first = rows[0].as_object().context("a row")?;
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(
        names.join(" "),
        "action changes committed_at id inserted_at record record_pk seq source_database_id \
         source_table_name source_table_oid source_table_schema transaction_annotations"
    );
    assert_eq!(first["source_table_oid"], oid);
    assert_eq!(
        (&first["source_table_schema"], &first["source_table_name"]),
        (&json!("public"), &json!("orders"))
    );
    assert_eq!((&first["record_pk"], &first["changes"]), (&json!("1"), &Value::Null));
    assert_eq!(first["transaction_annotations"], Value::Null);
    assert_eq!(
        first["record"],
        json!({
            "id": 1, "state": "new", "total": "12345678901234567890.10", "placed_at": null,
            "tags": ["a", "b"], "address": {"city": "Bern"}, "note": null,
        })
    );
    let (_, database) = world.api("GET", "postgres_databases/source", Value::Null).await?;
    assert_eq!(first["source_database_id"], database["id"]);
    assert_eq!(rows[1]["record"]["state"], "paid");
    assert_eq!(rows[1]["transaction_annotations"], json!({"by": "me"}));
    assert_eq!((&rows[2]["record"]["id"], &rows[2]["record_pk"]), (&json!(1), &json!("1")));
    assert_eq!(rows[1]["committed_at"], rows[2]["committed_at"]);
    assert_eq!(rows[3]["record_pk"], "1,2", "a composite key");
    assert_eq!(rows[3]["source_table_name"], "lines");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_by_type_and_hold_for_deletes_too() -> Result<()> {
    let filters = "    filters:
      - {column_name: total, field_type: number, operator: '>', comparison_value: '99999999999999999999.1'}
      - {column_name: state, field_type: cistring, operator: not in, comparison_value: [draft, test]}
      - {column_name: placed_at, field_type: datetime, operator: '>=', comparison_value: '2024-01-01T02:00:00+02:00'}
      - {column_name: tags, field_type: list, operator: in, comparison_value: [gift, rush]}
      - {column_name: address, field_path: geo.country, operator: '=', comparison_value: CH}
      - {column_name: note, operator: is null}\n";
    let world = World::start(&retention("orders", "orders", filters)).await?;
    world
        .run(
            "ALTER TABLE orders REPLICA IDENTITY FULL;
             CREATE FUNCTION good(id bigint) RETURNS orders LANGUAGE sql AS $$
                SELECT id, 'Paid', 99999999999999999999.2, timestamptz '2024-01-01 00:00:00Z',
                    '{x,gift}'::text[], '{\"geo\": {\"country\": \"CH\"}}'::jsonb, null::text $$;
             INSERT INTO orders SELECT (good(n)).* FROM generate_series(1, 8) n WHERE n = 1;
             INSERT INTO orders SELECT (good(n)).* FROM generate_series(2, 8) n;
             UPDATE orders SET total = 99999999999999999999.1 WHERE id = 2;
             UPDATE orders SET state = 'DRAFT' WHERE id = 3;
             UPDATE orders SET state = null WHERE id = 3;
             UPDATE orders SET placed_at = '2023-12-31 23:59:59.999999Z' WHERE id = 4;
             UPDATE orders SET tags = '{x}' WHERE id = 5;
             UPDATE orders SET address = '{\"geo\": {}}' WHERE id = 6;
             UPDATE orders SET note = '' WHERE id = 7;
             DELETE FROM orders;
             INSERT INTO orders SELECT (good(9)).*",
        )
        .await?;
    let rows = world.until_rows("kept", 11).await?;
    let seen: Vec<_> =
        rows.iter().map(|row| format!("{} {}", row["action"], row["record_pk"])).collect();
    let inserted = (1..=8).map(|id| format!("\"insert\" \"{id}\""));
    let wanted = inserted.chain([1, 8].map(|id| format!("\"delete\" \"{id}\"")));
    let wanted: Vec<_> = wanted.chain(["\"insert\" \"9\"".to_owned()]).collect();
    assert_eq!(seen, wanted, "what does not meet the filters any more is not kept, nor its end");
    Ok(())
}

/// Of an update that does not touch a large value, the record has the value all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_that_an_update_did_not_touch_is_in_the_record() -> Result<()> {
    let actions = "    actions: [update, truncate]\n";
    let world = World::start(&retention("orders", "orders", actions)).await?;
    world
        .run(
            "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
             INSERT INTO orders (id, note) VALUES (1, repeat('x', 100000));
             UPDATE orders SET state = 'paid'",
        )
        .await?;
    let rows = world.until_rows("kept", 1).await?;
    assert_eq!(rows[0]["record"]["note"].as_str().map(str::len), Some(100_000));
    world.run("TRUNCATE orders").await?;
    let rows = world.until_rows("kept", 2).await?;
    assert_eq!((&rows[1]["action"], &rows[1]["record"]), (&json!("truncate"), &json!({})));
    Ok(())
}

/// The destination is away, the engine is killed and started in the middle of it: every change is kept
/// once.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_kills_leave_each_change_exactly_once() -> Result<()> {
    let mut world = World::start(&retention("lines", "lines", "")).await?;
    let insert = |from: i64, to: i64| {
        format!("INSERT INTO lines SELECT n, n % 7, 'x' FROM generate_series({from}, {to}) n")
    };
    world.run(&insert(1, 1000)).await?;
    world.until_rows("kept", 1000).await?;
    world.proxy.cut();
    world.run(&insert(1001, 3000)).await?;
    world.until_health("lines", "unreachable").await?;
    world.sequin.kill9().await?;
    world.run(&insert(3001, 4000)).await?;
    world.sequin.launch()?;
    streaming(&world.sequin).await?;
    world.run(&insert(4001, 5000)).await?;
    world.proxy.heal();
    until("some of it to arrive", LATER, async || {
        let count = world.rows("kept").await?.len();
        Ok(if count > 1000 { Ok(()) } else { Err(count.to_string()) })
    })
    .await?;
    world.sequin.kill9().await?;
    world.sequin.restart().await?;
    world.run("UPDATE lines SET article = 'y' WHERE order_id <= 2000; DELETE FROM lines WHERE order_id > 4000").await?;
    let rows = world.until_rows("kept", 8000).await?;
    let count = |action: &str| rows.iter().filter(|row| row["action"] == action).count();
    assert_eq!((count("insert"), count("update"), count("delete")), (5000, 2000, 1000));
    let sql = "SELECT count(DISTINCT (action, record_pk)), count(DISTINCT seq) FROM kept";
    let counted = world.audit.query_one(sql, &[]).await?;
    assert_eq!((counted.get::<_, i64>(0), counted.get::<_, i64>(1)), (8000, 8000));
    let letters = world.sequin.command(&["letters"]).await?;
    assert!(letters.stdout.is_empty(), "{letters:?}");
    Ok(())
}

/// What is wrong with the destination is named where it is planned, and by health where it goes wrong
/// later; mended, what was missed comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_destination_is_named() -> Result<()> {
    let world = World::start(&retention("orders", "orders", "")).await?;
    let plan = async |change: &dyn Fn(String) -> String| {
        let yaml =
            config(world.postgres.port(), world.proxy.port(), &retention("other", "lines", ""));
        let yaml = change(yaml);
        let (status, told) = world.api("POST", "config/plan", json!({ "yaml": yaml })).await?;
        Ok::<_, anyhow::Error>(format!("{status} {told}"))
    };
    let elsewhere = |yaml: String| yaml.replace("table_name: kept", "table_name: other");
    let told = plan(&|yaml| yaml).await?;
    assert!(told.starts_with("200") && told.contains(r#""change_retention""#), "{told}");

    for (sql, code) in [
        ("", "table_missing"),
        ("CREATE VIEW other AS SELECT 1", "table_missing"),
        ("DROP VIEW other; CREATE TABLE other AS TABLE kept", "unique_index_missing"),
        ("ALTER TABLE other DROP action", "column_missing"),
        ("ALTER TABLE other ADD action text, ALTER record TYPE text", "column_type"),
        (
            "ALTER TABLE other ALTER record TYPE jsonb USING record::jsonb, ALTER id SET NOT NULL",
            "column_default",
        ),
        (
            "ALTER TABLE other ALTER id DROP NOT NULL; CREATE UNIQUE INDEX ON other (seq, committed_at, \
             source_database_id) INCLUDE (record_pk)",
            "unique_index_missing",
        ),
    ] {
        world.audit.batch_execute(sql).await.context(sql)?;
        let told = plan(&elsewhere).await?;
        assert!(told.starts_with("422") && told.contains(code), "{sql}: {told}");
        assert!(told.contains("change retention `other`: destination: "), "{told}");
    }
    let key = "CREATE UNIQUE INDEX ON other (record_pk, seq, committed_at, source_database_id);
               CREATE ROLE writer LOGIN PASSWORD 'w'; GRANT INSERT, SELECT ON kept TO writer";
    world.audit.batch_execute(key).await?;
    assert!(plan(&elsewhere).await?.starts_with("200"));
    let writer = |yaml: String| {
        let (source, audit) = yaml.split_once("name: audit").unwrap();
        elsewhere(format!(
            "{source}name: audit{}",
            audit.replacen("username: postgres", "username: writer", 1)
        ))
    };
    let told = plan(&writer).await?;
    assert!(told.starts_with("422") && told.contains("privilege"), "{told}");
    world.audit.batch_execute("GRANT INSERT, SELECT ON other TO writer").await?;
    let told = plan(&writer).await?;
    assert!(told.starts_with("200"), "{told}");
    let nobody = |yaml: String| writer(yaml).replace("username: writer", "username: nobody");
    let told = plan(&nobody).await?;
    assert!(told.starts_with("422") && told.contains("authentication"), "{told}");
    let nowhere = |yaml: String| writer(yaml).replace(", database: audit", ", database: nowhere");
    let told = plan(&nowhere).await?;
    assert!(told.starts_with("422") && told.contains("database_missing"), "{told}");
    let encrypted = |yaml: String| {
        writer(yaml).replace("username: writer", "username: writer, sslmode: require")
    };
    let told = plan(&encrypted).await?;
    assert!(told.starts_with("422") && told.contains("tls_refused"), "{told}");
    // It may come: whoever applies is told, and it is tried until it is there.
    world.proxy.cut();
    let told = plan(&elsewhere).await?;
    assert!(told.starts_with("200") && told.contains("destination: "), "{told}");
    world.proxy.heal();

    world.run("INSERT INTO orders (id) VALUES (1)").await?;
    world.until_rows("kept", 1).await?;
    world.audit.batch_execute("ALTER TABLE kept RENAME TO gone").await?;
    world.run("INSERT INTO orders (id) VALUES (2)").await?;
    world.until_health("orders", "table_missing: there is no table public.kept").await?;
    let looked = world.sequin.command(&["doctor", "{config}"]).await?;
    let looked = String::from_utf8(looked.stdout)?;
    assert!(looked.contains("fail  change retention orders: table: there is no table"), "{looked}");
    assert!(
        looked.contains("ok    change retention orders: connection: postgres is let in"),
        "{looked}"
    );
    world.audit.batch_execute("ALTER TABLE gone RENAME TO kept").await?;
    world.until_rows("kept", 2).await?;
    world.until_health("orders", "\"status\":\"healthy\"").await?;
    let looked = world.sequin.command(&["doctor", "{config}"]).await?;
    let looked = String::from_utf8(looked.stdout)?;
    for part in ["connection", "table", "columns", "index", "privileges"] {
        assert!(looked.contains(&format!("ok    change retention orders: {part}: ")), "{looked}");
    }
    Ok(())
}

/// A login is told as that of a source is: by the server's own words, and never with the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_told() -> Result<()> {
    let world = World::start(&retention("orders", "orders", "")).await?;
    let setup = Setup { password: Some("right"), tls: true, ..Setup::default() };
    let other = Cluster::start_as(setup).await?;
    let plan = async |port: u16, login: &str| {
        let yaml = config(world.postgres.port(), port, &retention("other", "lines", ""));
        let yaml = yaml.replace("username: postgres, password: postgres}", login);
        let (status, told) = world.api("POST", "config/plan", json!({ "yaml": yaml })).await?;
        ensure!(!told.to_string().contains("secret-word"), "{told}");
        Ok(format!("{status} {told}"))
    };
    let wrong = "username: postgres, sslmode: require, password: secret-word}";
    let told = plan(other.port(), wrong).await?;
    assert!(told.starts_with("422") && told.contains("authentication"), "{told}");
    assert!(told.contains("password authentication failed"), "{told}");
    let unverified =
        "username: postgres, sslmode: verify-full, sslrootcert: system, password: right}";
    let told = plan(other.port(), unverified).await?;
    assert!(told.starts_with("422") && told.contains("tls_certificate"), "{told}");
    let right = "username: postgres, sslmode: require, password: right}";
    let told = plan(other.port(), right).await?;
    assert!(told.starts_with("422") && told.contains("database_missing"), "{told}");
    let told = plan(tests::ports::free()?, right).await?;
    assert!(told.starts_with("200") && told.contains("refused"), "{told}");
    Ok(())
}

/// A table that is wanted is made, and partitions that are asked for take rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_if_that_is_wanted_and_may_be_partitioned() -> Result<()> {
    let made = retention("lines", "lines", "    create_if_not_exists: true\n");
    let parts = retention("orders", "orders", "").replace("name: kept", "name: parts");
    let world = World::prepare(&(made + &parts)).await?;
    let printed =
        ["change-retention", "ddl", "--schema", "public", "--table", "parts", "--partitioned"];
    let printed = world.sequin.command(&printed).await?;
    world.audit.batch_execute(std::str::from_utf8(&printed.stdout)?).await?;
    let world = world.begin().await?;
    world.run("INSERT INTO orders (id) VALUES (1); INSERT INTO lines VALUES (1, 1, 'x')").await?;
    world.until_rows("kept", 1).await?;
    world.until_rows("parts", 1).await?;
    world.until_rows("parts_default", 1).await?;
    // What fits no partition waits for one.
    let alone = "DROP TABLE parts_default; INSERT INTO kept SELECT * FROM kept WHERE false";
    world.audit.batch_execute(alone).await?;
    world.run("INSERT INTO orders (id) VALUES (2)").await?;
    world.until_health("orders", "partition_missing").await?;
    world.audit.batch_execute("CREATE TABLE rest PARTITION OF parts DEFAULT").await?;
    world.until_rows("rest", 1).await?;
    Ok(())
}

/// A row that no filter can judge, or that the table cannot hold, is put aside alone; mended, it is kept
/// once it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_judged_or_kept_is_put_aside_alone() -> Result<()> {
    let filters = "    filters: [{column_name: note, field_type: number, operator: '>', comparison_value: 5}]\n";
    let world = World::start(&retention("orders", "orders", filters)).await?;
    world
        .run(
            "ALTER TABLE orders ADD raw json;
             INSERT INTO orders (id, note, raw) VALUES (1, '6', '1'), (2, 'six', '1'), (3, '5', '1'),
                (4, '7', '\"\\u0000\"'), (5, '8', '1')",
        )
        .await?;
    let rows = world.until_rows("kept", 2).await?;
    assert_eq!((&rows[0]["record_pk"], &rows[1]["record_pk"]), (&json!("1"), &json!("5")));
    let letters = until("two letters", LATER, async || {
        let letters = world.sequin.command(&["letters"]).await?;
        let letters = String::from_utf8(letters.stdout)?;
        Ok(if letters.lines().count() == 2 { Ok(letters) } else { Err(letters) })
    });
    let letters = letters.await?;
    let letters = letters.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of = |id: i64| letters.iter().find(|it| it["input"]["record"]["id"] == id).context("one");
    let (judged, kept) = (of(2)?, of(4)?);
    assert_eq!(judged["sink"], "change_retention:orders", "{judged}");
    assert!(judged["error"].to_string().contains("`note` holds no number"), "{judged}");
    assert!(kept["error"].to_string().contains("SQLSTATE 22P05"), "{kept}");

    let body =
        json!({"filters": [{"column_name": "note", "operator": "!=", "comparison_value": "5"}]});
    let (status, told) = world.api("PATCH", "change_retentions/orders", body).await?;
    assert_eq!(status, 200, "{told}");
    let id = judged["id"].to_string();
    let done = tokio::process::Command::from(world.sequin.executable())
        .args(["letters", "retry", &id])
        .env("SEQUIN_URL", world.sequin.url())
        .output()
        .await?;
    ensure!(done.status.success(), "{done:?}");
    let rows = world.until_rows("kept", 3).await?;
    assert_eq!(rows[1]["record_pk"], "2", "at its place");
    Ok(())
}

/// What was there before, by the name that its sink has.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_keeps_rows_that_were_there_before() -> Result<()> {
    let world = World::prepare(&retention("lines", "lines", "")).await?;
    world.make_table("kept").await?;
    world.run("INSERT INTO lines SELECT n, 1, 'x' FROM generate_series(1, 2500) n").await?;
    let world = world.begin().await?;
    let path = "sinks/change_retention:lines/backfills";
    let (status, told) = world.api("POST", path, json!({"table": "public.lines"})).await?;
    ensure!((200..300).contains(&status), "{status} {told}");
    let rows = world.until_rows("kept", 2500).await?;
    assert!(rows.iter().all(|row| row["action"] == "read"), "{:?}", rows.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_and_the_command_line_have_them_as_resources() -> Result<()> {
    let world = World::start(&retention("orders", "orders", "")).await?;
    assert_eq!(world.api("GET", "sinks", Value::Null).await?.1, json!({"data": [], "next": null}));
    let (status, told) = world.api("GET", "change_retentions", Value::Null).await?;
    assert_eq!((status, &told["data"][0]["name"]), (200, &json!("orders")), "{told}");
    let (_, shown) = world.api("GET", "change_retentions/orders", Value::Null).await?;
    for (key, value) in [
        ("status", json!("active")),
        ("source_table_schema", json!("public")),
        ("destination_table_name", json!("kept")),
        ("actions", json!(["insert", "update", "delete"])),
        ("filters", json!([])),
    ] {
        assert_eq!(shown[key], value, "{shown}");
    }
    assert_eq!(shown["health"]["name"], "orders", "{shown}");

    // What is exported is what runs, and is written the same again.
    let (_, exported) = world.api("GET", "config/export?show-sensitive=true", Value::Null).await?;
    let yaml = exported["yaml"].as_str().context("a text")?;
    assert!(yaml.contains("change_retentions:\n  - name: orders\n"), "{yaml}");
    let (_, plan) = world.api("POST", "config/plan", json!({ "yaml": yaml })).await?;
    assert_eq!(plan["changes"], json!([]), "{plan}");

    let lines = json!({
        "name": "lines", "source_database": "source", "source_table_name": "lines",
        "destination_database": "audit", "destination_table_name": "kept",
        "filters": [{"column_name": "article", "operator": "==", "comparison_value": "pen"}],
    });
    let (status, told) = world.api("POST", "change_retentions", lines.clone()).await?;
    assert_eq!(status, 201, "{told}");
    let (status, told) = world.api("POST", "change_retentions", lines).await?;
    assert_eq!((status, &told["code"]), (422, &json!("name_taken")), "{told}");
    let wrong = json!({"filters": [{"column_name": "artcle", "operator": "is null"}]});
    let (status, told) = world.api("PATCH", "change_retentions/lines", wrong).await?;
    assert_eq!((status, &told["code"]), (422, &json!("column_missing")), "{told}");
    let (status, told) = world.api("DELETE", "postgres_databases/audit", Value::Null).await?;
    assert!(status == 422 && told.to_string().contains("change retention `lines`"), "{told}");
    let tested = "postgres_databases/audit/test_connection";
    let (status, told) = world.api("POST", tested, Value::Null).await?;
    assert_eq!((status, &told["success"]), (200, &json!(true)), "{told}");
    world.run("INSERT INTO lines VALUES (1, 1, 'pen'), (1, 2, 'ink')").await?;
    world.until_rows("kept", 1).await?;

    let run = async |arguments: &[&str]| {
        let mut all = vec!["change-retention"];
        all.extend(arguments);
        let done = world.sequin.executable();
        let mut done = tokio::process::Command::from(done);
        let done = done.args(&all).env("SEQUIN_URL", world.sequin.url()).output().await?;
        ensure!(done.status.success(), "{all:?}: {done:?}");
        Ok(String::from_utf8(done.stdout)?)
    };
    let listed = run(&["list"]).await?;
    assert!(listed.contains("lines   source/public.lines   audit/public.kept  active"), "{listed}");
    assert!(run(&["ddl", "lines"]).await?.contains("\"public\".\"kept\" ("));
    assert_eq!(run(&["pause", "lines"]).await?, "change retention lines is paused\n");
    world.run("INSERT INTO lines VALUES (1, 3, 'pen')").await?;
    let shown: Value = serde_json::from_str(&run(&["show", "lines"]).await?)?;
    assert_eq!(shown["status"], "paused");
    assert_eq!(run(&["resume", "lines"]).await?, "change retention lines is active\n");
    world.until_rows("kept", 2).await?;
    let (status, told) = world.api("DELETE", "change_retentions/lines", Value::Null).await?;
    assert_eq!((status, &told["deleted"]), (200, &json!(true)), "{told}");
    let (status, _) = world.api("GET", "change_retentions/lines", Value::Null).await?;
    assert_eq!(status, 404);
    Ok(())
}

/// Under another name (`moved`) it goes on where it was: what it owed comes, and nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_retention_keeps_what_it_owes_under_another_name() -> Result<()> {
    let world = World::start(&retention("orders", "orders", "")).await?;
    world.run("INSERT INTO orders (id) VALUES (1)").await?;
    world.until_rows("kept", 1).await?;
    world.proxy.cut();
    world.run("INSERT INTO orders (id) VALUES (2)").await?;
    world.until_health("orders", "unreachable").await?;
    let renamed =
        config(world.postgres.port(), world.proxy.port(), &retention("sales", "orders", ""))
            + "moved:\n  - {from: change_retentions.orders, to: change_retentions.sales}\n";
    world.sequin.write_config(&renamed)?;
    until("its new name", LATER, async || {
        let (_, told) = world.api("GET", "change_retentions", Value::Null).await?;
        let (name, all) = (&told["data"][0]["name"], told["data"].as_array());
        let is_it = *name == "sales" && all.is_some_and(|all| all.len() == 1);
        Ok(if is_it { Ok(()) } else { Err(format!("{told}\n{}", world.sequin.log())) })
    })
    .await?;
    world.proxy.heal();
    world.run("INSERT INTO orders (id) VALUES (3)").await?;
    let rows = world.until_rows("kept", 3).await?;
    let keys: Vec<&Value> = rows.iter().map(|row| &row["record_pk"]).collect();
    assert_eq!(keys, ["1", "2", "3"]);
    assert!(!world.sequin.log().contains("is removed"), "{}", world.sequin.log());
    Ok(())
}
