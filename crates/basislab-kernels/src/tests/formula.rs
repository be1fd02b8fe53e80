//! What parts compute, in f64 and as it is written in a textbook: one row, one head, one number after the other.

use super::inner;
use crate::{Activation, Attention, HeadNorms, Loss, Map, Norm, Part, Rope};

/// All tensors of a chain: its input, then what its parts name.
pub(super) type Tensors = Vec<Vec<f64>>;

/// What the parts make of rows of `d` numbers, in sequences of `pos` rows.
pub(super) fn chain(parts: &[Part], pos: usize, d: usize, t: &Tensors) -> Vec<f64> {
    let rows = t[0].len() / d;
    let mut x = t[0].clone();
    for part in parts {
        let width = x.len() / rows;
        let each = |of: &dyn Fn(&[f64]) -> Vec<f64>| x.chunks(width).flat_map(of).collect::<Vec<f64>>();
        x = match part {
            Part::Norm(norm) => each(&|row| normed(norm, row, t)),
            Part::Linear(linear) => each(&|row| linear.maps.iter().flat_map(|map| mapped(map, row, t)).collect()),
            Part::Add(input) => x.iter().zip(&t[*input]).map(|(x, y)| x + y).collect(),
            Part::HeadNorms(norms) => each(&|row| head_normed(norms, row, t)),
            Part::Rope(rope) => {
                x.chunks(width).enumerate().flat_map(|(row, x)| rotated(rope, x, row % pos, pos)).collect()
            }
            Part::Attention(attention) => x.chunks(pos * width).flat_map(|x| mixed(attention, x, pos)).collect(),
            Part::Activation(kind) => each(&|row| active(*kind, row)),
            Part::Loss(targets) => vec![loss(targets, &x, width)],
            Part::Copy => x,
        };
    }
    x
}

fn normed(norm: &Norm, row: &[f64], t: &Tensors) -> Vec<f64> {
    let d = row.len();
    let mean = if norm.is_centred { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
    let moved: Vec<f64> = row.iter().map(|x| x - mean).collect();
    let root = (inner(&moved, &moved) / d as f64 + f64::from(norm.epsilon)).sqrt();
    let gain = |j: usize| norm.gain.map_or(1.0, |gain| t[gain][j % t[gain].len()]);
    let bias = |j: usize| norm.bias.map_or(0.0, |bias| t[bias][j]);
    (0..d).map(|j| moved[j] / root * gain(j) + bias(j)).collect()
}

fn mapped(map: &Map, row: &[f64], t: &Tensors) -> Vec<f64> {
    let (weight, n) = (&t[map.weight], row.len());
    let at = |i: usize, j: usize| if map.is_transposed { weight[j * n + i] } else { weight[i * map.out + j] };
    let bias = |j: usize| map.bias.map_or(0.0, |bias| t[bias][j]);
    (0..map.out).map(|j| (0..n).map(|i| row[i] * at(i, j)).sum::<f64>() + bias(j)).collect()
}

fn head_normed(norms: &HeadNorms, row: &[f64], t: &Tensors) -> Vec<f64> {
    let (heads, d_head) = (norms.heads, norms.heads.d_head);
    let all = row.chunks(d_head).enumerate();
    let one = |(number, x): (usize, &[f64])| {
        let gain = match number {
            _ if number < heads.heads => norms.of_queries,
            _ if number < heads.heads + heads.kv_heads => norms.of_keys,
            _ => return x.to_vec(),
        };
        normed(&Norm { is_centred: false, epsilon: norms.epsilon, gain: Some(gain), bias: None }, x, t)
    };
    all.flat_map(one).collect()
}

fn rotated(rope: &Rope, row: &[f64], at: usize, pos: usize) -> Vec<f64> {
    let (heads, d_head) = (rope.heads, rope.heads.d_head);
    let half = rope.tables[0].len() / pos;
    let mut all = row.to_vec();
    for head in all.chunks_mut(d_head).take(heads.heads + heads.kv_heads) {
        for k in 0..half {
            let [cos, sin] = [0, 1].map(|i| f64::from(rope.tables[i][at * half + k]));
            let (i, j) = if rope.is_interleaved { (2 * k, 2 * k + 1) } else { (k, k + half) };
            (head[i], head[j]) = (head[i] * cos - head[j] * sin, head[i] * sin + head[j] * cos);
        }
    }
    all
}

/// One sequence.
fn mixed(attention: &Attention, x: &[f64], pos: usize) -> Vec<f64> {
    let (heads, kv_heads, d_head) = (attention.heads.heads, attention.heads.kv_heads, attention.heads.d_head);
    let width = (heads + 2 * kv_heads) * d_head;
    let of = |row: usize, head: usize| &x[row * width + head * d_head..][..d_head];
    let mut out = vec![0.0; pos * heads * d_head];
    for i in 0..pos {
        let seen = if attention.is_causal { i + 1 } else { pos };
        for head in 0..heads {
            let shared = heads + head * kv_heads / heads;
            let scores: Vec<f64> =
                (0..seen).map(|j| inner(of(i, head), of(j, shared)) / (d_head as f64).sqrt()).collect();
            let nothing = if attention.has_nothing { 0.0 } else { f64::NEG_INFINITY };
            let most = scores.iter().copied().fold(nothing, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum::<f64>() + (nothing - most).exp();
            for (j, score) in scores.iter().enumerate() {
                for c in 0..d_head {
                    let value = of(j, shared + kv_heads)[c];
                    out[(i * heads + head) * d_head + c] += (score - most).exp() / total * value;
                }
            }
        }
    }
    out
}

fn active(kind: Activation, row: &[f64]) -> Vec<f64> {
    let each = |of: &dyn Fn(f64) -> f64| row.iter().map(|h| of(*h)).collect();
    match kind {
        Activation::Gelu => each(&|h| 0.5 * h * (1.0 + erf(h / 2f64.sqrt()))),
        Activation::GeluTanh => each(&|h| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (h + 0.044_715 * h.powi(3));
            0.5 * h * (1.0 + inner.tanh())
        }),
        Activation::Relu => each(&|h| h.max(0.0)),
        Activation::Solu => {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = row.iter().map(|h| (h - most).exp()).sum();
            each(&|h| h * (h - most).exp() / total)
        }
        Activation::Swiglu => {
            let (gate, h) = row.split_at(row.len() / 2);
            gate.iter().zip(h).map(|(g, h)| g / (1.0 + (-g).exp()) * h).collect()
        }
    }
}

fn loss(loss: &Loss, logits: &[f64], d_vocab: usize) -> f64 {
    let one = |(row, target): (&[f64], &i32)| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + row.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln() - row[*target as usize]
    };
    logits.chunks(d_vocab).zip(&*loss.targets).map(one).sum::<f64>() / loss.targets.len() as f64
}

fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..150 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
