use crate::gguf::quant::TensorType;
use std::collections::BTreeMap;
use std::io::Read;

/// What the file says before its weights.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Integers(Vec<i32>),
    /// An array of numbers of another type, which no reader of this crate asks for.
    Others,
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) kind: TensorType,
    /// Sizes, that of consecutive numbers first, without ones at the end.
    pub(crate) shape: Vec<usize>,
    /// First byte in the file.
    pub(crate) offset: u64,
}

impl Tensor {
    /// Numbers in it; `parse` has checked that they fit the file.
    pub(crate) fn numbers(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

impl Header {
    /// A value of the metadata that must be there.
    ///
    /// # Errors
    /// It is missing, or of another type.
    pub(crate) fn required<'a, T>(&'a self, key: &str, read: fn(&'a Value) -> Option<T>) -> Result<T, String> {
        self.optional(key, read)?.ok_or_else(|| format!("has no {key:?}, which is required; convert the model again"))
    }

    /// A value of the metadata that may be absent.
    ///
    /// # Errors
    /// It is of another type.
    pub(crate) fn optional<'a, T>(&'a self, key: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>, String> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("{key:?} has a value of an unexpected type or size"))
    }
}

impl Value {
    pub(crate) fn bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// A size or an index; 2^20 is the longest axis of a model.
    pub(crate) fn size(&self) -> Option<usize> {
        if let Self::Integer(value @ 0..=0x10_0000) = self { usize::try_from(*value).ok() } else { None }
    }

    pub(crate) fn float(&self) -> Option<f64> {
        if let Self::Float(value) = self { Some(*value) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(value) = self { Some(value) } else { None }
    }

    pub(crate) fn texts(&self) -> Option<&[String]> {
        if let Self::Texts(value) = self { Some(value) } else { None }
    }

    pub(crate) fn floats(&self) -> Option<&[f32]> {
        if let Self::Floats(value) = self { Some(value) } else { None }
    }

    pub(crate) fn integers(&self) -> Option<&[i32]> {
        if let Self::Integers(value) = self { Some(value) } else { None }
    }
}

/// A file of `left` more bytes, of which `at` have been read.
struct Input<R> {
    inner: R,
    at: u64,
    left: u64,
}

impl<R: Read> Input<R> {
    /// The next bytes; no more are allocated than the file has.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, String> {
        self.advance(count)?;
        let mut bytes = vec![0; usize::try_from(count).map_err(|error| error.to_string())?];
        self.inner.read_exact(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.advance(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(bytes)
    }

    fn advance(&mut self, count: u64) -> Result<(), String> {
        let Some(left) = self.left.checked_sub(count) else {
            let (at, left) = (self.at, self.left);
            return Err(format!(
                "is cut off or damaged: {count} bytes are expected at byte {at}, where {left} are left; get it again"
            ));
        };
        self.left = left;
        self.at += count;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        let at = self.at;
        String::from_utf8(self.bytes(length)?).map_err(|_| format!("the text at byte {at} is not UTF-8"))
    }

    /// Elements of an array; each takes `bytes` at least.
    fn count(&mut self, bytes: u64) -> Result<usize, String> {
        let count = self.u64()?;
        if count.checked_mul(bytes).is_none_or(|bytes| bytes > self.left) {
            return Err(format!("an array of {count} elements does not fit the {} bytes that are left", self.left));
        }
        usize::try_from(count).map_err(|error| error.to_string())
    }

    fn list<T>(&mut self, bytes: u64, read: fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let count = self.count(bytes)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn value(&mut self) -> Result<Value, String> {
        let kind = self.u32()?;
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => match self.u32()? {
                5 => Value::Integers(self.list(4, |input| Ok(i32::from_le_bytes(input.array()?)))?),
                6 => Value::Floats(self.list(4, |input| Ok(f32::from_le_bytes(input.array()?)))?),
                8 => Value::Texts(self.list(8, Self::text)?),
                kind => {
                    let bytes = match kind {
                        0 | 1 | 7 => 1,
                        2 | 3 => 2,
                        4 => 4,
                        10..=12 => 8,
                        _ => return Err(format!("an array at byte {} has elements of type {kind}", self.at)),
                    };
                    let mut rest = self.count(bytes)? as u64 * bytes;
                    while rest > 0 {
                        let some = rest.min(1 << 16);
                        self.bytes(some)?;
                        rest -= some;
                    }
                    Value::Others
                }
            },
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("a value at byte {} has type {kind}; expected 0 to 12", self.at)),
        })
    }

    /// Name, sizes, type and the offset from where the weights start.
    fn tensor(&mut self) -> Result<(String, Tensor), String> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(format!("tensor {name:?} has {dimensions} axes; expected 1 to 4"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = usize::try_from(self.u64()?).unwrap_or(0);
            shape.push(size);
        }
        let kind = TensorType::from_number(self.u32()?).map_err(|error| format!("tensor {name:?} {error}"))?;
        let offset = self.u64()?;
        while shape.len() > 1 && shape.last() == Some(&1) {
            shape.pop();
        }
        Ok((name, Tensor { kind, shape, offset }))
    }
}

/// Reads the header of a file of `size` bytes.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(inner: impl Read, size: u64) -> Result<Header, String> {
    let mut input = Input { inner, at: 0, left: size };
    let magic: [u8; 4] = input.array()?;
    if !super::is_gguf(&magic) {
        return Err(format!("starts with {:?}; expected \"GGUF\"", String::from_utf8_lossy(&magic)));
    }
    match input.u32()? {
        2 | 3 => (),
        version if matches!(version.swap_bytes(), 1..=3) => {
            return Err("is big-endian GGUF; expected little-endian: convert the model again".to_owned());
        }
        version => return Err(format!("is GGUF of version {version}; expected 2 or 3: convert the model again")),
    }
    let (n_tensors, n_values) = (input.u64()?, input.u64()?);
    let mut metadata = BTreeMap::new();
    for _ in 0..n_values {
        let key = input.text()?;
        let value = input.value()?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("has {key:?} twice"));
        }
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..n_tensors {
        let (name, tensor) = input.tensor()?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(format!("has tensor {name:?} twice"));
        }
    }
    let mut header = Header { metadata, tensors };
    let alignment = header.optional("general.alignment", Value::size)?.unwrap_or(32) as u64;
    if !alignment.is_power_of_two() {
        return Err(format!("aligns its tensors to {alignment} bytes; expected a power of two"));
    }
    let data = input.at.next_multiple_of(alignment);
    for (name, tensor) in &mut header.tensors {
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(format!("tensor {name:?} starts at {}, no multiple of {alignment}", tensor.offset));
        }
        let bytes = bytes(tensor).ok_or_else(|| {
            let (numbers, _) = tensor.kind.block();
            format!(
                "tensor {name:?} has shape {:?}; expected positive sizes, the first one a multiple of {numbers}",
                tensor.shape
            )
        })?;
        let start =
            data.checked_add(tensor.offset).filter(|start| start.checked_add(bytes).is_some_and(|end| end <= size));
        tensor.offset = start.ok_or_else(|| {
            format!("is cut off: tensor {name:?} takes {bytes} bytes, which end behind the file's {size}; get it again")
        })?;
    }
    Ok(header)
}

/// Bytes of a tensor; `None` where its sizes are not those of whole blocks, or beyond any file.
fn bytes(tensor: &Tensor) -> Option<u64> {
    let (numbers, bytes) = tensor.kind.block();
    if tensor.shape.contains(&0) || !tensor.shape[0].is_multiple_of(numbers) {
        return None;
    }
    let total = tensor.shape.iter().try_fold(1_u64, |total, size| total.checked_mul(*size as u64))?;
    (total / numbers as u64).checked_mul(bytes as u64)
}
