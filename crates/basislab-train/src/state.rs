//! A run in the middle as files, and back. Batches, rotations and held-out tokens follow from the seed and the step.

use crate::train::Context;
use crate::trainee::Trainee;
use basislab_config::RunSpec;
use basislab_model::at_least_f32;
use basislab_store::{Dtype, NamedTensor, TensorError, decode, decode_any, encode};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// Whether a run with one seed can be resumed from a state.
///
/// # Errors
/// As [`Trainee::restore`], and a step that the run does not have.
pub fn check_state(run: &RunSpec, seed: u64, on: Context<'_>, state: &State) -> Result<(), TensorError> {
    if state.step > run.train.steps {
        let what = format!("found step {}, expected at most {}", state.step, run.train.steps);
        return Err(TensorError::new(what));
    }
    Trainee::new(run, seed, on.corpus.d_vocab(), on.device).restore(run, seed, state)
}

/// All that a run resumes from after `step` updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Updates made.
    pub step: u64,
    /// `weights.safetensors`: every parameter by its path, `[in, out]`, as the run holds it. `optimizer.safetensors`:
    /// `PATH.SLOT`, what the rule of the parameter remembers, in the basis that the rule works in.
    pub files: BTreeMap<String, Vec<u8>>,
}

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

impl Trainee {
    /// What is needed to resume after `step` updates.
    pub fn state(&self, step: u64) -> State {
        let parameters = self.model.parameters().into_iter().zip(self.model.values());
        let weights: Vec<NamedTensor> =
            parameters.map(|(parameter, value)| named(parameter.path, value.inner())).collect();
        let slots = self.optimizer.state().into_iter();
        let slots: Vec<NamedTensor> = slots.map(|(path, slot, value)| named(format!("{path}.{slot}"), value)).collect();
        let files = [(WEIGHTS, weights), (OPTIMIZER, slots)];
        State { step, files: files.map(|(name, tensors)| (name.to_owned(), encode(&tensors))).into() }
    }

    /// Puts [`Trainee::state`] back into a trainee that was made for the same run and seed.
    ///
    /// # Errors
    /// Tensors that are missing, left over, or of another shape or type.
    pub fn restore(&mut self, run: &RunSpec, seed: u64, state: &State) -> Result<(), TensorError> {
        for phase in run.phases.iter().take_while(|phase| phase.from <= state.step) {
            self.enter(phase, run, seed);
        }
        let values = self.model.values();
        let device = values[0].clone().inner().device();
        let file = |name: &str| state.files.get(name).map_or(&[][..], Vec::as_slice);
        let parameters = self.model.parameters();
        let expected: Vec<_> = parameters
            .iter()
            .zip(&values)
            .map(|(parameter, value)| (parameter.path.clone(), stored(value.dtype()), parameter.shape.to_vec()))
            .collect();
        let weights = decode(file(WEIGHTS), &expected)?;
        let dtype = stored(at_least_f32(values[0].clone()).dtype());
        let mut slots = Vec::new();
        for tensor in decode_any(file(OPTIMIZER))? {
            let (path, slot) = tensor.name.rsplit_once('.').unwrap_or((&tensor.name, ""));
            let Some(parameter) = parameters.iter().find(|parameter| parameter.path == path) else {
                return Err(TensorError::new(format!("{} is unknown", tensor.name)));
            };
            // Every rule's slots have the shape of their parameter.
            if tensor.dtype != dtype || tensor.shape != parameter.shape {
                let (found, expected) = ((tensor.dtype, &tensor.shape), (dtype, parameter.shape));
                return Err(TensorError::new(format!("{}: found {found:?}, expected {expected:?}", tensor.name)));
            }
            let (path, slot) = (path.to_owned(), slot.to_owned());
            slots.push((path, slot, on_device(tensor, &device)));
        }
        let (.., since) = run.optimizer_at(state.step);
        self.optimizer.restore(state.step - since, slots).map_err(TensorError::new)?;
        self.model.set_values(weights.into_iter().map(|tensor| on_device(tensor, &device)).collect());
        Ok(())
    }
}

fn on_device(tensor: NamedTensor, device: &Device) -> Tensor<2> {
    let dtype = BOTH_NAMES.iter().find(|(_, stored)| *stored == tensor.dtype).expect("types were checked").0;
    Tensor::from_data(TensorData::from_bytes_vec(tensor.bytes, tensor.shape, dtype), (device, dtype))
}

fn named(name: String, tensor: Tensor<2>) -> NamedTensor {
    let (dtype, shape) = (stored(tensor.dtype()), tensor.dims().to_vec());
    NamedTensor { name, dtype, shape, bytes: tensor.into_data().as_bytes().to_vec() }
}

// The files are little-endian, and so are the bytes that burn hands out here.
const _: () = assert!(cfg!(target_endian = "little"));

/// burn's names of the types that numbers are stored in, and those of the files.
const BOTH_NAMES: [(DType, Dtype); 4] =
    [(DType::F64, Dtype::F64), (DType::F32, Dtype::F32), (DType::BF16, Dtype::BF16), (DType::F16, Dtype::F16)];

fn stored(dtype: DType) -> Dtype {
    let found = BOTH_NAMES.iter().find(|(burn, _)| *burn == dtype);
    found.unwrap_or_else(|| unreachable!("parameters and slots are floats, not {dtype:?}")).1
}
