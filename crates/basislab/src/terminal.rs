//! Text on its way to a terminal.

use crate::exit::Exit;
use std::io::Write;

/// Writes text to stdout, without what a terminal would obey. A reader that has seen enough (`basislab list | head -1`)
/// ends the output quietly.
pub(crate) fn say(text: impl AsRef<str>) -> Result<(), Exit> {
    say_bytes(text.as_ref().split_inclusive('\n').map(shown_line).collect::<String>().as_bytes())
}

/// Writes JSON to stdout.
pub(crate) fn say_json(value: &serde_json::Value) -> Result<(), Exit> {
    say_bytes(format!("{value:#}\n").as_bytes())
}

/// Writes bytes that a program reads to stdout, as they are.
pub(crate) fn say_bytes(bytes: &[u8]) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Exit::write(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}

/// Writes a line of a file to stdout, as it is. Says whether anybody still reads.
pub(crate) fn say_line(line: &str) -> Result<bool, Exit> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Exit::write(format!("stdout: {error}"))),
        written => Ok(written.is_ok()),
    }
}

/// Text for a terminal: control characters and those that turn the direction of writing are shown, not obeyed.
pub(crate) fn shown(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

/// [`shown`] of a line with its end.
fn shown_line(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => line.split('\t').map(shown).collect::<Vec<_>>().join("\t") + "\n",
        None => shown(line),
    }
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
