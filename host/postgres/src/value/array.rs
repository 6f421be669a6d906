//! Arrays: Postgres' array literals as nested JSON arrays, see
//! <https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>.
//!
//! Lower bounds (`[0:1]={1,2}`) are dropped: JSON arrays have none. An element is written by its
//! own type's rules; only one that is escaped in the literal is copied first.

use super::Unreadable;
use super::form::Array;

/// Postgres' own limit of dimensions (`MAXDIM`).
const DIMENSIONS_MAX: usize = 6;

/// Appends the array as JSON.
pub(super) fn write(array: &Array, text: &str, out: &mut String) -> Result<(), Unreadable> {
    let mut literal = Literal { rest: without_bounds(text)?, delimiter: array.delimiter };
    let mut unescaped = String::new();
    let mut depth = 0_usize;
    // Whether the next thing must be an element or a nested array.
    let mut awaiting = true;
    loop {
        match literal.next(&mut unescaped)? {
            Token::Open if awaiting && depth < DIMENSIONS_MAX => {
                depth += 1;
                out.push('[');
                if literal.close() {
                    depth -= 1;
                    out.push(']');
                    awaiting = false;
                }
            }
            Token::Close if !awaiting && depth > 0 => {
                depth -= 1;
                out.push(']');
            }
            Token::Delimiter if !awaiting && depth > 0 => {
                out.push(',');
                awaiting = true;
            }
            Token::Null if awaiting && depth > 0 => {
                out.push_str("null");
                awaiting = false;
            }
            Token::Plain(element) if awaiting && depth > 0 => {
                array.element.write_json(element, out)?;
                awaiting = false;
            }
            Token::Unescaped if awaiting && depth > 0 => {
                array.element.write_json(&unescaped, out)?;
                awaiting = false;
            }
            Token::End if !awaiting && depth == 0 => return Ok(()),
            Token::Open
            | Token::Close
            | Token::Delimiter
            | Token::Null
            | Token::Plain(_)
            | Token::Unescaped
            | Token::End => return Err(Unreadable),
        }
        if depth == 0 && !literal.rest.is_empty() {
            return Err(Unreadable);
        }
    }
}

/// The literal without `[0:1][2:3]=` in front.
fn without_bounds(text: &str) -> Result<&str, Unreadable> {
    if !text.starts_with('[') {
        return Ok(text);
    }
    let (bounds, rest) = text.split_once('=').ok_or(Unreadable)?;
    let good = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'[' | b']' | b':' | b'-' | b'+');
    if bounds.bytes().all(good) { Ok(rest) } else { Err(Unreadable) }
}

enum Token<'a> {
    Open,
    Close,
    Delimiter,
    Null,
    /// An element in place.
    Plain(&'a str),
    /// An element that was escaped, now in the scratch text.
    Unescaped,
    End,
}

/// What is left of the literal.
struct Literal<'a> {
    rest: &'a str,
    delimiter: u8,
}

impl<'a> Literal<'a> {
    fn next(&mut self, unescaped: &mut String) -> Result<Token<'a>, Unreadable> {
        let Some(first) = self.rest.bytes().next() else { return Ok(Token::End) };
        match first {
            b'{' => self.skip().map(|()| Token::Open),
            b'}' => self.skip().map(|()| Token::Close),
            b'"' => self.quoted(unescaped),
            byte if byte == self.delimiter => self.skip().map(|()| Token::Delimiter),
            _ => self.plain(),
        }
    }

    /// Takes a closing brace, if it is next.
    fn close(&mut self) -> bool {
        let after = self.rest.strip_prefix('}');
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// One ASCII character.
    fn skip(&mut self) -> Result<(), Unreadable> {
        self.rest = self.rest.get(1..).ok_or(Unreadable)?;
        Ok(())
    }

    /// An element without quotes: it has no character that means something here.
    fn plain(&mut self) -> Result<Token<'a>, Unreadable> {
        let ends =
            |byte: &u8| *byte == self.delimiter || matches!(byte, b'}' | b'{' | b'"' | b'\\');
        let end = self.rest.as_bytes().iter().position(ends).ok_or(Unreadable)?;
        // It ends at an ASCII character, so the cut is between characters.
        let (element, rest) = self.rest.split_at_checked(end).ok_or(Unreadable)?;
        self.rest = rest;
        // Only this NULL is one: the text is quoted.
        if element.eq_ignore_ascii_case("null") {
            return Ok(Token::Null);
        }
        Ok(Token::Plain(element))
    }

    fn quoted(&mut self, unescaped: &mut String) -> Result<Token<'a>, Unreadable> {
        self.skip()?;
        let special = |byte: &u8| matches!(byte, b'"' | b'\\');
        unescaped.clear();
        let mut escaped = false;
        loop {
            let at = self.rest.as_bytes().iter().position(special).ok_or(Unreadable)?;
            let (part, rest) = self.rest.split_at_checked(at).ok_or(Unreadable)?;
            let after = rest.get(1..).ok_or(Unreadable)?;
            if rest.starts_with('"') {
                self.rest = after;
                if !escaped {
                    return Ok(Token::Plain(part));
                }
                unescaped.push_str(part);
                return Ok(Token::Unescaped);
            }
            // A backslash stands before a character that is meant as it is.
            let mut characters = after.chars();
            unescaped.push_str(part);
            unescaped.push(characters.next().ok_or(Unreadable)?);
            self.rest = characters.as_str();
            escaped = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Form;

    fn check(element: Form, text: &str, expected: Option<&str>) {
        let mut out = String::new();
        let array = Array { element, delimiter: b',' };
        let written = write(&array, text, &mut out).is_ok().then_some(out);
        assert_eq!(written.as_deref(), expected, "{text}");
    }

    #[test]
    fn b053_b054_b056_elements_are_exact() {
        check(Form::Integer, "{}", Some("[]"));
        check(Form::Integer, "{1,NULL,-3}", Some("[1,null,-3]"));
        check(Form::Integer, "[0:1]={1,2}", Some("[1,2]"));
        check(Form::Integer, "[-1:0][2:3]={{1,2},{3,4}}", Some("[[1,2],[3,4]]"));
        check(Form::Integer, "{{{1}},{{2}}}", Some("[[[1]],[[2]]]"));
        check(Form::Text, "{a,\"NULL\",NULL,\"\"}", Some(r#"["a","NULL",null,""]"#));
        check(
            Form::Text,
            r#"{"a,b","c\"d","{e}","f\\g"," h ","ž\"🦀"}"#,
            Some(r#"["a,b","c\"d","{e}","f\\g"," h ","ž\"🦀"]"#),
        );
    }

    #[test]
    fn b055_elements_follow_the_rules_of_their_type() {
        check(Form::Boolean, "{t,f,NULL}", Some("[true,false,null]"));
        check(Form::Float, "{1e+20,NaN,-Infinity}", Some(r#"[1e+20,"NaN","-Infinity"]"#));
        check(
            Form::Json,
            r#"{"{\"a\": [1, null]}","\"x\"",NULL}"#,
            Some(r#"[{"a": [1, null]},"x",null]"#),
        );
        check(Form::Bytes, r#"{"\\x00ff"}"#, Some(r#"["\\x00ff"]"#));
        check(
            Form::TimestampTz,
            r#"{"2024-01-02 03:04:05+00",infinity}"#,
            Some(r#"["2024-01-02T03:04:05.000000Z","infinity"]"#),
        );
        check(Form::Interval, r#"{"1 day"}"#, Some(r#"[{"months":0,"days":1,"microseconds":0}]"#));
        check(Form::array(Form::Integer), r#"{"{1,2}","{}"}"#, Some("[[1,2],[]]"));
        let mut out = String::new();
        let boxes = Array { element: Form::Text, delimiter: b';' };
        assert!(write(&boxes, "{(1,1),(0,0);(2,2),(1,1)}", &mut out).is_ok());
        assert_eq!(out, r#"["(1,1),(0,0)","(2,2),(1,1)"]"#);
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for bad in [
            "",
            "1",
            "{",
            "}",
            "{1",
            "{1,",
            "{1,}",
            "{,1}",
            "{1}{2}",
            "{1}}",
            "{{1}",
            "{1 2",
            "{\"",
            "{\"a",
            "{\"a\\",
            "{\"a\"b}",
            "{a\"b\"}",
            "{1}x",
            "[0:1]{1}",
            "[x]={1}",
            "{{}",
            "{{{{{{{1}}}}}}}",
            "{1{2}}",
            "NULL",
        ] {
            check(Form::Text, bad, None);
        }
        // What the grammar allows and Postgres never prints: harmless.
        check(Form::Text, "{{},{}}", Some("[[],[]]"));
    }
}
