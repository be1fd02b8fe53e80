use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use basislab_config::{TextSpec, TokenizerKind, count};
use basislab_stats::{Purpose, below, stream};
use rand_chacha::ChaCha8Rng;

use crate::CorpusError;
use crate::bpe::{Bpe, train_and_encode};
use crate::builtin::builtin;
use crate::corpus::sha256_hex;

/// Files beyond this are refused: their tokens are held in memory.
const MOST_BYTES: u64 = 2 << 30;

/// First bytes of formats that are not text although some of them happen to be valid UTF-8.
const PACKED: [(&str, &[u8]); 5] = [
    ("gzip", b"\x1f\x8b"),
    ("zip", b"PK\x03\x04"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("xz", b"\xfd7zXZ\0"),
    ("7z", b"7z\xbc\xaf\x27\x1c"),
];

/// A text file, tokenised and split into a training part and a held-out part, its end.
#[derive(Debug, Clone)]
pub struct Text {
    train: Vec<u16>,
    held_out: Vec<u16>,
    spelling: Vec<Vec<u8>>,
    tokenizer_json: Option<String>,
    size_bytes: u64,
    sha256: String,
}

impl Text {
    /// Reads the file or takes the built-in text, trains the tokenizer on the training split and encodes both splits, each of which must hold one
    /// window of `length` tokens.
    pub fn open(spec: &TextSpec, length: usize) -> Result<Self, CorpusError> {
        match builtin(&spec.path) {
            Some(text) => Self::from_bytes(text?.bytes, spec, length),
            None => Self::from_bytes(&read(&spec.path)?, spec, length),
        }
    }

    /// [`Text::open`] of bytes that were read already; `spec.path` only names them.
    pub fn from_bytes(bytes: &[u8], spec: &TextSpec, length: usize) -> Result<Self, CorpusError> {
        let share = (bytes.len() as f64 * (1.0 - spec.held_out)) as usize;
        let (bpe, train, held_out) = match spec.tokenizer {
            TokenizerKind::Bytes => {
                let (train, held_out) = bytes.split_at(share);
                (None, widen(train), widen(held_out))
            }
            TokenizerKind::Bpe => {
                let (bpe, train, held_out) = tokenise(spec, bytes, share)?;
                (Some(bpe), train, held_out)
            }
        };
        for (name, tokens, next) in [
            ("training", &train, "take a larger file or lower model.n_ctx"),
            ("held-out", &held_out, "raise corpus.held_out, take a larger file or lower model.n_ctx"),
        ] {
            if tokens.len() < length {
                let found = count(tokens.len(), &format!("{name} token"));
                let expected = format!("at least {length} (model.n_ctx + 1)");
                return Err(CorpusError::file(&spec.path, found, expected, next));
            }
        }
        let (spelling, tokenizer_json) = match bpe {
            Some(bpe) => (bpe.spelling, Some(bpe.json)),
            None => ((0..=u8::MAX).map(|byte| vec![byte]).collect(), None),
        };
        let (size_bytes, sha256) = (bytes.len() as u64, sha256_hex(bytes));
        Ok(Self { train, held_out, spelling, tokenizer_json, size_bytes, sha256 })
    }

    /// Size of the vocabulary.
    pub fn d_vocab(&self) -> usize {
        self.spelling.len()
    }

    /// SHA-256 of the file, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The trained tokenizer as a Hugging Face `tokenizer.json`; `None` for bytes.
    pub fn tokenizer_json(&self) -> Option<&str> {
        self.tokenizer_json.as_deref()
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Tokens of the training split.
    pub fn training_tokens(&self) -> usize {
        self.train.len()
    }

    /// Tokens of the held-out split.
    pub fn held_out_tokens(&self) -> usize {
        self.held_out.len()
    }

    pub(crate) fn training_head(&self, tokens: usize) -> Vec<u32> {
        window(&self.train, 0, tokens.min(self.train.len()))
    }

    pub(crate) fn training_window(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        window(&self.train, offset(&self.train, length, rng), length)
    }

    /// Cuts the split into adjoining slots after a random offset and takes slots in random order; once all are used,
    /// windows start anywhere.
    pub(crate) fn held_out_windows(&self, seed: u64, count: usize, length: usize) -> Vec<Vec<u32>> {
        let tokens = &self.held_out;
        let mut rng = stream(seed, Purpose::HeldOut, 0);
        assert!(tokens.len() >= length, "the held-out split has {} tokens, a window {length}", tokens.len());
        let slots = tokens.len() / length.max(1);
        let phase = below(&mut rng, (tokens.len() - slots * length + 1) as u64) as usize;
        // A Fisher-Yates shuffle that stores the swapped entries only.
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        let mut place = |index: usize| {
            let other = index + below(&mut rng, (slots - index) as u64) as usize;
            let slot = moved.get(&other).copied().unwrap_or(other);
            moved.insert(other, moved.get(&index).copied().unwrap_or(index));
            phase + slot * length
        };
        let start = |index: usize| {
            if index < slots {
                place(index)
            } else {
                offset(tokens, length, &mut stream(seed, Purpose::HeldOut, index as u64))
            }
        };
        (0..count).map(start).map(|start| window(tokens, start, length)).collect()
    }

    pub(crate) fn decode(&self, tokens: &[u32]) -> String {
        let spelt = tokens.iter().filter_map(|token| self.spelling.get(*token as usize));
        let bytes: Vec<u8> = spelt.flatten().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn window(tokens: &[u16], start: usize, length: usize) -> Vec<u32> {
    tokens[start..start + length].iter().map(|token| u32::from(*token)).collect()
}

fn offset(tokens: &[u16], length: usize, rng: &mut ChaCha8Rng) -> usize {
    assert!(tokens.len() >= length, "the split has {} tokens, a window {length}", tokens.len());
    below(rng, (tokens.len() - length + 1) as u64) as usize
}

fn widen(bytes: &[u8]) -> Vec<u16> {
    bytes.iter().map(|byte| u16::from(*byte)).collect()
}

fn read(path: &str) -> Result<Vec<u8>, CorpusError> {
    const NEXT: &str = "set corpus.path to a text file";
    let fail = |found: String| CorpusError::file(path, found, "a readable text file", NEXT);
    let unreadable = |error: std::io::Error| match error.kind() {
        // A relative path does not say which folder it is relative to.
        ErrorKind::NotFound => match std::env::current_dir() {
            Ok(folder) if Path::new(path).is_relative() => fail(format!("no such file in {}", folder.display())),
            _ => fail("no such file".to_owned()),
        },
        _ => fail(error.to_string()),
    };
    // Before it is opened: opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(fail("a directory".to_owned()));
    }
    if !metadata.is_file() {
        return Err(fail("a pipe, socket or device".to_owned()));
    }
    let most = || format!("at most {MOST_BYTES} bytes (2 GiB)");
    let smaller = "take a part of it";
    if metadata.len() > MOST_BYTES {
        return Err(CorpusError::file(path, count(metadata.len(), "byte"), most(), smaller));
    }
    let mut bytes = Vec::new();
    // The file may grow, and some special files claim to have no length.
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(CorpusError::file(path, "more bytes than its length says", most(), smaller));
    }
    if basislab_store::is_lfs_pointer(&bytes) {
        let found = "a Git LFS pointer in place of the text";
        return Err(CorpusError::file(path, found, "a readable text file", "fetch it with `git lfs pull`"));
    }
    if bytes.is_empty() { Err(fail("an empty file".to_owned())) } else { Ok(bytes) }
}

fn tokenise(spec: &TextSpec, bytes: &[u8], share: usize) -> Result<(Bpe, Vec<u16>, Vec<u16>), CorpusError> {
    let fail = |found: String, next: &str| CorpusError::file(&spec.path, found, "UTF-8 text", next);
    if let Some((format, _)) = PACKED.iter().find(|(_, magic)| bytes.starts_with(magic)) {
        return Err(fail(format!("{format} data"), "it is compressed, unpack it first"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        let found = format!("invalid UTF-8 at byte {at} (line {line})");
        fail(found, "convert it or set corpus.tokenizer = \"bytes\" and corpus.d_vocab = 256")
    })?;
    let (train, held_out) = text.split_at(text.floor_char_boundary(share));
    let (bpe, train, held_out) = train_and_encode(train, held_out, spec.d_vocab)
        .map_err(|error| fail(error.to_string(), "set corpus.tokenizer = \"bytes\" and corpus.d_vocab = 256"))?;
    let reached = bpe.spelling.len();
    if reached != spec.d_vocab {
        let found = format!("a training split that gives only {}", count(reached, "token"));
        let expected = format!("corpus.d_vocab = {}", spec.d_vocab);
        let next = format!("set corpus.d_vocab = {reached} or take a larger file");
        return Err(CorpusError::file(&spec.path, found, expected, &next));
    }
    Ok((bpe, train, held_out))
}
