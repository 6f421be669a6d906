//! Where the translations of a table are found.

use sequin_plugin::prelude::*;

/// What names the language of an entry, if the configuration does not say.
const LANGUAGE: &str = "lang";

sequin_plugin::config! {
    /// Where the translations of a table are found: one of `column`, `embedded` and `tall`.
    #[derive(Default, PartialEq)]
    pub(crate) struct Source {
        /// The JSON column with a list of translations.
        pub(crate) column: Option<String>,
        /// Where else a list of translations comes with the row.
        pub(crate) embedded: Option<Embedded>,
        /// In an entry of a list, what names its language: `lang`, if nothing is said.
        pub(crate) language: Option<String>,
        /// How rows hold translations.
        pub(crate) tall: Option<Tall>,
    }
}

sequin_plugin::config! {
    /// Where else a list of translations comes with the row.
    #[derive(PartialEq)]
    pub(crate) struct Embedded {
        /// The column of the sink's enrichment that holds it.
        pub(crate) enrichment: String,
    }
}

sequin_plugin::config! {
    /// How rows hold translations.
    #[derive(PartialEq)]
    pub(crate) struct Tall {
        /// The column with the id of what is translated.
        pub(crate) id: String,
        /// The column with the language.
        pub(crate) language: String,
        /// The column with the name of the field; without it, the fields are columns.
        pub(crate) field: Option<String>,
        /// The column with the text of the field.
        pub(crate) text: Option<String>,
    }
}

impl Source {
    /// What names the language of an entry of a list.
    pub(crate) fn language(&self) -> &str {
        self.language.as_deref().unwrap_or(LANGUAGE)
    }

    pub(crate) fn reads(&self, fields: &[String]) -> Reads {
        let Self { column, embedded, tall, .. } = self;
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
        if embedded.is_some() { reads.metadata([sequin_plugin::ENRICHMENT]) } else { reads }
    }

    /// Calls with what is wrong, and where below `at`.
    pub(crate) fn check(&self, at: &str, wrong: &mut impl FnMut(&str, &str)) {
        let Self { column, embedded, language, tall } = self;
        let given = [column.is_some(), embedded.is_some(), tall.is_some()];
        let mut expect = |good: bool, field: &str, what: &str| {
            if !good {
                let dot = if at.is_empty() || field.is_empty() { "" } else { "." };
                wrong(&format!("{at}{dot}{field}"), what);
            }
        };
        let one = given.into_iter().filter(|given| *given).count() == 1;
        expect(one, "", "one of `column`, `embedded` and `tall`");
        let alone = tall.is_none() || language.is_none();
        expect(alone, "language", "the language's column in `tall.language` only");
        let name = |name: Option<&String>| name.is_none_or(|name| !name.is_empty());
        expect(name(column.as_ref()), "column", "a name");
        let enrichment = embedded.as_ref().map(|embedded| &embedded.enrichment);
        expect(name(enrichment), "embedded.enrichment", "a name");
        if let Some(tall) = tall {
            let both = tall.field.is_some() == tall.text.is_some();
            expect(both, "tall", "both `field` and `text`, or neither");
        }
    }
}
