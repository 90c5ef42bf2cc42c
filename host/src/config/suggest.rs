//! The nearest word, for someone who mistyped one.

/// The candidate that `word` was probably meant to be: fewest edits apart, and few for its length. None when every
/// one is too far off to be a guess rather than noise.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let known = plain(candidate);
            let edits = strsim::damerau_levenshtein(&word, &known);
            // A word cut short or grown by a suffix is near whatever its length: `mem`, `workers_count`.
            let shorter = word.len().min(known.len());
            let extended = shorter >= 3 && (known.starts_with(&word) || word.starts_with(&known));
            let near = edits <= 1 + known.len() / 4 && edits < known.len();
            (near || extended).then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `b`?", or else all there is.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    format!("it is one of: {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 8] =
        ["memory", "cpu", "wall", "concurrency", "queue", "body", "log_rate", "table_elements"];

    #[test]
    fn near_words() {
        let table = [
            ("memroy", "memory"),
            ("mem", "memory"),
            ("cpuu", "cpu"),
            ("CPU", "cpu"),
            ("cup", "cpu"),
            ("wal", "wall"),
            ("concurency", "concurrency"),
            ("log-rate", "log_rate"),
            ("table_element", "table_elements"),
            ("body_size", "body"),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, KEYS), Some(expected), "{word}");
        }
    }

    #[test]
    fn far_words() {
        for word in ["", "x", "threads", "qqqqq", "zzz"] {
            assert_eq!(nearest(word, KEYS), None, "{word}");
        }
        assert_eq!(did_you_mean("zzz", ["a1", "b2"]), "it is one of: a1, b2");
        assert_eq!(did_you_mean("memroy", KEYS), "did you mean `memory`?");
    }
}
