//! The one place that turns a backend's name into a device.

use crate::exit::Exit;
use burn::tensor::Device;
use clap::ValueEnum;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The fastest CPU backend of this build: flex, else ndarray
    Cpu,
    /// burn-flex: CPU, deterministic
    Flex,
    /// burn-ndarray: CPU, deterministic, slower; deprecated by burn
    Ndarray,
    /// burn-wgpu: GPU through Vulkan, Metal or DirectX
    Wgpu,
    /// burn-cuda: NVIDIA GPU
    Cuda,
}

impl Backend {
    /// `cpu` resolved to the backend it means in this build.
    pub(crate) fn resolve(self) -> Self {
        match self {
            Self::Cpu if cfg!(feature = "flex") => Self::Flex,
            Self::Cpu => Self::Ndarray,
            other => other,
        }
    }

    /// Its name in manifests.
    pub(crate) fn name(self) -> &'static str {
        match self.resolve() {
            Self::Cpu | Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The device, or one line that says how to get it.
    pub(crate) fn device(self) -> Result<Device, Exit> {
        match self.resolve() {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[expect(deprecated, reason = "asked for by name; the day burn drops it, this line stops compiling")]
            Self::Ndarray => Ok(Device::ndarray()),
            #[cfg(feature = "wgpu")]
            // `Device::wgpu` panics on another thread when there is no adapter; `init` returns an error.
            Self::Wgpu => Device::wgpu_options().init().map_err(|error| {
                Exit::usage(format!(
                    "--backend wgpu: no usable GPU adapter ({error}); try --backend cpu, or install a Vulkan driver"
                ))
            }),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            other => Err(Exit::usage(format!(
                "--backend {0}: this build does not hold it; build with `cargo build --release --features {0}`, or use --backend cpu",
                other.name()
            ))),
        }
    }
}
