//! The header of a .npy file: a Python dictionary in text, in every form that NumPy writes.

use crate::matrix::Float;
use std::io::Read;

/// What a header says.
pub(crate) struct Header {
    /// Type of the values, and whether their bytes come largest first.
    pub(crate) dtype: (Float, bool),
    /// Whether the first index runs fastest.
    pub(crate) fortran: bool,
    /// Length of every axis.
    pub(crate) shape: Vec<usize>,
    /// Bytes before the first value.
    pub(crate) start: u64,
}

/// NumPy refuses longer headers too.
const MOST_BYTES: u32 = 10_000;

/// Reads from the start of a file to the end of its header.
pub(crate) fn header(source: &mut impl Read) -> Result<Header, String> {
    let cut = |error: std::io::Error| format!("not a .npy file: its header cannot be read: {error}");
    let mut head = [0; 8];
    source.read_exact(&mut head).map_err(cut)?;
    let width = match head {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0] => 2,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, 0] => 4,
        [0x93, b'N', b'U', b'M', b'P', b'Y', major, minor] => {
            return Err(format!("found .npy format {major}.{minor}, expected 1.0, 2.0 or 3.0"));
        }
        other => {
            let found = String::from_utf8_lossy(&other).into_owned();
            return Err(format!("not a .npy file: found {found:?} at its start, expected \"\\x93NUMPY\""));
        }
    };
    let mut length = [0; 4];
    source.read_exact(&mut length[..width]).map_err(cut)?;
    let length = u32::from_le_bytes(length);
    if length > MOST_BYTES {
        return Err(format!("not a .npy file: found a header of {length} bytes, expected at most {MOST_BYTES}"));
    }
    let mut text = vec![0; length as usize];
    source.read_exact(&mut text).map_err(cut)?;
    let (descr, fortran, shape) = dictionary(&text).map_err(|what| format!("damaged .npy header: {what}"))?;
    Ok(Header { dtype: dtype(&descr)?, fortran, shape, start: 8 + width as u64 + u64::from(length) })
}

/// `descr`, `fortran_order` and `shape`, in any order; of a key that is there twice the last value counts, as in Python.
fn dictionary(header: &[u8]) -> Result<(Descr, bool, Vec<usize>), String> {
    let mut text = header;
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    expect(&mut text, b'{')?;
    while !eat(&mut text, b'}') {
        let key = quoted(&mut text).ok_or_else(|| wrong(text, "a key in quotes"))?;
        expect(&mut text, b':')?;
        match key.as_str() {
            "descr" => descr = Some(description(&mut text).ok_or_else(|| wrong(text, "a dtype"))?),
            "fortran_order" => fortran = Some(boolean(&mut text).ok_or_else(|| wrong(text, "True or False"))?),
            "shape" => shape = Some(tuple(&mut text).ok_or_else(|| wrong(text, "a tuple of sizes"))?),
            _ => return Err(format!("found the key {key:?}, expected descr, fortran_order and shape")),
        }
        if !eat(&mut text, b',') {
            expect(&mut text, b'}')?;
            break;
        }
    }
    if !text.trim_ascii().is_empty() {
        return Err(wrong(text, "its end"));
    }
    match (descr, fortran, shape) {
        (Some(descr), Some(fortran), Some(shape)) => Ok((descr, fortran, shape)),
        _ => Err("a key is missing, expected descr, fortran_order and shape".to_owned()),
    }
}

/// How a header names its type.
enum Descr {
    Plain(String),
    Structured,
}

/// A dtype in quotes, or a list of fields, whose brackets are counted rather than followed.
fn description(text: &mut &[u8]) -> Option<Descr> {
    if let Some(plain) = quoted(text) {
        return Some(Descr::Plain(plain));
    }
    let mut depth = 0;
    loop {
        text_start(text);
        match text.first()? {
            b'[' | b'(' => depth += 1,
            b']' | b')' => depth -= 1,
            b'\'' | b'"' if depth > 0 => {
                quoted(text)?;
                continue;
            }
            _ if depth > 0 => {}
            _ => return None,
        }
        *text = &text[1..];
        if depth == 0 {
            return Some(Descr::Structured);
        }
    }
}

fn dtype(descr: &Descr) -> Result<(Float, bool), String> {
    const EXPECTED: &str = "expected float16, float32 or float64";
    let descr = match descr {
        Descr::Plain(descr) => descr,
        Descr::Structured => return Err(format!("found a structured dtype, {EXPECTED}")),
    };
    let (big, code) = match descr.as_bytes().first() {
        Some(b'<') => (Some(false), &descr[1..]),
        Some(b'>') => (Some(true), &descr[1..]),
        Some(b'=' | b'|') => (Some(cfg!(target_endian = "big")), &descr[1..]),
        _ => (None, descr.as_str()),
    };
    let float = match (code, big) {
        ("f2" | "e", _) | ("float16" | "half", None) => Float::F16,
        ("f4" | "f", _) | ("float32" | "single", None) => Float::F32,
        ("f8" | "d", _) | ("float64" | "double" | "float", None) => Float::F64,
        ("V2", _) => {
            return Err(format!(
                "found dtype {descr}, as which NumPy saves bfloat16, {EXPECTED}: save x.astype(numpy.float32), or a \
                 .safetensors file, which holds bfloat16"
            ));
        }
        _ => {
            let kind = match code.as_bytes().first() {
                Some(b'i' | b'u') => " (integers)",
                Some(b'c') => " (complex numbers)",
                Some(b'b' | b'?') if code.len() <= 2 => " (booleans)",
                Some(b'O') => " (Python objects)",
                Some(b'V') => " (raw bytes)",
                _ => "",
            };
            return Err(format!("found dtype {descr}{kind}, {EXPECTED}: save x.astype(numpy.float32)"));
        }
    };
    Ok((float, big.unwrap_or(cfg!(target_endian = "big"))))
}

/// A string without escapes; `u'...'` as Python 2 wrote it.
fn quoted(text: &mut &[u8]) -> Option<String> {
    text_start(text);
    let rest = text.strip_prefix(b"u").or(text.strip_prefix(b"U")).unwrap_or(text);
    let (quote, rest) = rest.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"'))?;
    let end = rest.iter().position(|byte| byte == quote)?;
    let (inside, after) = (&rest[..end], &rest[end + 1..]);
    if inside.iter().any(|byte| matches!(byte, b'\\' | b'\n')) {
        return None;
    }
    *text = after;
    Some(String::from_utf8_lossy(inside).into_owned())
}

fn boolean(text: &mut &[u8]) -> Option<bool> {
    text_start(text);
    for (word, value) in [(&b"True"[..], true), (b"False", false)] {
        if let Some(rest) = text.strip_prefix(word) {
            *text = rest;
            return Some(value);
        }
    }
    None
}

/// Sizes in parentheses. One size needs its comma, without which Python sees a number.
fn tuple(text: &mut &[u8]) -> Option<Vec<usize>> {
    let mut sizes = Vec::new();
    if !eat(text, b'(') {
        return None;
    }
    while !eat(text, b')') {
        sizes.push(size(text)?);
        if !eat(text, b',') {
            return (sizes.len() > 1 && eat(text, b')')).then_some(sizes);
        }
    }
    Some(sizes)
}

/// A whole number, with the `L` of Python 2's long integers.
fn size(text: &mut &[u8]) -> Option<usize> {
    text_start(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    if digits > 1 && number[0] == b'0' {
        return None;
    }
    *text = rest.trim_ascii_start().strip_prefix(b"L").unwrap_or(rest);
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn text_start(text: &mut &[u8]) {
    *text = text.trim_ascii_start();
}

fn eat(text: &mut &[u8], byte: u8) -> bool {
    text_start(text);
    let rest = text.strip_prefix(&[byte]);
    *text = rest.unwrap_or(text);
    rest.is_some()
}

fn expect(text: &mut &[u8], byte: u8) -> Result<(), String> {
    if eat(text, byte) { Ok(()) } else { Err(wrong(text, &format!("{:?}", char::from(byte)))) }
}

fn wrong(text: &[u8], expected: &str) -> String {
    let found = String::from_utf8_lossy(&text[..text.len().min(20)]).into_owned();
    format!("found {found:?}, expected {expected}")
}

/// A .npy file of format 1.0 of two axes in C order. `descr` is NumPy's name of the type, `bytes` the values.
pub fn npy_bytes(descr: &str, shape: [usize; 2], bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}, {}), }}", shape[0], shape[1]);
    // The header ends with a line break, and the values begin at a multiple of 64 bytes.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut file = vec![0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0];
    file.extend((padded as u16).to_le_bytes());
    file.extend(header.bytes().chain(std::iter::repeat(b' ')).take(padded - 1));
    file.push(b'\n');
    file.extend(bytes);
    file
}
