use crate::keys::choice;

choice! {
    /// Type of floating-point numbers.
    pub enum Dtype {
        /// 64 bits, 53 of them significant: for laws and gradient checks.
        F64 = "f64",
        /// 32 bits, 24 of them significant.
        F32 = "f32",
        /// 16 bits, 8 of them significant, with the range of `f32`.
        Bf16 = "bf16",
        /// 16 bits, 11 of them significant, up to 65,504.
        F16 = "f16",
    }
}

impl Dtype {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Whether it has the digits of `f32` at least.
    pub fn is_wide(self) -> bool {
        self.at_least_f32() == self
    }

    /// The type in which optimizers work on parameters of this type: at least `f32`.
    pub fn at_least_f32(self) -> Self {
        if self == Self::F64 { Self::F64 } else { Self::F32 }
    }
}
