//! Language tags.

/// More than any registered tag has (RFC 5646, 4.4.1: 35 are to be allowed for).
const LENGTH_MAX: usize = 35;

/// The tag as it is compared and becomes part of a column: in small letters, with `-`. None if it is
/// no tag by its shape; whether somebody has registered it is not looked at.
pub(crate) fn normal(tag: &str) -> Option<String> {
    let mut subtags = tag.split(['-', '_']);
    let letters = subtags.next()?;
    let language =
        (2..=8).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_alphabetic());
    // `x-` and `i-` begin private and old tags.
    let special = letters.eq_ignore_ascii_case("x") || letters.eq_ignore_ascii_case("i");
    let special = special && tag.len() > letters.len();
    let plausible = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let shaped = (language || special) && subtags.all(plausible) && tag.len() <= LENGTH_MAX;
    shaped.then(|| tag.to_ascii_lowercase().replace('_', "-"))
}

/// Whether a tag as somebody wrote it is this one, which is [`normal`].
pub(crate) fn same(tag: &str, normal: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    tag.len() == normal.len() && tag.bytes().map(plain).eq(normal.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_of_letters_and_digits() {
        for (tag, expected) in [
            ("de", "de"),
            ("de-AT", "de-at"),
            ("zh_Hant_TW", "zh-hant-tw"),
            ("sl-rozaj-biske-1994", "sl-rozaj-biske-1994"),
            ("x-klingon", "x-klingon"),
        ] {
            assert_eq!(normal(tag).as_deref(), Some(expected), "{tag}");
            assert!(same(tag, expected) && same(&tag.to_uppercase(), expected), "{tag}");
        }
        let long = "de-12345678-12345678-12345678-12345678";
        for bad in ["", "d", "x", "d1", "de-", "-de", "de--at", "Deutsch!", "de at", "dé", long] {
            assert_eq!(normal(bad), None, "{bad}");
        }
        assert!(!same("de-at", "de") && !same("", "de") && !same("dé", "de-"));
    }
}
