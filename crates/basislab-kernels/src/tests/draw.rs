//! Random chains of parts with their tensors.

use super::Random;
use super::formula::Tensors;
use crate::{Activation, Attention, HeadNorms, Heads, Input, Linear, Loss, Map, Norm, Part, Precision, Rope};
use std::sync::Arc;

/// A kind of part, before its tensors are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Norm(Normed),
    /// Through weights of these widths, side by side.
    Qkv,
    Hidden {
        is_gated: bool,
    },
    Write,
    Logits,
    HeadNorms,
    Rope,
    Attention {
        is_causal: bool,
        has_nothing: bool,
    },
    Activation(Activation),
    /// The chain's own input, where that is as wide.
    AddInput,
    AddOther,
    Loss,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Normed {
    Rms,
    OneGain,
    Gains,
    Centred,
    GainsAndBias,
    CentredGainAndBias,
}

pub(super) const NORMS: [Normed; 6] =
    [Normed::Rms, Normed::OneGain, Normed::Gains, Normed::Centred, Normed::GainsAndBias, Normed::CentredGainAndBias];

pub(super) const ACTIVATIONS: [Activation; 5] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Solu, Activation::Swiglu];

#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) sequences: usize,
    pub(super) pos: usize,
    pub(super) d: usize,
    pub(super) heads: Heads,
    pub(super) wide: usize,
}

/// A chain, and all its tensors.
pub(super) struct Case {
    pub(super) shape: Shape,
    /// Numbers per row of the input.
    pub(super) d: usize,
    pub(super) parts: Vec<Part>,
    pub(super) tensors: Tensors,
}

impl Random {
    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Widths that are no multiple of a vector, several chunks, shared heads, one position or many.
    pub(super) fn shape(&mut self) -> Shape {
        let pos = self.of(&[1, 2, 7, 16, 33, 50, 65, 130]);
        let kv_heads = 1 + self.below(3);
        Shape {
            // Two or three chunks of rows in some of them.
            sequences: if self.below(4) == 0 { 1100 / pos + 1 } else { 1 + self.below(5) },
            pos,
            d: 3 + self.below(38),
            heads: Heads { heads: kv_heads * (1 + self.below(3)), kv_heads, d_head: 2 + self.below(32) },
            wide: 1 + self.below(40),
        }
    }

    /// The parts of a branch or of a head, or some of them that lie together.
    pub(super) fn kinds(&mut self) -> Vec<Kind> {
        let mut all = Vec::new();
        let norm = Kind::Norm(self.of(&NORMS));
        all.extend(self.coin().then_some(norm));
        match self.below(5) {
            0 | 1 => {
                all.push(Kind::Qkv);
                all.extend(self.coin().then_some(Kind::HeadNorms));
                all.extend(self.coin().then_some(Kind::Rope));
                all.push(Kind::Attention { is_causal: self.below(4) > 0, has_nothing: self.coin() });
            }
            2 | 3 => {
                let activation = self.of(&ACTIVATIONS);
                all.extend([Kind::Hidden { is_gated: activation == Activation::Swiglu }, Kind::Activation(activation)]);
            }
            _ => {
                all.extend([Kind::Logits, Kind::Loss]);
                return all;
            }
        }
        let add = self.of(&[Kind::AddInput, Kind::AddOther]);
        all.extend([Kind::Write, add]);
        let norm = Kind::Norm(self.of(&NORMS));
        all.extend(self.coin().then_some(norm));
        if self.coin() {
            return all;
        }
        // As where some of the parts run elsewhere.
        let first = self.below(all.len());
        let count = 1 + self.below(all.len() - first);
        all[first..first + count].to_vec()
    }
}

impl Case {
    pub(super) fn new(shape: Shape, kinds: &[Kind], random: &mut Random) -> Self {
        let d = kinds[0].reads(shape);
        let rows = shape.sequences * shape.pos;
        let mut case = Self { shape, d, parts: Vec::new(), tensors: vec![random.numbers(rows * d, 1.0)] };
        let mut width = d;
        for kind in kinds {
            let part = case.part(*kind, width, random);
            width = part.width(width);
            case.parts.push(part);
        }
        case
    }

    fn input(&mut self, numbers: Vec<f64>) -> Input {
        self.tensors.push(numbers);
        self.tensors.len() - 1
    }

    fn gain(&mut self, n: usize, random: &mut Random) -> Input {
        let numbers = random.numbers(n, 0.5).iter().map(|g| f64::from((1.0 + g) as f32)).collect();
        self.input(numbers)
    }

    fn norm(&mut self, kind: Normed, d: usize, random: &mut Random) -> Part {
        let gains = match kind {
            Normed::Rms | Normed::Centred => None,
            Normed::OneGain => Some(1),
            Normed::Gains | Normed::GainsAndBias | Normed::CentredGainAndBias => Some(d),
        };
        let has_bias = matches!(kind, Normed::GainsAndBias | Normed::CentredGainAndBias);
        Part::Norm(Norm {
            is_centred: matches!(kind, Normed::Centred | Normed::CentredGainAndBias),
            epsilon: 1e-5,
            gain: gains.map(|n| self.gain(n, random)),
            bias: has_bias.then(|| self.input(random.numbers(d, 1.0))),
        })
    }

    fn linear(&mut self, read: usize, widths: &[usize], random: &mut Random) -> Part {
        let map = |out: &usize| Map {
            weight: self.input(random.numbers(read * out, 1.5 / (read as f64).sqrt())),
            is_transposed: random.coin(),
            bias: random.coin().then(|| self.input(random.numbers(*out, 0.5))),
            out: *out,
        };
        Part::Linear(Linear { maps: widths.iter().map(map).collect(), precision: Precision::F32 })
    }

    fn part(&mut self, kind: Kind, width: usize, random: &mut Random) -> Part {
        let Shape { sequences, pos, d, heads, wide } = self.shape;
        match kind {
            Kind::Norm(kind) => self.norm(kind, width, random),
            Kind::Qkv => self.linear(width, &[heads.queries(), heads.keys(), heads.keys()], random),
            Kind::Hidden { is_gated } => self.linear(width, &[wide; 2][usize::from(!is_gated)..], random),
            Kind::Write => self.linear(width, &[d], random),
            Kind::Logits => self.linear(width, &[wide], random),
            Kind::HeadNorms => Part::HeadNorms(HeadNorms {
                heads,
                epsilon: 1e-5,
                of_queries: self.gain(heads.d_head, random),
                of_keys: self.gain(heads.d_head, random),
            }),
            Kind::Rope => {
                // All coordinates of a head, or some.
                let half = if random.coin() { heads.d_head / 2 } else { 1 + random.below(heads.d_head / 2) };
                let angles = random.numbers(pos * half, 3.0);
                let table = |of: fn(f64) -> f64| angles.iter().map(|angle| of(*angle) as f32).collect();
                let tables = Arc::new([table(f64::cos), table(f64::sin)]);
                Part::Rope(Rope { heads, is_interleaved: random.coin(), tables })
            }
            Kind::Attention { is_causal, has_nothing } => Part::Attention(Attention { heads, is_causal, has_nothing }),
            Kind::Activation(activation) => Part::Activation(activation),
            Kind::AddInput if self.d == width => Part::Add(0),
            Kind::AddInput | Kind::AddOther => Part::Add(self.input(random.numbers(sequences * pos * width, 1.0))),
            Kind::Loss => {
                let targets = (0..sequences * pos).map(|_| random.below(width) as i32).collect();
                Part::Loss(Loss { targets })
            }
        }
    }
}

impl Kind {
    /// Numbers per row that it reads as the first part of a chain.
    fn reads(self, shape: Shape) -> usize {
        match self {
            Self::HeadNorms | Self::Rope | Self::Attention { .. } => shape.heads.width(),
            Self::Activation(Activation::Swiglu) => 2 * shape.wide,
            Self::Activation(_) | Self::Loss => shape.wide,
            Self::Norm(_)
            | Self::Qkv
            | Self::Hidden { .. }
            | Self::Write
            | Self::Logits
            | Self::AddInput
            | Self::AddOther => shape.d,
        }
    }
}
