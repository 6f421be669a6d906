use proptest::prelude::*;

use super::*;

fn sample() -> Bundle {
    let component = |bytes: &[u8], named: Option<&str>, signatures: &[&str]| Component {
        named: named.map(|name| Named { name: name.to_owned(), version: "1.0.0".to_owned() }),
        signatures: signatures.iter().map(|it| (*it).to_owned()).collect(),
        bytes: bytes.to_vec(),
    };
    let mut components =
        vec![component(b"one", Some("a"), &["c2ln"]), component(&[7; 70_000], None, &[])];
    components.sort_by_key(Component::digest);
    Bundle { config: "sinks: []\n".to_owned(), is_template: true, components }
}

/// The archive with entries changed by `change`, its digests left as they were.
fn changed(change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let bytes = sample().to_bytes();
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (name, content)
    });
    let mut entries: Vec<_> = entries.collect();
    change(&mut entries);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        // As somebody who means harm writes it: `append_data` refuses such names.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn why(bytes: &[u8]) -> String {
    Bundle::from_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn b271_a_bundle_comes_back_and_the_same_content_is_the_same_bytes() {
    let bundle = sample();
    let bytes = bundle.to_bytes();
    assert_eq!(Bundle::from_bytes(&bytes).unwrap(), bundle);
    let mut turned = bundle.clone();
    turned.components.reverse();
    assert_eq!(turned.to_bytes(), bytes);
    assert_eq!(Bundle::from_bytes(&Bundle::default().to_bytes()).unwrap(), Bundle::default());
}

#[test]
fn b271_a_bundle_that_is_not_what_it_says_is_refused_with_the_reason() {
    let replace = |from: &'static str, to: &'static str| {
        changed(|entries| {
            let manifest = String::from_utf8(entries[0].1.clone()).unwrap();
            assert!(manifest.contains(from), "{manifest}");
            entries[0].1 = manifest.replacen(from, to, 1).into_bytes();
        })
    };
    let cases: [(&str, Vec<u8>); 13] = [
        ("first entry", changed(|entries| entries.swap(0, 1))),
        ("first entry", changed(Vec::clear)),
        ("compressed", b"\x1f\x8b\x08rest".to_vec()),
        ("it was changed", changed(|entries| entries[1].1.push(b'x'))),
        ("it was changed", changed(|entries| entries[3].1[0] ^= 1)),
        ("is missing where it should be", changed(|entries| _ = entries.pop())),
        ("is missing where it should be", changed(|entries| entries.swap(2, 3))),
        (
            "is missing where it should be",
            changed(|entries| "../../etc/x".clone_into(&mut entries[2].0)),
        ),
        ("is not in bundle.json", changed(|entries| entries.push(("more".to_owned(), Vec::new())))),
        ("of 11 bytes", replace("\"bytes\": 10", "\"bytes\": 11")),
        ("format 9", replace("\"format\": 1", "\"format\": 9")),
        ("unknown field `forma`", replace("\"template\"", "\"forma\"")),
        ("no tar archive", b"x".repeat(600)),
    ];
    for (reason, bytes) in cases {
        let why = why(&bytes);
        assert!(why.contains(reason), "{reason}: {why}");
    }
    let bytes = sample().to_bytes();
    for cut in [513, 1_100, bytes.len() / 2] {
        why(&bytes[..cut]);
    }
    let twice = Bundle { components: vec![sample().components[0].clone(); 2], ..sample() };
    assert_eq!(Bundle::from_bytes(&twice.to_bytes()).unwrap().components.len(), 1);
}

#[test]
fn b271_a_link_in_a_bundle_is_refused() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, MANIFEST, "/etc/passwd").unwrap();
    assert!(why(&archive.into_inner().unwrap()).contains("is no file"));
}

proptest! {
    #[test]
    fn b271_whatever_bytes_are_read_as_a_bundle_something_is_said(
        at in 0_usize..5_000,
        with: Vec<u8>,
        cut in 0_usize..80_000,
    ) {
        let mut bytes = sample().to_bytes();
        let end = bytes.len().min(at + with.len());
        bytes[at..end].copy_from_slice(&with[..end - at]);
        bytes.truncate(cut.max(1));
        // No panic; and what is taken is what was said.
        if let Ok(bundle) = Bundle::from_bytes(&bytes) {
            prop_assert_eq!(&Bundle::from_bytes(&bundle.to_bytes()).unwrap(), &bundle);
        }
    }
}
