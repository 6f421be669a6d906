//! Texts compared, once per column and row.

/// Whether two texts are the same. The target's own comparison goes byte by byte, which for the name
/// of a column costs more than all else that is done to look at a boolean.
#[inline]
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_end), Some(b_end)) => {
            let (pairs, _) = a.as_chunks::<8>();
            let (others, _) = b.as_chunks::<8>();
            let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
            // The ends, which tell `name_de` from `name_en`, may overlap what is before them.
            word(a_end) == word(b_end) && pairs.iter().map(word).eq(others.iter().map(word))
        }
        _ => match (
            a.first_chunk::<4>(),
            b.first_chunk::<4>(),
            a.last_chunk::<4>(),
            b.last_chunk::<4>(),
        ) {
            (Some(a), Some(b), Some(a_end), Some(b_end)) => {
                let word = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes);
                word(a) == word(b) && word(a_end) == word(b_end)
            }
            // Up to three bytes.
            _ => a.iter().eq(b),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_if_every_byte_is() {
        let text = "abcdefghijklmnopqrstuvwxyz";
        for length in 0..=text.len() {
            let one = &text[..length];
            let copy: String = one.chars().collect();
            assert!(same(one, &copy), "{length}");
            assert!(!same(one, &text[..(length + 1) % 27]), "{length}");
            for at in 0..length {
                let mut other = one.to_owned();
                other.replace_range(at..=at, "_");
                assert!(!same(one, &other), "{length} {at}");
            }
        }
    }
}
