//! A user's matrix in a .npy or .safetensors file: the header is read first, the values when they are asked for.

use crate::npy;
use crate::tensor_table::{refuse_pointer, tensor_table};
use safetensors::Dtype;
use std::io::{self, Read, Seek, SeekFrom};

/// A matrix of float16, bfloat16, float32 or float64 in a file, whose header fits the file's length.
#[derive(Debug)]
pub struct MatrixFile<R> {
    source: R,
    /// Bytes before the first value.
    start: u64,
    float: Float,
    big_endian: bool,
    /// Whether the first index runs fastest.
    fortran: bool,
    shape: [usize; 2],
    /// Every 16-bit number by its bit pattern: converting one at a time can be slow.
    narrow: Vec<f64>,
}

/// Types of values that can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Float {
    /// Every number of 16 bits; none of wider types.
    fn narrow(self) -> Vec<f64> {
        match self {
            Self::F16 => (0..=u16::MAX).map(|bits| half::f16::from_bits(bits).to_f64()).collect(),
            Self::Bf16 => (0..=u16::MAX).map(|bits| half::bf16::from_bits(bits).to_f64()).collect(),
            Self::F32 | Self::F64 => Vec::new(),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// Values that are read at a time.
const CHUNK: usize = 1 << 15;

impl<R: Read + Seek> MatrixFile<R> {
    /// `[n, m]` in either order.
    ///
    /// # Errors
    /// What the file holds instead.
    pub fn npy(mut source: R) -> Result<Self, String> {
        refuse_pointer(&mut source)?;
        let npy::Header { dtype: (float, big_endian), fortran, shape, start } = npy::header(&mut source)?;
        let shape = two_axes(shape)?;
        let length = source.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
        if start.saturating_add((shape[0] * shape[1] * float.bytes()) as u64) > length {
            return Err(format!("damaged .npy file: found {} bytes for shape {shape:?}", length - start.min(length)));
        }
        Ok(Self { source, start, float, big_endian, fortran, shape, narrow: float.narrow() })
    }

    /// The tensor of that name, or the only one.
    ///
    /// # Errors
    /// What the file holds instead.
    pub fn safetensors(mut source: R, name: Option<&str>) -> Result<Self, String> {
        let mut tensors = tensor_table(&mut source)?;
        let names = tensors.keys().cloned().collect::<Vec<_>>();
        let name = match (name, &names[..]) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, _) => {
                let (found, all) = (names.len(), names.join(", "));
                return Err(format!("found {found} tensors, expected --tensor with one of {all}"));
            }
        };
        let Some(tensor) = tensors.remove(name) else {
            return Err(format!("no tensor {name:?}, expected one of {}", names.join(", ")));
        };
        let float = match tensor.dtype {
            Dtype::F64 => Float::F64,
            Dtype::F32 => Float::F32,
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            other => return Err(format!("tensor {name:?}: found dtype {other:?}, expected F16, BF16, F32 or F64")),
        };
        let shape = two_axes(tensor.shape)?;
        Ok(Self {
            source,
            start: tensor.bytes.start,
            float,
            big_endian: false,
            fortran: false,
            shape,
            narrow: float.narrow(),
        })
    }

    /// The two axes.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// All values in C order. Little more memory is taken than they need.
    ///
    /// # Errors
    /// What cannot be read; `OutOfMemory` where there is no room for them.
    pub fn read(&mut self) -> io::Result<Vec<f64>> {
        let [rows, columns] = self.shape;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        values.try_reserve_exact(rows * columns)?;
        if self.fortran {
            values.resize(rows * columns, 0.0);
            self.read_columns(&mut values, &mut bytes)?;
            return Ok(values);
        }
        self.source.seek(SeekFrom::Start(self.start))?;
        while values.len() < rows * columns {
            self.decode(CHUNK.min(rows * columns - values.len()), &mut bytes, &mut values)?;
        }
        Ok(values)
    }

    /// Transposes a few columns of some thousand rows at a time: each line of the cache is then written once.
    fn read_columns(&mut self, values: &mut [f64], bytes: &mut Vec<u8>) -> io::Result<()> {
        const COLUMNS: usize = 8;
        let [rows, columns] = self.shape;
        let mut tile = Vec::new();
        for left in (0..columns).step_by(COLUMNS) {
            for top in (0..rows).step_by(CHUNK / COLUMNS) {
                let (width, height) = (COLUMNS.min(columns - left), (CHUNK / COLUMNS).min(rows - top));
                tile.clear();
                for column in left..left + width {
                    let at = (column * rows + top) * self.float.bytes();
                    self.source.seek(SeekFrom::Start(self.start + at as u64))?;
                    self.decode(height, bytes, &mut tile)?;
                }
                for row in 0..height {
                    let line = &mut values[(top + row) * columns + left..][..width];
                    for (column, value) in line.iter_mut().enumerate() {
                        *value = tile[column * height + row];
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends the next `count` values.
    fn decode(&mut self, count: usize, bytes: &mut Vec<u8>, values: &mut Vec<f64>) -> io::Result<()> {
        bytes.resize(count * self.float.bytes(), 0);
        self.source.read_exact(bytes)?;
        let big = self.big_endian;
        match self.float {
            Float::F64 => values.extend(numbers(bytes, big).map(f64::from_le_bytes)),
            Float::F32 => values.extend(numbers(bytes, big).map(|b| f64::from(f32::from_le_bytes(b)))),
            Float::F16 | Float::Bf16 => {
                values.extend(numbers(bytes, big).map(|b| self.narrow[usize::from(u16::from_le_bytes(b))]));
            }
        }
        Ok(())
    }
}

/// The bytes of each number, smallest first.
fn numbers<const N: usize>(bytes: &[u8], big_endian: bool) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().map(move |number| {
        let mut number = *number;
        if big_endian {
            number.reverse();
        }
        number
    })
}

fn two_axes(shape: Vec<usize>) -> Result<[usize; 2], String> {
    let shape = <[usize; 2]>::try_from(shape).map_err(|shape| {
        format!(
            "found {} axes {shape:?}, expected 2: [n_tokens, d_model]; reshape other axes into n_tokens",
            shape.len()
        )
    })?;
    match shape[0].checked_mul(shape[1]).filter(|values| values.checked_mul(8).is_some()) {
        Some(_) => Ok(shape),
        None => Err(format!("found shape {shape:?}, more values than any file holds")),
    }
}
