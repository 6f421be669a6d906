//! Translations in rows of a table of their own.

use sequin_plugin::prelude::*;

use crate::LocalisedFields;
use crate::source::Tall;

/// Where the text of a row belongs.
#[derive(PartialEq)]
struct Place<'a> {
    id: Datum<'a>,
    language: usize,
    /// None: all fields are columns.
    field: Option<usize>,
}

pub(crate) fn transform(
    plugin: &LocalisedFields,
    tall: &Tall,
    row: &Row<'_>,
    out: &mut Output,
) -> Result<(), Error> {
    let place = place(plugin, tall, row)?;
    let before = match row.action() {
        Action::Update => place_before(plugin, tall, row)?,
        _ => None,
    };
    let moved = before.as_ref().is_some_and(|before| Some(before) != place.as_ref());
    let mut documents = Vec::with_capacity(2);
    if let Some(before) = before.filter(|_| moved) {
        documents.extend(before.document(plugin, |_| Ok(Value::Null))?);
    }
    if let Some(place) = place {
        let deleted = row.action() == Action::Delete;
        let text = |field: &str| {
            if deleted {
                return Ok(Value::Null);
            }
            let column = tall.text.as_deref().unwrap_or(field);
            match row.text(column)? {
                // Where it is now, nothing is yet that could stay as it is.
                Value::Unchanged if moved => Err(Error::unchanged(column)),
                text => Ok(text),
            }
        };
        documents.extend(place.document(plugin, text)?);
    }
    if documents.is_empty() {
        out.drop_row();
    }
    for document in documents {
        out.send(Effect::Complete, document);
    }
    Ok(())
}

/// None if the row is of no interest.
fn place<'a>(
    plugin: &LocalisedFields,
    tall: &Tall,
    row: &Row<'a>,
) -> Result<Option<Place<'a>>, Error> {
    let needed = |column: &str, value: Value<&'a str>| {
        let text = value.sent(column)?;
        text.ok_or_else(|| Error::column(column, "it is null, and says where the text belongs"))
    };
    let tag = needed(&tall.language, row.text(&tall.language)?)?;
    let language = plugin.language(tag);
    let language = language.map_err(|what| Error::column(&tall.language, format!("it {what}")))?;
    let field = match &tall.field {
        None => Some(None),
        Some(column) => plugin.field(needed(column, row.text(column)?)?).map(Some),
    };
    let (Some(language), Some(field)) = (language, field) else { return Ok(None) };
    let id = row.get(&tall.id)?.sent(&tall.id)?;
    match id {
        Some(id @ (Datum::Int(_) | Datum::Text(_))) => Ok(Some(Place { id, language, field })),
        None => Err(Error::column(&tall.id, "it is null, and no document has that id")),
        Some(_) => {
            let type_name = row.type_name(&tall.id)?;
            let message = format!("it is of type {type_name}, which no id of a document is of");
            Err(Error::column(&tall.id, message))
        }
    }
}

/// Where the text belonged before an update; what was not sent of that has not changed. None if that
/// was of no interest, or if nothing was sent.
fn place_before<'a>(
    plugin: &LocalisedFields,
    tall: &Tall,
    row: &Row<'a>,
) -> Result<Option<Place<'a>>, Error> {
    let old = row.old();
    let of = |column: &str| -> Result<Value<Datum<'a>>, Error> {
        match old.get(column)? {
            Value::Unchanged => row.get(column),
            sent => Ok(sent),
        }
    };
    let text = |column: &str| {
        Ok::<_, Error>(match of(column)? {
            Value::Known(Datum::Text(text)) => Some(text),
            _ => None,
        })
    };
    let language = text(&tall.language)?.and_then(|tag| plugin.language(tag).ok().flatten());
    let field = match &tall.field {
        None => Some(None),
        Some(column) => text(column)?.and_then(|name| plugin.field(name)).map(Some),
    };
    let id = match of(&tall.id)? {
        Value::Known(id @ (Datum::Int(_) | Datum::Text(_))) => Some(id),
        _ => None,
    };
    let all = language.zip(field).zip(id);
    Ok(all.map(|((language, field), id)| Place { id, language, field }))
}

impl Place<'_> {
    /// The part of the document that is here; None if nothing of it was sent.
    fn document<'a>(
        &self,
        plugin: &LocalisedFields,
        text: impl Fn(&str) -> Result<Value<&'a str>, Error>,
    ) -> Result<Option<String>, Error> {
        let mut json = String::from("{\"id\":");
        self.id.push_json(&mut json);
        let mut any = false;
        let all = 0..plugin.fields.len();
        let fields = self.field.map_or(all, |field| field..field + 1);
        for field in fields {
            let text = match text(&plugin.fields[field])? {
                Value::Unchanged => continue,
                Value::Null => None,
                Value::Known(text) => Some(text),
            };
            any = true;
            json.push(',');
            Datum::Text(plugin.column(field, self.language)).push_json(&mut json);
            json.push(':');
            match text {
                Some(text) => Datum::Text(text).push_json(&mut json),
                None => json.push_str("null"),
            }
        }
        json.push('}');
        Ok(any.then_some(json))
    }
}
