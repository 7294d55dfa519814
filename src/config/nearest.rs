//! "Did you mean": the nearest of the known words.

/// The known word nearest to the given one, ignoring case; `None` when none is near.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Typed words are short; a longer string is near to none and not worth a quadratic search.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    known
        .into_iter()
        .filter_map(|candidate| {
            let lowered = candidate.to_lowercase();
            let (other, most) = (lowered.chars().count(), 1.max(candidate.chars().count() / 3));
            // The distance is at least the difference in length.
            (length.abs_diff(other) <= most)
                .then(|| (strsim::damerau_levenshtein(&lower, &lowered), candidate))
                .filter(|(distance, _)| *distance <= most)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["watchTimeOut", "watchTopics", "user", "exec"];
        assert_eq!(nearest("watchTimeout", known), Some("watchTimeOut"));
        assert_eq!(nearest("watchTopic", known), Some("watchTopics"));
        assert_eq!(nearest("USER", known), Some("user"));
        assert_eq!(nearest("exce", known), Some("exec"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"u".repeat(100_000), known), None);
    }
}
