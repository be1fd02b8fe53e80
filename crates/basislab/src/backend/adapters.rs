//! The adapters that wgpu finds through Vulkan, Metal or DirectX, each opened once in a process.
//!
//! The program and its tests (tests/support.rs) both open adapters here, so that tests use what `--backend wgpu` accepts.

use burn::tensor::wgpu::{WgpuBackend, WgpuSetup};
use burn::tensor::{Device, DeviceKind};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The graphics APIs, best first. OpenGL is left out: its EGL libraries fail when two threads use them at once, and its
/// software adapter is too slow to use. burn's `Auto` tries it too, so it is never asked for `Auto`.
const APIS: [WgpuBackend; 3] = [WgpuBackend::Vulkan, WgpuBackend::Metal, WgpuBackend::Dx12];

/// The kinds of adapters, best first.
const KINDS: [&str; 5] = ["discrete", "integrated", "virtual", "software", "other"];

/// An adapter that has been opened.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    pub(crate) device: Device,
    /// One of `discrete`, `integrated`, `virtual`, `software` and `other`.
    pub(crate) kind: &'static str,
    /// wgpu's own handles.
    #[allow(dead_code, reason = "the integration tests use the device alone")]
    pub(crate) setup: WgpuSetup,
}

/// The first `most` adapters of the first API that has a GPU, else of the first that has any; at least one.
///
/// # Errors
/// Why there is none.
pub(crate) fn open(most: usize) -> Result<Vec<Adapter>, String> {
    // burn opens each adapter once in a process, so what came of it is kept. The lock also keeps threads from
    // enumerating adapters at the same time, which drivers do not survive.
    static OPENED: Mutex<Opened> = Mutex::new(Opened::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut software, mut failed) = (None, None);
    for api in APIS {
        match of_api(&mut opened, api, most) {
            Ok(all) if all[0].kind != "software" => return Ok(all),
            Ok(all) => _ = software.get_or_insert(all),
            Err(error) => _ = failed.get_or_insert(error),
        }
    }
    software.ok_or_else(|| failed.unwrap_or_default())
}

/// What came of opening the adapter of each API, kind and number.
type Opened = BTreeMap<(&'static str, &'static str, usize), Result<Adapter, String>>;

/// The first `most` adapters of one API: those of each kind are numbered.
fn of_api(opened: &mut Opened, api: WgpuBackend, most: usize) -> Result<Vec<Adapter>, String> {
    let (mut all, mut failed) = (Vec::new(), None);
    for kind in KINDS {
        let numbers = match kind {
            "software" => 1,
            "other" => usize::from(all.is_empty()),
            _ => most,
        };
        for number in 0..numbers {
            if all.len() == most {
                break;
            }
            let key = (name(api), kind, number);
            match opened.entry(key).or_insert_with(|| adapter(api, kind, number)) {
                Ok(adapter) => all.push(adapter.clone()),
                Err(error) => {
                    failed = Some(error.clone());
                    break;
                }
            }
        }
    }
    if all.is_empty() { Err(failed.unwrap_or_default()) } else { Ok(all) }
}

fn name(api: WgpuBackend) -> &'static str {
    match api {
        WgpuBackend::Vulkan => "Vulkan",
        WgpuBackend::Metal => "Metal",
        _ => "DirectX",
    }
}

fn adapter(api: WgpuBackend, kind: &'static str, number: usize) -> Result<Adapter, String> {
    let choice = match kind {
        "discrete" => DeviceKind::DiscreteGpu(number),
        "integrated" => DeviceKind::IntegratedGpu(number),
        "virtual" => DeviceKind::VirtualGpu(number),
        "software" => DeviceKind::Cpu,
        // What is of none of these kinds has no number: it is what burn takes when nothing else is there.
        _ => DeviceKind::DefaultDevice,
    };
    // `Device::wgpu` panics on another thread when there is no adapter; `init_with_setup` returns an error.
    let options = Device::wgpu_options().device_kind(choice).graphics_api(api);
    let (device, setup) = silently(|| options.init_with_setup()).map_err(|error| error.to_string())?;
    Ok(Adapter { device, kind, setup })
}

/// Does `work` while nothing can write to stderr: where there is no desktop, graphics libraries complain of that there.
/// What really fails comes back as an error.
fn silently<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(unix)]
    let _kept = {
        use rustix::stdio::{dup2_stderr, stderr};
        /// Puts stderr back, whatever ends the work.
        struct Kept(rustix::fd::OwnedFd);
        impl Drop for Kept {
            fn drop(&mut self) {
                // Nobody could be told if this failed.
                let _ = dup2_stderr(&self.0);
            }
        }
        let kept = rustix::io::dup(stderr()).ok().map(Kept);
        // What cannot be put back is left alone.
        let nothing = std::fs::File::options().write(true).open("/dev/null").ok().filter(|_| kept.is_some());
        nothing.map(dup2_stderr);
        kept
    };
    work()
}
