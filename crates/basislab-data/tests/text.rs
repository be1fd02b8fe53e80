//! Text files: what is refused and how it is said, and what the tokens are.

use std::fs;
use std::path::Path;

use basislab_config::{CorpusSpec, TextSpec, TokenizerKind};
use basislab_data::{BUILTIN_TEXTS, Corpus, CorpusError, Text, memory};
use basislab_stats::{Purpose, below, stream};
use tempfile::TempDir;

fn open(path: &Path, tokenizer: TokenizerKind, d_vocab: usize, n_ctx: usize) -> Result<Corpus, CorpusError> {
    let path = path.to_str().expect("UTF-8").to_owned();
    Corpus::open(&CorpusSpec::Text(TextSpec { path, tokenizer, d_vocab, held_out: 0.1 }), n_ctx)
}

fn file(contents: &[u8]) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("corpus.txt");
    fs::write(&path, contents).expect("a file");
    (folder, path)
}

fn bytes(contents: &[u8], n_ctx: usize) -> Result<Corpus, CorpusError> {
    open(&file(contents).1, TokenizerKind::Bytes, 256, n_ctx)
}

fn bpe(contents: &[u8], d_vocab: usize) -> Result<Corpus, CorpusError> {
    let (_folder, path) = file(contents);
    open(&path, TokenizerKind::Bpe, d_vocab, 4)
}

/// The message without the file's name.
fn said(result: Result<Corpus, CorpusError>) -> String {
    let message = result.expect_err("refused").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    let (name, rest) = message.split_once("\": ").expect("the file's name in quotes");
    assert!(name.starts_with('"'));
    rest.to_owned()
}

fn verse(lines: usize) -> String {
    let mut rng = stream(7, Purpose::Simulation, 0);
    let words = ["the", "king's", "night", "  and", "über", "日本", "42", "\n", "!?", "we'll", "sea\t"];
    (0..lines * 6).map(|_| format!("{} ", words[below(&mut rng, words.len() as u64) as usize])).collect()
}

#[test]
fn files_that_cannot_be_read() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| open(&folder.path().join(name), TokenizerKind::Bytes, 256, 4);
    let next = "expected a readable text file; set corpus.path to a text file";
    assert_eq!(said(at("missing")), format!("found no such file, {next}"));
    assert_eq!(said(at(".")), format!("found a directory, {next}"));
    assert_eq!(said(at("mis\x1b[31m\nsing")), format!("found no such file, {next}"));
    fs::write(folder.path().join("empty"), "").expect("a file");
    assert_eq!(said(at("empty")), format!("found an empty file, {next}"));
}

#[test]
fn a_git_lfs_pointer_is_no_text() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n".repeat(9);
    let expected =
        "found a Git LFS pointer in place of the text, expected a readable text file; fetch it with `git lfs pull`";
    assert_eq!(said(bytes(pointer.as_bytes(), 4)), expected);
    assert_eq!(said(bpe(pointer.as_bytes(), 300)), expected);
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_refused_without_being_read() {
    let next = "expected a readable text file; set corpus.path to a text file";
    let device = open(Path::new("/dev/zero"), TokenizerKind::Bytes, 256, 4);
    assert_eq!(said(device), format!("found a pipe, socket or device, {next}"));
    let folder = TempDir::new().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        let found = said(open(&pipe, TokenizerKind::Bytes, 256, 4));
        assert_eq!(found, format!("found a pipe, socket or device, {next}"));
    }
}

#[test]
fn a_file_beyond_two_gibibytes_is_refused_without_being_read() {
    let (_folder, path) = file(b"x");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len((2 << 30) + 1)).expect("a sparse file");
    assert_eq!(
        said(open(&path, TokenizerKind::Bytes, 256, 4)),
        "found 2147483649 bytes, expected at most 2147483648 bytes (2 GiB); take a part of it"
    );
}

#[test]
fn splits_must_hold_a_window() {
    let text = [b'x'; 100];
    let folder = file(&text);
    assert_eq!(
        said(open(&folder.1, TokenizerKind::Bytes, 256, 10)),
        "found 10 held-out tokens, expected at least 11 (model.n_ctx + 1); \
         raise corpus.held_out, take a larger file or lower model.n_ctx"
    );
    assert_eq!(
        said(open(&folder.1, TokenizerKind::Bytes, 256, 90)),
        "found 90 training tokens, expected at least 91 (model.n_ctx + 1); take a larger file or lower model.n_ctx"
    );
    assert!(open(&folder.1, TokenizerKind::Bytes, 256, 9).is_ok());
}

#[test]
fn bpe_wants_unpacked_utf8() {
    assert_eq!(
        said(bpe(b"one\ntwo\nthr\xffee", 300)),
        "found invalid UTF-8 at byte 11 (line 3), expected UTF-8 text; \
         convert it or set corpus.tokenizer = \"bytes\" and corpus.d_vocab = 256"
    );
    for (magic, name) in
        [(&b"\x1f\x8b\x08"[..], "gzip"), (b"PK\x03\x04", "zip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz")]
    {
        let expected = format!("found {name} data, expected UTF-8 text; it is compressed, unpack it first");
        assert_eq!(said(bpe(magic, 300)), expected);
    }
}

#[test]
fn a_small_text_says_how_far_it_goes() {
    let text = "abcabc xyz ".repeat(40);
    let message = said(bpe(text.as_bytes(), 400));
    let reached: usize = message
        .strip_prefix("found a training split that gives only ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .expect("a number");
    assert!((257..400).contains(&reached));
    assert_eq!(
        message,
        format!(
            "found a training split that gives only {reached} tokens, expected corpus.d_vocab = 400; \
             set corpus.d_vocab = {reached} or take a larger file"
        )
    );
    assert_eq!(bpe(text.as_bytes(), reached).expect("as it says").d_vocab(), reached);
}

#[test]
fn bytes_are_themselves() {
    let contents: Vec<u8> = (0..4000_u32).map(|index| (index * index / 7) as u8).collect();
    let (_folder, path) = file(&contents);
    let corpus = open(&path, TokenizerKind::Bytes, 256, 16).expect("any bytes do");
    let head: Vec<u8> = corpus.sample(usize::MAX).iter().map(|token| *token as u8).collect();
    assert_eq!(head, contents[..3600]);
    assert_eq!((corpus.d_vocab(), corpus.size_bytes(), corpus.tokenizer_json()), (256, Some(4000), None));
    assert_eq!(corpus.decode(&[104, 105]), "hi");
}

#[test]
fn bpe_gives_the_text_back() {
    let mut rng = stream(0, Purpose::Simulation, 1);
    let mut text = verse(200);
    for _ in 0..3000 {
        let code = below(&mut rng, 0x11_0000) as u32;
        text.extend(char::from_u32(code >> below(&mut rng, 21)));
    }
    text += &(" ".repeat(300) + &"y".repeat(300) + &verse(200));
    let (_folder, path) = file(text.as_bytes());
    let path = path.to_str().expect("UTF-8").to_owned();
    let spec = TextSpec { path, tokenizer: TokenizerKind::Bpe, d_vocab: 400, held_out: 0.01 };
    let corpus = Corpus::open(&CorpusSpec::Text(spec), 4).expect("good text");
    let tokens = corpus.sample(usize::MAX);
    let train = corpus.decode(&tokens);
    assert!(text.starts_with(&train), "not a prefix of the text");
    assert!(train.len().abs_diff(text.len() * 99 / 100) < 4, "{} of {}", train.len(), text.len());
    assert!(tokens.len() < train.len() * 3 / 4, "nothing was merged");
    // The file we store gives the same tokens in the library that defines the format.
    let json = corpus.tokenizer_json().expect("a tokenizer");
    let tokenizer: tokenizers::Tokenizer = json.parse().expect("a tokenizer.json");
    assert_eq!(tokenizer.encode_fast(train.as_str(), false).expect("encodes").get_ids(), tokens);
    assert_eq!(tokenizer.decode(&tokens, false).expect("decodes"), train);
}

#[test]
fn bpe_training_is_reproducible_and_blind_to_the_held_out_split() {
    let text = verse(400);
    let json = |text: &str| bpe(text.as_bytes(), 300).expect("good text").tokenizer_json().map(str::to_owned);
    let first = json(&text);
    for _ in 0..4 {
        assert_eq!(json(&text), first);
    }
    let cut = text.floor_char_boundary(text.len() * 91 / 100);
    let other: String = text[cut..].chars().map(|c| if c.is_ascii() { 'q' } else { c }).collect();
    assert_eq!(json(&(text[..cut].to_owned() + &other)), first);
    let early: String = text[..cut / 2].replace("the", "qqq");
    assert_ne!(json(&(early + &text[cut / 2..])), first);
}

#[test]
fn training_and_held_out_windows_share_nothing() {
    let mut contents = vec![b'a'; 9000];
    contents.extend(vec![b'z'; 1000]);
    let corpus = bytes(&contents, 32).expect("long enough");
    for step in 0..50 {
        assert!(corpus.batch(0, step, 20, 33).iter().flatten().all(|token| *token == u32::from(b'a')));
    }
    assert!(corpus.held_out(0, 60, 33).iter().flatten().all(|token| *token == u32::from(b'z')));
}

#[test]
fn each_split_of_a_bpe_text_is_the_encoding_of_its_own_part() {
    // Numbers that count up show where a window lies; what is held out is a third and not the default.
    let text: String = (1000..4000).map(|number| format!("no. {number} ")).collect();
    let (_folder, path) = file(text.as_bytes());
    let path = path.to_str().expect("UTF-8").to_owned();
    let spec = TextSpec { path, tokenizer: TokenizerKind::Bpe, d_vocab: 300, held_out: 0.3 };
    let text_of = Text::from_bytes(text.as_bytes(), &spec, 9).expect("good text");
    let corpus = Corpus::open(&CorpusSpec::Text(spec), 8).expect("good text");
    let json = corpus.tokenizer_json().expect("a tokenizer");
    let tokenizer: tokenizers::Tokenizer = json.parse().expect("a tokenizer.json");
    let encoded = |part: &str| tokenizer.encode_fast(part, false).expect("encodes").get_ids().to_vec();
    let (train, held_out) = text.split_at(text.len() * 7 / 10);
    let (train, held_out) = (encoded(train), encoded(held_out));
    assert_eq!((text_of.training_tokens(), text_of.held_out_tokens()), (train.len(), held_out.len()));
    assert!(train.len() > held_out.len());
    let starts_in = |part: &[u32], windows: &[Vec<u32>]| -> Vec<usize> {
        let start =
            |window: &Vec<u32>| part.windows(9).position(|there| there == window).expect("a window of its part");
        windows.iter().map(start).collect()
    };
    let seen = starts_in(&held_out, &corpus.held_out(5, held_out.len() / 9, 9));
    assert!(seen.iter().any(|start| *start < 18) && seen.iter().any(|start| *start + 27 > held_out.len()));
    let seen = starts_in(&train, &corpus.batch(5, 3, 400, 9));
    assert!(
        seen.iter().any(|start| start * 20 < train.len()) && seen.iter().any(|start| start * 20 > train.len() * 19)
    );
}

#[test]
fn held_out_windows_do_not_overlap_while_there_is_room() {
    // Pairs of bytes that count up show where a window lies.
    let contents: Vec<u8> = (0..6000_u16).flat_map(u16::to_be_bytes).collect();
    let corpus = bytes(&contents, 16).expect("long enough");
    let windows = corpus.held_out(3, 70, 17);
    let starts: Vec<usize> = windows
        .iter()
        .map(|window| {
            let wanted: Vec<u8> = window.iter().map(|token| *token as u8).collect();
            contents.windows(17).rposition(|part| part == wanted).expect("part of the file")
        })
        .collect();
    let mut sorted = starts.clone();
    sorted.sort_unstable();
    assert!(sorted[0] >= 10_800 && sorted.windows(2).all(|pair| pair[1] - pair[0] >= 17), "{sorted:?}");
    assert_ne!(starts, sorted, "in random order");
    assert_eq!(corpus.held_out(3, 20, 17), windows[..20]);
    assert_ne!(corpus.held_out(4, 20, 17), windows[..20]);
    assert_eq!(corpus.held_out(3, 200, 17)[..70], windows[..]);
}

#[test]
fn training_windows_reach_both_ends() {
    let corpus = bytes(&(0..40).collect::<Vec<u8>>(), 3).expect("long enough");
    let mut starts: Vec<u32> = (0..40).flat_map(|step| corpus.batch(0, step, 20, 4)).map(|window| window[0]).collect();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts, (0..=32).collect::<Vec<u32>>());
    assert_eq!(corpus.batch(5, 6, 8, 4), corpus.batch(5, 6, 8, 4));
}

#[test]
fn built_in_texts_are_read_by_name_and_named_with_source_and_licence() {
    for text in BUILTIN_TEXTS {
        assert!(text.bytes.len() <= 1_500_000 && text.bytes.is_ascii(), "{}", text.name);
        assert!(text.about.contains("public domain") && text.about.contains("Gutenberg"), "{}", text.about);
    }
    let open = |path: &str| {
        let spec = TextSpec { path: path.to_owned(), tokenizer: TokenizerKind::Bytes, d_vocab: 256, held_out: 0.1 };
        (memory(&CorpusSpec::Text(spec.clone())), Text::open(&spec, 64))
    };
    let (needed, text) = open("builtin:shakespeare-tragedies");
    let text = text.expect("it comes with the program");
    assert_eq!(text.sha256(), "a40baced119ec28697910ada71eda1f503ad36721e73d860d908c272893327d9");
    assert_eq!(text.size_bytes(), 1_389_787);
    assert!(needed > 1.4e6);
    let (needed, refused) = open("builtin:shakespear-tragedies");
    let said = refused.expect_err("no such text").to_string();
    assert!(
        said.contains("shakespear-tragedies") && said.contains("did you mean \"shakespeare-tragedies\"?"),
        "{said}"
    );
    assert_eq!(needed, 0.0);
}
