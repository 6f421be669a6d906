use super::*;

fn moved(text: &str) -> Vec<(String, String)> {
    let moved = of("sequin.yaml", text, &|_| None);
    moved.iter().map(|it| (it.from.to_string(), it.to.to_string())).collect()
}

fn runs(sinks: &[&str]) -> BTreeSet<Id> {
    sinks.iter().map(|name| Id::new("sink", name)).collect()
}

#[test]
fn chains_are_resolved_to_the_name_in_the_file() {
    let text = "
moved: [{from: sinks.a, to: sinks.b}, {from: sinks.b, to: sinks.c.d}]
sinks: [{name: c.d}]
";
    let (old, newer, new) = ("sink `a`", "sink `b`", "sink `c.d`");
    let expected = [(old, new), (newer, new)].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(moved(text), expected);
    assert_eq!(moved(&text.replace("c.d}]\ns", "c}]\ns")), [], "what is wrong asks for nothing");
}

#[test]
fn what_is_due_is_what_still_runs_under_its_old_name() {
    let moved = of(
        "",
        "{moved: [{from: sinks.a, to: sinks.b}, {from: sinks.b, to: sinks.c}], sinks: [{name: c}]}",
        &|_| None,
    );
    let due = |sinks: &[&str]| due(&moved, &runs(sinks));
    assert_eq!(due(&["a", "x"]), Ok(vec![moved[0].clone()]));
    assert_eq!(due(&["b"]), Ok(vec![moved[1].clone()]));
    assert_eq!(due(&["c"]), Ok(vec![]), "it was done before");
    assert_eq!(due(&[]), Ok(vec![]));
    assert!(due(&["b", "c"]).unwrap_err().contains("both run"));
    assert!(due(&["a", "b"]).unwrap_err().contains("delete one of them first"));
}
