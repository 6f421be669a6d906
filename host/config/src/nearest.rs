//! The word that was probably meant.

/// The known word nearest to `word`, if it is near enough for a slip: a third of the letters wrong.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = word.chars().count().max(3) / 3;
    let distances = known.into_iter().map(|known| (distance(word, known), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= bound).then_some(known)
}

/// How many letters must be added, left out, changed or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let mut best = at(&last, column) + usize::from(letter != *other);
            best = best.min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            let swapped = column
                .checked_sub(1)
                .filter(|left| previous == Some(*other) && to.get(*left) == Some(&letter));
            if let Some(left) = swapped {
                best = best.min(at(&before_last, left).saturating_add(1));
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("colection", "collection"), 1);
        assert_eq!(distance("bacth", "batch"), 1);
        let known = ["batch_size", "batch_timeout_ms", "name"];
        assert_eq!(nearest("bacth_size", known), Some("batch_size"));
        assert_eq!(nearest("nam", known), Some("name"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
