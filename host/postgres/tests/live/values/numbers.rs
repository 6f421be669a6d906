//! Numbers and truth.

use model::relation::Kind::{Boolean, Float, Integer, Text};

use super::check;

#[tokio::test]
async fn b035_booleans_and_integers_are_exact() {
    check(
        "",
        &[
            ("bool", "true", Boolean, "true"),
            ("bool", "false", Boolean, "false"),
            ("int2", "-32768", Integer, "-32768"),
            ("int2", "32767", Integer, "32767"),
            ("int4", "-2147483648", Integer, "-2147483648"),
            ("int4", "2147483647", Integer, "2147483647"),
            ("int8", "-9223372036854775808", Integer, "-9223372036854775808"),
            ("int8", "9223372036854775807", Integer, "9223372036854775807"),
            // 2^53 + 1: no double is this number.
            ("int8", "9007199254740993", Integer, "9007199254740993"),
            ("oid", "4294967295", Integer, "4294967295"),
        ],
    )
    .await;
}

#[tokio::test]
async fn b036_floats_are_the_shortest_exact_text_and_what_is_no_number_a_string() {
    check(
        "",
        &[
            ("float4", "0.1", Float, "0.1"),
            ("float4", "16777216", Float, "1.6777216e+07"),
            ("float4", "3.4028235e38", Float, "3.4028235e+38"),
            ("float4", "1e-45", Float, "1e-45"),
            ("float4", "-0", Float, "-0"),
            ("float4", "NaN", Float, r#""NaN""#),
            ("float4", "Infinity", Float, r#""Infinity""#),
            ("float4", "-Infinity", Float, r#""-Infinity""#),
            ("float8", "0.30000000000000004", Float, "0.30000000000000004"),
            ("float8", "1e300", Float, "1e+300"),
            ("float8", "1.7976931348623157e308", Float, "1.7976931348623157e+308"),
            ("float8", "5e-324", Float, "5e-324"),
            ("float8", "-0", Float, "-0"),
            ("float8", "NaN", Float, r#""NaN""#),
            ("float8", "Infinity", Float, r#""Infinity""#),
            ("float8", "-Infinity", Float, r#""-Infinity""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b037_numerics_keep_every_digit() {
    let whole = "1234567890".repeat(100);
    let fine = format!("0.{}", "0987654321".repeat(100));
    let quoted = |text: &str| format!("\"{text}\"");
    check(
        "",
        &[
            ("numeric", &whole, Text, &quoted(&whole)),
            ("numeric", &fine, Text, &quoted(&fine)),
            ("numeric", &format!("-{whole}"), Text, &quoted(&format!("-{whole}"))),
            ("numeric(10,4)", "1.5", Text, r#""1.5000""#),
            ("numeric(5,-2)", "12345", Text, r#""12300""#),
            ("numeric(2,5)", "0.00012", Text, r#""0.00012""#),
            ("numeric", "1.50", Text, r#""1.50""#),
            ("numeric", "1e20", Text, r#""100000000000000000000""#),
            ("numeric", "NaN", Text, r#""NaN""#),
            ("numeric", "Infinity", Text, r#""Infinity""#),
            ("numeric", "-Infinity", Text, r#""-Infinity""#),
        ],
    )
    .await;
}
