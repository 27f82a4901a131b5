//! Names that were meant: whoever names what is not there is told what is, the most alike first.

/// The names that are most like a name, the most like first; three at most.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<String> {
    let name = name.to_lowercase();
    // `modle` is meant for `request_model`: the parts of a name count as well as the whole.
    let score = |known: &str| {
        let parts = known.split('_').map(|part| 0.95 * strsim::jaro_winkler(&name, part));
        parts.fold(strsim::jaro_winkler(&name, known), f64::max)
    };
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|known| (score(&known.to_lowercase()), known))
        .filter(|(score, known)| *score > 0.8 || known.contains(&name))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
}

/// ` (did you mean …?)`; nothing where no name is like it.
pub fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_count() {
        let known = ["request_model", "response_model", "input_tokens"];
        assert_eq!(nearest("modle", known), ["request_model", "response_model"]);
        assert_eq!(did_you_mean(&nearest("input_token", known)), " (did you mean input_tokens?)");
        assert_eq!(did_you_mean(&nearest("xyz", known)), "");
    }
}
