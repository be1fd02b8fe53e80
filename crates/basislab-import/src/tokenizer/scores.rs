use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// A token of a vocabulary with scores.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Of two pairs that can be merged, the one whose result has the higher score is merged first.
    pub(crate) score: f32,
    pub(crate) kind: PieceKind,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceKind {
    /// Text, which merges lead to.
    Normal,
    /// One byte of a character that has no token.
    Byte(u8),
    /// A token that is cut out of the text before all others; texts that have one are refused.
    UserDefined,
    /// A token that no text leads to: `<s>`, `<unk>`, unused ones.
    Control,
}

/// BPE by scores: neighbours are merged, the pair with the best score first, of equal ones the leftmost, until no pair is
/// a token (SentencePiece's BPE).
#[derive(Debug)]
pub(crate) struct Scores {
    pub(super) pieces: Vec<Piece>,
    /// The normal ones by their text.
    pub(super) tokens: BTreeMap<String, u32>,
    /// Tokens of the 256 bytes.
    bytes: BTreeMap<u8, u32>,
    /// What stands for a blank.
    blank: &'static str,
    /// Whether a blank is put before the text.
    leads_with_blank: bool,
}

/// A run of bytes of the text that is a token, or one character.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    /// 0 once it has been merged into its left neighbour.
    length: usize,
    left: usize,
    right: usize,
}

/// No symbol.
const NONE: usize = usize::MAX;

/// Two neighbours whose text together is a token.
#[derive(Debug, PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when it was found: it is outdated where they have changed.
    length: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left)).then(self.length.cmp(&other.length))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Scores {
    /// A token's number is its place; of equal texts the first one counts. `blank` is what stands for a blank in the pieces.
    ///
    /// # Errors
    /// A score that is not finite.
    pub(crate) fn new(pieces: Vec<Piece>, blank: &'static str, leads_with_blank: bool) -> Result<Self, String> {
        let (mut tokens, mut bytes) = (BTreeMap::new(), BTreeMap::new());
        for (id, piece) in (0_u32..).zip(&pieces) {
            if !piece.score.is_finite() {
                return Err(format!("token {id} has score {}; expected a finite number", piece.score));
            }
            match piece.kind {
                PieceKind::Normal => {
                    tokens.entry(piece.text.clone()).or_insert(id);
                }
                PieceKind::Byte(byte) => {
                    bytes.insert(byte, id);
                }
                PieceKind::UserDefined | PieceKind::Control => (),
            }
        }
        Ok(Self { pieces, tokens, bytes, blank, leads_with_blank })
    }

    pub(super) fn spellings(&self) -> BTreeMap<u32, Vec<u8>> {
        let bytes = |piece: &Piece| match piece.kind {
            PieceKind::Byte(byte) => vec![byte],
            _ => piece.text.replace(self.blank, " ").into_bytes(),
        };
        (0..).zip(self.pieces.iter().map(bytes)).collect()
    }

    /// Takes n log n time for n characters.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let user_defined = self.pieces.iter().filter(|piece| piece.kind == PieceKind::UserDefined);
        if let Some(piece) = user_defined.into_iter().find(|piece| !piece.text.is_empty() && text.contains(&piece.text))
        {
            return Err(format!("cannot encode a text with the user-defined token {:?}; remove it", piece.text));
        }
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let lead = if self.leads_with_blank { self.blank } else { "" };
        let text = format!("{lead}{}", text.replace(' ', self.blank));
        let mut symbols = symbols(&text);
        let mut pairs: BinaryHeap<Pair> =
            (1..symbols.len()).filter_map(|right| self.pair(&text, &symbols, right - 1, right)).collect();
        while let Some(Pair { left, right, length, .. }) = pairs.pop() {
            let (first, second) = (symbols[left], symbols[right]);
            if first.length == 0 || second.length == 0 || first.length + second.length != length {
                continue;
            }
            symbols[left] = Symbol { length, right: second.right, ..first };
            symbols[right].length = 0;
            if let Some(next) = symbols.get_mut(second.right) {
                next.left = left;
            }
            pairs.extend(self.pair(&text, &symbols, first.left, left));
            pairs.extend(self.pair(&text, &symbols, left, second.right));
        }
        let mut tokens = Vec::new();
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.length];
            if let Some(token) = self.tokens.get(piece) {
                tokens.push(*token);
                continue;
            }
            for byte in piece.bytes() {
                let token = self.bytes.get(&byte).copied();
                tokens.push(
                    token.ok_or_else(|| format!("has no token for {piece:?}, nor one for its byte {byte:#04X}"))?,
                );
            }
        }
        Ok(tokens)
    }

    /// Neighbours whose text together is a token.
    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let (first, second) = (symbols.get(left)?, symbols.get(right)?);
        let length = first.length + second.length;
        let token = *self.tokens.get(&text[first.start..first.start + length])?;
        Some(Pair { score: self.pieces[token as usize].score, left, right, length })
    }
}

/// A symbol per character, each linked with its neighbours.
fn symbols(text: &str) -> Vec<Symbol> {
    let symbol = |(index, (start, letter)): (usize, (usize, char))| {
        let left = if index == 0 { NONE } else { index - 1 };
        Symbol { start, length: letter.len_utf8(), left, right: index + 1 }
    };
    text.char_indices().enumerate().map(symbol).collect()
}
