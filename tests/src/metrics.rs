//! Reads the text format of metrics.

/// The sum of the samples of this name that carry all of these labels; `None` if there is none.
pub(crate) fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(parse);
    samples
        .filter(|sample| sample.name == name)
        .filter(|sample| {
            labels.iter().all(|&(key, value)| {
                sample.labels.iter().any(|(other, text)| other == key && text == value)
            })
        })
        .map(|sample| sample.value)
        .reduce(|a, b| a + b)
}

struct Sample<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: f64,
}

fn parse(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// Up to and including the closing brace; what follows it.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = unquote(after)?;
        labels.push((key.to_owned(), value));
        rest = after;
    }
}

/// Up to and including the closing quote; what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(index + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a about\n# TYPE a counter\na{sink=\"x\",k=\"q\\\"},\"} 3\na{sink=\"y\"} 4\nb 2.5\na_total 9\n";

    #[test]
    fn samples_are_chosen_by_name_and_labels() {
        assert_eq!(sum(TEXT, "a", &[]), Some(7.0));
        assert_eq!(sum(TEXT, "a", &[("sink", "x")]), Some(3.0));
        assert_eq!(sum(TEXT, "a", &[("sink", "x"), ("k", "q\"},")]), Some(3.0));
        assert_eq!(sum(TEXT, "a", &[("sink", "z")]), None);
        assert_eq!(sum(TEXT, "b", &[]), Some(2.5));
        assert_eq!(sum(TEXT, "c", &[]), None);
    }
}
