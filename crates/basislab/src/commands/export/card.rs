//! The card of an exported model: what it is, what was measured on it, and how to load it.

use crate::commands::measure::checkpoint::Own;
use crate::exit::Exit;
use crate::manifest::smoke_note;
use basislab_config::{Basis, CorpusSpec, Dtype, Site, Tokens};
use basislab_import::HuggingFaceFiles;
use basislab_tables::{EvalRow, ResidualRow, VerdictRow, for_each_row, read_optional};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// `README.md` in the form that Hugging Face shows.
pub(super) fn card(dir: &Path, manifest: &Value, own: &Own, files: &HuggingFaceFiles) -> Result<String, Exit> {
    let (arm, seed, step, model) = (&own.arm, own.seed, own.step, &own.run.model);
    let name = super::name_of(dir);
    let parameters: usize = own.weights.values().map(|(_, values)| values.len()).sum();
    let corpus = match own.run.corpus {
        CorpusSpec::Text(_) => "a text",
        _ => "the synthetic language of basislab",
    };
    let mut text = format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- basislab\n---\n\n\
         # {name}, arm {arm}, seed {seed}\n\n\
         A transformer of {parameters} parameters that `basislab` trained for {step} updates on {corpus}, to test whether the \
         optimizer gives the residual stream a privileged basis. It is a subject of measurement, of no other use.\n\n\
         It has {} layers of width {}, {} heads, and a vocabulary of {} tokens. There is no tokenizer: tokens are the \
         numbers of basislab's corpus.\n\n",
        model.n_layers,
        model.d_model,
        model.n_heads,
        own.corpus().d_vocab()
    );
    let note = smoke_note(manifest).map(|note| format!("**Note:** {note}.\n\n")).unwrap_or_default();
    text += &format!("## Measured\n\n{note}{}", loss(dir, own)?);
    text += &metrics(dir, own)?;
    text += &verdicts(dir)?;
    text += &format!(
        "## Use\n\n\
         `{}` computes the same function as basislab's model. Norms with one gain are stored as one gain for each dimension; \
         biases that the model does not have are 0. `held_out_tokens.npy` holds the sequences of the loss above: each \
         token but the first is predicted.\n\n{}\
         ```python\n\
         import numpy, torch\n\
         from transformers import {}\n\n\
         model = {}.from_pretrained(\".\").eval()\n\
         tokens = torch.from_numpy(numpy.load(\"held_out_tokens.npy\")).long()\n\
         with torch.no_grad():\n    \
             logits = model(tokens[:, :-1]).logits\n\
         print(torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))\n\
         ```\n\n",
        files.architecture,
        dtype(own),
        files.architecture,
        files.architecture
    );
    text += &format!("## Identity\n\n```json\n{:#}\n```\n", own.identity);
    Ok(text)
}

/// Weights of 16 bits are exported in 32: the loss then differs by the rounding of what is between them.
fn dtype(own: &Own) -> String {
    let (params, compute) = (own.run.model.param_dtype, own.run.model.compute_dtype);
    match (params, compute) {
        (Dtype::F32, Dtype::F32) => String::new(),
        _ => format!(
            "It was trained with parameters of type {params} and products of type {compute}, and is exported in f32: the loss \
             that f32 gives differs from the one above by roundings.\n\n"
        ),
    }
}

fn loss(dir: &Path, own: &Own) -> Result<String, Exit> {
    let mut found = None;
    for_each_row(dir, |row: EvalRow| {
        if row.arm == own.arm && row.seed == own.seed && row.step == own.step {
            found = Some((row.loss, row.loss_above_floor));
        }
    })?;
    let Some((Some(loss), above)) = found else {
        return Ok(format!("`evals.csv` has no loss at step {}.\n\n", own.step));
    };
    let above = above.map(|above| format!(", {above:.4} above that of the true model")).unwrap_or_default();
    Ok(format!("Held-out loss at step {}: {loss:.6} nats per token{above}.\n\n", own.step))
}

/// Metrics after the last block at the last step, in the standard basis, the optimizer's own, and the mean over random bases.
fn metrics(dir: &Path, own: &Own) -> Result<String, Exit> {
    type Cell = (f64, u32);
    let site = Site::ResidPost(own.run.model.n_layers - 1);
    let mut all: BTreeMap<(String, Tokens), [Cell; 3]> = BTreeMap::new();
    for_each_row(dir, |row: ResidualRow| {
        if row.arm != own.arm || row.seed != own.seed || row.step != own.step || row.site != site {
            return;
        }
        let place = match row.basis {
            Basis::Standard => 0,
            Basis::Optimizer => 1,
            Basis::Random(_) => 2,
        };
        let cell = &mut all.entry((row.metric, row.tokens)).or_default()[place];
        if let Some(value) = row.value {
            *cell = (cell.0 + value, cell.1 + 1);
        }
    })?;
    // What has no null says nothing of a basis.
    all.retain(|_, cells| cells[2].1 > 0);
    if all.is_empty() {
        return Ok(String::new());
    }
    let mean = |(sum, count): Cell| if count == 0 { String::new() } else { format!("{:.4}", sum / f64::from(count)) };
    let mut text = "The residual stream after the last block; if no basis is special, the standard one is like any random one.\n\n\
        | metric | tokens | standard basis | optimizer's basis | mean of random bases | how many |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for ((metric, tokens), [standard, optimizer, random]) in all {
        let (standard, optimizer, count) = (mean(standard), mean(optimizer), random.1);
        text += &format!("| {metric} | {tokens} | {standard} | {optimizer} | {} | {count} |\n", mean(random));
    }
    Ok(text + "\n")
}

/// What the experiment decided.
fn verdicts(dir: &Path) -> Result<String, Exit> {
    let rows = read_optional::<VerdictRow>(dir)?;
    if rows.is_empty() {
        return Ok(String::new());
    }
    let mut text = "The experiment's verdicts, over all its seeds:\n\n| claim | comparison | verdict | seeds |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        // A bar would begin another cell.
        let comparison = row.comparison.replace('|', "\\|");
        text += &format!("| {} | {comparison} | {} | {} |\n", row.claim, row.verdict, row.n_seeds);
    }
    Ok(text + "\n")
}
