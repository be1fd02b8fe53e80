//! A GPU that fails under the program: `vulkan.c` stands in for the Vulkan library and lets calls fail.

use super::lab::{Lab, assert_tidy, compare, has_checkpoint, text, tree};
use crate::support::{everywhere, is_cpu, root, small};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// `VK_ERROR_OUT_OF_DEVICE_MEMORY`.
const OUT_OF_MEMORY: i32 = -2;
/// `VK_ERROR_DEVICE_LOST`.
const LOST: i32 = -4;

/// The program on a GPU whose driver can be told to fail.
struct Frail {
    lab: Lab,
    libraries: TempDir,
    real: PathBuf,
}

impl Frail {
    /// One arm, one seed: a software GPU is slow. `None` where there is no adapter.
    fn new() -> Option<Self> {
        everywhere().iter().find(|(name, _)| !is_cpu(name))?;
        let mut experiment = small(&[("seeds", "[0]"), ("train.steps", "18"), ("probe.every", "6")]);
        experiment.arms.retain(|arm| arm.name.as_str() == "sgd");
        experiment.claims.retain(|claim| claim.name.as_str() == "sgd-equals-its-null");
        let libraries = TempDir::new().unwrap();
        // It stays loaded, and under the name that the program looks for, when one of several users of it is done.
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wl,-z,nodelete,-soname,libvulkan.so.1", "-o"])
            .args([libraries.path().join("libvulkan.so.1"), root().join("tests/faults/vulkan.c")])
            .status();
        assert!(built.unwrap().success());
        let known = Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
        let known = String::from_utf8(known.stdout).unwrap();
        let real =
            known.lines().find(|line| line.contains("libvulkan.so.1")).and_then(|line| line.split(" => ").nth(1));
        let real = PathBuf::from(real.expect("an adapter was found, so there is a Vulkan library"));
        Some(Self { lab: Lab::of(&experiment), libraries, real })
    }

    /// Runs it while `call` returns `result` from its call number `from` on (0: never), and counts those calls.
    fn run(&self, out: &Path, call: &str, from: u64, result: i32) -> (Output, u64) {
        let mut command = self.lab.command(out, &["--backend", "wgpu"]);
        let output = self.under(&mut command, call, from, result).output().unwrap();
        (output, fs::read_to_string(self.libraries.path().join("count")).unwrap().trim().parse().unwrap())
    }

    fn under<'a>(&self, command: &'a mut Command, call: &str, from: u64, result: i32) -> &'a mut Command {
        command
            .env("LD_LIBRARY_PATH", self.libraries.path())
            .env("REAL_VULKAN", &self.real)
            .env("FAULT_CALL", call)
            .env("FAULT_FROM", from.to_string())
            .env("FAULT_RESULT", result.to_string())
            .env("FAULT_COUNT", self.libraries.path().join("count"))
    }
}

#[test]
#[ignore = "minutes on a software GPU"]
fn a_gpu_that_is_lost_ends_with_9_and_the_same_command_resumes() {
    let Some(frail) = Frail::new() else { return };
    let whole = frail.lab.out("whole");
    let (output, _) = frail.run(&whole, "vkQueueSubmit", 0, 0);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let out = frail.lab.out("lost");
    let lost = |output: &Output| {
        assert_eq!(output.status.code(), Some(9), "{}", text(output));
        assert!(text(output).contains("the device failed") && text(output).contains("lost"), "{}", text(output));
        assert_tidy(output, "lost");
    };
    // At once, and in the middle of the laws that come first: nothing is begun.
    for from in [1, 1000] {
        lost(&frail.run(&out, "vkQueueSubmit", from, LOST).0);
        assert!(!out.join("parts").exists());
    }
    // As soon as a checkpoint is there, the first time and again in the run that resumes from it.
    for step in [3, 12] {
        let mut command = frail.lab.command(&out, &["--backend", "wgpu"]);
        let checkpoint = out.join(format!("parts/sgd/0.work/*/checkpoints/{step:010}"));
        frail.under(&mut command, "vkQueueSubmit", 0, LOST).env("FAULT_AFTER", &checkpoint);
        lost(&command.output().unwrap());
        assert!(has_checkpoint(&out, "sgd", step));
    }
    let (output, _) = frail.run(&out, "vkQueueSubmit", 0, 0);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("resuming from step "), "{}", text(&output));
    compare(&tree(&out), &tree(&whole), "a GPU that was lost twice");
}

#[test]
fn auto_means_a_gpu_where_there_is_one() {
    let Some(frail) = Frail::new() else { return };
    // Discrete, integrated, virtual.
    for kind in ["2", "1", "3"] {
        let program = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
            frail.under(command.args(args).current_dir(frail.lab.dir.path()), "", 0, 0).env("FAULT_KIND", kind);
            command.output().unwrap()
        };
        let output = program(&["backends", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&value["auto"], &value["cpu"]), (&"wgpu".into(), &"flex".into()), "{}", text(&output));
        // And that one is opened, although it was already opened to find out.
        let output = program(&["check", "adam-vs-sgd", "--backend", "auto", "--device", "5"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("--device 5: found 1 device of wgpu"), "{}", text(&output));
    }
}

#[test]
fn a_gpu_that_fails_at_once_does_not_hide_the_others() {
    let Some(frail) = Frail::new() else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
    let output = frail.under(command.arg("backends"), "vkQueueSubmit", 1, LOST).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("flex ") && text(&output).contains("the device failed"), "{}", text(&output));
    assert_tidy(&output, "backends");
}

#[test]
#[ignore = "needs a software GPU"]
fn a_gpu_without_memory_ends_with_8() {
    let Some(frail) = Frail::new() else { return };
    // The first allocations are the driver's own, made while the device is opened.
    for from in 1..=3 {
        let (output, calls) = frail.run(&frail.lab.out("full"), "vkAllocateMemory", from, OUT_OF_MEMORY);
        assert!(calls >= from, "{from}: {calls} allocations");
        assert_eq!(output.status.code(), Some(8), "allocation {from}: {}", text(&output));
        assert!(text(&output).contains("memory"), "{}", text(&output));
        assert_tidy(&output, "full");
    }
}
