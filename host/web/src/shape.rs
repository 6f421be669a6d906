//! Schemas of what is asked and answered, for the OpenAPI document (JSON Schema 2020-12).

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Of what is read with serde: what it says of itself.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Value::Object(schema) = &mut schema {
        schema.remove("title");
    }
    schema
}

/// The fields of an object as parameters of a query.
pub(crate) fn parameters(mut schema: Value) -> Vec<Value> {
    let mut take = |key: &str| schema.get_mut(key).map(Value::take).unwrap_or_default();
    let (required, fields) = (take("required"), take("properties"));
    let Value::Object(fields) = fields else { return Vec::new() };
    let is_required =
        |name: &str| required.as_array().is_some_and(|all| all.contains(&json!(name)));
    let parameter = |(name, mut schema): (String, Value)| {
        let told = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        // In a query there is no null.
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|it| it != "null");
        }
        json!({
            "name": name, "in": "query", "required": is_required(&name),
            "description": told.unwrap_or_else(|| "".into()), "schema": schema,
        })
    };
    fields.into_iter().map(parameter).collect()
}

/// An object that has these fields, each a name and words of its types with `|` between: `id` and
/// `"string"`, `next` and `"integer|null"`. A name that ends with `?` may be missing. It may have more.
pub(crate) fn object(fields: &[(&str, &str)]) -> Value {
    fields_of(fields.iter().map(|(name, kind)| (*name, typed(kind))))
}

/// Likewise, with a schema each.
pub(crate) fn fields_of<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema) in fields {
        let bare = name.trim_end_matches('?');
        if bare == name {
            required.push(name);
        }
        properties.insert(bare.to_owned(), schema);
    }
    json!({"type": "object", "properties": properties, "required": required})
}

fn typed(words: &str) -> Value {
    let types: Vec<&str> = words.split('|').collect();
    match types[..] {
        ["any"] => json!({}),
        [word] => json!({"type": word}),
        _ => json!({"type": types}),
    }
}

/// An object like another, with more fields.
pub(crate) fn with(mut schema: Value, more: Value) -> Value {
    let (Value::Object(schema_fields), Value::Object(mut more)) = (&mut schema, more) else {
        return schema;
    };
    for key in ["properties", "required"] {
        match (schema_fields.get_mut(key), more.remove(key)) {
            (Some(Value::Object(fields)), Some(Value::Object(other))) => fields.extend(other),
            (Some(Value::Array(names)), Some(Value::Array(other))) => names.extend(other),
            _ => {}
        }
    }
    schema
}

/// A list as all lists of the API are told, with what it is a list of.
pub(crate) fn list(of: Value) -> Value {
    fields_of([("data", array(of))])
}

/// Likewise, with where the next page begins; null if there is none.
pub(crate) fn pages(of: Value) -> Value {
    fields_of([("data", array(of)), ("next", json!({"type": ["string", "integer", "null"]}))])
}

/// An array.
pub(crate) fn array(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// A schema of the components, by its name.
pub(crate) fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// What every refusal is.
pub(crate) fn refusal() -> Value {
    fields_of([
        ("summary", json!({"type": "string", "description": "For people."})),
        (
            "code",
            json!({"type": "string", "description": "Stable, for programs.", "pattern": "^[a-z0-9_]+$"}),
        ),
        (
            "validation_errors?",
            json!({
                "type": "object",
                "description": "What is wrong, by field.",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            }),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "its schema is looked at")]
    struct Asked {
        /// How many.
        limit: Option<u32>,
        name: String,
    }

    #[test]
    fn what_is_read_with_serde_says_what_it_takes() {
        let schema = of::<Asked>();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!(["name"]));
        let parameters = parameters(schema);
        assert_eq!(parameters[0]["name"], "limit");
        assert_eq!(parameters[0]["description"], "How many.");
        assert_eq!(parameters[0]["schema"]["type"], json!(["integer"]));
        assert_eq!(parameters[0]["required"], false);
        assert_eq!(parameters[1]["required"], true);
    }

    #[test]
    fn an_object_is_told_in_words() {
        let schema = object(&[("id", "string"), ("next?", "integer|null")]);
        assert_eq!(schema["required"], json!(["id"]));
        assert_eq!(schema["properties"]["next"]["type"], json!(["integer", "null"]));
        let more = with(schema, object(&[("at", "string")]));
        assert_eq!(more["required"], json!(["id", "at"]));
    }
}
