//! A transform that turns translations into one column per field and language, such as `name_de`.
//!
//! # Translations in a column of the row
//! ```yaml
//! functions:
//!   - name: poi-languages
//!     type: transform
//!     file: plugins/localised-fields.wasm
//!     config:
//!       column: translations
//!       language: lang
//!       fields: [name, description]
//!       languages: [en, de, de-AT]
//! ```
//!
//! makes of `[{"lang": "de", "name": "Dom"}, {"lang": "en", "name": "Cathedral"}]` in the JSON column
//! `translations` the columns `name_en`, `name_de`, `name_de_at`, `description_en` and so on. All of
//! them are set in each row: a language or field that is not there becomes null, so that a search
//! index loses a translation that was removed.
//!
//! # Translations that the sink's enrichment looked up
//! ```yaml
//!     config:
//!       table: public.poi
//!       embedded: {enrichment: translations}
//!       fields: [name, description]
//!       languages: [en, de, de-AT]
//! ```
//!
//! does the same with such a list in the column `translations` of the enrichment. Of a table with a
//! row per field this SQL makes it:
//!
//! ```sql
//! SELECT poi.id, coalesce(jsonb_agg(entry.entry) FILTER (WHERE entry.entry IS NOT NULL), '[]')
//!        AS translations
//! FROM poi LEFT JOIN LATERAL (
//!   SELECT jsonb_build_object('lang', language) || jsonb_object_agg(field, text) AS entry
//!   FROM poi_translation WHERE poi_id = poi.id GROUP BY language
//! ) entry ON true
//! WHERE poi.id = ANY($1) GROUP BY poi.id
//! ```
//!
//! The outer join gives a POI without translations an empty list, and so takes the last one away. A
//! row that the enrichment did not find, as it is gone by then, is left as it is; so is every row of
//! a sink that has no enrichment.
//!
//! # Translations in rows of a table of their own
//! ```yaml
//!     config:
//!       table: public.poi_translations
//!       tall: {id: poi_id, language: lang, field: field, text: text}
//!       fields: [name, description]
//!       languages: [en, de, de-AT]
//! ```
//!
//! makes of the row `(7, 'de', 'name', 'Dom')` the document `{"id":7,"name_de":"Dom"}` in place of
//! the row: a part of document 7, whose fields are set in the document that is there, whatever the
//! destination does otherwise. Where there is none, nothing happens: the row of the POI makes it, so
//! that no text of a POI which a filter keeps out gets in this way. Without `field` and `text` a row
//! holds all fields of a language, in columns of their names, and they go together. Rows of other
//! fields and languages are of no interest and dropped.
//!
//! - **Delete**: the document has null in place of the text. The key of the table must hold language
//!   and field, or its replica identity must be full; otherwise they are not sent, and the row fails.
//! - **Update** of language, field or id: the old one becomes null and the new one is set, if the old
//!   row was sent, which again needs the key or the full identity.
//!
//! # Several tables
//! ```yaml
//!     config:
//!       tables:
//!         public.poi: {embedded: {enrichment: translations}}
//!         public.poi_translations: {tall: {id: poi_id, language: lang, field: field, text: text}}
//!       fields: [name, description]
//!       languages: [en, de, de-AT]
//! ```
//!
//! makes one document of both: the row of the POI brings all languages, and a row of a translation
//! sets its one field.
//!
//! # All of them
//! - **fields**, **languages**: what becomes columns, and nothing else does.
//! - **table**, **tables**: only rows of these tables are touched; others pass as they are.
//! - **unknown**: rows or entries in a language that is not in `languages` are passed over with
//!   `ignore` (the default), or fail with `fail`.
//! - **Language tags** are those of BCP 47: subtags of letters and digits, the first of letters only.
//!   Case does not matter, nor whether `_` or `-` is between them: `de_AT`, `de-at` and `de-AT` are
//!   one language, and its columns end in `_de_at`. What is no tag fails the row.
//! - **Null** in `column`: no translations, so all columns are null. A null text is null.
//! - **Not sent** (an unchanged TOAST value, or the old row of a delete): the columns are left alone.
//! - **Two entries of one language**, an entry without a language, a field that is no text, and a
//!   table or enrichment that has no such column: the row fails.

mod embedded;
mod source;
mod tag;
mod tall;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;

use source::{Embedded, Source, Tall};

/// See the documentation of the crate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", from = "Fields")]
#[schemars(crate = "sequin_plugin::schemars", into = "Fields")]
pub struct LocalisedFields {
    /// By `schema.table`, or by nothing: then of every table.
    sources: Vec<(Option<String>, Source)>,
    fields: Vec<String>,
    /// As they were given.
    languages: Vec<String>,
    /// The languages as they are compared.
    tags: Vec<String>,
    /// Per field and language, all languages of a field together.
    columns: Vec<String>,
    unknown: Unknown,
    wrong: Vec<ConfigError>,
}

sequin_plugin::config! {
    /// Which columns to make of what.
    struct Fields {
        /// Only rows of this table are touched, named `schema.table`.
        table: Option<String>,
        /// The JSON column with a list of translations.
        column: Option<String>,
        /// Where else a list of translations comes with the row.
        embedded: Option<Embedded>,
        /// In an entry of a list, what names its language: `lang`, if nothing is said.
        language: Option<String>,
        /// How rows hold translations.
        tall: Option<Tall>,
        /// Several tables, named `schema.table`, each with a source of its own.
        #[serde(default)]
        tables: BTreeMap<String, Source>,
        /// The fields that are translated.
        fields: Vec<String>,
        /// The languages that there are columns for.
        languages: Vec<String>,
        /// What becomes of other languages.
        #[serde(default)]
        unknown: Unknown,
    }
}

sequin_plugin::config! {
    /// What becomes of other languages.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    #[serde(rename_all = "lowercase")]
    enum Unknown {
        /// They are passed over.
        #[default]
        Ignore,
        /// The row fails.
        Fail,
    }
}

impl From<Fields> for LocalisedFields {
    fn from(given: Fields) -> Self {
        let Fields { table, column, embedded, language, tall, tables, fields, languages, unknown } =
            given;
        let mut wrong = Vec::new();
        let mut expected = |field: &str, what: &str| {
            wrong.push(ConfigError::new(field, format!("expected {what}")));
        };
        let is_name = |table: &str| table.contains('.');
        let single = Source { column, embedded, language, tall };
        let several = !tables.is_empty();
        if several && (single != Source::default() || table.is_some()) {
            expected(
                "tables",
                "`column`, `embedded`, `language` and `tall` inside of its tables, not beside them",
            );
        }
        for (table, source) in &tables {
            let at = format!("tables.{table}");
            if !is_name(table) {
                expected(&at, "a name such as `public.poi`");
            }
            source.check(&at, &mut expected);
        }
        if !several {
            single.check("", &mut expected);
            if table.as_ref().is_some_and(|table| !is_name(table)) {
                expected("table", "a name such as `public.poi`");
            }
        }
        let sources = match several {
            true => tables.into_iter().map(|(table, source)| (Some(table), source)).collect(),
            false => vec![(table, single)],
        };
        // What is no tag is found by `check`.
        let tags = languages.iter().map(|language| tag::normal(language).unwrap_or_default());
        let tags: Vec<String> = tags.collect();
        let column = |field: &String, tag: &String| format!("{field}_{}", tag.replace('-', "_"));
        let of_field = |field| tags.iter().map(move |tag| column(field, tag));
        let columns = fields.iter().flat_map(of_field).collect();
        Self { sources, fields, languages, tags, columns, unknown, wrong }
    }
}

impl LocalisedFields {
    /// Where the translations of the row's table are.
    fn source(&self, row: &Row<'_>) -> Option<&Source> {
        if let [(_, source)] = &self.sources[..] {
            // No rows of other tables are asked for.
            return Some(source);
        }
        let is = |name: &str| {
            name.strip_prefix(row.schema()).and_then(|rest| rest.strip_prefix('.'))
                == Some(row.table())
        };
        let named = |name: &Option<String>| name.as_deref().is_none_or(is);
        self.sources.iter().find(|(name, _)| named(name)).map(|(_, source)| source)
    }

    /// The column of a field in a language.
    fn column(&self, field: usize, language: usize) -> &str {
        &self.columns[field * self.tags.len() + language]
    }

    fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field == name)
    }

    /// The index of the language of a tag, or None if it is to be passed over.
    ///
    /// # Errors
    /// Why a row with this language fails; without the tag, which is the row's.
    fn language(&self, tag: &str) -> Result<Option<usize>, &'static str> {
        match self.tags.iter().position(|known| tag::same(tag, known)) {
            Some(language) => Ok(Some(language)),
            None if tag::normal(tag).is_none() => Err("holds a language that is no BCP 47 tag"),
            None if self.unknown == Unknown::Fail => {
                Err("holds a language that is not in `languages`")
            }
            None => Ok(None),
        }
    }
}

impl Plugin for LocalisedFields {
    // What is kept is the configuration, and nothing changes it.
    const WARM: bool = true;

    fn reads(&self) -> Reads {
        let of = |(table, source): &(Option<String>, Source)| {
            let reads = source.reads(&self.fields);
            match table {
                Some(table) => reads.of_table(table),
                None => reads,
            }
        };
        self.sources.iter().map(of).fold(Reads::no_table(), Reads::and)
    }

    fn check(&self) -> Vec<ConfigError> {
        let Self { fields, languages, .. } = self;
        let mut wrong = self.wrong.clone();
        let mut expect = |good: bool, field: &str, what: &str| {
            if !good {
                wrong.push(ConfigError::new(field, format!("expected {what}")));
            }
        };
        expect(!fields.is_empty(), "fields", "one field or more");
        expect(!languages.is_empty(), "languages", "one language or more");
        for (at, field) in fields.iter().enumerate() {
            let good = !field.is_empty() && !fields[..at].contains(field);
            expect(good, &format!("fields[{at}]"), "a name that is not empty and occurs once");
        }
        for (at, tag) in self.tags.iter().enumerate() {
            let good = !tag.is_empty() && !self.tags[..at].contains(tag);
            expect(good, &format!("languages[{at}]"), "a BCP 47 tag that occurs once");
        }
        if wrong.is_empty() {
            let mut columns = self.columns.iter().enumerate();
            let twice = columns.find(|(at, column)| self.columns[..*at].contains(column));
            if let Some((_, column)) = twice {
                let message = format!("two fields and languages would make the column {column}");
                wrong.push(ConfigError::new("fields", message));
            }
        }
        wrong
    }
}

impl Transform for LocalisedFields {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let Some(source) = self.source(row) else { return Ok(()) };
        match &source.tall {
            Some(tall) => tall::transform(self, tall, row, out),
            None => embedded::transform(self, source, row, out),
        }
    }
}

sequin_plugin::export_transform!(LocalisedFields);
