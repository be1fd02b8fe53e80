use std::ops::Range;

/// What a model is measured on: equally long sequences of tokens, and the token that each position is to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Tokens per sequence.
    pub length: usize,
    /// The tokens, sequence after sequence.
    pub tokens: Vec<u32>,
    /// What each of them is to predict; `None` where nothing is to be.
    pub targets: Vec<Option<u32>>,
}

impl Sequences {
    /// Cuts `text` into sequences of `length` tokens, special tokens included: `before`, a piece of the text, `after`. Up to
    /// about `tokens` tokens in all, at least one sequence; `None` where the text is too short for one. Special tokens are
    /// never predicted, and neither is the first token of a sequence.
    pub fn cut(text: &[u32], before: &[u32], after: &[u32], length: usize, tokens: usize) -> Option<Self> {
        let piece = length.checked_sub(before.len() + after.len()).filter(|piece| *piece > 0)?;
        let count = (tokens / length).max(1).min(text.len() / piece);
        let mut all = Self { length, tokens: Vec::new(), targets: Vec::new() };
        for text in text.chunks_exact(piece).take(count) {
            all.tokens.extend(before.iter().chain(text).chain(after));
            let is_text = before.len()..before.len() + piece;
            let target = |position: usize| is_text.contains(&(position + 1)).then(|| all.tokens_at(position + 1));
            let targets: Vec<Option<u32>> = (0..length).map(target).collect();
            all.targets.extend(targets);
        }
        (count > 0).then_some(all)
    }

    /// Sequences of `length + 1` tokens, each of which predicts the next one.
    pub fn of_next_tokens(sequences: &[Vec<u32>]) -> Self {
        let length = sequences.first().map_or(0, |sequence| sequence.len() - 1);
        let tokens = sequences.iter().flat_map(|sequence| &sequence[..length]).copied().collect();
        let targets = sequences.iter().flat_map(|sequence| &sequence[1..]).map(|&token| Some(token)).collect();
        Self { length, tokens, targets }
    }

    /// How many sequences there are.
    pub fn count(&self) -> usize {
        self.tokens.len() / self.length
    }

    /// The tokens that are predicted, in order.
    pub fn predicted(&self) -> Vec<u32> {
        self.targets.iter().copied().flatten().collect()
    }

    /// Sequences in a range, as rows.
    pub(crate) fn rows(&self, range: Range<usize>) -> Vec<&[u32]> {
        self.tokens[range.start * self.length..range.end * self.length].chunks_exact(self.length).collect()
    }

    /// A token of the sequence that was appended last.
    fn tokens_at(&self, position: usize) -> u32 {
        self.tokens[self.tokens.len() - self.length + position]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_not_predicted() {
        let text: Vec<u32> = (10..20).collect();
        let cut = Sequences::cut(&text, &[1], &[2], 5, 15).unwrap();
        assert_eq!(cut.tokens, [1, 10, 11, 12, 2, 1, 13, 14, 15, 2, 1, 16, 17, 18, 2]);
        assert_eq!(cut.targets[..5], [Some(10), Some(11), Some(12), None, None]);
        assert_eq!(cut.predicted(), (10..19).collect::<Vec<_>>());
        assert_eq!(cut.count(), 3);
        let plain = Sequences::cut(&text, &[], &[], 5, 7).unwrap();
        assert_eq!((plain.tokens.len(), plain.targets[0], plain.targets[4]), (5, Some(11), None));
        assert_eq!(plain.predicted(), [11, 12, 13, 14]);
    }

    #[test]
    fn a_text_must_fill_one_sequence() {
        assert_eq!(Sequences::cut(&[1, 2, 3], &[0], &[], 5, 100), None);
        assert!(Sequences::cut(&[1, 2, 3, 4], &[0], &[], 5, 1).is_some());
        assert_eq!(Sequences::cut(&[1, 2, 3], &[0, 0], &[0], 3, 100), None);
    }

    #[test]
    fn own_sequences_predict_each_next_token() {
        let own = Sequences::of_next_tokens(&[vec![1, 2, 3], vec![4, 5, 6]]);
        assert_eq!((own.length, own.count()), (2, 2));
        assert_eq!(own.tokens, [1, 2, 4, 5]);
        assert_eq!(own.predicted(), [2, 3, 5, 6]);
    }
}
