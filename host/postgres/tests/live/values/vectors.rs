//! pgvector and PostGIS.

use model::relation::Kind::{Json, Text};

use super::{check_in, database};
use crate::cluster::with_extension;

#[tokio::test]
async fn b065_vectors_are_lists_of_numbers() {
    let mut db = database(with_extension("PGVECTOR")).await;
    check_in(
        &mut db,
        "create extension vector; create domain embedding as vector(2)",
        &[
            ("vector", "[1,-2.5,3e-05]", Json, "[1,-2.5,3e-05]"),
            ("vector(3)", "[1, 2, 16777216]", Json, "[1,2,1.6777216e+07]"),
            ("halfvec", "[0.5,-65504]", Json, "[0.5,-65504]"),
            ("embedding", "[1,2]", Json, "[1,2]"),
            ("vector[]", r#"{"[1,2]",NULL}"#, Json, "[[1,2],null]"),
            // Only places and numbers together say what it is.
            ("sparsevec", "{1:1.5,3:2}/5", Text, r#""{1:1.5,3:2}/5""#),
        ],
    )
    .await;
}

#[tokio::test]
async fn b065_shapes_are_extended_binary_in_hexadecimal() {
    let mut db = database(with_extension("POSTGIS")).await;
    let point = "0101000020E6100000000000000000F03F0000000000000040";
    check_in(
        &mut db,
        "create extension postgis",
        &[
            ("geometry", "SRID=4326;POINT(1 2)", Text, &format!("\"{point}\"")),
            ("geometry(Point, 4326)", "SRID=4326;POINT(1 2)", Text, &format!("\"{point}\"")),
            ("geography", "POINT(1 2)", Text, &format!("\"{point}\"")),
            ("geometry[]", "{SRID=4326;POINT(1 2)}", Json, &format!("[\"{point}\"]")),
            ("box2d", "BOX(1 2,3 4)", Text, r#""BOX(1 2,3 4)""#),
        ],
    )
    .await;
}
