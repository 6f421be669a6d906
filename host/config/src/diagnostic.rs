//! What is wrong with a configuration, and where.
//!
//! A diagnostic shows the line it is about, but never a value that may be a secret: the text behind
//! keys whose names say so, and behind a key that is itself the mistake, is left out.

use std::fmt;

/// Parts of the names of keys whose values are not shown.
const SECRET_WORDS: [&str; 10] =
    ["password", "secret", "token", "key", "auth", "credential", "jwt", "header", "url", "value"];
/// In place of what is not shown.
const HIDDEN: &str = "…";

/// One thing that is wrong, or that a user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line, without secrets.
    excerpt: String,
    /// How many characters of it are meant, at least 1.
    width: usize,
}

/// Whether the configuration can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // What is meant may be hidden: then the mark goes below what stands in its place.
        let indent = (self.column - 1).min(self.excerpt.chars().count().saturating_sub(1));
        let (indent, carets) = (" ".repeat(indent), "^".repeat(self.width));
        writeln!(f, "{severity}: {}", self.message)?;
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.excerpt)?;
        writeln!(f, "{gutter} | {indent}{carets}")?;
        match &self.help {
            Some(help) => writeln!(f, "{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// A stretch of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// In characters; 0 if unknown.
    pub(crate) width: usize,
}

/// Collects diagnostics of one text.
pub(crate) struct Report<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    diagnostics: Vec<Diagnostic>,
    /// The resource that is being read, for the messages.
    context: String,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let lines = text.lines().collect();
        Self { file, lines, diagnostics: Vec::new(), context: String::new() }
    }

    /// What follows is about this resource: "sink `orders`".
    pub(crate) fn enter(&mut self, context: impl Into<String>) {
        self.context = context.into();
    }

    pub(crate) fn leave(&mut self) {
        self.context.clear();
    }

    pub(crate) fn error(&mut self, place: Place, message: impl fmt::Display) {
        self.push(Severity::Error, place, &message, None);
    }

    pub(crate) fn error_with_help(
        &mut self,
        place: Place,
        message: impl fmt::Display,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, place, &message, Some(help.into()));
    }

    /// About text that is not YAML, so that nobody knows what in it is a key and what a value: of
    /// the line, only what looks like its key is shown.
    pub(crate) fn malformed(&mut self, place: Place, message: impl fmt::Display) {
        self.push(Severity::Error, place, &message, None);
        let line = place.line.checked_sub(1).and_then(|at| self.lines.get(at)).unwrap_or(&"");
        let indentation = line.len() - line.trim_start_matches([' ', '-']).len();
        let excerpt = hide(line, line.find(':').unwrap_or(indentation));
        if let Some(diagnostic) = self.diagnostics.last_mut() {
            diagnostic.width = 1;
            diagnostic.excerpt = excerpt;
        }
    }

    pub(crate) fn warning(
        &mut self,
        place: Place,
        message: impl fmt::Display,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, place, &message, Some(help.into()));
    }

    /// How many errors there are, to know whether a step added some.
    pub(crate) fn errors(&self) -> usize {
        let errors = self.diagnostics.iter().filter(|one| one.severity == Severity::Error);
        errors.count()
    }

    /// All diagnostics in the order of the text, and whether one is an error.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, bool) {
        self.diagnostics.sort_by_key(|one| (one.line, one.column));
        // An anchored block is read once for each of its uses.
        self.diagnostics.dedup();
        let failed = self.errors() > 0;
        (self.diagnostics, failed)
    }

    fn push(
        &mut self,
        severity: Severity,
        place: Place,
        message: &dyn fmt::Display,
        help: Option<String>,
    ) {
        let message = match self.context.as_str() {
            "" => message.to_string(),
            context => format!("{context}: {message}"),
        };
        let (line, column) = (place.line.max(1), place.column.max(1));
        let excerpt = self.excerpt(line, column - 1 + place.width);
        let room = excerpt.chars().count().saturating_sub(column - 1);
        let width = place.width.min(room).max(1);
        let file = self.file.to_owned();
        self.diagnostics.push(Diagnostic {
            severity,
            file,
            line,
            column,
            message,
            help,
            excerpt,
            width,
        });
    }

    /// The line without what may be a secret. What is meant ends after `end` characters.
    fn excerpt(&self, line: usize, end: usize) -> String {
        let Some((text, above)) = self.lines.get(..line).and_then(<[_]>::split_last) else {
            return String::new();
        };
        if above_is_secret(above, indent(text)) {
            return hide(text, 0);
        }
        // The mistake may be the very key that would have told us that its value is a secret.
        let end: usize = text.chars().take(end).map(char::len_utf8).sum();
        let is_key = text.get(end..).is_some_and(|rest| rest.trim_start().starts_with(':'));
        match [secret_key_end(text), is_key.then_some(end)].into_iter().flatten().min() {
            Some(end) => hide(text, end),
            None => text.trim_end().to_owned(),
        }
    }
}

/// Whether one of the blocks that this line stands in is a secret.
fn above_is_secret(above: &[&str], mut indentation: usize) -> bool {
    for line in above.iter().rev() {
        let (content, at) = (line.trim(), indent(line));
        if content.is_empty() || content.starts_with('#') || at >= indentation {
            continue;
        }
        if secret_key_end(line).is_some() {
            return true;
        }
        indentation = at;
    }
    false
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|char| *char == ' ').count()
}

/// Where the first key that names a secret ends, behind its colon.
fn secret_key_end(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(colon) = line.get(from..)?.find(':').map(|at| from + at) {
        let word = line.get(from..colon)?.rsplit([' ', '{', ',', '"', '\'']);
        let name = word.map(str::trim).find(|word| !word.is_empty()).unwrap_or_default();
        let name = name.to_lowercase();
        if SECRET_WORDS.iter().any(|word| name.contains(word)) {
            return Some(colon + 1);
        }
        from = colon + 1;
    }
    None
}

/// The line up to `from`, without its colon or with it, and what follows if it can only be the name of a variable.
fn hide(line: &str, from: usize) -> String {
    let (shown, rest) = line.split_at_checked(from).unwrap_or(("", line));
    let value = rest.trim_start_matches(':').trim();
    let bare = value.trim_matches(['"', '\'']);
    let name = bare.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if value.is_empty() || name.is_some_and(is_name) {
        return line.trim_end().to_owned();
    }
    let between: String = rest.chars().take_while(|char| matches!(char, ' ' | ':')).collect();
    format!("{shown}{between}{HIDDEN}")
}
