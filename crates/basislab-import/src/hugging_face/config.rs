use crate::safetensors::shorten;
use basislab_config::Activation;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Lengths that are allowed: hidden widths and vocabularies,
pub(super) const AXIS: RangeInclusive<u64> = 1..=1 << 20;
/// positions,
pub(super) const CONTEXT: RangeInclusive<u64> = 2..=1 << 20;
/// the width of the residual stream,
pub(super) const WIDTH: RangeInclusive<u64> = 4..=65_536;
/// heads and their widths,
pub(super) const HEADS: RangeInclusive<u64> = 1..=4096;
/// and layers.
pub(super) const LAYERS: RangeInclusive<u64> = 1..=1024;

/// Keys that any `config.json` may have and that do not change the forward pass: generation, training, housekeeping.
const IGNORED: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "attn_implementation",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "problem_type",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// The keys of a `config.json` that have not been read yet. `null` is as good as no key.
#[derive(Debug)]
pub(super) struct Config {
    keys: Map<String, Value>,
}

impl Config {
    /// Of the bytes of a `config.json`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(keys)) => Ok(Self { keys }),
            Ok(_) => Err("found JSON that is no object, expected the configuration of a model".to_owned()),
            Err(error) => Err(format!("found no JSON ({error}), expected the configuration of a model")),
        }
    }

    /// Whether there is such a key, even if it is `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    /// A length, if there is such a key.
    pub(super) fn optional_size(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<Option<usize>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let size = value.as_u64().filter(|size| range.contains(size));
        let expected = || found(key, &value, &format!("an integer from {} to {}", range.start(), range.end()));
        size.map(|size| Some(size as usize)).ok_or_else(expected)
    }

    /// A length.
    pub(super) fn size(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<usize, String> {
        self.optional_size(key, range)?.ok_or_else(|| missing(key))
    }

    /// A number above 0 and up to 1.
    pub(super) fn epsilon(&mut self, key: &str) -> Result<f64, String> {
        let value = self.take(key).ok_or_else(|| missing(key))?;
        number(key, &value, |number| number > 0.0 && number <= 1.0, "a number above 0 and up to 1")
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> Result<bool, String> {
        let Some(value) = self.take(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| found(key, &value, "true or false"))
    }

    /// A key that must have one value, or be missing.
    pub(super) fn expect(&mut self, key: &str, only: &Value) -> Result<(), String> {
        match self.take(key) {
            Some(value) if value != *only => Err(found(key, &value, &format!("{only}; nothing else is supported"))),
            _ => Ok(()),
        }
    }

    /// One of these texts.
    pub(super) fn text(&mut self, key: &str, known: &[&'static str]) -> Result<&'static str, String> {
        let value = self.take(key).ok_or_else(|| missing(key))?;
        let text = known.iter().find(|known| value.as_str() == Some(known));
        text.copied().ok_or_else(|| found(key, &value, &known.join(", ")))
    }

    /// A list of such texts, if there is such a key.
    pub(super) fn texts(&mut self, key: &str, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let text = |item: &Value| known.iter().find(|known| item.as_str() == Some(known)).copied();
        let list = value.as_array().and_then(|items| items.iter().map(text).collect::<Option<Vec<_>>>());
        list.ok_or_else(|| found(key, &value, &format!("a list of {}", known.join(", "))))
    }

    /// The one architecture, which must be one of these.
    pub(super) fn architecture(&mut self, known: &[&'static str]) -> Result<&'static str, String> {
        let value = self.take("architectures").ok_or_else(|| missing("architectures"))?;
        let one = value.as_array().filter(|names| names.len() == 1).and_then(|names| names[0].as_str());
        let known_one = known.iter().find(|known| one == Some(known)).copied();
        known_one.ok_or_else(|| found("architectures", &value, &format!("one of {}", known.join(", "))))
    }

    /// The non-linearity of a plain MLP.
    pub(super) fn activation(&mut self, key: &str) -> Result<Activation, String> {
        let name = self.text(key, &["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"])?;
        Ok(match name {
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            _ => Activation::GeluTanh,
        })
    }

    /// Base of the rotary position embedding, 10000 unless given, and which part of each head rotates, `part` unless given.
    /// Old files have one key for each of both, newer ones have `rope_parameters`; where both are there they must agree.
    pub(super) fn rope(&mut self, base_key: &str, part_key: &str, part: f64) -> Result<(f64, f64), String> {
        let bases = [base_key, "rope_theta"];
        let parts = [part_key, "partial_rotary_factor"];
        let top = |key: &str, keys: &mut Map<String, Value>| keys.remove(key).map(|value| (key.to_owned(), value));
        let mut given: Vec<(String, Value)> =
            bases.iter().chain(&parts).filter_map(|key| top(key, &mut self.keys)).collect();
        for table in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.take(table) else { continue };
            let Value::Object(keys) = value else { return Err(found(table, &value, "an object")) };
            given.extend(keys.into_iter().map(|(key, value)| (format!("{table}.{key}"), value)));
        }
        let (mut base, mut share) = (None, None);
        for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            let last = key.rsplit('.').next().unwrap_or_default();
            let (slot, new) = match last {
                "type" | "rope_type" if value == "default" => continue,
                "type" | "rope_type" => return Err(found(key, value, "\"default\"; no other rope is supported")),
                _ if bases.contains(&last) => {
                    (&mut base, number(key, value, |x| (1.0..=1e9).contains(&x), "a number from 1 to 1e9")?)
                }
                _ if parts.contains(&last) => {
                    (&mut share, number(key, value, |x| x > 0.0 && x <= 1.0, "a number above 0 and up to 1")?)
                }
                _ => return Err(unsupported(key, value)),
            };
            if let Some(old) = slot.replace(new).filter(|old| *old != new) {
                return Err(found(key, value, &format!("{old}, as another key says")));
            }
        }
        Ok((base.unwrap_or(10_000.0), share.unwrap_or(part)))
    }

    /// Refuses keys that were not read, unless they are known to leave the forward pass as it is or say that something is
    /// absent (`false`, an empty list).
    pub(super) fn finish(self, ignored: &[&str]) -> Result<(), String> {
        let is_known = |key: &str| IGNORED.contains(&key) || ignored.contains(&key);
        let is_absent = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        match self.keys.iter().find(|(key, value)| !is_known(key) && !is_absent(value)) {
            Some((key, value)) => Err(unsupported(key, value)),
            None => Ok(()),
        }
    }
}

fn number(key: &str, value: &Value, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    value.as_f64().filter(|number| fits(*number)).ok_or_else(|| found(key, value, expected))
}

fn found(key: &str, value: &Value, expected: &str) -> String {
    format!("found {} = {}, expected {expected}", shorten(key), shorten(&value.to_string()))
}

fn missing(key: &str) -> String {
    format!("found no {key}, which the forward pass needs; expected it as transformers writes it")
}

fn unsupported(key: &str, value: &Value) -> String {
    let (key, value) = (shorten(key), shorten(&value.to_string()));
    format!("found {key} = {value}, a key that is not supported and may change the forward pass; expected none of it")
}
