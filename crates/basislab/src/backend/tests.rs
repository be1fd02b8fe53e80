#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use super::*;

fn gpu(device: Device) -> OpenDevice {
    let info = DeviceInfo {
        backend: "wgpu",
        index: 0,
        name: "a GPU".to_owned(),
        kind: "discrete",
        driver: "1.2".to_owned(),
        memory: None,
        dtypes: vec![Dtype::F32],
    };
    OpenDevice { device, info }
}

#[test]
fn a_failure_of_a_device_is_one_line_and_a_code() {
    let place = gpu(Device::flex());
    let lost = place
        .work(|| -> Result<(), Exit> {
            panic!("Read(\"the device was lost\\nCaused by:\n  nobody\nBacktrace:\n  0: main\")")
        })
        .unwrap_err();
    assert_eq!(lost.code, Code::Device);
    let text = lost.to_string();
    assert!(
        text.contains("(Read(\"the device was lost; nobody); a run's") && text.contains("re-run the command to resume"),
        "{text}"
    );
    // What burn, its allocator and wgpu said when they were driven there.
    let too_large = [
        "ERROR_OUT_OF_DEVICE_MEMORY",
        "Not enough memory left.",
        "An IO error happened\nCaused by:\n  can't allocate buffer of size: 536870912",
        "memory ManagedMemoryId { value: 8 } was never allocated: the reservation behind it failed",
        "Unable to launch matmul\nCaused by:\n  Cube count too big (1, 65536, 1)",
    ];
    for why in too_large {
        let full = place.work(|| -> Result<(), Exit> { panic!("{why}") }).unwrap_err();
        assert_eq!(full.code, Code::TooLarge, "{why}");
        assert!(full.to_string().contains("micro_batches"), "{full}");
    }
    // A mistake of ours, or of burn's: nothing is promised, and the place is told.
    let other = place.work(|| -> Result<(), Exit> { panic!("index 3 out of range") }).unwrap_err();
    assert_eq!(other.code, Code::Device);
    let text = other.to_string();
    assert!(text.contains(".rs:") && text.contains("may fail there again"), "{text}");
    assert_eq!(place.work(|| Ok(3)).unwrap(), 3);
}

#[test]
#[should_panic(expected = "a mistake of ours")]
fn a_panic_on_a_cpu_stays_one() {
    let place = Backend::Flex.open(0).unwrap();
    let _ = place.work(|| -> Result<(), Exit> { panic!("a mistake of ours") });
}

#[test]
fn what_a_device_lacks_is_told() {
    let place = gpu(Device::flex());
    let text = include_str!("../../../../configs/adam-vs-sgd.toml");
    let loaded = basislab_config::load(text, "adam-vs-sgd", &[], crate::experiments::library());
    let mut experiment = loaded.unwrap().experiment;
    assert!(place.require(&experiment).is_ok());
    // One arm of many is enough.
    experiment.arms[2].run.model.compute_dtype = Dtype::Bf16;
    let error = place.require(&experiment).unwrap_err();
    assert_eq!(error.code, Code::Usage);
    assert!(error.to_string().contains("found bf16") && error.to_string().ends_with(": f32"), "{error}");
}

/// A real device that goes away: what burn makes of it must end where failures end.
#[cfg(feature = "wgpu")]
#[test]
fn a_device_that_is_lost_is_a_failure() {
    use burn::tensor::Tensor;
    let Ok(mut all) = adapters::open(1) else {
        let expected = std::env::var("BASISLAB_ONLY_BACKEND").unwrap_or_default();
        assert_ne!(expected, "wgpu", "it is expected here, and not found");
        return;
    };
    let Adapter { device, setup, .. } = all.swap_remove(0);
    let place = gpu(device);
    let sum = || Ok(Tensor::<1>::ones([8], &place.device).sum().into_scalar::<f32>());
    assert_eq!(place.work(sum).unwrap(), 8.0);
    setup.device.destroy();
    let error = place.work(sum).unwrap_err();
    assert_eq!(error.code, Code::Device, "{error}");
}

#[cfg(feature = "wgpu")]
#[test]
fn an_adapter_that_was_opened_is_found_again() {
    let Ok(first) = Backend::Wgpu.places(1) else { return };
    assert_eq!(Backend::Wgpu.places(1).unwrap()[0].info, first[0].info);
}
