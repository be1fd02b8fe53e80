//! A terminal of a given size on which the program runs, and what is seen there.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a program has written, and what is to be seen of it now.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    rows: Vec<Vec<char>>,
    /// Row and column of the cursor.
    at: (usize, usize),
    columns: usize,
    /// A sequence or a character that has not ended.
    begun: Vec<u8>,
}

impl Seen {
    /// The screen as text.
    pub(crate) fn screen(&self) -> String {
        let row = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(row).collect::<Vec<_>>().join("\n")
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        for &byte in bytes {
            self.begun.push(byte);
            match &self.begun[..] {
                [0x1b] | [0x1b, b'['] => {}
                [0x1b, b'[', arguments @ .., end] if end.is_ascii_alphabetic() => {
                    let numbers: Vec<usize> = std::str::from_utf8(arguments)
                        .unwrap()
                        .split(';')
                        .map(|number| number.parse().unwrap_or(0))
                        .collect();
                    self.obey(*end, &numbers);
                    self.begun.clear();
                }
                [0x1b, b'[', ..] => {}
                [0x1b, _] => self.begun.clear(),
                bytes => {
                    if let Ok(text) = std::str::from_utf8(bytes) {
                        let character = text.chars().next().unwrap();
                        self.begun.clear();
                        self.put(character);
                    }
                }
            }
        }
    }

    fn obey(&mut self, end: u8, numbers: &[usize]) {
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
        match end {
            b'H' => self.at = (number(0).max(1) - 1, number(1).max(1) - 1),
            b'A' => self.at.0 = self.at.0.saturating_sub(number(0).max(1)),
            b'B' => self.at.0 += number(0).max(1),
            b'G' => self.at.1 = number(0).max(1) - 1,
            b'K' if number(0) == 2 => self.row().clear(),
            b'K' => {
                let column = self.at.1;
                self.row().truncate(column);
            }
            b'J' if number(0) == 2 => self.rows.clear(),
            b'J' => {
                let (row, column) = self.at;
                self.row().truncate(column);
                self.rows.truncate(row + 1);
            }
            _ => {}
        }
    }

    fn row(&mut self) -> &mut Vec<char> {
        if self.rows.len() <= self.at.0 {
            self.rows.resize(self.at.0 + 1, Vec::new());
        }
        &mut self.rows[self.at.0]
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.at.1 = 0,
            '\n' => self.at = (self.at.0 + 1, 0),
            _ if character.is_control() => {}
            _ => {
                if self.at.1 >= self.columns {
                    self.at = (self.at.0 + 1, 0);
                }
                let column = self.at.1;
                let row = self.row();
                row.resize(row.len().max(column + 1), ' ');
                row[column] = character;
                self.at.1 += 1;
            }
        }
    }
}

/// A program on a terminal.
pub(crate) struct OnTerminal {
    pub(crate) child: Child,
    pub(crate) seen: Arc<Mutex<Seen>>,
    keyboard: File,
    reader: JoinHandle<()>,
}

impl OnTerminal {
    /// Starts a command whose stdin, stdout and stderr are a terminal; `stdout` says whether stdout is.
    pub(crate) fn start(mut command: Command, (columns, rows): (u16, u16), stdout: bool) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let open = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let terminal = open();
        let size = ["cols", &columns.to_string(), "rows", &rows.to_string()].map(str::to_owned);
        let sized = Command::new("stty").args(size).stdin(open()).status().unwrap();
        assert!(sized.success());
        command.stdin(terminal.try_clone().unwrap()).stderr(terminal.try_clone().unwrap());
        command.stdout(if stdout { Stdio::from(terminal) } else { Stdio::null() });
        let child = command.spawn().unwrap();
        // The command holds the terminal open; without it, reading ends (with an error) once the program has ended.
        drop(command);
        let seen = Arc::new(Mutex::new(Seen { columns: usize::from(columns), ..Seen::default() }));
        let mut screen = File::from(screen);
        let keyboard = screen.try_clone().unwrap();
        let reader = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let mut part = [0; 4096];
                while let Ok(read @ 1..) = screen.read(&mut part) {
                    seen.lock().unwrap().write(&part[..read]);
                }
            }
        });
        Self { child, seen, keyboard, reader }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is as wanted.
    pub(crate) fn wait_for(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.seen.lock().unwrap().screen();
            if is_wanted(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "not seen in 120 s, but:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end: the exit status and all that was written.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(120) {
                self.child.kill().unwrap();
                panic!("it has not ended after 120 s:\n{}", self.seen.lock().unwrap().screen());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        self.reader.join().unwrap();
        let bytes = std::mem::take(&mut self.seen.lock().unwrap().bytes);
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }
}
