//! The one place that turns a backend's name into a device, and that knows what this build and this machine offer.

#[cfg(feature = "wgpu")]
mod adapters;
mod failure;

use crate::exit::{Code, Exit};
use crate::resources;
#[cfg(feature = "wgpu")]
use adapters::Adapter;
use basislab_config::{Arm, Dtype, Experiment, ModelSpec};
use basislab_optim::{Precision, precision};
use burn::tensor::Device;
use clap::ValueEnum;
#[cfg(feature = "wgpu")]
use failure::is_refused_thread;
use failure::{in_one_line, is_lost, is_too_large, without_panic};
use serde::Serialize;
use serde_json::{Value, json};

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The fastest CPU backend of this build: flex, else ndarray
    Cpu,
    /// A GPU if there is one (cuda, then wgpu), else `cpu`; never a software adapter
    Auto,
    /// burn-flex: CPU, deterministic
    Flex,
    /// burn-ndarray: CPU, deterministic, slower; deprecated by burn
    Ndarray,
    /// burn-wgpu: GPU through Vulkan, Metal or DirectX
    Wgpu,
    /// burn-cuda: NVIDIA GPU
    Cuda,
}

/// The backends that compute; `cpu` and `auto` mean one of them.
pub(crate) const ALL: [Backend; 4] = [Backend::Flex, Backend::Ndarray, Backend::Wgpu, Backend::Cuda];

/// A device that has been opened, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct OpenDevice {
    pub(crate) device: Device,
    pub(crate) info: DeviceInfo,
}

/// What a device is, as far as its driver tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DeviceInfo {
    pub(crate) backend: &'static str,
    /// Number among the devices of its backend: `--device`.
    pub(crate) index: usize,
    pub(crate) name: String,
    /// `cpu`, `software`, `discrete`, `integrated`, `virtual`, `other` or `gpu`.
    pub(crate) kind: &'static str,
    pub(crate) driver: String,
    /// Bytes it has in all; `None` where nothing tells.
    pub(crate) memory: Option<u64>,
    /// Types it computes in.
    pub(crate) dtypes: Vec<Dtype>,
}

impl Backend {
    /// What `cpu` and `auto` mean in this build on this machine.
    pub(crate) fn resolve(self) -> Self {
        match self {
            Self::Cpu if cfg!(feature = "flex") || !cfg!(feature = "ndarray") => Self::Flex,
            Self::Cpu => Self::Ndarray,
            Self::Auto => {
                let hardware =
                    |backend: &Self| backend.places(1).is_ok_and(|all| all.iter().any(OpenDevice::is_hardware));
                [Self::Cuda, Self::Wgpu].into_iter().find(hardware).unwrap_or(Self::Cpu.resolve())
            }
            other => other,
        }
    }

    /// Its name in manifests; `cpu` and `auto` are resolved first.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Auto => "auto",
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The backend that a plan or a manifest names.
    pub(crate) fn named(name: &str) -> Result<Self, Exit> {
        let names = ALL.map(Self::name);
        let expected = || format!("found backend {name:?}, expected {}", basislab_config::one_of(&names, Some(name)));
        ALL.into_iter().find(|backend| backend.name() == name).ok_or_else(|| Exit::usage(expected()))
    }

    /// Whether this build holds it.
    pub(crate) fn is_built(self) -> bool {
        match self.resolve() {
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Cpu | Self::Auto => unreachable!("resolved"),
        }
    }

    /// Device `index`, opened, or one line that says how to get it.
    pub(crate) fn open(self, index: usize) -> Result<OpenDevice, Exit> {
        let backend = self.resolve();
        let mut all = backend.places(index.saturating_add(1))?;
        let count = all.len();
        if index >= count {
            let name = backend.name();
            return Err(Exit::usage(format!(
                "--device {index}: found {count} device{} of {name}, expected a number below {count}; `basislab backends` lists them",
                if count == 1 { "" } else { "s" }
            )));
        }
        Ok(all.swap_remove(index))
    }

    /// The first `most` devices of this backend that the machine has, opened; at least one. The best come first.
    #[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), expect(unused_variables, reason = "a CPU is one device"))]
    pub(crate) fn places(self, most: usize) -> Result<Vec<OpenDevice>, Exit> {
        match self.resolve() {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(vec![on_cpu(Self::Flex, Device::flex())]),
            #[cfg(feature = "ndarray")]
            Self::Ndarray => on_ndarray(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => on_wgpu(most),
            #[cfg(feature = "cuda")]
            Self::Cuda => on_cuda(most),
            other => Err(Exit::usage(format!(
                "--backend {0}: found a build without it; build with `cargo build --release --features {0}`, or use another --backend",
                other.name()
            ))),
        }
    }
}

impl OpenDevice {
    /// Does `work` on the device. burn panics when a device fails (lost, out of memory): here that is one line.
    pub(crate) fn work<T>(&self, work: impl FnOnce() -> Result<T, Exit>) -> Result<T, Exit> {
        if self.info.kind == "cpu" {
            return work();
        }
        without_panic(work).unwrap_or_else(|(reason, at)| Err(self.failure(&reason, &at)))
    }

    /// The error that a panic with this `reason`, `at` this place in the source, is.
    fn failure(&self, reason: &str, at: &str) -> Exit {
        let text = in_one_line(reason);
        let DeviceInfo { backend, index, name, .. } = &self.info;
        let place = format!("--backend {backend} --device {index} ({name})");
        if is_too_large(&text) {
            let advice =
                "use a smaller model, batch or context, more train.micro_batches, or fewer probe.residual_sequences";
            return Exit::new(Code::TooLarge, format!("{place}: too large for the device ({text}); {advice}"));
        }
        let kept = "a run's last checkpoints are whole";
        let message = if is_lost(&text) {
            format!("{place}: the device failed ({text}); {kept}: re-run the command to resume")
        } else {
            format!("{place}: a computation failed ({text}; at {at}); {kept}, but the command may fail there again")
        };
        Exit::new(Code::Device, message)
    }

    /// The type in which laws are checked: the most exact one where that is cheap.
    pub(crate) fn dtype_of_laws(&self) -> Dtype {
        if self.info.kind == "cpu" { Dtype::F64 } else { Dtype::F32 }
    }

    /// What decides bits, for the manifest. `model` says what is multiplied.
    pub(crate) fn describe(&self, model: &ModelSpec) -> Value {
        let ModelSpec { d_model, d_mlp, n_ctx, .. } = *model;
        let compute = basislab_model::dtype(model.compute_dtype);
        let of = |size| precision(&self.device, compute, size);
        let (square, wide) = (of([d_model; 3]), of([n_ctx, d_model, d_mlp]));
        let Precision { name, error } = if wide.error > square.error { wide } else { square };
        let DeviceInfo { backend, index, name: device, kind, driver, .. } = &self.info;
        json!({
            "backend": backend, "index": index, "name": device, "kind": kind, "driver": driver,
            "param_dtype": model.param_dtype, "compute_dtype": model.compute_dtype,
            "products": { "precision": name, "relative_error": format!("{error:.0e}") },
            "parts": { "fused_kernels": self.parts(model, true), "burn_operations": self.parts(model, false) },
        })
    }

    /// The parts of a model that run as fused kernels, or those that do not.
    pub(crate) fn parts(&self, model: &ModelSpec, fused: bool) -> Vec<&'static str> {
        let all = basislab_model::parts(model, &self.device).into_iter();
        all.filter(|(_, is_fused)| *is_fused == fused).map(|(part, _)| part.as_str()).collect()
    }

    /// Updates that may be under way before their losses are read.
    pub(crate) fn ahead(&self) -> usize {
        if self.info.kind == "cpu" { 1 } else { 16 }
    }

    /// Whether it is a GPU, not software Vulkan.
    pub(crate) fn is_hardware(&self) -> bool {
        !matches!(self.info.kind, "cpu" | "software")
    }

    /// Whether the device computes in the types that all models want, or one line that says what it has.
    pub(crate) fn require(&self, experiment: &Experiment) -> Result<(), Exit> {
        let of = |arm: &Arm| [arm.run.model.param_dtype, arm.run.model.compute_dtype];
        let wanted: Vec<Dtype> = experiment.arms.iter().flat_map(of).collect();
        let Some(missing) = wanted.iter().find(|dtype| !self.info.dtypes.contains(dtype)) else { return Ok(()) };
        let DeviceInfo { backend, name, .. } = &self.info;
        let has: Vec<&str> = self.info.dtypes.iter().map(|dtype| dtype.name()).collect();
        Err(Exit::usage(format!(
            "--backend {backend}: found {} in model.param_dtype or model.compute_dtype, expected a type that {name} computes in: {}",
            missing.name(),
            has.join(", ")
        )))
    }
}

fn dtypes(device: &Device) -> Vec<Dtype> {
    Dtype::ALL.iter().copied().filter(|dtype| device.supports_dtype(basislab_model::dtype(*dtype))).collect()
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
fn on_cpu(backend: Backend, device: Device) -> OpenDevice {
    let info = DeviceInfo {
        backend: backend.name(),
        index: 0,
        name: crate::build::cpu().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        kind: "cpu",
        driver: format!("burn-{} {}", backend.name(), env!("BASISLAB_BURN")),
        memory: resources::memory_of_system(),
        dtypes: dtypes(&device),
    };
    OpenDevice { device, info }
}

/// burn-ndarray multiplies with threads of its own, which the first product starts: here, where a refusal can be told.
#[cfg(feature = "ndarray")]
fn on_ndarray() -> Result<Vec<OpenDevice>, Exit> {
    #[expect(deprecated, reason = "asked for by name; the day burn drops it, this line stops compiling")]
    let device = Device::ndarray();
    match without_panic(|| precision(&device, basislab_model::dtype(Dtype::F32), [64; 3])) {
        Ok(_) => Ok(vec![on_cpu(Backend::Ndarray, device)]),
        Err((reason, _)) => Err(Exit::new(
            Code::TooLarge,
            format!(
                "--backend ndarray: the system refuses the threads that it multiplies with ({}); allow more (see `ulimit -u`), or use --backend flex",
                in_one_line(&reason)
            ),
        )),
    }
}

/// The adapters of [`adapters::open`], with what the system knows of their memory.
#[cfg(feature = "wgpu")]
fn on_wgpu(most: usize) -> Result<Vec<OpenDevice>, Exit> {
    let unusable = |error: String| match is_too_large(&error) {
        true => Exit::new(
            Code::TooLarge,
            format!(
                "--backend wgpu: the adapter has no memory left ({error}); close other programs that use it, or use --backend cpu"
            ),
        ),
        false => Exit::usage(format!(
            "--backend wgpu: no usable GPU adapter ({error}); install a GPU driver with Vulkan (Debian's mesa-vulkan-drivers has a software one), or use --backend cpu"
        )),
    };
    let place = |(index, Adapter { device, kind, setup }): (usize, Adapter)| {
        let info = setup.adapter.get_info();
        let driver = [info.driver, info.driver_info, format!("{:?}", info.backend)];
        let info = DeviceInfo {
            backend: Backend::Wgpu.name(),
            index,
            name: info.name,
            kind,
            driver: driver.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "),
            memory: match kind {
                "integrated" | "software" => resources::memory_of_system(),
                _ => resources::memory_of_card(&info.device_pci_bus_id),
            },
            dtypes: dtypes(&device),
        };
        OpenDevice { device, info }
    };
    // burn talks to an adapter through a thread, which the first call starts.
    let opened = without_panic(|| adapters::open(most).map(|all| all.into_iter().enumerate().map(place).collect()));
    match opened {
        Ok(all) => all.map_err(unusable),
        Err((reason, _)) if is_refused_thread(&reason) => Err(Exit::new(
            Code::TooLarge,
            format!(
                "--backend wgpu: the system refuses the threads that the adapter needs ({}); allow more (see `ulimit -u`), or use --backend cpu",
                in_one_line(&reason)
            ),
        )),
        Err((reason, at)) => Err(Exit::new(
            Code::Device,
            format!("--backend wgpu: the adapter does not open ({}; at {at}); use --backend cpu", in_one_line(&reason)),
        )),
    }
}

#[cfg(feature = "cuda")]
fn on_cuda(most: usize) -> Result<Vec<OpenDevice>, Exit> {
    use burn::tensor::DeviceType;
    let place = |(index, device): (usize, Device)| {
        // The driver's errors are panics there.
        let opened = without_panic(|| device.identity().map(|identity| (identity, dtypes(&device))));
        let (identity, dtypes) = opened.ok().flatten().ok_or_else(|| {
            Exit::usage(format!("--backend cuda: device {index} does not open; try `nvidia-smi`, or use --backend cpu"))
        })?;
        // CUDA numbers cards its own way: NVIDIA's tool knows this one by its address.
        let address = identity.physical.and_then(|card| card.pci_address);
        let card = address.map_or_else(|| index.to_string(), |address| address.to_string());
        let info = DeviceInfo {
            backend: Backend::Cuda.name(),
            index,
            name: identity.name,
            kind: "gpu",
            driver: resources::nvidia("driver_version", &card)
                .map_or_else(|| "CUDA".to_owned(), |version| format!("NVIDIA {version}")),
            memory: resources::memory_of_card(&card),
            dtypes,
        };
        Ok(OpenDevice { device, info })
    };
    let all = Device::enumerate(DeviceType::Cuda).into_vec().into_iter().take(most).enumerate().map(place);
    let all = all.collect::<Result<Vec<OpenDevice>, Exit>>()?;
    match all.is_empty() {
        true => Err(Exit::usage(
            "--backend cuda: no NVIDIA GPU found (no libcuda, or no device); install NVIDIA's driver, or use --backend cpu",
        )),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests;
