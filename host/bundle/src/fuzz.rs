//! What the fuzz target calls, and its replay in the tests: a panic is a finding.

use crate::{Bundle, MANIFEST};

/// Between the entries of an archive that is made of an input: no UTF-8 has it.
const BETWEEN: u8 = 0xff;

/// Bytes that may be a bundle: as they are, and as the content of an archive whose headers are whole, to
/// get behind the checksums of those.
///
/// # Panics
/// If what is taken for a bundle is not what is written again.
pub fn bundle(bytes: &[u8]) {
    check(bytes);
    check(&archive(bytes));
}

fn check(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::from_bytes(bytes) {
        let again = Bundle::from_bytes(&bundle.to_bytes());
        assert!(again.is_ok_and(|again| again == bundle), "what is taken is what was said");
    }
}

/// The manifest, then entries that begin with a byte for the length of their name.
fn archive(bytes: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (at, part) in bytes.split(|byte| *byte == BETWEEN).enumerate() {
        let (name, content) = match part.split_first() {
            _ if at == 0 => (MANIFEST.as_bytes(), part),
            Some((length, rest)) => rest.split_at(usize::from(*length).min(rest.len()).min(99)),
            None => continue,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        }
        header.set_cksum();
        // Into memory.
        archive.append(&header, content).ok();
    }
    archive.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{CONFIG, Component, Named, path};

    /// What the fuzzer begins with: a small bundle, and its entries as an input has them.
    fn seeds() -> [(&'static str, Vec<u8>); 2] {
        let named = Some(Named { name: "a".to_owned(), version: "1.0.0".to_owned() });
        let component =
            Component { named, signatures: vec!["c2ln".to_owned()], bytes: b"one".to_vec() };
        let digest = component.digest();
        let config = "sinks: []\n".to_owned();
        let bytes = Bundle { config, is_template: true, components: vec![component] }.to_bytes();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut parts = Vec::new();
        let names = [MANIFEST, CONFIG, &path(&digest)].map(str::to_owned);
        for (at, (entry, name)) in archive.entries().unwrap().zip(names).enumerate() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry.unwrap(), &mut content).unwrap();
            if at > 0 {
                parts.push(BETWEEN);
                parts.push(u8::try_from(name.len()).unwrap());
                parts.extend(name.bytes());
            }
            parts.extend(content);
        }
        [("whole", bytes), ("entries", parts)]
    }

    #[test]
    fn b271_what_fuzzing_found_and_begins_with_stays_mended() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/bundle");
        let [(_, whole), (_, entries)] = seeds();
        assert!(Bundle::from_bytes(&whole).is_ok());
        assert!(Bundle::from_bytes(&archive(&entries)).is_ok(), "an input reaches all of it");
        for (name, seed) in seeds() {
            let file = corpus.join(name);
            if !file.exists() {
                std::fs::write(&file, &seed).unwrap();
            }
            assert!(std::fs::read(&file).is_ok_and(|known| known == seed), "{}", file.display());
        }
        for file in std::fs::read_dir(corpus).unwrap() {
            bundle(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}
