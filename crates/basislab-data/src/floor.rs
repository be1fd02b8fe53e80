use crate::Language;
use crate::language::BOS;

impl Language {
    /// Nats per predicted token of the true process on exactly these windows: the mean of `-ln p(token | tokens before it
    /// in the window)` over all tokens but each window's first, by the forward algorithm. Windows start from the
    /// stationary distribution, and document boundaries are treated as unobserved.
    ///
    /// `None` with copies, bursts or bigrams, or when nothing is predicted; infinite for tokens that the language cannot
    /// produce.
    pub fn floor(&self, sequences: &[Vec<u32>]) -> Option<f64> {
        let predicted: usize = sequences.iter().map(|tokens| tokens.len().saturating_sub(1)).sum();
        if self.has_structure() || predicted == 0 {
            return None;
        }
        let mut filter = Filter::new(self);
        let surprise = |tokens: &Vec<u32>| -> f64 {
            filter.start();
            let mut steps = tokens.iter().map(|token| -filter.observe(*token).ln());
            steps.next();
            steps.sum()
        };
        Some(sequences.iter().map(surprise).sum::<f64>() / predicted as f64)
    }
}

/// The posterior over classes, given the tokens so far.
struct Filter<'a> {
    language: &'a Language,
    /// Distribution of the last token's class, zeros left out; empty where the next class is drawn afresh.
    belief: Vec<(u32, f64)>,
    /// Distribution of the class that follows if no document begins; all zero while `belief` is empty.
    ahead: Vec<f64>,
}

impl<'a> Filter<'a> {
    fn new(language: &'a Language) -> Self {
        Self { language, belief: Vec::new(), ahead: vec![0.0; language.spec().classes] }
    }

    fn start(&mut self) {
        self.believe(Vec::new());
    }

    /// The probability that `token` comes next.
    fn probability(&self, token: u32) -> f64 {
        let bos = self.language.spec().bos;
        if bos && token == BOS {
            return self.language.restart();
        }
        let word: f64 = self.joint(token).map(|(_, share)| share).sum();
        if bos { (1.0 - self.language.restart()) * word } else { word }
    }

    /// Conditions on `token` and returns its predictive probability.
    fn observe(&mut self, token: u32) -> f64 {
        let probability = self.probability(token);
        let mut belief: Vec<(u32, f64)> = self.joint(token).filter(|(_, share)| *share > 0.0).collect();
        let total: f64 = belief.iter().map(|(_, share)| share).sum();
        belief.iter_mut().for_each(|(_, share)| *share /= total);
        self.believe(belief);
        probability
    }

    /// For each class that emits `token`: the probability that it comes next and emits it, given that BOS does not.
    fn joint(&self, token: u32) -> impl Iterator<Item = (u32, f64)> + '_ {
        let language = self.language;
        // BOS shows where a document begins; without it, any token may be the first of one.
        let hidden = if language.spec().bos { 0.0 } else { language.restart() };
        let afresh = if self.belief.is_empty() { 1.0 } else { hidden };
        language.owners(token).iter().map(move |(class, emitted)| {
            let prior = afresh * language.stationary()[*class as usize] + (1.0 - afresh) * self.ahead[*class as usize];
            (*class, prior * emitted)
        })
    }

    fn believe(&mut self, belief: Vec<(u32, f64)>) {
        let language = self.language;
        let stay = language.spec().stay;
        // Only the entries that the last belief set are cleared: with many classes most of `ahead` is zero.
        for (class, _) in std::mem::replace(&mut self.belief, belief) {
            self.ahead[class as usize] = 0.0;
            language.moves(class).for_each(|(next, _)| self.ahead[next as usize] = 0.0);
        }
        for (class, share) in &self.belief {
            self.ahead[*class as usize] += share * stay;
            for (next, probability) in language.moves(*class) {
                self.ahead[next as usize] += share * (1.0 - stay) * probability;
            }
        }
    }
}

#[cfg(test)]
mod tests;
