//! Dates, times and intervals.

use model::relation::Kind::{Json, Text};

use super::{check, check_in, database, ends};

#[tokio::test]
async fn b044_timestamps_are_iso_or_as_postgres_prints_them() {
    check(
        "",
        &[
            ("timestamp", "2024-01-02 03:04:05", Text, r#""2024-01-02T03:04:05.000000""#),
            ("timestamp", "2024-01-02 03:04:05.1", Text, r#""2024-01-02T03:04:05.100000""#),
            ("timestamp", "1969-12-31 23:59:59.999999", Text, r#""1969-12-31T23:59:59.999999""#),
            ("timestamp(0)", "2024-01-02 03:04:05.6", Text, r#""2024-01-02T03:04:06.000000""#),
            (
                "timestamptz",
                "2024-01-02 03:04:05.123456+02",
                Text,
                r#""2024-01-02T01:04:05.123456Z""#,
            ),
            ("timestamp", "0001-01-01 00:00:00", Text, r#""0001-01-01T00:00:00.000000""#),
            ("timestamp", "9999-12-31 23:59:59", Text, r#""9999-12-31T23:59:59.000000""#),
            ("timestamp", "10000-01-01 00:00:00", Text, r#""10000-01-01 00:00:00""#),
            ("timestamp", "0044-03-15 12:00:00 BC", Text, r#""0044-03-15 12:00:00 BC""#),
            ("timestamptz", "4713-01-01 00:00:00+00 BC", Text, r#""4713-01-01 00:00:00+00 BC""#),
            (
                "timestamp",
                "294276-12-31 23:59:59.999999",
                Text,
                r#""294276-12-31 23:59:59.999999""#,
            ),
            ("timestamptz", "294276-12-31 23:59:59+00", Text, r#""294276-12-31 23:59:59+00""#),
            ("timestamp", "infinity", Text, r#""infinity""#),
            ("timestamp", "-infinity", Text, r#""-infinity""#),
            ("timestamptz", "infinity", Text, r#""infinity""#),
            ("timestamptz", "-infinity", Text, r#""-infinity""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b046_b047_dates_and_times_keep_era_and_offset() {
    check(
        "",
        &[
            ("date", "2024-02-29", Text, r#""2024-02-29""#),
            ("date", "0001-01-01", Text, r#""0001-01-01""#),
            ("date", "0001-12-31 BC", Text, r#""0001-12-31 BC""#),
            ("date", "4713-01-01 BC", Text, r#""4713-01-01 BC""#),
            ("date", "5874897-12-31", Text, r#""5874897-12-31""#),
            ("date", "infinity", Text, r#""infinity""#),
            ("date", "-infinity", Text, r#""-infinity""#),
            ("time", "00:00:00", Text, r#""00:00:00""#),
            ("time", "24:00:00", Text, r#""24:00:00""#),
            ("time", "01:02:03.000001", Text, r#""01:02:03.000001""#),
            ("timetz", "01:02:03.5+05:30", Text, r#""01:02:03.5+05:30""#),
            ("timetz", "24:00:00-15:59", Text, r#""24:00:00-15:59""#),
            ("timetz", "01:02:03+05:30:15", Text, r#""01:02:03+05:30:15""#),
            ("timetz", "01:02:03+00", Text, r#""01:02:03+00""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b048_intervals_are_months_days_and_microseconds() {
    check(
        "",
        &[
            ("interval", "0", Json, r#"{"months":0,"days":0,"microseconds":0}"#),
            (
                "interval",
                "1 year 2 mons -3 days 04:05:06.789",
                Json,
                r#"{"months":14,"days":-3,"microseconds":14706789000}"#,
            ),
            (
                "interval",
                "-1 mon +2 days -00:00:00.000001",
                Json,
                r#"{"months":-1,"days":2,"microseconds":-1}"#,
            ),
            (
                "interval",
                "-1 year +1 mon -1 day +24:00:00",
                Json,
                r#"{"months":-11,"days":-1,"microseconds":86400000000}"#,
            ),
            // The ends of each field; at the very ends, newer servers see an infinity.
            (
                "interval",
                "178956970 years 6 mons 2147483646 days 2562047788:00:54.775806",
                Json,
                r#"{"months":2147483646,"days":2147483646,"microseconds":9223372036854775806}"#,
            ),
            (
                "interval",
                "-178956970 years -6 mons -2147483646 days -2562047788:00:54.775806",
                Json,
                r#"{"months":-2147483646,"days":-2147483646,"microseconds":-9223372036854775806}"#,
            ),
        ],
    )
    .await;
    // Postgres 17 made them.
    let newest = ends().pop().unwrap();
    check_in(
        &mut database(newest).await,
        "",
        &[
            ("interval", "infinity", Json, r#""infinity""#),
            ("interval", "-infinity", Json, r#""-infinity""#),
        ],
    )
    .await;
}
