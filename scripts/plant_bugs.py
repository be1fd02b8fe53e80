# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Plants known bugs one at a time, runs the tests that must notice, and takes them out again.

    python scripts/plant_bugs.py [--features flex] [NAME ...]

Works in a copy of the repository (git worktree) so that nothing here is touched. Prints one Markdown row per bug; exits 1 if a
bug goes unseen.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPTIM, MODEL, EXP = "crates/basislab-optim/src/", "crates/basislab-model/src/", "crates/basislab-experiment/src/"
KERNELS, REPORT, STORE = "crates/basislab-kernels/src/", "crates/basislab-report/src/", "crates/basislab-store/src/"

# name, file, what is there, what is put there, the tests that are run
BUGS = [
    ("undo turns the wrong way", OPTIM + "basis.rs", "(q.transpose(), w)", "(q, w)", "laws"),
    ("the gradient is not rotated", OPTIM + "optimizer.rs", "basis.apply(grad)", "grad", "laws"),
    ("wrong residual axis of w_q", MODEL + "model.rs", 'visit("w_q", read,', 'visit("w_q", write,', "laws model"),
    ("w_o forgotten", MODEL + "model.rs", 'visit("w_o", write,', 'visit("w_o", None,', "laws model"),
    ("no bias correction of the second moment", OPTIM + "rule.rs", "(1.0 - beta_2.powf(count as f64)).sqrt()", "1.0", "parity"),
    ("epsilon inside the root", OPTIM + "rule.rs", "second.sqrt().mul_scalar(1.0 / correction_2).add_scalar(epsilon)", "second.add_scalar(epsilon).sqrt().mul_scalar(1.0 / correction_2)", "parity"),
    ("the betas are swapped", OPTIM + "rule.rs", "decayed(state.first.take(), grad.clone(), beta_1)", "decayed(state.first.take(), grad.clone(), beta_2)", "parity"),
    ("decoupled decay without the learning rate", OPTIM + "optimizer.rs", "1.0 - lr * decoupled", "1.0 - decoupled", "parity"),
    ("nesterov forgets the gradient", OPTIM + "rule.rs", "grad + buffer.mul_scalar(momentum)", "buffer.mul_scalar(momentum)", "parity"),
    ("clipping per tensor's own norm", EXP + "update.rs", "let (grads, norm) = clip(grads, train.clip_norm);", "let norm: f64 = 0.5; let grads: Vec<Tensor<2>> = grads.into_iter().map(|g| clip(vec![g], train.clip_norm).0.remove(0)).collect();", "parity"),
    ("the mask lets a query see one key ahead", MODEL + "model.rs", "keys.greater(queries)", "keys.greater(queries.add_scalar(1))", "model parity"),
    ("the norm forgets its gain", MODEL + "norm.rs", "x = gain.scale(x);", "let _ = gain;", "parity gradients"),
    ("targets are not shifted", EXP + "update.rs", "map(|s| &s[1..]).collect();\n    model.loss", "map(|s| &s[..s.len() - 1]).collect();\n    model.loss", "parity"),
    ("micro-batches are summed, not averaged", EXP + "update.rs", "grad.div_scalar(parts as f64)", "grad", "model"),
    ("arms draw different batches", EXP + "stack.rs", "corpus.batch(self.lanes[i].seed, step", "corpus.batch(self.lanes[i].seed + self.arm.name.len() as u64, step", "training"),
    ("the run's seed is ignored at init", MODEL + "init.rs", "stream(seed, Purpose::Init", "stream(0 * seed, Purpose::Init", "model"),
    ("a non-finite loss is updated all the same", EXP + "update.rs", "if !loss.is_finite() || !norm.is_finite() {", "if false {", "training"),
    ("own basis measured with the transposed map", EXP + "observe.rs", "rotation(q, seed, 0, spec.d_model))", "rotation(q, seed, 0, spec.d_model).transpose())", "golden"),
    ("soft-max-1 is soft-max", MODEL + "model.rs", "activation::quiet_softmax(scores, 3)", "activation::softmax(scores, 3)", "parity"),
    ("rotary frequencies fall half as fast", MODEL + "model.rs", "base.powf(-2.0 *", "base.powf(-1.0 *", "parity"),
    ("the fused mask lets a query see one key ahead", KERNELS + "attention.rs", "split_at_mut(first + i + 1)", "split_at_mut((first + i + 2).min(end))", "fused"),
    ("the fused softmax's gradient forgets its mean", KERNELS + "attention.rs", "p * (*ds - mean) * scale", "p * (*ds - 0.0 * mean) * scale", "fused"),
    ("a block of queries overwrites what others gave the keys", KERNELS + "attention.rs", "let add = end < pos;", "let add = false;", "fused"),
    ("the fused GELU's slope lacks its density", KERNELS + "mlp.rs", "fma::<S>(h * DENSITY_AT_0, gauss, share)", "fma::<S>(0.0 * h * DENSITY_AT_0, gauss, share)", "fused"),
    ("the fused norm's gradient forgets the norm itself", KERNELS + "norm.rs", "fma::<S>(-along, *x, *dy)", "fma::<S>(-0.0 * along, *x, *dy)", "fused"),
    ("a gain's gradient of the first chunk only", KERNELS + "norm.rs", "per_chunk.chunks_exact(d).map(", "per_chunk.chunks_exact(d).take(1).map(", "fused"),
    ("the fused loss's gradient is a sum over rows", KERNELS + "head.rs", "upstream / rows as f32", "upstream * (rows as f32 / rows as f32)", "fused"),
    ("fused Adam counts the new square whole", KERNELS + "update.rs", "*g * *g * new_2", "*g * *g * (new_2 / new_2)", "parity"),
    ("the fused descent forgets decoupled decay", KERNELS + "update.rs", "self.keep * *w", "(self.keep / self.keep) * *w", "parity"),
    ("the moments are not restored", EXP + "state.rs", "self.optimizer.recall(state.step, memory.collect());", "let _: Vec<_> = memory.collect();", "training faults::kills"),
    ("tables are not cut where a run goes on", REPORT + "files.rs", "file.set_len(extent.bytes).map_err(fail)?;", "", "faults::kills"),
    ("a checkpoint's files are not hashed", STORE + "checkpoint.rs", "if found != extent {", "if false {", "faults::damage"),
    ("two processes share a directory", STORE + "lock.rs", "Err(TryLockError::WouldBlock) => return Err(LockError::Busy(owner(&mut file))),", "Err(TryLockError::WouldBlock) => break,", "faults::one_of cli::two"),
    ("a stop makes no checkpoint", EXP + "train.rs", "saved.0 < step", "saved.0 > step", "training properties"),
    ("the newest checkpoint is the one that was written last", STORE + "checkpoint.rs", "steps.sort_unstable_by(|a, b| b.cmp(a));", "steps.sort_unstable();", "faults::the_clock faults::damage"),
    ("an embedding looks into the first seed of a stack", MODEL + "weight.rs", "if self.stack == 1 { rows }", "if self.stack > 0 { rows }", "backends"),
    ("a stack is clipped by its common norm", OPTIM + "clip.rs", "Tensor::cat(squares, 1).sum_dim(1).sqrt()", "Tensor::cat(squares, 1).sum_dim(1).mean_dim(0).expand([stack, 1]).sqrt()", "backends"),
    ("a stack trains on the mean over all seeds", EXP + "update.rs", "losses.clone().sum().backward()", "losses.clone().mean().backward()", "backends"),
    ("the bases of a stack are the first seed's", OPTIM + "basis.rs", "bases.iter().filter_map(|basis| basis.axes[axis].clone())", "bases.iter().filter_map(|_| bases[0].axes[axis].clone())", "backends"),
    ("updates ahead are not masked", EXP + "update.rs", "mask_where(halted, before.reshape(by_seed))", "mask_where(halted.clone().bool_not().bool_and(halted), before.reshape(by_seed))", "backends"),
    ("a probe takes streams for losses", EXP + "observe.rs", "[losses, streams].concat()", "[streams, losses].concat()", "backends training"),
    ("a checkpoint before the looks before it", EXP + "stack.rs", "        self.settle()?;\n        for i in self.alive() {", "        for i in self.alive() {", "backends"),
    ("a look beside the updates is written at the end", EXP + "stack.rs", "        self.settle()?;\n        let begun", "        if self.lanes.len() > 9 { self.settle()?; }\n        let begun", "backends"),
    ("a stack goes on after different updates", "crates/basislab/src/desk.rs", "common_step(&known).unwrap_or(u64::MAX)", "common_step(&known).map_or(u64::MAX, |_| u64::MAX)", "a_stack_that"),
    ("narrow products are wide", MODEL + "product.rs", "a.cast(compute).matmul(b.cast(compute)).cast(own)", "a.matmul(b)", "backends"),
    ("moments as narrow as the weights", EXP + "update.rs", "|value: &Tensor<2>| wide(value.grad_remove(&mut grads).expect(\"every parameter is used\"))", "|value: &Tensor<2>| value.grad_remove(&mut grads).expect(\"every parameter is used\")", "backends"),
]


def main(arguments):
    features = []
    if "--features" in arguments:
        at = arguments.index("--features")
        features = ["--no-default-features", "--features", arguments[at + 1]]
        del arguments[at : at + 2]
    unseen = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, "HEAD"], cwd=ROOT, check=True)
        try:
            env = dict(os.environ, BASISLAB_KILLS="40", BASISLAB_RIVALS="3", BASISLAB_FUZZ="500", CARGO_TARGET_DIR=os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target")))
            for name, file, old, new, tests in BUGS:
                if arguments and name not in arguments:
                    continue
                path = tree / file
                text = path.read_text()
                if text.count(old) < 1:
                    sys.exit(f"{name}: {file} no longer holds {old!r}")
                path.write_text(text.replace(old, new))
                command = ["cargo", "test", "--release", "--quiet", "-p", "basislab", *features, "--test", "it", "--", *tests.split()]
                done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
                path.write_text(text)
                red = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED|^    (\S+::\S+)$", done.stdout, re.M)))
                red = ", ".join(f"`{a or b}`" for a, b in red)
                if not red:
                    unseen += 1
                    red = "**unseen**" if done.returncode == 0 else "did not compile: " + done.stderr[-300:].replace("\n", " ")
                print(f"| {name} | {red} |", flush=True)
        finally:
            # Worktree and repository share a target folder, where cargo tells them apart by nothing but times.
            for _, file, *_ in BUGS:
                os.utime(ROOT / file)
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=False)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
