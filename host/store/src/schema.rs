//! The tables, and their versions.

use rusqlite::Connection;

/// Each entry brings the schema from its index to the next version; never edited once released.
const MIGRATIONS: [&str; 14] = [
    "
    CREATE TABLE meta (epoch INTEGER NOT NULL) STRICT;
    INSERT INTO meta (epoch) VALUES (0);
    CREATE TABLE progress (
        origin TEXT NOT NULL,
        sink TEXT NOT NULL,
        high_lsn INTEGER NOT NULL,
        high_ordinal INTEGER NOT NULL,
        -- 16 bytes a position: LSN and ordinal, big-endian, rising.
        open BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        PRIMARY KEY (origin, sink)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE slots (slot TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE letters (
        id INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        sink TEXT NOT NULL,
        commit_lsn INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        output INTEGER NOT NULL,
        input TEXT NOT NULL,
        reason TEXT NOT NULL,
        error TEXT NOT NULL,
        plugin TEXT,
        attempts INTEGER NOT NULL,
        buried_at TEXT NOT NULL,
        UNIQUE (origin, sink, commit_lsn, ordinal, output)
    ) STRICT;
",
    "
    CREATE TABLE confirmed (
        origin TEXT PRIMARY KEY,
        lsn INTEGER NOT NULL,
        epoch INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Up to where the change log was on the disk: its addresses.
    ALTER TABLE confirmed ADD COLUMN log_stream INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE confirmed ADD COLUMN log_kept INTEGER NOT NULL DEFAULT 0;
",
    "
    -- Small columns first: what is large lies in pages of its own, which lists need not read.
    CREATE TABLE letters_next (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        origin TEXT NOT NULL,
        sink TEXT NOT NULL,
        commit_lsn INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        output INTEGER NOT NULL,
        stage TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        table_name TEXT NOT NULL,
        plugin TEXT,
        config TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        first_at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        closed_at TEXT,
        closed_why TEXT,
        edited_at TEXT,
        bytes INTEGER NOT NULL,
        relation TEXT,
        error TEXT NOT NULL,
        input TEXT NOT NULL,
        message TEXT,
        original_input TEXT,
        original_message TEXT,
        UNIQUE (origin, sink, commit_lsn, ordinal, output, stage)
    ) STRICT;
    INSERT INTO letters_next (id, origin, sink, commit_lsn, ordinal, output, stage, state, reason,
        table_name, plugin, config, attempts, first_at, last_at, bytes, error, input)
    SELECT id, origin, sink, commit_lsn, ordinal, output,
        CASE reason WHEN 'delivery' THEN 'message' ELSE 'change' END, 'open', reason,
        '', plugin, '', attempts, buried_at, buried_at,
        length(CAST(input AS BLOB)) + length(CAST(error AS BLOB)), error, input
    FROM letters;
    DROP TABLE letters;
    ALTER TABLE letters_next RENAME TO letters;
    CREATE INDEX letters_counted ON letters (sink, state, reason, bytes);
    CREATE INDEX letters_aged ON letters (state, last_at, bytes);
    -- The rows and documents that open letters are about.
    CREATE TABLE letter_keys (
        sink TEXT NOT NULL,
        key INTEGER NOT NULL,
        letter INTEGER NOT NULL REFERENCES letters (id) ON DELETE CASCADE,
        PRIMARY KEY (sink, key, letter)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX letter_keys_of ON letter_keys (letter, key);
    -- What retention removed, so that nobody wonders where it went.
    CREATE TABLE letters_dropped (
        sink TEXT NOT NULL,
        state TEXT NOT NULL,
        letters INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        last_at TEXT NOT NULL,
        PRIMARY KEY (sink, state)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The data directory's own id, for as long as it exists.
    CREATE TABLE instance (id TEXT NOT NULL) STRICT;
    INSERT INTO instance (id) VALUES (lower(hex(randomblob(16))));
    -- Slots of others that an operator has given to us, and the commit of our first claim since.
    CREATE TABLE accepted (slot TEXT PRIMARY KEY, until INTEGER) STRICT, WITHOUT ROWID;
    CREATE TABLE erroring (entity TEXT PRIMARY KEY, since_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE dismissed (
        entity TEXT NOT NULL,
        notice TEXT NOT NULL,
        PRIMARY KEY (entity, notice)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE backfills (
        id TEXT PRIMARY KEY,
        sink TEXT NOT NULL,
        database TEXT NOT NULL,
        schema_name TEXT NOT NULL,
        table_name TEXT NOT NULL,
        sort_column TEXT,
        from_value TEXT,
        condition TEXT,
        ranges INTEGER NOT NULL,
        page_timeout_ms INTEGER NOT NULL,
        rows_per_second INTEGER,
        by_place INTEGER NOT NULL,
        state TEXT NOT NULL,
        error TEXT,
        paging TEXT,
        rows_estimate INTEGER,
        rows_read INTEGER NOT NULL,
        rows_evicted INTEGER NOT NULL,
        rows_delivered INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        ended_us INTEGER
    ) STRICT, WITHOUT ROWID;
    -- What range and after hold means something to the source alone.
    CREATE TABLE backfill_ranges (
        backfill TEXT NOT NULL,
        number INTEGER NOT NULL,
        range TEXT NOT NULL,
        after TEXT,
        done INTEGER NOT NULL,
        -- Keys of rows behind the cursor that are delivered, each as length:key.
        beyond TEXT NOT NULL,
        PRIMARY KEY (backfill, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE begun_sinks (sink TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE begun_tables (
        sink TEXT NOT NULL,
        schema_name TEXT NOT NULL,
        table_name TEXT NOT NULL,
        PRIMARY KEY (sink, schema_name, table_name)
    ) STRICT, WITHOUT ROWID;
",
    crate::rollouts::SCHEMA,
    "
    -- A name points to its digest for good: what was removed keeps its row.
    CREATE TABLE plugin_versions (
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        digest TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        metadata TEXT NOT NULL,
        -- A line each.
        signatures TEXT NOT NULL,
        comment TEXT NOT NULL,
        by_whom TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID;
    -- Generations; behind is null until the sink has begun with it.
    CREATE TABLE bindings (
        sink TEXT NOT NULL,
        role TEXT NOT NULL,
        number INTEGER NOT NULL,
        how TEXT NOT NULL,
        by_whom TEXT NOT NULL,
        reason TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        behind_lsn INTEGER,
        behind_ordinal INTEGER,
        PRIMARY KEY (sink, role, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE binding_links (
        sink TEXT NOT NULL,
        role TEXT NOT NULL,
        number INTEGER NOT NULL,
        place INTEGER NOT NULL,
        function TEXT NOT NULL,
        digest TEXT NOT NULL,
        config TEXT NOT NULL,
        PRIMARY KEY (sink, role, number, place)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX binding_links_of ON binding_links (digest);
    CREATE TABLE holds (
        sink TEXT NOT NULL,
        role TEXT NOT NULL,
        number INTEGER NOT NULL,
        by_whom TEXT NOT NULL,
        reason TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        -- It has kept an apply from being done: one that says the same ends it.
        refused INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (sink, role)
    ) STRICT, WITHOUT ROWID;
    -- Who did what; rows are only ever added.
    CREATE TABLE deeds (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        by_whom TEXT NOT NULL,
        what TEXT NOT NULL,
        subject TEXT NOT NULL,
        digest TEXT,
        detail TEXT NOT NULL
    ) STRICT;
",
    crate::key_values::SCHEMA,
    crate::applied::SCHEMA,
    crate::tokens::SCHEMA,
    crate::tokens::LIMITS,
    crate::change_log::names::SCHEMA,
    crate::moved::SCHEMA,
];

/// Brings the file to the newest schema.
///
/// # Errors
/// SQLite's, or the file was written by a newer version of this program.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        return Err(rusqlite::Error::InvalidParameterName(format!(
            "the state was written by a newer version of this program (schema {version}, we know {})",
            MIGRATIONS.len()
        )));
    }
    for (next, migration) in (1_i64..).zip(MIGRATIONS).skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
    }
    Ok(())
}
