use half::{bf16, f16};

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q4K,
    Q5K,
    Q6K,
}

use TensorType::{Bf16, F16, F32, Q4_0, Q4_1, Q4K, Q5K, Q6K, Q8_0};

/// Number in the file, type, name.
const TYPES: [(u32, TensorType, &str); 9] = [
    (0, F32, "F32"),
    (1, F16, "F16"),
    (30, Bf16, "BF16"),
    (8, Q8_0, "Q8_0"),
    (2, Q4_0, "Q4_0"),
    (3, Q4_1, "Q4_1"),
    (12, Q4K, "Q4_K"),
    (13, Q5K, "Q5_K"),
    (14, Q6K, "Q6_K"),
];

/// Types that exist and are not read.
const OTHERS: [(u32, &str); 24] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl TensorType {
    /// By its number in the file.
    ///
    /// # Errors
    /// A type that is not read, with those that are.
    pub(crate) fn from_number(number: u32) -> Result<Self, String> {
        if let Some((_, kind, _)) = TYPES.iter().find(|entry| entry.0 == number) {
            return Ok(*kind);
        }
        let name = OTHERS.iter().find(|entry| entry.0 == number).map_or("unknown", |entry| entry.1);
        let known: Vec<&str> = TYPES.iter().map(|entry| entry.2).collect();
        Err(format!("has type {name} ({number}), which is not read; read are {}", known.join(", ")))
    }

    /// As llama.cpp writes it.
    pub(crate) fn name(self) -> &'static str {
        TYPES.iter().find(|entry| entry.1 == self).map_or("", |entry| entry.2)
    }

    /// Numbers of a block, and its bytes.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            F32 => (1, 4),
            F16 | Bf16 => (1, 2),
            Q8_0 => (32, 34),
            Q4_0 => (32, 18),
            Q4_1 => (32, 20),
            Q4K => (256, 144),
            Q5K => (256, 176),
            Q6K => (256, 210),
        }
    }

    /// The numbers of whole blocks, with the roundings of llama.cpp; `out` has as many as `bytes` stand for.
    pub(crate) fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let (numbers, size) = self.block();
        let decode = match self {
            F32 => {
                |block: &[u8], out: &mut [f32]| out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]])
            }
            F16 => |block: &[u8], out: &mut [f32]| out[0] = half(block),
            Bf16 => |block: &[u8], out: &mut [f32]| out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            Q8_0 => q8_0,
            Q4_0 => q4_0,
            Q4_1 => q4_1,
            Q4K => q4_k,
            Q5K => q5_k,
            Q6K => q6_k,
        };
        for (block, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(numbers)) {
            decode(block, out);
        }
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Scale d; 32 signed bytes q: d q.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(*q as i8);
    }
}

/// Scale d; 32 numbers q of 4 bits, the first 16 in the low halves of the bytes: d (q - 8).
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block);
    for (k, byte) in block[2..].iter().enumerate() {
        out[k] = d * (f32::from(byte & 15) - 8.0);
        out[k + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// Scale d; minimum m; numbers as in `q4_0`: d q + m.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block), half(&block[2..]));
    for (k, byte) in block[4..].iter().enumerate() {
        out[k] = d * f32::from(byte & 15) + m;
        out[k + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// Scale and minimum, 6 bits each, of sub-block `k` of 8.
fn scale_and_minimum(packed: &[u8], k: usize) -> (f32, f32) {
    let (scale, minimum) = if k < 4 {
        (packed[k] & 63, packed[k + 4] & 63)
    } else {
        let rest = packed[k + 4];
        (rest & 15 | packed[k - 4] >> 6 << 4, rest >> 4 | packed[k] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

/// Scale d; scale of minima e; 8 sub-blocks of 32 with scale s and minimum m; two sub-blocks share 32 bytes, the first one
/// in the low halves: d s q - e m.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, e) = (half(block), half(&block[2..]));
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], k);
        let (scale, minimum) = (d * scale, e * minimum);
        for (out, byte) in out.iter_mut().zip(&block[16 + k / 2 * 32..]) {
            *out = scale * f32::from(byte >> (k % 2 * 4) & 15) - minimum;
        }
    }
}

/// As `q4_k`, with a fifth bit: that of sub-block k is bit k of 32 bytes that all share.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, e) = (half(block), half(&block[2..]));
    let (high, low) = (&block[16..48], &block[48..]);
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], k);
        let (scale, minimum) = (d * scale, e * minimum);
        for ((out, byte), high) in out.iter_mut().zip(&low[k / 2 * 32..]).zip(high) {
            let q = byte >> (k % 2 * 4) & 15 | (high >> k & 1) << 4;
            *out = scale * f32::from(q) - minimum;
        }
    }
}

/// Low 4 bits, high 2 bits, 16 signed scales s of 16 numbers, scale d: d s (q - 32). Of each half of the block, quarters 0
/// and 2 share 32 bytes of low bits, 1 and 3 the next 32; all four share 32 bytes of high bits.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(&block[208..]));
    for (k, out) in out.chunks_exact_mut(32).enumerate() {
        let (half, quarter) = (k / 4, k % 4);
        let low = &low[half * 64 + quarter % 2 * 32..];
        let high = &high[half * 32..];
        for (index, out) in out.iter_mut().enumerate() {
            let q = low[index] >> (quarter / 2 * 4) & 15 | (high[index] >> (quarter * 2) & 3) << 4;
            let scale = d * f32::from(scales[k * 2 + index / 16] as i8);
            *out = scale * (f32::from(q) - 32.0);
        }
    }
}
