//! Reading a table while a run writes it: only what is new, and no line that is not whole. Nothing is refused: whoever watches a
//! run is not who checks it.

use crate::read::{check_cells, parsed};
use crate::schema::TableRow;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How far a file has been read. It is known again where it was moved, as a finished run is.
#[derive(Debug, Clone, Default)]
pub struct Follow {
    file: Option<(u64, u64)>,
    offset: u64,
}

/// What is new in a file.
#[derive(Debug)]
pub struct NewLines {
    bytes: Vec<u8>,
    /// Whether it begins again: the file is another one, or it was cut. What was read before no longer counts.
    pub restarted: bool,
    /// Whether these are all whole lines that the file has now.
    pub is_all: bool,
}

impl Follow {
    /// Lines that were not read before, of about `most` bytes at most.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&mut self, path: &Path, most: u64) -> io::Result<NewLines> {
        // A pipe would be waited for.
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut file = File::open(path)?;
        let info = file.metadata()?;
        let (known, length) = (number(&info), info.len());
        let restarted = self.offset > 0 && (self.file != known || length < self.offset);
        if restarted {
            self.offset = 0;
        }
        self.file = known;
        let mut bytes = Vec::new();
        if length > self.offset {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(most).read_to_end(&mut bytes)?;
        }
        let read = bytes.len() as u64;
        let is_all = self.offset + read >= length;
        match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(last) => bytes.truncate(last + 1),
            // No line of a table is as long: it is passed over.
            None if read == most => {}
            None => bytes.clear(),
        }
        self.offset += bytes.len() as u64;
        Ok(NewLines { bytes, restarted, is_all })
    }
}

impl NewLines {
    /// The rows of the lines. What is no row of the table, as its header, is left out.
    pub fn rows<R: TableRow>(&self) -> impl Iterator<Item = R> + '_ {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&self.bytes[..]);
        let mut record = csv::StringRecord::new();
        std::iter::from_fn(move || {
            loop {
                match reader.read_record(&mut record) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(_) => continue,
                }
                if check_cells("", 0, R::TABLE, &record).is_ok() {
                    record.truncate(R::TABLE.columns.len());
                    if let Ok(row) = parsed("", 0, &record) {
                        return Some(row);
                    }
                }
            }
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What a file is known by, whatever its name.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn number(info: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((info.dev(), info.ino()))
}

/// What a file is known by: when it was made.
#[cfg(not(unix))]
fn number(info: &Metadata) -> Option<(u64, u64)> {
    let made = info.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((made.as_secs(), u64::from(made.subsec_nanos())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::Follow;
    use crate::rows::EvalRow;
    use crate::schema::TableRow;
    use std::fs;
    use std::io::Write;

    const MOST: u64 = 1 << 20;

    fn line(step: u64) -> String {
        format!("adam,0,{step},held-out,3.5,0.5\n")
    }

    #[test]
    fn only_whole_new_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evals.csv");
        let mut follow = Follow::default();
        assert!(follow.read(&path, MOST).is_err());
        let mut file = fs::File::create(&path).unwrap();
        let mut more = |text: &str, most: u64| {
            file.write_all(text.as_bytes()).unwrap();
            let new = follow.read(&path, most).unwrap();
            assert!(!new.restarted);
            (new.rows::<EvalRow>().map(|row| row.step).collect::<Vec<_>>(), new.is_all)
        };
        assert_eq!(more("", MOST), (vec![], true));
        let header = EvalRow::TABLE.header();
        assert_eq!(more(&format!("{header}\n{}adam,0,1", line(0)), MOST), (vec![0], true));
        // The rest of a line that would have been another step.
        assert_eq!(more("28,held-out,3.5", MOST), (vec![], true));
        assert_eq!(more(&format!(",0.5\n{}", line(200)), MOST), (vec![128, 200], true));
        // What is no row is passed over, and what is too much comes next time.
        let (text, length) = (line(300), line(300).len() as u64);
        assert_eq!(more(&format!("adam,0,x\n\u{feff}\n{text}{text}{text}"), 13 + length + 3), (vec![300], false));
        assert_eq!(more("", MOST), (vec![300, 300], true));
        // A line without end.
        assert_eq!(more(&"x".repeat(100), 64), (vec![], false));
        assert_eq!(more(&format!("\n{}", line(400)), MOST), (vec![400], true));
    }

    #[test]
    fn a_file_that_was_cut_or_replaced_is_read_again_and_one_that_was_moved_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved] = ["work", "done"].map(|name| dir.path().join(name));
        fs::write(&path, line(0) + &line(1) + &line(2)).unwrap();
        let mut follow = Follow::default();
        let mut steps = |path| {
            let new = follow.read(path, MOST).unwrap();
            (new.rows::<EvalRow>().map(|row| row.step).collect::<Vec<_>>(), new.restarted)
        };
        assert_eq!(steps(&path), (vec![0, 1, 2], false));
        fs::rename(&path, &moved).unwrap();
        assert_eq!(steps(&moved), (vec![], false));
        // A resumed run continues in a copy, from its last checkpoint.
        fs::write(&path, line(0) + &line(1) + &line(2) + &line(3)).unwrap();
        assert_eq!(steps(&path), (vec![0, 1, 2, 3], true));
        fs::File::options().write(true).open(&path).unwrap().set_len(line(0).len() as u64).unwrap();
        assert_eq!(steps(&path), (vec![0], true));
    }
}
