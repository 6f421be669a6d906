//! Settings of server, database and role do not change a value's text.

use std::sync::Arc;

use model::relation::Kind::{Bytes, Float, Json, Text};

use super::{Value, check_in, ends};
use crate::cluster::{Cluster, Database, until};

/// Each is printed in another way under [`SETTINGS`].
const VALUES: &[Value<'_>] = &[
    ("bytea", "\\x00ff", Bytes, r#""\\x00ff""#),
    ("bytea[]", r#"{"\\x00ff"}"#, Json, r#"["\\x00ff"]"#),
    ("date", "2024-01-02", Text, r#""2024-01-02""#),
    ("timestamp", "2024-01-02 03:04:05", Text, r#""2024-01-02T03:04:05.000000""#),
    ("timestamptz", "2024-01-02 03:04:05+00", Text, r#""2024-01-02T03:04:05.000000Z""#),
    ("tstzrange", "[2024-01-02 03:04:05+00,)", Text, r#""[\"2024-01-02 03:04:05+00\",)""#),
    ("interval", "-1 day +2 hours", Json, r#"{"months":0,"days":-1,"microseconds":7200000000}"#),
    ("interval[]", "{1 mon}", Json, r#"[{"months":1,"days":0,"microseconds":0}]"#),
    ("float8", "0.30000000000000004", Float, "0.30000000000000004"),
    ("float4", "3.4028235e38", Float, "3.4028235e+38"),
    ("point", "0.30000000000000004,1", Text, r#""(0.30000000000000004,1)""#),
    ("money", "-123450", Text, r#""-$123,450.00""#),
    ("text", "é🦀", Text, r#""é🦀""#),
    ("regclass", "public.t", Text, r#""public.t""#),
    ("xml", "<a/>", Text, r#""<a/>""#),
];

/// What decides how values are printed, and what might.
const SETTINGS: &[(&str, &str)] = &[
    ("bytea_output", "escape"),
    ("DateStyle", "'SQL, DMY'"),
    ("TimeZone", "'Asia/Tokyo'"),
    ("IntervalStyle", "sql_standard"),
    ("extra_float_digits", "-10"),
    ("lc_monetary", "odd"),
    ("quote_all_identifiers", "on"),
    ("search_path", "public, s"),
    ("xmloption", "document"),
    ("xmlbinary", "hex"),
    ("array_nulls", "off"),
    ("client_encoding", "LATIN1"),
];

/// Money under it is `1.234,50 EUR`. Characters are named by their code points, as the character map
/// has them, so that nothing is needed of the machine but `localedef`.
const LOCALE: &str = r#"comment_char %
escape_char /
LC_MONETARY
int_curr_symbol "<U0045><U0055><U0052><U0020>"
currency_symbol "<U0045><U0055><U0052>"
mon_decimal_point "<U002C>"
mon_thousands_sep "<U002E>"
mon_grouping 3;3
positive_sign ""
negative_sign "<U002D>"
int_frac_digits 2
frac_digits 2
p_cs_precedes 0
p_sep_by_space 1
n_cs_precedes 0
n_sep_by_space 1
p_sign_posn 1
n_sign_posn 1
END LC_MONETARY
"#;

const CHARACTERS: &str = "<code_set_name> ANSI_X3.4-1968
<comment_char> %
<escape_char> /
CHARMAP
<U0020> /x20
<U002C> /x2c
<U002D> /x2d
<U002E> /x2e
<U0045> /x45
<U0052> /x52
<U0055> /x55
END CHARMAP
";

/// Where the settings come from.
#[derive(Clone, Copy, Debug)]
enum Place {
    Server,
    Database,
    Role,
}

/// Runs in an SQL session of ours, when it creates the publication.
const TRIGGER: &str = "
    create table public.seen (what text);
    alter table public.seen replica identity full;
    create function public.see() returns event_trigger language plpgsql as $$ begin
        insert into public.seen values
            ('\\x00ff'::bytea::text), ((-123450)::numeric::money::text),
            ('1 day -01:00'::interval::text), ('2024-01-31'::date::text),
            ('2024-01-31 00:00:00+00'::timestamptz::text),
            (0.30000000000000004::float8::text), ('public.seen'::regclass::text);
    end $$;
    create event trigger see on ddl_command_start
        when tag in ('CREATE PUBLICATION') execute function public.see();";

#[tokio::test]
async fn b038_b043_b045_no_setting_changes_a_text() {
    for bin in ends() {
        let cluster = Cluster::start_with(bin, &["wal_level=logical"], &[]).await;
        cluster.make_locale("odd", LOCALE, CHARACTERS);
        let cluster = Arc::new(cluster);
        for place in [Place::Server, Place::Database, Place::Role] {
            let mut db = Database::create_in(Arc::clone(&cluster)).await;
            let subject = match place {
                Place::Server => "system".to_owned(),
                Place::Database => format!("database {}", db.name),
                Place::Role => "role postgres".to_owned(),
            };
            for (name, value) in SETTINGS {
                db.sql.run(&format!("alter {subject} set {name} to {value}")).await;
            }
            db.sql.run("select pg_reload_conf()").await;
            // They do what they shall to who does not mind them.
            let naive = "select '\\x00ff'::bytea::text || ' ' || (-123450)::numeric::money::text
                                || ' ' || '1 day'::interval || ' ' || '2024-01-31'::date";
            until("the settings are in force", async || {
                let text = cluster.session(&db.name).await.value(naive).await;
                text == "\\000\\377 -123.450,00 EUR 1 0:00:00 31/01/2024"
            })
            .await;
            db.drop_publication().await;
            db.sql.run(TRIGGER).await;
            check_in(&mut db, "create schema s", VALUES).await;
            let seen = db.sql.run("select what from public.seen").await;
            let expected = [
                "\\x00ff",
                "-$123,450.00",
                "1 day -01:00:00",
                "2024-01-31",
                "2024-01-31 00:00:00+00",
                "0.30000000000000004",
                "seen",
            ];
            assert_eq!(seen.concat(), expected, "{place:?}");
            db.sql.run(&format!("alter {subject} reset all")).await;
            db.sql.run("select pg_reload_conf()").await;
        }
    }
}
