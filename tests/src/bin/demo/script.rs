//! What the demo does, over and over.

/// An edit of the newest point of interest.
pub(crate) struct Step {
    pub(crate) title: &'static str,
    /// One statement.
    pub(crate) sql: &'static str,
    /// The table whose row it writes.
    pub(crate) table: &'static str,
    /// Whether the point of interest is then in the index.
    pub(crate) indexed: bool,
    /// What its document then has.
    pub(crate) holds: &'static [(&'static str, &'static str)],
}

/// The newest of them.
pub(crate) const NEWEST: &str = "(SELECT max(id) FROM poi)";

const fn step(title: &'static str, table: &'static str, sql: &'static str) -> Step {
    Step { title, sql, table, indexed: false, holds: &[] }
}

const fn indexed(step: Step, holds: &'static [(&'static str, &'static str)]) -> Step {
    Step { indexed: true, holds, ..step }
}

pub(crate) const SCRIPT: [Step; 13] = [
    step(
        "A new camp at the lake, not public yet: no index may have it",
        "poi",
        "INSERT INTO poi (name, description, features, region, location) VALUES ('Camp at the lake',
            'Quiet, with a view', '[\"wifi\", \"showers\"]', 'alps', '{46.6, 8.0}')",
    ),
    step(
        "Its name in German, while it is private: there is no document to complete",
        "poi_translation",
        "INSERT INTO poi_translation SELECT max(id), 'de', 'name', 'Camp am See' FROM poi",
    ),
    step(
        "And in French",
        "poi_translation",
        "INSERT INTO poi_translation SELECT max(id), 'fr', 'name', 'Camp du lac' FROM poi",
    ),
    indexed(
        step(
            "Published: it enters the index in all its languages",
            "poi",
            "UPDATE poi SET is_public = true WHERE id = (SELECT max(id) FROM poi)",
        ),
        &[("name_de", "\"Camp am See\""), ("name_fr", "\"Camp du lac\""), ("has_wifi", "true")],
    ),
    indexed(
        step(
            "A translation is corrected: one field of the document changes",
            "poi_translation",
            "UPDATE poi_translation SET text = 'Camping am See'
             WHERE poi = (SELECT max(id) FROM poi) AND language = 'de'",
        ),
        &[("name_de", "\"Camping am See\""), ("name_fr", "\"Camp du lac\"")],
    ),
    indexed(
        step(
            "The French one is withdrawn",
            "poi_translation",
            "DELETE FROM poi_translation WHERE poi = (SELECT max(id) FROM poi) AND language = 'fr'",
        ),
        &[("name_de", "\"Camping am See\""), ("name_fr", "null")],
    ),
    indexed(
        step(
            "It has electricity now, and no wifi",
            "poi",
            "UPDATE poi SET features = '[\"showers\", \"electricity\"]', updated_at = now()
             WHERE id = (SELECT max(id) FROM poi)",
        ),
        &[("has_wifi", "false"), ("has_electricity", "true")],
    ),
    indexed(
        step(
            "A guest reviews it: moderators are asked, a job is queued",
            "review",
            "INSERT INTO review (poi, stars, body) SELECT max(id), 5, 'Best sunrise ever' FROM poi",
        ),
        &[],
    ),
    indexed(
        step(
            "The review is published",
            "review",
            "UPDATE review SET is_published = true WHERE id = (SELECT max(id) FROM review)",
        ),
        &[],
    ),
    step(
        "Made private: it leaves the index and the map",
        "poi",
        "UPDATE poi SET is_public = false WHERE id = (SELECT max(id) FROM poi)",
    ),
    step(
        "Renamed while private: it must not come back",
        "poi",
        "UPDATE poi SET name = 'Secret camp' WHERE id = (SELECT max(id) FROM poi)",
    ),
    step(
        "Translated while private: neither",
        "poi_translation",
        "UPDATE poi_translation SET text = 'Geheimes Camp'
         WHERE poi = (SELECT max(id) FROM poi) AND language = 'de'",
    ),
    step("Deleted, with its texts and reviews", "poi", "DELETE FROM poi WHERE id = (SELECT max(id) FROM poi)"),
];
