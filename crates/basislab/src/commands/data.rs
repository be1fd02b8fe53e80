use super::CommandResult;
use crate::args::{CorpusArgs, Data};
use crate::exit::Exit;
use crate::terminal::{say, say_json};
use crate::{experiments, resources};
use basislab_config::{CorpusSpec, Experiment, count};
use basislab_data::{BUILTIN_PREFIX, BUILTIN_TEXTS, Corpus, Description, describe};
use serde_json::{Value, json};

pub(crate) fn data(args: &Data) -> CommandResult {
    match args {
        Data::Describe { source, tokens, json } => {
            resources::check_tokens(*tokens as f64)?;
            let (experiment, corpus) = open(source)?;
            let about = describe(&corpus, *tokens as usize);
            let source = source_of(&experiment);
            if *json { say_json(&to_json(&about, &source))? } else { say(to_text(&about, &source))? }
        }
        Data::Sample { source, count, seed } => {
            let (experiment, corpus) = open(source)?;
            // Each token as a number and as a word.
            resources::check_tokens(*count as f64 * (experiment.shared.model.n_ctx + 1) as f64)?;
            let sequences = corpus.batch(*seed, 1, *count as usize, experiment.shared.model.n_ctx + 1);
            say(sequences
                .iter()
                .map(|tokens| shown(&corpus.decode(tokens)) + "\n")
                .collect::<Vec<_>>()
                .join("----\n"))?;
        }
    }
    Ok(None)
}

fn open(source: &CorpusArgs) -> Result<(Experiment, Corpus), Exit> {
    let named = match &source.text {
        Some(file) => experiments::find_with_text(&source.experiment, file, &source.set),
        None => experiments::find_plain(&source.experiment, &source.set),
    };
    let loaded = named?.loaded;
    let corpus = experiments::shared_corpus(&loaded)?;
    Ok((loaded.experiment, corpus))
}

/// What the corpus is: a file by its path, a built-in text with where it is from.
fn source_of(experiment: &Experiment) -> String {
    let CorpusSpec::Text(text) = &experiment.shared.corpus else { return "the synthetic language".to_owned() };
    let builtin = text.path.strip_prefix(BUILTIN_PREFIX);
    let builtin = builtin.and_then(|name| BUILTIN_TEXTS.iter().find(|text| text.name == name));
    builtin.map_or_else(|| text.path.clone(), |found| format!("{}: {}", text.path, found.about))
}

fn to_json(about: &Description, source: &str) -> Value {
    json!({
        "source": source, "tokens": about.tokens, "d_vocab": about.d_vocab, "distinct_tokens": about.distinct_tokens,
        "zipf_exponent": about.zipf_exponent, "unigram_entropy": about.unigram_entropy,
        "bigram_conditional_entropy": about.bigram_conditional_entropy, "burstiness": about.burstiness,
        "floor": about.floor, "size_bytes": about.size_bytes, "sha256": about.sha256,
    })
}

fn to_text(about: &Description, source: &str) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let rows = [
        ("tokens looked at", about.tokens.to_string(), ""),
        ("vocabulary", format!("{} ({} of them seen)", about.d_vocab, about.distinct_tokens), ""),
        (
            "Zipf exponent",
            number(about.zipf_exponent),
            "slope of log frequency on log rank, ranks seen 10 times or more",
        ),
        ("unigram entropy", number(Some(about.unigram_entropy)), "nats per token, plug-in"),
        (
            "bigram entropy",
            number(Some(about.bigram_conditional_entropy)),
            "of a token given the last, nats, plug-in: too low in small samples",
        ),
        ("burstiness", number(about.burstiness), "how often a token recurs within 64 tokens, over independent draws"),
        ("entropy floor", number(about.floor), "nats per token of the true process, where it is known"),
        ("size", about.size_bytes.map_or_else(|| "-".to_owned(), |bytes| count(bytes, "byte")), ""),
        ("sha256", about.sha256.clone(), ""),
    ];
    let rows = rows
        .iter()
        .map(|(label, value, note)| format!("{label:<18} {value:<24} {note}").trim_end().to_owned() + "\n")
        .collect::<String>();
    format!("{}\n\n{rows}", shown(source))
}

/// Text from outside, harmless on a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
