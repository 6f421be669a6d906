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
//! destination does otherwise. Where there is none, nothing happens: the row of the POI makes it.
//! Without `field` and `text` a row holds all fields of a language, in columns of their names, and
//! they go together. Rows of other fields and languages are of no interest and dropped.
//!
//! - **Delete**: the document has null in place of the text. The key of the table must hold language
//!   and field, or its replica identity must be full; otherwise they are not sent, and the row fails.
//! - **Update** of language, field or id: the old one becomes null and the new one is set, if the old
//!   row was sent, which again needs the key or the full identity.
//!
//! # Both
//! - **fields**, **languages**: what becomes columns, and nothing else does.
//! - **table**: only rows of this table are touched; others pass as they are.
//! - **unknown**: rows or entries in a language that is not in `languages` are passed over with
//!   `ignore` (the default), or fail with `fail`.
//! - **Language tags** are those of BCP 47: subtags of letters and digits, the first of letters only.
//!   Case does not matter, nor whether `_` or `-` is between them: `de_AT`, `de-at` and `de-AT` are
//!   one language, and its columns end in `_de_at`. What is no tag fails the row.
//! - **Null** in `column`: no translations, so all columns are null. A null text is null.
//! - **Not sent** (an unchanged TOAST value, or the old row of a delete): the columns are left alone.
//! - **Two entries of one language**, an entry without a language, a field that is no text, and a
//!   table that has no such column: the row fails.

mod embedded;
mod tag;
mod tall;
#[cfg(test)]
mod tests;

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;

/// See the documentation of the crate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", from = "Fields")]
#[schemars(crate = "sequin_plugin::schemars", into = "Fields")]
pub struct LocalisedFields {
    fields: Fields,
    /// The languages as they are compared.
    tags: Vec<String>,
    /// Per field and language, all languages of a field together.
    columns: Vec<String>,
}

sequin_plugin::config! {
    /// Which columns to make of what.
    struct Fields {
        /// Only rows of this table are touched, named `schema.table`.
        table: Option<String>,
        /// The JSON column with a list of translations.
        column: Option<String>,
        /// In an entry of the list, what names its language: `lang`, if nothing is said.
        language: Option<String>,
        /// How rows hold translations.
        tall: Option<Tall>,
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
    /// How rows hold translations.
    struct Tall {
        /// The column with the id of what is translated.
        id: String,
        /// The column with the language.
        language: String,
        /// The column with the name of the field; without it, the fields are columns.
        field: Option<String>,
        /// The column with the text of the field.
        text: Option<String>,
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
    fn from(fields: Fields) -> Self {
        // What is no tag is found by `check`.
        let tags =
            fields.languages.iter().map(|language| tag::normal(language).unwrap_or_default());
        let tags: Vec<String> = tags.collect();
        let column = |field: &String, tag: &String| format!("{field}_{}", tag.replace('-', "_"));
        let of_field = |field| tags.iter().map(move |tag| column(field, tag));
        let columns = fields.fields.iter().flat_map(of_field).collect();
        Self { fields, tags, columns }
    }
}

impl LocalisedFields {
    /// The column of a field in a language.
    fn column(&self, field: usize, language: usize) -> &str {
        &self.columns[field * self.tags.len() + language]
    }

    fn field(&self, name: &str) -> Option<usize> {
        self.fields.fields.iter().position(|field| field == name)
    }

    /// The index of the language of a tag, or None if it is to be passed over.
    ///
    /// # Errors
    /// Why a row with this language fails; without the tag, which is the row's.
    fn language(&self, tag: &str) -> Result<Option<usize>, &'static str> {
        match self.tags.iter().position(|known| tag::same(tag, known)) {
            Some(language) => Ok(Some(language)),
            None if tag::normal(tag).is_none() => Err("holds a language that is no BCP 47 tag"),
            None if self.fields.unknown == Unknown::Fail => {
                Err("holds a language that is not in `languages`")
            }
            None => Ok(None),
        }
    }
}

impl Plugin for LocalisedFields {
    fn reads(&self) -> Reads {
        let Fields { table, column, tall, fields, .. } = &self.fields;
        let reads = match tall {
            None => Reads::columns(column),
            Some(tall) => {
                let place = [Some(&tall.id), Some(&tall.language), tall.field.as_ref()];
                let place: Vec<&String> = place.into_iter().flatten().collect();
                let texts: Vec<&String> = match &tall.text {
                    Some(text) => vec![text],
                    None => fields.iter().collect(),
                };
                Reads::columns(place.iter().copied().chain(texts)).old(place)
            }
        };
        match table {
            Some(table) => reads.of_table(table),
            None => reads,
        }
    }

    fn check(&self) -> Vec<ConfigError> {
        let Fields { table, column, language, tall, fields, languages, .. } = &self.fields;
        let mut wrong = Vec::new();
        let mut expect = |good: bool, field: &str, what: &str| {
            if !good {
                wrong.push(ConfigError::new(field, format!("expected {what}")));
            }
        };
        let one = column.is_some() != tall.is_some();
        expect(one, "", "either `column` or `tall`");
        let alone = tall.is_none() || language.is_none();
        expect(alone, "language", "the language's column in `tall.language` only");
        if let Some(tall) = tall {
            let both = tall.field.is_some() == tall.text.is_some();
            expect(both, "tall", "both `field` and `text`, or neither");
        }
        if let Some(table) = table {
            expect(table.contains('.'), "table", "a name such as `public.poi`");
        }
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
        match (&self.fields.tall, &self.fields.column) {
            (Some(tall), _) => tall::transform(self, tall, row, out),
            (None, Some(column)) => embedded::transform(self, column, row, out),
            (None, None) => Ok(()),
        }
    }
}

sequin_plugin::export_transform!(LocalisedFields);
