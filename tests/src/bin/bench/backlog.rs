//! The log that is read: a table like a place of interest, about 600 bytes a row.

use anyhow::Result;
use tokio_postgres::Client;

/// Fifteen columns of the types that applications have. Lists and texts are picked from prepared
/// ones, so that the log is written in seconds.
const SCHEMA: &str = "
    CREATE TABLE poi (
        id bigint PRIMARY KEY,
        uuid uuid NOT NULL,
        name text NOT NULL,
        lang varchar(5) NOT NULL,
        category_id integer,
        rating double precision,
        price numeric(10, 2),
        is_public boolean NOT NULL,
        visits integer NOT NULL,
        lat double precision NOT NULL,
        lng double precision NOT NULL,
        features jsonb NOT NULL,
        description text,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    );
    CREATE TABLE sample AS SELECT n,
        (SELECT jsonb_agg('feature' || (n * 7 + f * 3) % 90) FROM generate_series(1, 20) f)
            AS features,
        substr(repeat('A quiet place by the lake, \"family\" run, with a view. ', 5), 1 + n % 50, 200)
            AS description
        FROM generate_series(0, 63) n;
    ALTER TABLE sample ADD PRIMARY KEY (n);
    CREATE PUBLICATION bench FOR TABLE poi";

const ROW: &str = "
    INSERT INTO poi SELECT i, md5(i::text)::uuid, 'Camping No. ' || i, 'de', i % 40,
        (i % 50) / 10.0, i % 9000 / 100.0, i % 3 > 0, i % 1000, 45 + i % 1000 / 997.0,
        7 + i % 2000 / 1999.0, s.features, s.description,
        timestamptz '2024-01-02 03:04:05.678901+00' + i * interval '1 second',
        timestamptz '2024-06-07 08:09:10.111213+00' + i * interval '1 second'
    FROM generate_series";

/// How rows are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transactions {
    /// 1,000 rows each.
    Batched,
    /// One row each.
    Single,
}

impl Transactions {
    pub(crate) const ALL: [Self; 2] = [Self::Batched, Self::Single];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batched => "batched",
            Self::Single => "single",
        }
    }

    fn rows(self) -> u64 {
        match self {
            Self::Batched => 1_000,
            Self::Single => 1,
        }
    }
}

/// Makes the table and its publication.
pub(crate) async fn prepare(client: &Client) -> Result<()> {
    Ok(client.batch_execute(SCHEMA).await?)
}

/// Writes `rows` rows and returns where the log then ends, on disk.
pub(crate) async fn write(client: &Client, rows: u64, by: Transactions) -> Result<String> {
    let size = by.rows();
    client
        .batch_execute(&format!(
            "DO $$ BEGIN
                FOR low IN 1..{rows} BY {size} LOOP
                    {ROW}(low, least(low + {size} - 1, {rows})) i
                    JOIN sample s ON s.n = i % 64 ORDER BY i;
                    COMMIT;
                END LOOP;
            END $$"
        ))
        .await?;
    client.batch_execute("CHECKPOINT").await?;
    let end = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?;
    Ok(end.get(0))
}
