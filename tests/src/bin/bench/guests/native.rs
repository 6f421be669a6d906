//! The same work in the host, written as one would without plugins: what the sandbox costs is the
//! difference.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use model::json;
use model::page::Value;
use model::plugin::{Data, Outcome, Packed, Patch, Presence, Rows, SetColumn};
use serde::Deserialize;

use super::rows::{FEATURES, FIELDS, FLAGS, LANGUAGES, column};

/// Does to the rows what the plugin of this name does.
pub(super) type Work = Box<dyn Fn(&Rows) -> Result<Vec<Outcome>>>;

pub(super) fn work(plugin: &str) -> Result<Work> {
    Ok(match plugin {
        "public-rows" => {
            let is_public = column("is_public");
            Box::new(move |rows| public_rows(rows, is_public))
        }
        "feature-flags" => {
            let flags = FEATURES.into_iter().take(FLAGS);
            let indexes = flags.enumerate().map(|(index, name)| (name, index)).collect();
            let features = column("features");
            Box::new(move |rows| feature_flags(rows, features, &indexes))
        }
        "localised-fields" => {
            let translations = column("translations");
            Box::new(move |rows| localised_fields(rows, translations))
        }
        "pick" => {
            let columns = ["description", "street", "city", "postcode"].map(column);
            Box::new(move |rows| pick(rows, columns))
        }
        _ => bail!("no native {plugin}"),
    })
}

fn texts(rows: &Rows, column: usize) -> impl Iterator<Item = Result<&str>> {
    rows.changes.iter().map(move |change| match change.row().context("no row")?.value(column) {
        Value::Text(text) => Ok(text),
        value => bail!("{value:?} among the rows, which have no such"),
    })
}

fn public_rows(rows: &Rows, is_public: usize) -> Result<Vec<Outcome>> {
    let outcome = |text: Result<&str>| {
        text.map(|text| if text == "true" { Outcome::Keep } else { Outcome::Evict })
    };
    texts(rows, is_public).map(outcome).collect()
}

fn feature_flags(
    rows: &Rows,
    features: usize,
    indexes: &HashMap<&str, usize>,
) -> Result<Vec<Outcome>> {
    let mut columns = vec![vec![false; rows.changes.len()]; FLAGS];
    for (row, text) in texts(rows, features).enumerate() {
        let names: Vec<Cow<'_, str>> = serde_json::from_str(text?)?;
        for name in names {
            if let Some(index) = indexes.get(&*name) {
                columns[*index][row] = true;
            }
        }
    }
    let named = columns.into_iter().zip(FEATURES);
    let columns = named.map(|(values, name)| {
        let presence = vec![Presence::Value; rows.changes.len()];
        SetColumn { name: format!("has_{name}").into(), presence, data: Data::Booleans(values) }
    });
    Ok(patches(rows, columns.collect()))
}

#[derive(Deserialize)]
struct Translation<'a> {
    #[serde(borrow)]
    lang: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
}

fn localised_fields(rows: &Rows, translations: usize) -> Result<Vec<Outcome>> {
    let mut columns = vec![Texts::default(); FIELDS.len() * LANGUAGES.len()];
    for text in texts(rows, translations) {
        let entries: Vec<Translation<'_>> = serde_json::from_str(text?)?;
        for (language, tag) in LANGUAGES.into_iter().enumerate() {
            let entry = entries.iter().find(|entry| entry.lang == tag);
            let name = entry.and_then(|entry| entry.name.as_deref());
            let description = entry.and_then(|entry| entry.description.as_deref());
            columns[language].push(name);
            columns[LANGUAGES.len() + language].push(description);
        }
    }
    let columns = columns.into_iter().enumerate().map(|(index, texts)| {
        let (field, language) = (index / LANGUAGES.len(), index % LANGUAGES.len());
        texts.column(&format!("{}_{}", FIELDS[field], LANGUAGES[language]), Data::PackedTexts)
    });
    Ok(patches(rows, columns.collect()))
}

/// `description` becomes `text`; `street`, `city` and `postcode` the object `address`; `source` is
/// new.
fn pick(rows: &Rows, columns: [usize; 4]) -> Result<Vec<Outcome>> {
    let [description, street, city, postcode] = columns;
    let (mut text, mut address, mut source) =
        (Texts::default(), Texts::default(), Texts::default());
    let mut object = String::new();
    for change in &rows.changes {
        let row = change.row().context("no row")?;
        let value = |column| match row.value(column) {
            Value::Text(text) => Some(text),
            Value::Null | Value::Unchanged => None,
        };
        text.push(value(description));
        object.clear();
        for (name, column) in [("street", street), ("city", city), ("postcode", postcode)] {
            object.push(if object.is_empty() { '{' } else { ',' });
            json::string(&mut object, name);
            object.push(':');
            json::string(&mut object, value(column).unwrap_or_default());
        }
        object.push('}');
        address.push(Some(&object));
        source.push(Some("app"));
    }
    let mut columns: Vec<SetColumn> = ["description", "street", "city", "postcode"]
        .map(|name| {
            let mut texts = Texts::default();
            rows.changes.iter().for_each(|_| texts.absent());
            texts.column(name, Data::PackedTexts)
        })
        .into();
    columns.push(text.column("text", Data::PackedTexts));
    columns.push(address.column("address", Data::PackedJson));
    columns.push(source.column("source", Data::PackedTexts));
    Ok(patches(rows, columns))
}

/// A column of texts in the making.
#[derive(Clone, Default)]
struct Texts {
    presence: Vec<Presence>,
    packed: Packed,
}

impl Texts {
    fn push(&mut self, text: Option<&str>) {
        self.presence.push(if text.is_some() { Presence::Value } else { Presence::Null });
        self.packed.text.push_str(text.unwrap_or_default());
        self.packed.ends.push(self.packed.text.len() as u32);
    }

    fn absent(&mut self) {
        self.push(None);
        self.presence.pop();
        self.presence.push(Presence::Absent);
    }

    fn column(self, name: &str, data: fn(Packed) -> Data) -> SetColumn {
        SetColumn { name: name.into(), presence: self.presence, data: data(self.packed) }
    }
}

fn patches(rows: &Rows, columns: Vec<SetColumn>) -> Vec<Outcome> {
    let columns: Arc<[SetColumn]> = columns.into();
    let patch = |row| Patch { columns: Arc::clone(&columns), only: None, below: None, row };
    (0..rows.changes.len()).map(|row| Outcome::Set(patch(row))).collect()
}

/// That both made the same of the rows; otherwise it would not be the same work.
pub(super) fn ensure_same(native: &[Outcome], guest: &[Outcome]) -> Result<()> {
    ensure!(native.len() == guest.len(), "{} and {} outcomes", native.len(), guest.len());
    for (native, guest) in native.iter().zip(guest) {
        let (native, guest) = (told(native), told(guest));
        ensure!(native == guest, "the native code made {native}, the plugin {guest}");
    }
    Ok(())
}

/// An outcome, whatever the order of its columns.
fn told(outcome: &Outcome) -> String {
    let Outcome::Set(patch) = outcome else { return format!("{outcome:?}") };
    let columns = patch.columns.iter().filter(|column| column.touches(patch.row));
    let text = |column: &SetColumn| {
        let mut text = format!("{} {:?} ", column.name, column.presence[patch.row]);
        column.write_json(&mut text, patch.row);
        text
    };
    let mut columns: Vec<String> = columns.map(text).collect();
    columns.sort();
    format!("only {:?}, {}", patch.only, columns.join("; "))
}
