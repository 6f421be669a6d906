//! Arrays.

use model::relation::Kind::{Json, Text};

use super::check;

#[tokio::test]
async fn b053_b054_b056_elements_bounds_and_dimensions() {
    check(
        "",
        &[
            ("int4[]", "{}", Json, "[]"),
            ("int4[]", "{1,NULL,-3}", Json, "[1,null,-3]"),
            ("text[]", "{}", Json, "[]"),
            (
                "text[]",
                r#"{a,"NULL",NULL,"null",null,"","b,c","d\"e","{f}","g\\h"," i ","ž🦀"}"#,
                Json,
                r#"["a","NULL",null,"null",null,"","b,c","d\"e","{f}","g\\h"," i ","ž🦀"]"#,
            ),
            ("text[]", "{\"a\nb\",\"\u{1}\",\u{2}}", Json, r#"["a\nb","\u0001","\u0002"]"#),
            ("int4[]", "[0:1]={1,2}", Json, "[1,2]"),
            ("int4[]", "[-5:-4][2:3]={{1,2},{3,4}}", Json, "[[1,2],[3,4]]"),
            ("int4[]", "{{1,2},{3,4}}", Json, "[[1,2],[3,4]]"),
            ("int4[3][3]", "{{1,NULL}}", Json, "[[1,null]]"),
            ("text[]", r#"{{{{{{"a,b","}"}}}}}}"#, Json, r#"[[[[[["a,b","}"]]]]]]"#),
            // Not arrays, though they have elements.
            ("int2vector", "1 2 3", Text, r#""1 2 3""#),
            ("oidvector", "1 2", Text, r#""1 2""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b055_elements_follow_the_rules_of_their_type() {
    check(
        "create extension hstore; create type mood as enum ('sad', 'ok, really');
         create type pair as (a int, b text);",
        &[
            ("bool[]", "{t,f,NULL}", Json, "[true,false,null]"),
            ("int8[]", "{9223372036854775807}", Json, "[9223372036854775807]"),
            ("float8[]", "{1.5,NaN,-Infinity,-0}", Json, r#"[1.5,"NaN","-Infinity",-0]"#),
            ("numeric[]", "{1.50,NaN,1e20}", Json, r#"["1.50","NaN","100000000000000000000"]"#),
            ("json[]", r#"{"{\"a\": 1e999,\"a\":2}"}"#, Json, r#"[{"a": 1e999,"a":2}]"#),
            (
                "jsonb[]",
                r#"{"{\"a\": [1]}",NULL,"\"x\\\"y\"","null"}"#,
                Json,
                r#"[{"a": [1]},null,"x\"y",null]"#,
            ),
            (
                "uuid[]",
                "{018F4E6A-0000-7000-8000-0123456789AB}",
                Json,
                r#"["018f4e6a-0000-7000-8000-0123456789ab"]"#,
            ),
            ("bytea[]", r#"{"\\x00ff","\\x"}"#, Json, r#"["\\x00ff","\\x"]"#),
            (
                "timestamptz[]",
                r#"{"2024-01-02 03:04:05+02",infinity,"0044-03-15 00:00:00+00 BC"}"#,
                Json,
                r#"["2024-01-02T01:04:05.000000Z","infinity","0044-03-15 00:00:00+00 BC"]"#,
            ),
            ("timestamp[]", "{2024-01-02}", Json, r#"["2024-01-02T00:00:00.000000"]"#),
            ("date[]", "{2024-01-02,-infinity}", Json, r#"["2024-01-02","-infinity"]"#),
            ("interval[]", r#"{"1 day"}"#, Json, r#"[{"months":0,"days":1,"microseconds":0}]"#),
            ("money[]", r#"{"1234.5"}"#, Json, r#"["$1,234.50"]"#),
            // Its elements have commas inside.
            ("box[]", "{(1,1),(0,0);(2,2),(1,1)}", Json, r#"["(1,1),(0,0)","(2,2),(1,1)"]"#),
            ("point[]", r#"{"(1,2)"}"#, Json, r#"["(1,2)"]"#),
            ("int4range[]", r#"{"[1,5]",empty}"#, Json, r#"["[1,6)","empty"]"#),
            ("inet[]", "{10.0.0.1}", Json, r#"["10.0.0.1"]"#),
            ("varbit[]", "{001}", Json, r#"["001"]"#),
            ("char(3)[]", "{a}", Json, r#"["a  "]"#),
            ("mood[]", r#"{sad,"ok, really"}"#, Json, r#"["sad","ok, really"]"#),
            ("pair[]", r#"{"(1,\"a \\\"b\")"}"#, Json, r#"["(1,\"a \"\"b\")"]"#),
            ("hstore[]", r#"{"\"a\"=>\"1\""}"#, Json, r#"["\"a\"=>\"1\""]"#),
        ],
    )
    .await;
}
