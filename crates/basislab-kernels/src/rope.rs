use crate::part::Heads;
use crate::simd::{dispatch, fma};
use pulp::{Simd, WithSimd};
use std::sync::Arc;

/// Rotary position embedding: rotates pairs of coordinates of each head's queries and keys by an angle per position.
#[derive(Debug, Clone)]
pub struct Rope {
    /// How a row is divided.
    pub heads: Heads,
    /// Whether coordinates `(2k, 2k + 1)` make pairs; else `(k, k + K/2)` of the K that rotate.
    pub is_interleaved: bool,
    /// Cosines and sines of the angles, `[pos, K/2]` each.
    pub tables: Arc<[Vec<f32>; 2]>,
}

impl Rope {
    /// Rotates rows of whole sequences in place, `direction` 1 forward and -1 back.
    pub(crate) fn rotate(&self, x: &mut [f32], pos: usize, direction: f32) {
        dispatch(Rotate { rope: self, x, pos, direction });
    }
}

struct Rotate<'a> {
    rope: &'a Rope,
    x: &'a mut [f32],
    pos: usize,
    direction: f32,
}

impl WithSimd for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rope, x, pos, direction } = self;
        let (heads, [cos, sin]) = (&rope.heads, &*rope.tables);
        let half = cos.len() / pos;
        // Queries and keys lie side by side.
        let rotated = heads.queries() + heads.keys();
        for (row, x) in x.chunks_exact_mut(heads.width()).enumerate() {
            let at = row % pos * half;
            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
            for head in x[..rotated].chunks_exact_mut(heads.d_head) {
                let head = &mut head[..2 * half];
                if rope.is_interleaved {
                    for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                        let ([a, b], sin) = (*pair, sin * direction);
                        *pair = [fma::<S>(a, *cos, -b * sin), fma::<S>(a, sin, b * *cos)];
                    }
                } else {
                    let (first, second) = head.split_at_mut(half);
                    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                        let (x, y, sin) = (*a, *b, sin * direction);
                        *a = fma::<S>(x, *cos, -y * sin);
                        *b = fma::<S>(x, sin, y * *cos);
                    }
                }
            }
        }
    }
}
