//! `basislab open`.

use super::CommandResult;
use crate::directories::{expect_one, is_measured};
use crate::exit::Exit;
use crate::terminal::{quoted, say};
use basislab_report::PAGE;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn open(dir: &Path) -> CommandResult {
    if !is_measured(dir) {
        expect_one(dir)?;
    }
    let page = dir.join(PAGE);
    if !page.is_file() {
        let again = format!("basislab report {}", quoted(&dir.display().to_string()));
        return Err(Exit::data(format!("{}: no such file; `{again}` makes it", page.display())));
    }
    // A browser wants a path from the root.
    let page = page.canonicalize().map_err(|error| Exit::data(format!("{}: {error}", page.display())))?;
    if !in_browser(&page) {
        // Nothing is left to tell it to when stderr is closed.
        let _ = writeln!(std::io::stderr(), "no browser could be started; open this file in one:");
    }
    say(format!("{}\n", page.display()))?;
    Ok(None)
}

/// Whether the system's opener took the file. Without a screen it is not asked: it might take a browser of the terminal.
fn in_browser(page: &Path) -> bool {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else if ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|screen| std::env::var_os(screen).is_some_and(|at| !at.is_empty()))
    {
        "xdg-open"
    } else {
        return false;
    };
    let mut command = Command::new(opener);
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Explorer ends with 1 when it has done its work.
    command.status().is_ok_and(|status| status.success() || cfg!(windows))
}
