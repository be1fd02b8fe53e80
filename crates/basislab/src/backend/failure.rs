//! What a failure of a device is: burn makes panics of them, and drivers have words of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Does `work`; a panic is nothing on stderr, but its message and where in the source it was.
pub(super) fn without_panic<T>(work: impl FnOnce() -> T) -> Result<T, (String, String)> {
    static AT: Mutex<String> = Mutex::new(String::new());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map_or_else(String::new, ToString::to_string);
        // The first of several threads' panics is the reason for the others.
        let mut first = AT.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_empty() {
            *first = at;
        }
    }));
    let done = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    let at = std::mem::take(&mut *AT.lock().unwrap_or_else(PoisonError::into_inner));
    done.map_err(|reason| {
        let text = reason.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| reason.downcast_ref::<&str>().copied());
        (text.unwrap_or("no reason given").to_owned(), at)
    })
}

/// Whether that is what burn or a driver says of a device that is gone: what may work the next time.
pub(super) fn is_lost(text: &str) -> bool {
    holds(text, &["lost", "poisoned", "disconnected"])
}

/// Whether that is what burn or a driver says when an allocation fails or a size is beyond the device;
/// "reservation" is the allocator's word.
pub(super) fn is_too_large(text: &str) -> bool {
    let phrases = [
        "out of memory",
        "out of device memory",
        "out of host memory",
        "not enough memory",
        "can't allocate",
        "reservation behind it failed",
        "buffer too big",
        "cube count too big",
    ];
    holds(text, &phrases)
}

/// Whether that is what a panic says where the system refuses a thread.
#[cfg(feature = "wgpu")]
pub(super) fn is_refused_thread(text: &str) -> bool {
    holds(text, &["Resource temporarily unavailable", "WouldBlock"])
}

/// Whether `text` has one of the phrases, however it writes its words together.
fn holds(text: &str, phrases: &[&str]) -> bool {
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "");
    phrases.iter().any(|phrase| plain(text).contains(&plain(phrase)))
}

/// The causes that a failure names, without line breaks (some are escaped) and backtraces.
pub(super) fn in_one_line(text: &str) -> String {
    let text = text.replace("\\n", "\n");
    let lines = text.lines().map(str::trim).take_while(|line| !line.to_lowercase().contains("backtrace"));
    lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect::<Vec<_>>().join("; ")
}
