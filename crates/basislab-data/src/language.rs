use std::collections::BTreeSet;

use basislab_config::LanguageSpec;
use basislab_stats::{Purpose, below, shuffle, stream, uniform};
use rand_chacha::ChaCha8Rng;

use crate::CorpusError;
use crate::corpus::sha256_hex;
use crate::weighted::Weighted;

/// Raised whenever the same parameters give other tokens; part of the hash.
const GENERATOR: &str = "basislab language 1";

/// Table entries a language may need; beyond, it would take gigabytes.
const MOST_ENTRIES: usize = 1 << 24;

/// The BOS token, which is no ordinary token in a language whose documents start with it.
pub(crate) const BOS: u32 = 0;

/// Stream numbers of the language's own seed.
const GRAPH: u64 = 0;
const WORDS: u64 = 1;
const BIGRAMS: u64 = 2;
const SAMPLE: u64 = 3;

/// The synthetic language: a hidden Markov chain over classes, each of which emits from its own Zipf law.
///
/// **Classes.** Each class stays with probability `stay` and otherwise moves to one of its `successors`, whose weights are
/// uniform in 0.5 to 1.5 before normalising. The first successor of every class is its neighbour on a random cycle through
/// all classes, so every class reaches every other one.
///
/// **Vocabulary.** A common pool makes up `overlap` of every class's vocabulary, but every class keeps a token of its own.
/// The rest is divided evenly. Each class ranks its vocabulary in its own random order.
///
/// **Documents.** A new document begins at each token with probability `1 / document_length`; the class is then drawn
/// afresh from the stationary distribution. With `bos` that token is BOS and the fresh class belongs to the next one. A
/// window starts in the middle of a document. Where documents are endless, `bos` puts BOS at the start of each window.
///
/// **Structure.** The class changes at every token, whatever emits it. One draw then decides between a copy, a burst, a
/// bigram and the class. All of them use only the part of the current document that lies in the window, without BOS; where
/// it is too short, the class emits the token. A copy repeats a uniformly chosen whole earlier span and ends
/// with the document. A burst repeats one of the last `burst_window` tokens. A bigram draws from the previous token's
/// list, whose entries are draws from the class process, so an entry may occur in it more than once.
#[derive(Debug, Clone)]
pub struct Language {
    spec: LanguageSpec,
    sha256: String,
    /// Where a class goes when it does not stay.
    successors: Vec<Weighted>,
    stationary: Weighted,
    emissions: Vec<Weighted>,
    /// For each token, the classes that emit it and with which probability.
    owners: Vec<Vec<(u32, f64)>>,
    /// The successor lists of all tokens, end to end; empty without bigrams.
    bigrams: Vec<u32>,
}

impl Language {
    /// Builds the language from parameters that the configuration has checked.
    pub fn new(spec: &LanguageSpec) -> Result<Self, CorpusError> {
        check_entries(spec)?;
        let successors = class_graph(spec);
        let stationary = Weighted::new((0..spec.classes as u32).collect(), stationary(&successors));
        let emissions = deal_words(spec);
        let mut owners = vec![Vec::new(); spec.d_vocab];
        for (class, emission) in emissions.iter().enumerate() {
            for (token, share) in emission.iter() {
                owners[token as usize].push((class as u32, share));
            }
        }
        let sha256 = sha256_hex(format!("{GENERATOR}: {spec:?}").as_bytes());
        let mut language =
            Self { spec: spec.clone(), sha256, successors, stationary, emissions, owners, bigrams: Vec::new() };
        if spec.bigram > 0.0 {
            let mut rng = stream(spec.seed, Purpose::Language, BIGRAMS);
            language.bigrams = (0..spec.d_vocab * spec.bigram_fan).map(|_| language.word(&mut rng)).collect();
        }
        Ok(language)
    }

    /// Its parameters.
    pub fn spec(&self) -> &LanguageSpec {
        &self.spec
    }

    /// SHA-256 over the parameters and the generator's version, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Stationary probability of each class.
    pub fn stationary(&self) -> &[f64] {
        &self.stationary.shares
    }

    /// Where `class` goes when it does not stay, and with which probability.
    pub fn moves(&self, class: u32) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.successors[class as usize].iter()
    }

    /// The classes that emit `token`, each with its probability of doing so.
    pub fn owners(&self, token: u32) -> &[(u32, f64)] {
        &self.owners[token as usize]
    }

    /// Probability that a new document begins at a token.
    pub(crate) fn restart(&self) -> f64 {
        if self.spec.document_length > 0 { 1.0 / self.spec.document_length as f64 } else { 0.0 }
    }

    /// Whether copies, bursts or bigrams are on, which leaves no exact floor.
    pub(crate) fn has_structure(&self) -> bool {
        self.spec.copy + self.spec.burst + self.spec.bigram > 0.0
    }

    /// One window of the stationary process.
    pub(crate) fn window(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let restart = self.restart();
        let mut tokens = Vec::with_capacity(length);
        let mut class = None;
        let mut span = Span { next: 0, left: 0 };
        let mut document = 0;
        for position in 0..length {
            let begins = if restart > 0.0 { uniform(rng) < restart } else { self.spec.bos && position == 0 };
            if begins {
                class = None;
                span.left = 0;
                document = position + usize::from(self.spec.bos);
                if self.spec.bos {
                    tokens.push(BOS);
                    continue;
                }
            }
            let here = self.next_class(class, rng);
            class = Some(here);
            let token = self.repeated(&tokens[document..], &mut span, rng);
            tokens.push(token.unwrap_or_else(|| self.emissions[here as usize].draw(rng)));
        }
        tokens
    }

    /// One long window that is independent of any run's seed.
    pub(crate) fn sample(&self, length: usize) -> Vec<u32> {
        self.window(length, &mut stream(self.spec.seed, Purpose::Language, SAMPLE))
    }

    pub(crate) fn decode(&self, tokens: &[u32]) -> String {
        let words: Vec<String> = tokens.iter().map(|token| self.name(*token)).collect();
        words.join(" ")
    }

    fn name(&self, token: u32) -> String {
        match self.owners.get(token as usize).map(Vec::as_slice) {
            Some([]) if self.spec.bos && token == BOS => "<bos>".to_owned(),
            Some([(class, _)]) => format!("c{class}.t{token}"),
            Some([_, ..]) => format!("common.t{token}"),
            _ => format!("<unknown {token}>"),
        }
    }

    fn next_class(&self, class: Option<u32>, rng: &mut ChaCha8Rng) -> u32 {
        match class {
            None => self.stationary.draw(rng),
            Some(class) if uniform(rng) < self.spec.stay => class,
            Some(class) => self.successors[class as usize].draw(rng),
        }
    }

    fn word(&self, rng: &mut ChaCha8Rng) -> u32 {
        let class = self.stationary.draw(rng);
        self.emissions[class as usize].draw(rng)
    }

    /// The token that a copy, a burst or a bigram puts after the document's `past`, if one of them does.
    fn repeated(&self, past: &[u32], span: &mut Span, rng: &mut ChaCha8Rng) -> Option<u32> {
        if span.left > 0 {
            span.left -= 1;
            span.next += 1;
            return Some(past[span.next - 1]);
        }
        if !self.has_structure() {
            return None;
        }
        let LanguageSpec { copy, copy_length, burst, burst_window, bigram, bigram_fan, .. } = self.spec;
        let point = uniform(rng);
        if point < copy {
            let start = past.len().checked_sub(copy_length).map(|last| pick(rng, last + 1))?;
            *span = Span { next: start + 1, left: copy_length - 1 };
            Some(past[start])
        } else if point < copy + burst {
            let reach = past.len().min(burst_window);
            if reach > 0 { Some(past[past.len() - 1 - pick(rng, reach)]) } else { None }
        } else if point < copy + burst + bigram {
            let previous = *past.last()? as usize;
            Some(self.bigrams[previous * bigram_fan + pick(rng, bigram_fan)])
        } else {
            None
        }
    }
}

/// A copy that has started: the index in the document of the next token to repeat, and how many are left.
struct Span {
    next: usize,
    left: usize,
}

fn pick(rng: &mut ChaCha8Rng, n: usize) -> usize {
    below(rng, n as u64) as usize
}

pub(crate) fn check_entries(spec: &LanguageSpec) -> Result<(), CorpusError> {
    let bigrams = if spec.bigram > 0.0 { spec.d_vocab.saturating_mul(spec.bigram_fan) } else { 0 };
    let words = spec.d_vocab.saturating_add(spec.classes.saturating_mul(common_words(spec)));
    let tables = [
        ("corpus.successors", "moves between classes", spec.classes.saturating_mul(spec.successors), "lower it"),
        ("corpus.overlap", "words over all classes", words, "lower it or corpus.classes"),
        ("corpus.bigram_fan", "bigrams", bigrams, "lower it or corpus.d_vocab"),
    ];
    match tables.iter().find(|(_, _, entries, _)| *entries > MOST_ENTRIES) {
        Some((key, what, entries, next)) => {
            Err(CorpusError::key(key, format!("{entries} {what}"), format!("at most {MOST_ENTRIES}"), next))
        }
        None => Ok(()),
    }
}

fn class_graph(spec: &LanguageSpec) -> Vec<Weighted> {
    let classes = spec.classes;
    if classes == 1 {
        return vec![Weighted::new(vec![0], vec![1.0])];
    }
    let mut rng = stream(spec.seed, Purpose::Language, GRAPH);
    let mut cycle: Vec<u32> = (0..classes as u32).collect();
    shuffle(&mut cycle, &mut rng);
    let mut neighbour = vec![0; classes];
    for (place, class) in cycle.iter().enumerate() {
        neighbour[*class as usize] = cycle[(place + 1) % classes];
    }
    let successors = |(class, first): (usize, u32)| {
        let (low, high) = (first.min(class as u32), first.max(class as u32));
        let others = distinct(spec.successors - 1, classes - 2, &mut rng).into_iter().map(|other| {
            // Step over the class itself and its neighbour, which are not among the others.
            let other = other as u32 + u32::from(other as u32 >= low);
            other + u32::from(other >= high)
        });
        let items: Vec<u32> = std::iter::once(first).chain(others).collect();
        let weights = items.iter().map(|_| 0.5 + uniform(&mut rng)).collect();
        Weighted::new(items, weights)
    };
    neighbour.into_iter().enumerate().map(successors).collect()
}

/// `count` distinct numbers below `n` (Floyd's algorithm, which needs no list of all of them).
fn distinct(count: usize, n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::with_capacity(count);
    for last in n - count..n {
        let guess = pick(rng, last + 1);
        let number = if seen.contains(&guess) { last } else { guess };
        seen.insert(number);
        chosen.push(number);
    }
    chosen
}

/// The stationary distribution of the moves; `stay` slows all classes alike and does not change it. The iteration is that
/// of a chain that rests half of the time, because the moves themselves may be periodic.
fn stationary(successors: &[Weighted]) -> Vec<f64> {
    let mut shares = vec![1.0 / successors.len() as f64; successors.len()];
    let mut before = f64::INFINITY;
    for _ in 0..100_000 {
        let mut next: Vec<f64> = shares.iter().map(|share| 0.5 * share).collect();
        for (class, moves) in successors.iter().enumerate() {
            for (target, probability) in moves.iter() {
                next[target as usize] += 0.5 * shares[class] * probability;
            }
        }
        let total: f64 = next.iter().sum();
        next.iter_mut().for_each(|share| *share /= total);
        let change: f64 = next.iter().zip(&shares).map(|(new, old)| (new - old).abs()).sum();
        shares = next;
        // Below 1e-14 the change is rounding once it stops falling.
        if change == 0.0 || (change < 1e-14 && change >= before) {
            break;
        }
        before = change;
    }
    shares
}

/// Size of the common pool: with `v` tokens a class, `overlap v` are common and `classes (1 - overlap) v` are not.
fn common_words(spec: &LanguageSpec) -> usize {
    let words = spec.d_vocab - usize::from(spec.bos);
    let each = words as f64 / (spec.classes as f64 * (1.0 - spec.overlap) + spec.overlap);
    ((spec.overlap * each).round() as usize).min(words.saturating_sub(spec.classes))
}

fn deal_words(spec: &LanguageSpec) -> Vec<Weighted> {
    let mut rng = stream(spec.seed, Purpose::Language, WORDS);
    let mut words: Vec<u32> = (u32::from(spec.bos)..spec.d_vocab as u32).collect();
    shuffle(&mut words, &mut rng);
    let (common, own) = words.split_at(common_words(spec));
    let vocabulary = |class: usize| {
        let mut items: Vec<u32> = own.iter().skip(class).step_by(spec.classes).chain(common).copied().collect();
        shuffle(&mut items, &mut rng);
        let weights = (1..=items.len()).map(|rank| (rank as f64).powf(-spec.zipf_exponent)).collect();
        Weighted::new(items, weights)
    };
    (0..spec.classes).map(vocabulary).collect()
}
