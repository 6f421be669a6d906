//! What is done to make a server say everything.

use std::collections::HashMap;

/// Values of all types, as SQL: those with a form of their own several times.
const VALUES: &[(&str, &str)] = &[
    ("bool", "t"),
    ("int2", "-32768"),
    ("int8", "9223372036854775807"),
    ("float4", "-1.5e-07"),
    ("float8", "1e300"),
    ("float8", "-Infinity"),
    ("numeric", "-12345678901234567890.123456789"),
    ("numeric", "NaN"),
    ("money", "-1234.5"),
    ("text", "žluťoučký 🦀 \"q\" \\ \n"),
    ("char(5)", "ab"),
    ("\"char\"", "x"),
    ("citext", "AbC"),
    ("bytea", "\\x00ff5c"),
    ("timestamp", "2024-01-02 03:04:05.1"),
    ("timestamp", "0044-03-15 12:00:00 BC"),
    ("timestamptz", "2024-01-02 03:04:05.123456+02"),
    ("timestamptz", "294276-12-31 23:59:59+00"),
    ("timestamptz", "infinity"),
    ("date", "0044-03-15 BC"),
    ("time", "24:00:00"),
    ("timetz", "01:02:03.5+05:30"),
    ("interval", "1 year 2 mons -3 days 04:05:06.789"),
    ("interval", "-1 mon +2 days -00:00:00.000001"),
    ("interval", "-178000000 years"),
    ("uuid", "018f4e6a-0000-7000-8000-0123456789ab"),
    ("json", "{\"a\": 1, \"a\": 1e999, \"b\":[ ]}"),
    ("jsonb", "{\"a\": [null, true, \"\\u00e9\\n\", -1.50]}"),
    ("int4[]", "{}"),
    ("int4[]", "[0:1]={1,NULL}"),
    ("int4[]", "{{{1,2},{3,4}}}"),
    ("text[]", "{a,\"NULL\",NULL,\"\",\"b,c\",\"d\\\"e\",\"{f}\",\"g\\\\h\"}"),
    ("bool[]", "{t,f}"),
    ("jsonb[]", "{\"{\\\"a\\\": [1]}\",NULL,\"\\\"x\\\"\"}"),
    ("bytea[]", "{\"\\\\x00ff\"}"),
    ("timestamptz[]", "{\"2024-01-02 03:04:05+00\",infinity}"),
    ("numeric[]", "{1.50,NaN}"),
    ("float8[]", "{1.5,NaN}"),
    ("interval[]", "{\"1 day\",00:00:01,\"-2 mons\"}"),
    ("box[]", "{(1,1),(0,0);(2,2),(1,1)}"),
    ("mood", "ok"),
    ("mood[]", "{ok,sad}"),
    ("very_positive", "7"),
    ("positives[]", "{\"{7,8}\",\"{}\"}"),
    ("moment", "2024-01-02 03:04:05+00"),
    ("information_schema.cardinal_number", "3"),
    ("pair", "(1,\"a \"\"b\"\"\")"),
    ("pair[]", "{\"(1,a)\",\"(,)\"}"),
    ("int4range", "[1,5]"),
    ("int4multirange", "{[1,2),[5,6)}"),
    ("inet", "10.0.0.1"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("point", "(1,2)"),
    ("polygon", "((0,0),(1,1))"),
    ("varbit", "001"),
    ("tsvector", "b a"),
    ("xml", "<a/>"),
    ("pg_lsn", "16/B374D848"),
    ("oid", "4294967295"),
    ("regclass", "pg_class"),
    ("int2vector", "1 2 3"),
    ("oidvector", "1 2 3"),
    ("hstore", "a=>1"),
    ("hstore[]", "{\"\\\"a\\\"=>\\\"1\\\"\"}"),
    ("ltree", "a.b"),
    ("vector", "[1,-2.5,3e-05]"),
];

/// The scenes whose values are worth keeping one by one.
pub(super) const HAVE_VALUES: [&str; 2] = ["types", "infinite"];

/// A name, what is done before, and what is done then: one transaction each.
pub(super) type Scene = (&'static str, String, Vec<String>);

/// Few iterations, where the server lets us say so: hashing is not what is to be tried out.
pub(super) fn roles(password: &str, major: u32) -> String {
    let role = |name: &str| {
        format!("create role {name} superuser login replication password '{password}';")
    };
    let md5 = format!("set password_encryption = 'md5'; {}", role("by_md5"));
    let others: Vec<String> = ["by_trust", "by_password", "by_scram"].map(role).into();
    let iterations = if major >= 16 { "set scram_iterations = 1;" } else { "" };
    format!("{iterations} {} {md5}", others.concat())
}

/// Types that no server brings along. The one named `vector` stands in for pgvector's, which prints
/// itself in the same way.
pub(super) const PREPARATION: &str = "
     create extension citext; create extension hstore; create extension ltree;
     create type mood as enum ('sad', 'ok');
     create domain positive as int check (value > 0);
     create domain very_positive as positive;
     create domain positives as positive[];
     create domain moment as timestamptz;
     create type pair as (a int, b text);
     create type vector;
     create function vector_in(cstring) returns vector as 'textin' language internal immutable strict;
     create function vector_out(vector) returns cstring as 'textout' language internal immutable strict;
     create type vector (input = vector_in, output = vector_out, like = text);
     select pg_replication_origin_create('elsewhere')
         where not exists (select from pg_replication_origin where roname = 'elsewhere');";

pub(super) fn scenes(major: u32) -> Vec<Scene> {
    let mut scenes = vec![types(), keys(), identities(), long(), truncates(), annotations()];
    scenes.extend([origins(), partitions("partitions"), changing(), catalog(), parts()]);
    if major >= 17 {
        scenes.push(scene(
            "infinite",
            "create table infinite (i interval, a interval[])",
            &["insert into infinite values ('infinity', '{-infinity,\"1 day\"}')"],
        ));
    }
    scenes
}

fn scene(name: &'static str, setup: &str, statements: &[&str]) -> Scene {
    (name, setup.to_owned(), statements.iter().map(|sql| (*sql).to_owned()).collect())
}

fn types() -> Scene {
    let columns: Vec<String> =
        VALUES.iter().enumerate().map(|(n, (kind, _))| format!("c{n} {kind}")).collect();
    let values: Vec<String> =
        VALUES.iter().map(|(_, text)| format!("'{}'", text.replace('\'', "''"))).collect();
    let setup = format!("create table types ({})", columns.join(", "));
    let insert = format!("insert into types values ({})", values.join(", "));
    ("types", setup, vec![insert, "insert into types default values".to_owned()])
}

fn keys() -> Scene {
    scene(
        "keys",
        "create table keys (a int, name text, b uuid, primary key (b, a))",
        &[
            "insert into keys values (1, 'x', '018f4e6a-0000-7000-8000-0123456789ab')",
            "update keys set name = null",
            "update keys set a = 2",
            "begin; insert into keys select n, '', gen_random_uuid() from generate_series(3, 6) n;
         delete from keys where a = 3; commit",
            "begin; insert into keys values (7, 'kept', gen_random_uuid()); savepoint s;
         insert into keys values (8, 'not kept', gen_random_uuid()); rollback to s;
         delete from keys where a = 4; commit",
        ],
    )
}

fn identities() -> Scene {
    scene(
        "identities",
        "create table whole (id int primary key, name text);
         alter table whole replica identity full;
         create table by_index (a int not null unique, b int primary key);
         alter table by_index replica identity using index by_index_a_key;
         create table nothing (a int primary key);
         alter table nothing replica identity nothing;
         create table deferred (a int primary key deferrable, b int);
         create table keyless (a int)",
        &[
            "begin; insert into whole values (1, 'a'); insert into by_index values (1, 2);
             insert into nothing values (1); insert into deferred values (1, 1);
             insert into keyless values (null); commit",
            "update whole set name = 'b'",
            "update by_index set a = 3",
            "begin; delete from whole; delete from by_index; commit",
        ],
    )
}

fn long() -> Scene {
    scene(
        "long",
        "create table long (id int primary key, n int, body text);
         alter table long alter body set storage external;
         create table long_whole (like long including all);
         alter table long_whole replica identity full",
        &[
            "insert into long values (1, 1, repeat('x', 2100))",
            "update long set n = 2",
            "begin; update long set id = 2; update long set body = 'short'; commit",
            "insert into long_whole values (1, 1, repeat('y', 2100))",
            "update long_whole set n = 2",
        ],
    )
}

fn truncates() -> Scene {
    scene(
        "truncates",
        "create table parent (id serial primary key);
         create table child (id int references parent, note text);
         create table asked (id int primary key, m mood);
         alter table asked replica identity full;
         create table asked_too (like asked including all);
         alter table asked_too replica identity full",
        &[
            "begin; insert into parent values (1); insert into child values (1, null); commit",
            "begin; truncate parent restart identity cascade;
             insert into parent values (1); commit",
            "truncate asked, asked_too",
        ],
    )
}

fn annotations() -> Scene {
    let emit = |transactional: bool, prefix: &str, content: &str| {
        format!("select pg_logical_emit_message({transactional}, '{prefix}', {content});")
    };
    let set = "sequin:transaction_annotations.set";
    let begin = [
        emit(false, set, "'0'"),
        "begin; insert into noted values (1);".to_owned(),
        emit(true, set, r#"'{"by": "me", "n": [1, null]}'"#),
        "insert into noted values (2);".to_owned(),
        emit(false, "someone", "''"),
        emit(true, "someone", r"'\x00ff'::bytea"),
        emit(true, set, "'{no json'"),
        "insert into noted values (3);".to_owned(),
        emit(true, "sequin:transaction_annotations.clear", "''"),
        "insert into noted values (4); commit".to_owned(),
    ];
    ("annotations", "create table noted (id int primary key)".to_owned(), vec![begin.concat()])
}

fn origins() -> Scene {
    scene(
        "origins",
        "create table replayed (id int primary key)",
        &[
            "select pg_replication_origin_session_setup('elsewhere');
         begin; select pg_replication_origin_xact_setup('0/AABBCC', now());
         insert into replayed values (1); commit;
         select pg_replication_origin_session_reset()",
            "insert into replayed values (2)",
        ],
    )
}

pub(super) fn partitions(name: &'static str) -> Scene {
    scene(
        name,
        "create table parted (id int, day date, primary key (id, day)) partition by range (day);
         create table old partition of parted for values from (minvalue) to ('2024-01-01');
         create table new partition of parted for values from ('2024-01-01') to (maxvalue)",
        &[
            "insert into parted values (1, '2023-05-05'), (2, '2024-05-05')",
            "update parted set day = '2024-06-06' where id = 1",
            "truncate parted",
        ],
    )
}

fn changing() -> Scene {
    scene("changing", "create table changing (id int primary key, gone text, a int)", &[
        "insert into changing values (1, 'x', 1)",
        "alter table changing drop gone; insert into changing values (2, 2)",
        "alter table changing rename a to b; alter table changing add c mood[];
         insert into changing values (3, 3, '{ok}')",
        "begin; alter table changing alter b type text; insert into changing values (4, 'x', null);
         alter table changing replica identity full; delete from changing where id = 4; commit",
    ])
}

/// The schema's name is left out of `pg_catalog`.
fn catalog() -> Scene {
    scene(
        "schemas",
        "create schema \"Ž'\"; create table \"Ž'\".\"t \"\"\" (\"id\"\"\" int)",
        &["insert into \"Ž'\".\"t \"\"\" values (1)"],
    )
}

/// Columns that are not published, generated or gone.
fn parts() -> Scene {
    scene(
        "parts",
        "create table parts (a int, b int generated always as (a * 2) stored, c int, d int);
         alter table parts drop c",
        &["insert into parts values (1, default, 3)", "insert into parts values (null)"],
    )
}

/// The values that rows of these messages hold, each once, with their types' ids.
pub(super) fn values(messages: &[&[u8]]) -> Vec<(u32, Vec<u8>)> {
    let mut tables: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut values = Vec::new();
    for message in messages {
        let mut rest = Rest(&message[1..]);
        let oid = || Rest(&message[1..]).u32();
        match message[0] {
            b'R' => {
                rest.take(4);
                rest.text();
                rest.text();
                rest.take(1);
                let column = |rest: &mut Rest<'_>| {
                    rest.take(1);
                    rest.text();
                    let type_oid = rest.u32();
                    rest.take(4);
                    type_oid
                };
                let columns = (0..rest.u16()).map(|_| column(&mut rest)).collect();
                tables.insert(oid(), columns);
            }
            b'I' => {
                let columns = &tables[&oid()];
                rest.take(7);
                for type_oid in columns {
                    if rest.take(1) == b"t" {
                        let len = usize::try_from(rest.u32()).unwrap();
                        let value = (*type_oid, rest.take(len).to_vec());
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    values
}

/// What is left of a message of a server that is not hostile.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    fn text(&mut self) {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap();
        self.take(len + 1);
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }
}
