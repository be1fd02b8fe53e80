use serde::{Deserialize, Serialize};

/// Type of floating-point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 64 bits, 53 of them significant: for laws and gradient checks.
    F64,
    /// 32 bits, 24 of them significant.
    F32,
    /// 16 bits, 8 of them significant, with the range of `f32`.
    Bf16,
    /// 16 bits, 11 of them significant, up to 65,504.
    F16,
}

impl Dtype {
    /// All of them, widest first.
    pub const ALL: [Self; 4] = [Self::F64, Self::F32, Self::Bf16, Self::F16];

    /// Its name in configs and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The type in which optimizers work on parameters of this type: at least `f32`.
    pub fn at_least_f32(self) -> Self {
        if self == Self::F64 { Self::F64 } else { Self::F32 }
    }
}
