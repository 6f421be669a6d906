//! Whether a configuration fits the JSON Schema that a plugin gives of it (draft 2020-12).
//!
//! A part of that, on purpose. The schema is the guest's, so its evaluation has a budget: libraries
//! for it follow references that lead back to themselves until the stack ends, and double their work
//! with each of a chain of `allOf`. What is not known here (`pattern`, `format`, `dependentSchemas`, …)
//! asks for nothing; the plugin's own `configure` has the last word.

use serde_json::{Map, Number, Value};

/// Schemas that are held against a value, for one configuration: a large one takes some thousands.
const STEPS_MAX: usize = 100_000;

/// References and values in each other.
const DEPTH_MAX: usize = 100;

/// Mistakes that are told.
const MISTAKES_MAX: usize = 8;

/// Why a configuration is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The schema is too intricate to be held against anything.
    Schema(String),
    /// What is wrong, by its place.
    Config(String),
}

/// Holds a configuration against a schema.
pub(crate) fn check(schema: &Value, config: &Value) -> Result<(), Unfit> {
    let mut check = Check { root: schema, steps: 0, mistakes: Vec::new() };
    check.value(schema, config, &mut String::new(), 0)?;
    if check.mistakes.is_empty() { Ok(()) } else { Err(Unfit::Config(check.mistakes.join("; "))) }
}

struct Check<'a> {
    root: &'a Value,
    steps: usize,
    mistakes: Vec<String>,
}

type Checked = Result<(), Unfit>;

impl<'a> Check<'a> {
    fn wrong(&mut self, path: &str, what: impl std::fmt::Display) {
        if self.mistakes.len() < MISTAKES_MAX {
            let path = path.trim_start_matches('.');
            let whose = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
            self.mistakes.push(format!("{whose} {what}"));
        }
    }

    /// Whether a value fits, without telling what is wrong.
    fn fits(&mut self, schema: &'a Value, value: &Value, depth: usize) -> Result<bool, Unfit> {
        let before = std::mem::take(&mut self.mistakes);
        self.value(schema, value, &mut String::new(), depth)?;
        let fits = self.mistakes.is_empty();
        self.mistakes = before;
        Ok(fits)
    }

    fn value(
        &mut self,
        schema: &'a Value,
        value: &Value,
        path: &mut String,
        depth: usize,
    ) -> Checked {
        self.steps += 1;
        if self.steps > STEPS_MAX || depth > DEPTH_MAX {
            let what = "it refers to itself, or is too intricate";
            return Err(Unfit::Schema(what.to_owned()));
        }
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => {
                self.wrong(path, "is not allowed");
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(named) = schema.get("$ref").and_then(Value::as_str) {
            // One into another document cannot be followed; the plugin has the last word.
            if let Some(named) = named.strip_prefix('#').and_then(|at| self.root.pointer(at)) {
                self.value(named, value, path, depth + 1)?;
            }
        }
        if let Some(types) = schema.get("type") {
            let one = std::slice::from_ref(types);
            let types: Vec<&str> = types
                .as_array()
                .map_or(one, Vec::as_slice)
                .iter()
                .filter_map(Value::as_str)
                .collect();
            if !types.iter().any(|it| is(it, value)) {
                self.wrong(
                    path,
                    format_args!("should be {}, and is {}", types.join(" or "), shown(value)),
                );
                return Ok(());
            }
        }
        if let Some(all) = schema.get("enum").and_then(Value::as_array)
            && !all.iter().any(|it| same(it, value))
        {
            let all: Vec<String> = all.iter().take(20).map(Value::to_string).collect();
            self.wrong(
                path,
                format_args!("should be one of {}, and is {}", all.join(", "), shown(value)),
            );
        }
        if let Some(only) = schema.get("const").filter(|only| !same(only, value)) {
            self.wrong(path, format_args!("should be {only}, and is {}", shown(value)));
        }
        self.combined(schema, value, path, depth)?;
        match value {
            Value::Object(value) => self.object(schema, value, path, depth),
            Value::Array(items) => self.list(schema, items, path, depth),
            Value::String(text) => {
                let length = text.chars().count();
                self.size(schema, ("minLength", "maxLength", "characters"), length, path);
                Ok(())
            }
            Value::Number(number) => {
                self.number(schema, number, path);
                Ok(())
            }
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn combined(
        &mut self,
        schema: &'a Map<String, Value>,
        value: &Value,
        path: &mut String,
        depth: usize,
    ) -> Checked {
        let list = |key: &str| schema.get(key).and_then(Value::as_array).map(Vec::as_slice);
        for part in list("allOf").unwrap_or_default() {
            self.value(part, value, path, depth + 1)?;
        }
        for (key, at_most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
            let Some(parts) = list(key) else { continue };
            let mut fitting = 0;
            for part in parts {
                fitting += usize::from(self.fits(part, value, depth + 1)?);
            }
            if fitting == 0 {
                // Of a single one, or of one beside `null`, it can be said what is wrong.
                let real = |part: &&'a Value| part.get("type").is_none_or(|it| it != "null");
                let mut real = parts.iter().filter(real);
                match (real.next(), real.next()) {
                    (Some(part), None) => self.value(part, value, path, depth + 1)?,
                    _ => self.wrong(
                        path,
                        format_args!("is {}, which fits nothing of what it may be", shown(value)),
                    ),
                }
            } else if fitting > at_most {
                self.wrong(path, "fits several of what it may be, and should fit one");
            }
        }
        if let Some(not) = schema.get("not")
            && self.fits(not, value, depth + 1)?
        {
            self.wrong(path, format_args!("is {}, which it should not be", shown(value)));
        }
        Ok(())
    }

    fn object(
        &mut self,
        schema: &'a Map<String, Value>,
        value: &Map<String, Value>,
        path: &mut String,
        depth: usize,
    ) -> Checked {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !value.contains_key(name) {
                self.wrong(path, format_args!("needs `{name}`"));
            }
        }
        // Names that a pattern would allow are not told from others.
        let has_patterns = schema.contains_key("patternProperties");
        let rest = schema.get("additionalProperties").filter(|_| !has_patterns);
        for (name, value) in value {
            let known = properties.and_then(|known| known.get(name));
            if let (None, Some(Value::Bool(false))) = (known, rest) {
                let known = properties.into_iter().flat_map(Map::keys);
                let known: Vec<&str> = known.map(String::as_str).take(20).collect();
                let known = match known.join("`, `") {
                    none if none.is_empty() => "none".to_owned(),
                    known => format!("`{known}`"),
                };
                self.wrong(path, format_args!("has no key `{name}`; it knows {known}"));
                continue;
            }
            if let Some(schema) = known.or(rest) {
                let length = path.len();
                *path += &format!(".{name}");
                self.value(schema, value, path, depth + 1)?;
                path.truncate(length);
            }
        }
        let names = ("minProperties", "maxProperties", "keys");
        self.size(schema, names, value.len(), path);
        Ok(())
    }

    fn list(
        &mut self,
        schema: &'a Map<String, Value>,
        items: &[Value],
        path: &mut String,
        depth: usize,
    ) -> Checked {
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let rest = schema.get("items");
        for (at, item) in items.iter().enumerate() {
            let schema = first.and_then(|first| first.get(at)).or(rest);
            if let Some(schema) = schema {
                let length = path.len();
                *path += &format!("[{at}]");
                self.value(schema, item, path, depth + 1)?;
                path.truncate(length);
            }
        }
        self.size(schema, ("minItems", "maxItems", "items"), items.len(), path);
        Ok(())
    }

    fn size(
        &mut self,
        schema: &Map<String, Value>,
        (min, max, what): (&str, &str, &str),
        size: usize,
        path: &str,
    ) {
        let bound = |key: &str| {
            schema
                .get(key)
                .and_then(Value::as_u64)
                .map(|it| usize::try_from(it).unwrap_or(usize::MAX))
        };
        if let Some(min) = bound(min).filter(|min| size < *min) {
            self.wrong(path, format_args!("has {size} {what}, and at least {min} are needed"));
        }
        if let Some(max) = bound(max).filter(|max| size > *max) {
            self.wrong(path, format_args!("has {size} {what}, and at most {max} are allowed"));
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, number: &Number, path: &str) {
        let Some(is) = number.as_f64() else { return };
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let holds = |key: &str, bound: f64| match key {
            "minimum" => is >= bound,
            "maximum" => is <= bound,
            "exclusiveMinimum" => is > bound,
            _ => is < bound,
        };
        let bounds = [
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("exclusiveMinimum", "more than"),
            ("exclusiveMaximum", "less than"),
        ];
        for (key, what) in bounds {
            if let Some(bound) = bound(key).filter(|bound| !holds(key, *bound)) {
                self.wrong(path, format_args!("is {number}, and should be {what} {bound}"));
            }
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        // 1.0 is one, too.
        "integer" => value.as_f64().is_some_and(|it| it.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

/// Numbers are the same by what they are worth: 1 and 1.0.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.is_number() && one.as_f64() == other.as_f64()
}

/// A value in a message. A text may be a secret: what kind it is must do.
fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(schema: &Value, config: &Value) -> String {
        match check(schema, config) {
            Ok(()) => String::new(),
            Err(Unfit::Config(what)) => what,
            Err(Unfit::Schema(what)) => format!("schema: {what}"),
        }
    }

    #[test]
    fn b271_what_does_not_fit_is_told_by_its_place_and_without_texts() {
        let schema = json!({
            "type": "object",
            "required": ["table"],
            "additionalProperties": false,
            "properties": {
                "table": {"type": "string", "minLength": 1},
                "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
                "mode": {"enum": ["a", "b"]},
                "columns": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/column"}},
                "either": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                "perhaps": {"anyOf": [{"$ref": "#/$defs/column"}, {"type": "null"}]},
                "others": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
            "$defs": {"column": {"type": "object", "required": ["name"]}},
        });
        let good = json!({
            "table": "t", "limit": 1.0, "mode": "a", "columns": [{"name": 1}], "either": 1,
            "perhaps": null, "others": {"x": 1},
        });
        for (key, value, wrong) in [
            ("table", json!("t"), ""),
            ("table", json!(7), "`table` should be string, and is 7"),
            ("table", json!(""), "`table` has 0 characters, and at least 1 are needed"),
            ("limit", json!(1.5), "`limit` should be integer or null, and is 1.5"),
            ("limit", json!(11), "`limit` is 11, and should be at most 10"),
            ("limit", json!("hunter2"), "`limit` should be integer or null, and is a string"),
            ("mode", json!("c"), "`mode` should be one of \"a\", \"b\", and is a string"),
            ("columns", json!([]), "`columns` has 0 items, and at least 1 are needed"),
            ("columns", json!([{"name": 1}, {}]), "`columns[1]` needs `name`"),
            ("either", json!(true), "`either` is true, which fits nothing of what it may be"),
            ("perhaps", json!({}), "`perhaps` needs `name`"),
            ("others", json!({"x": "y"}), "`others.x` should be integer, and is a string"),
            (
                "tabel",
                json!(1),
                "it has no key `tabel`; it knows `columns`, `either`, `limit`, `mode`, `others`, \
                 `perhaps`, `table`",
            ),
        ] {
            let mut config = good.clone();
            config[key] = value;
            assert_eq!(told(&schema, &config), wrong, "{key}");
        }
        assert_eq!(told(&schema, &json!([])), "it should be object, and is a list");
        assert_eq!(told(&schema, &json!({})), "it needs `table`");
        assert_eq!(
            told(&json!({"not": {"type": "null"}}), &Value::Null),
            "it is null, which it should not be"
        );
        assert_eq!(told(&json!(false), &json!(1)), "it is not allowed");
        assert_eq!(told(&json!({"enum": [1], "const": 1.0}), &json!(1.0)), "");
        for any in [json!({}), json!(true), json!({"$ref": "https://example.com"}), json!(7)] {
            assert_eq!(told(&any, &json!({"a": [1]})), "");
        }
    }

    #[test]
    fn b265_a_schema_that_would_never_end_is_given_up() {
        let around = json!({"$ref": "#/a", "a": {"allOf": [{"$ref": "#"}]}});
        assert!(told(&around, &json!({})).starts_with("schema: "));
        let mut doubling = json!({});
        for n in 0..40 {
            let next = json!({"$ref": format!("#/n{}", n + 1)});
            doubling[format!("n{n}")] = json!({"anyOf": [next.clone(), next]});
        }
        doubling["$ref"] = json!("#/n0");
        assert!(told(&doubling, &json!({})).starts_with("schema: "));
    }
}
