use std::fmt;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// As the user named it.
        file: String,
        /// 1-based.
        line: usize,
        /// 1-based, in characters.
        column: usize,
    },
    /// On the command line, e.g. `--set train.steps=10`.
    CommandLine(String),
    /// By another value that leaves it no choice: the preset of `X.kind=K`, or `corpus.tokenizer=bytes`.
    Preset(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::CommandLine(text) => write!(f, "{text}"),
            Self::Preset(kind) => write!(f, "preset of {kind}"),
        }
    }
}

/// A config that cannot be used: where, which key, what was found, what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}:{what}")]
pub struct ConfigError {
    pub(crate) place: String,
    pub(crate) what: String,
}

impl ConfigError {
    pub(crate) fn new(origin: &Origin, path: &str, what: impl fmt::Display) -> Self {
        let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
        Self { place: on_one_line(&origin.to_string()), what: on_one_line(&format!("{path} {what}")) }
    }
}

/// Whatever the user's text held.
pub(crate) fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `one of a, b, c`, or the only name, with `; did you mean ..?` when `found` is close to one of them.
pub fn one_of(names: &[&str], found: Option<&str>) -> String {
    let list = if let [only] = names { (*only).to_owned() } else { format!("one of {}", names.join(", ")) };
    match found.and_then(|found| nearest(names, found)) {
        Some(name) => format!("{list}; did you mean {name:?}?"),
        None => list,
    }
}

/// The name that is closest to `found`, if one is close.
pub fn nearest<'a>(names: &[&'a str], found: &str) -> Option<&'a str> {
    let scored = names.iter().map(|name| {
        // Of several names that contain it the shortest.
        let part = (found.len() >= 4 && name.contains(found)).then_some(0.99 - 1e-3 * name.len() as f64);
        let edits = strsim::normalized_damerau_levenshtein(name, found) + 0.1;
        (part.unwrap_or_else(|| strsim::jaro_winkler(name, found).max(edits)), *name)
    });
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.75).map(|(_, name)| name)
}

/// A number before its noun: `1 seed`, `0 seeds`, `2 random bases`.
pub fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match noun.strip_suffix("is") {
        _ if number == N::from(1) => format!("1 {noun}"),
        Some(stem) => format!("{number} {stem}es"),
        None => format!("{number} {noun}s"),
    }
}
