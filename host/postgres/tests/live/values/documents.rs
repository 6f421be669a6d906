//! Documents, and the ids they are known by.

use model::relation::Kind::{Json, Text};

use super::check;

#[tokio::test]
async fn b049_uuids_are_lower_case() {
    let v7 = r#""018f4e6a-0000-7000-8000-0123456789ab""#;
    check(
        "",
        &[
            ("uuid", "018F4E6A-0000-7000-8000-0123456789AB", Text, v7),
            ("uuid", "{018f4e6a00007000-80000123456789AB}", Text, v7),
            (
                "uuid",
                "00000000-0000-0000-0000-000000000000",
                Text,
                r#""00000000-0000-0000-0000-000000000000""#,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn b050_b051_documents_lose_no_digit_no_key_and_no_depth() {
    let odd = r#"{"a": 1, "a": 1e999, "b":[ ], "c":"\u0000\ud800 é", "d":-0.0 }"#;
    let digits = "1234567890".repeat(100);
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    check(
        "",
        &[
            ("json", odd, Json, odd),
            ("json", " null ", Json, " null "),
            ("json", &digits, Json, &digits),
            ("json", &deep, Json, &deep),
            ("jsonb", &deep, Json, &deep),
            ("jsonb", &digits, Json, &digits),
            (
                "jsonb",
                r#"{"b":12345678901234567890.123456789,"a":1e400,"a":"x"}"#,
                Json,
                r#"{"a": "x", "b": 12345678901234567890.123456789}"#,
            ),
            ("jsonb", "1e300", Json, &format!("1{}", "0".repeat(300))),
            ("jsonb", r#""text""#, Json, r#""text""#),
            ("jsonpath", "$.a", Text, r#""$.\"a\"""#),
        ],
    )
    .await;
}
