//! Texts with values of columns in them.

use std::collections::BTreeMap;

use sequin_plugin::prelude::*;

/// A text with places for values.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
    place: Place,
}

/// Where the text goes, which decides how values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Values as they are.
    Text,
    /// Values percent-encoded.
    Path,
    /// No control characters.
    Header,
}

#[derive(Clone, Debug)]
enum Part {
    Fixed(String),
    Column(String),
    Action,
    Schema,
    Table,
}

impl Template {
    /// Says what is wrong with it.
    pub(crate) fn parse(text: &str, place: Place) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut fixed = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            fixed.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(brace) = ["{{", "}}"].into_iter().find(|brace| rest.starts_with(brace)) {
                fixed.push_str(&brace[1..]);
                rest = &rest[2..];
                continue;
            }
            if rest.starts_with('}') {
                return Err("a `}` has no `{`; `}}` is a brace".to_owned());
            }
            let Some((name, behind)) = rest[1..].split_once('}') else {
                return Err("a `{` has no `}`; `{{` is a brace".to_owned());
            };
            if !fixed.is_empty() {
                parts.push(Part::Fixed(std::mem::take(&mut fixed)));
            }
            parts.push(part(name)?);
            rest = behind;
        }
        fixed.push_str(rest);
        if !fixed.is_empty() {
            parts.push(Part::Fixed(fixed));
        }
        if place == Place::Header
            && parts.iter().any(|part| matches!(part, Part::Fixed(text) if controls(text)))
        {
            return Err("a header has no control characters".to_owned());
        }
        Ok(Self { parts, place })
    }

    /// The columns in it.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name),
            Part::Fixed(_) | Part::Action | Part::Schema | Part::Table => None,
        })
    }

    /// The text for a row, or which value it lacks.
    pub(crate) fn fill(
        &self,
        row: &Row<'_>,
        defaults: &BTreeMap<String, String>,
    ) -> Result<Result<String, Error>, Error> {
        let mut text = String::new();
        // Some if a value stands in the segment that is written at the moment.
        let mut blamed: Option<&str> = None;
        for part in &self.parts {
            match part {
                Part::Fixed(fixed) if self.place == Place::Path => {
                    for (index, piece) in fixed.split('/').enumerate() {
                        if index > 0 {
                            leads_nowhere_else(&text, blamed.take())?;
                            text.push('/');
                        }
                        text.push_str(piece);
                    }
                }
                Part::Fixed(fixed) => text.push_str(fixed),
                Part::Action => text.push_str(match row.action() {
                    Action::Insert => "insert",
                    Action::Update => "update",
                    Action::Delete => "delete",
                    Action::Read => "read",
                }),
                Part::Schema => {
                    blamed = Some("@schema");
                    self.push(&mut text, "@schema", row.schema())?;
                }
                Part::Table => {
                    blamed = Some("@table");
                    self.push(&mut text, "@table", row.table())?;
                }
                Part::Column(name) => {
                    blamed = Some(name);
                    if let Err(lacks) = self.column(&mut text, row, name, defaults)? {
                        return Ok(Err(lacks));
                    }
                }
            }
        }
        if self.place == Place::Path {
            leads_nowhere_else(&text, blamed)?;
        }
        Ok(Ok(text))
    }

    fn column(
        &self,
        text: &mut String,
        row: &Row<'_>,
        name: &str,
        defaults: &BTreeMap<String, String>,
    ) -> Result<Result<(), Error>, Error> {
        let null = |text: &mut String| match defaults.get(name) {
            Some(default) => self.push(text, name, default).map(Ok),
            None => Ok(Err(Error::column(
                name,
                "it is null or empty, and there is nothing in `defaults` for that",
            ))),
        };
        let datum = match row.get(name)? {
            Value::Unchanged => return Ok(Err(Error::unchanged(name))),
            Value::Null => return null(text),
            Value::Known(datum) => datum,
        };
        match datum {
            Datum::Text("") if self.place == Place::Path => return null(text),
            Datum::Text(value) => self.push(text, name, value)?,
            Datum::Int(_) | Datum::Bool(_) => datum.push_json(text),
            Datum::Float(_) => {
                let mut written = String::new();
                datum.push_json(&mut written);
                // Without the point that tells a float from a whole number in JSON.
                let written = written.trim_matches('"').trim_end_matches(".0");
                self.push(text, name, written)?;
            }
            Datum::Json(_) | Datum::Bytes(_) => {
                let type_name = row.type_name(name)?;
                let message = format!("it is of type {type_name}, of which there is no plain text");
                return Err(Error::column(name, message));
            }
        }
        Ok(Ok(()))
    }

    /// Writes a value as its place wants it.
    fn push(&self, text: &mut String, name: &str, value: &str) -> Result<(), Error> {
        match self.place {
            Place::Text => text.push_str(value),
            Place::Path => {
                for byte in value.bytes() {
                    // RFC 3986, 2.3: unreserved.
                    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                        text.push(char::from(byte));
                    } else {
                        text.push_str(&format!("%{byte:02X}"));
                    }
                }
            }
            Place::Header if controls(value) => {
                let message = "it has a control character, which no header can have";
                return Err(Error::column(name, message));
            }
            Place::Header => text.push_str(value),
        }
        Ok(())
    }
}

fn part(name: &str) -> Result<Part, String> {
    Ok(match name {
        "@action" => Part::Action,
        "@schema" => Part::Schema,
        "@table" => Part::Table,
        "" => return Err("`{}` names no column".to_owned()),
        _ if name.starts_with('@') => {
            return Err(format!("`{{{name}}}` is none of @action, @schema and @table"));
        }
        _ if name.contains('{') => return Err("a `{` has no `}`; `{{` is a brace".to_owned()),
        _ => Part::Column(name.to_owned()),
    })
}

/// Fails if the value of a column made the last segment one that stands for another place: a client
/// resolves it before it sends anything.
fn leads_nowhere_else(text: &str, blamed: Option<&str>) -> Result<(), Error> {
    let segment = text.rsplit('/').next().unwrap_or_default();
    // Clients take the encoded dot for a dot.
    let segment = segment.to_ascii_lowercase().replace("%2e", ".");
    match blamed {
        Some(name) if segment == "." || segment == ".." => {
            let message = "it would make the path lead elsewhere: a segment of dots";
            Err(Error::column(name, message))
        }
        _ => Ok(()),
    }
}

fn controls(text: &str) -> bool {
    text.chars().any(char::is_control)
}
