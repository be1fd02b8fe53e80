//! Losses in units that compare between tokenizers, and the code that a language model must beat.

/// Nats per token of the prequential add-half unigram code over `d_vocab` entries: in order, each token costs
/// `-ln((count + 1/2) / (seen + d_vocab/2))`, with the counts of the tokens before it. `None` without tokens, and where an id
/// is not below `d_vocab`.
pub fn unigram_loss(tokens: &[u32], d_vocab: usize) -> Option<f64> {
    let mut counts = vec![0u32; d_vocab];
    let (mut nats, prior) = (0.0, 0.5 * d_vocab as f64);
    for (seen, &token) in tokens.iter().enumerate() {
        let count = counts.get_mut(usize::try_from(token).ok()?)?;
        nats -= ((f64::from(*count) + 0.5) / (seen as f64 + prior)).ln();
        *count += 1;
    }
    (!tokens.is_empty()).then(|| nats / tokens.len() as f64)
}

/// Bits per byte of text: `loss` (nats per token) times `tokens`, over ln 2 and the `bytes` that these tokens cover. `None`
/// where they cover none.
pub fn bits_per_byte(loss: f64, tokens: u64, bytes: u64) -> Option<f64> {
    let bits = loss * tokens as f64 / std::f64::consts::LN_2 / bytes as f64;
    bits.is_finite().then_some(bits)
}
