use super::Random;
use super::agreement::assert_agrees;
use super::draw::{ACTIVATIONS, Case, Kind, NORMS, Normed, Shape};
use crate::{Activation, Heads};

/// Three chunks of rows, odd widths, shared heads.
const SHAPE: Shape =
    Shape { sequences: 33, pos: 37, d: 19, heads: Heads { heads: 6, kv_heads: 2, d_head: 5 }, wide: 23 };

fn assert_all(seed: u64, shape: Shape, all: &[Vec<Kind>]) {
    let mut random = Random(seed);
    for kinds in all {
        let case = Case::new(shape, kinds, &mut random);
        assert_agrees(&case, &mut random);
    }
}

fn attentions() -> impl Iterator<Item = Kind> {
    let of = |has_nothing| [true, false].map(|is_causal| Kind::Attention { is_causal, has_nothing });
    [false, true].into_iter().flat_map(of)
}

#[test]
fn each_norm_alone() {
    assert_all(1, SHAPE, &NORMS.map(|norm| vec![Kind::Norm(norm)]));
}

#[test]
fn each_attention_alone() {
    assert_all(2, SHAPE, &attentions().map(|attention| vec![attention]).collect::<Vec<_>>());
}

#[test]
fn each_activation_alone() {
    assert_all(3, SHAPE, &ACTIVATIONS.map(|activation| vec![Kind::Activation(activation)]));
}

#[test]
fn projections_norms_of_heads_and_rope_alone() {
    let all = [Kind::Qkv, Kind::Write, Kind::Hidden { is_gated: true }, Kind::HeadNorms, Kind::Rope];
    // Several draws: with biases and without, transposed and not, pairs and widths of rope.
    assert_all(4, SHAPE, &(0..30).map(|i| vec![all[i % all.len()]]).collect::<Vec<_>>());
}

#[test]
fn losses() {
    let all = NORMS.map(|norm| vec![Kind::Norm(norm), Kind::Logits, Kind::Loss]);
    assert_all(5, SHAPE, &all);
    assert_all(6, Shape { sequences: 3, pos: 1, wide: 2, ..SHAPE }, &[vec![Kind::Logits, Kind::Loss]]);
}

#[test]
fn residual_connections_anywhere() {
    let (norm, centred) = (Kind::Norm(Normed::Gains), Kind::Norm(Normed::CentredGainAndBias));
    let gelu = [Kind::Hidden { is_gated: false }, Kind::Activation(Activation::Gelu), Kind::Write];
    let (input, other) = (Kind::AddInput, Kind::AddOther);
    let mut all = vec![vec![norm, input], vec![norm, other], vec![Kind::Write, input], vec![Kind::Write, other]];
    for add in [input, other] {
        // The sum is what the chain gives, what a norm reads, what a projection reads.
        all.extend([vec![add], vec![add, norm], vec![add, centred, Kind::Write], vec![add, Kind::Write]]);
        all.extend([vec![norm, add, centred], vec![Kind::Write, add, centred], vec![Kind::Write, add, Kind::Write]]);
        all.extend([[&[norm][..], &gelu, &[add]].concat(), [&gelu[..], &[add, centred]].concat()]);
    }
    let [solu, relu] = [Activation::Solu, Activation::Relu].map(Kind::Activation);
    all.extend([vec![solu, other, Kind::Write], vec![norm, solu, input], vec![solu, relu, input]]);
    all.extend([vec![input, other], vec![Kind::Write, input, other, norm], vec![norm, other, other], vec![input; 2]]);
    assert_all(7, SHAPE, &all);
}

#[test]
fn long_sequences_are_divided_among_threads() {
    let shape = Shape { sequences: 2, pos: 600, heads: Heads { heads: 2, kv_heads: 1, d_head: 3 }, ..SHAPE };
    assert_all(8, shape, &attentions().map(|attention| vec![attention]).collect::<Vec<_>>());
    let branch = [Kind::Qkv, Kind::Rope, Kind::Attention { is_causal: true, has_nothing: false }, Kind::Write];
    assert_all(9, Shape { pos: 513, ..shape }, &[branch.to_vec()]);
    assert_all(10, Shape { sequences: 3, pos: 512, ..shape }, &[branch[1..3].to_vec()]);
    // Its products are divided too.
    let longer = Shape { sequences: 1, pos: 1100, heads: Heads { heads: 1, kv_heads: 1, d_head: 3 }, ..SHAPE };
    let causal = Kind::Attention { is_causal: true, has_nothing: false };
    assert_all(9, longer, &[vec![Kind::Norm(Normed::Gains), Kind::Qkv, causal, Kind::Write, Kind::AddInput]]);
}

#[test]
fn random_parts_of_random_branches() {
    for seed in 0..150 {
        let mut random = Random(1000 + seed);
        let (shape, kinds) = (random.shape(), random.kinds());
        let case = Case::new(shape, &kinds, &mut random);
        assert_agrees(&case, &mut random);
    }
}
