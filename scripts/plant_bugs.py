# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Plants known bugs one at a time, runs the tests that must notice, and takes them out again.

    python scripts/plant_bugs.py [--features flex] [NAME ...]
    python scripts/plant_bugs.py --check       # only whether each bug still has a place in the source

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
DATA, PROGRAM = "crates/basislab-data/src/", "crates/basislab/src/"

# Where tests are that do not lie in the integration binary: `report: NAME ...`.
SUITES = {"report": ["-p", "basislab-report", "--lib"], "data": ["--test", "text"]}

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
    ("own basis measured with the transposed map", EXP + "observe.rs", "rotation(q, seed, 0, spec.d_model))", "rotation(q, seed, 0, spec.d_model).transpose())", "golden call_sites"),
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
    # Between a tested function and the cell, the terminal or the figure.
    ("the verdict's null bases beyond the other ones are all the same", EXP + "observe.rs", "x.rotated(&random_basis(seed, k, spec.d_model))", "x.rotated(&random_basis(seed, 0 * k, spec.d_model))", "call_sites"),
    ("arms draw different random bases", EXP + "observe.rs", "map(|k| random_basis(seed, k, spec.d_model)).collect();", "map(|k| random_basis(seed + arm.name.len() as u64, k, spec.d_model)).collect();", "call_sites"),
    ("arms are probed on different sequences", EXP + "stack.rs", "held_out: HeldOut::new(experiment, corpus, seed)", "held_out: HeldOut::new(experiment, corpus, seed + arm.name.len() as u64)", "call_sites"),
    ("the last token of a sequence is its first", EXP + "observe.rs", "token.is_multiple_of(n_ctx) == (tokens", "(token + 1).is_multiple_of(n_ctx) == (tokens", "call_sites"),
    ("the held-out loss is a mean over chunks", EXP + "observe.rs", "mean * *size as f64 / sequences as f64", "mean * (*size / *size * sequences / sequences) as f64 / self.chunks.len() as f64", "call_sites"),
    ("the optimizer's basis is another map of the run", EXP + "observe.rs", "rotation(q, seed, 0, spec.d_model)", "rotation(q, seed, 1, spec.d_model)", "call_sites"),
    ("dimensions of the optimizer's basis are the standard ones", EXP + "observe.rs", 'turned.iter().map(|turned| ("optimizer", turned))', 'turned.iter().map(|_| ("optimizer", &x))', "call_sites"),
    ("the largest magnitude is the largest value", EXP + "observe.rs", "max_abs: m.max_abs", "max_abs: m.max", "call_sites"),
    ("a dimension's RMS is its standard deviation", EXP + "observe.rs", "rms: m.rms", "rms: m.variance.sqrt()", "call_sites"),
    ("tokens used are those of all tokens", EXP + "observe.rs", "tokens, x.n_tokens(), basis)", "tokens, stream.n_tokens(), basis)", "call_sites"),
    ("loss above the floor has the other sign", EXP + "observe.rs", "seen.loss - floor", "floor - seen.loss", "call_sites"),
    ("the learning rate is one update late", EXP + "stack.rs", "lr_factor(step.saturating_sub(1))", "lr_factor(step.saturating_sub(2))", "call_sites"),
    ("the learning rate of the next update is written", EXP + "stack.rs", "(self.lr(step), status.to_owned())", "(self.lr(step + 1), status.to_owned())", "call_sites"),
    ("tokens are those before the update", EXP + "stack.rs", "let tokens = step *", "let tokens = (step - 1) *", "call_sites"),
    ("clipping per parameter, where rotated", EXP + "update.rs", "let (grads, norm) = clip(grads, train.clip_norm);", "let turned = |i: usize| trainee.optimizer.bases()[i].is_rotated(); let (grads, norm) = clip(grads, if turned(0) { 0.0 } else { train.clip_norm }); let grads: Vec<Tensor<2>> = grads.into_iter().enumerate().map(|(i, g)| if turned(i) { clip(vec![g], train.clip_norm).0.remove(0) } else { g }).collect();", "call_sites"),
    ("the gradient norm is that after clipping", EXP + "update.rs", "let (grads, norm) = clip(grads, train.clip_norm);", "let (grads, norm) = clip(clip(grads, train.clip_norm).0, 0.0);", "call_sites"),
    ("small gradients are scaled up ahead", OPTIM + "clip.rs", ".mul_scalar(max_norm).clamp_max(1.0)", ".mul_scalar(max_norm)", "call_sites"),
    ("moments are kept under each other's name", EXP + "state.rs", '["first", "second"]', '["second", "first"]', "call_sites"),
    ("a law compares a training with itself", EXP + "laws.rs", "law(name, by_optimizer, &by_model, rounding)", "law(name, by_optimizer, by_optimizer, rounding)", "call_sites"),
    ("the law of a basis per parameter has one for all", EXP + "laws.rs", "rotated(haar.clone(), Sharing::Independent)", "rotated(haar.clone(), Sharing::Shared)", "call_sites"),
    ("unequal optimizers may be equal", EXP + "laws.rs", "Expected::Above((0.01 * way).max(NOISE * noise))", "Expected::Above((0.0 * way).max(NOISE * noise))", "call_sites"),
    ("a rotated model rotates no parameter", EXP + "laws.rs", "in_model[i] || trainee", "in_model[i] && trainee", "call_sites"),
    ("tokens per second count the probes' time", PROGRAM + "desk.rs", "tokens as f64 / train_seconds", "tokens as f64 / seconds", "call_sites"),
    ("a user's matrix is compared with the bases of seed 0", PROGRAM + "metrics/eval.rs", "random_basis(args.seed, k, d_model)", "random_basis(0 * args.seed, k, d_model)", "call_sites"),
    ("tokens and width of a closed form are exchanged", PROGRAM + "metrics/eval.rs", '"closed_form_null": metric.null.map(|null| null(d_model, n_tokens))', '"closed_form_null": metric.null.map(|null| null(n_tokens, d_model))', "call_sites"),
    ("entropies stand in each other's line", PROGRAM + "data.rs", '("unigram entropy", number(Some(about.unigram_entropy))', '("unigram entropy", number(Some(about.bigram_conditional_entropy))', "call_sites"),
    ("all parameters face the stream", PROGRAM + "check.rs", '"facing_the_stream": facing', '"facing_the_stream": all', "call_sites"),
    ("kind and driver of a device are exchanged", PROGRAM + "backends.rs", "name, kind.to_owned(), driver, memory", "name, driver, kind.to_owned(), memory", "devices::backends_are_listed"),
    ("held-out tokens of a BPE text are training tokens", DATA + "bpe.rs", "let held_out = encode(regex, &letters, &model, held_out)?;", "let held_out = if held_out.is_empty() { Vec::new() } else { train.clone() };", "data: "),
    ("equivalence is decided at half the level", REPORT + "verdicts.rs", "decide_equivalence(&evidence.values, margin, rule.alpha, rule.min_seeds)", "decide_equivalence(&evidence.values, margin, rule.alpha / 2.0, rule.min_seeds)", "report: tests figures"),
    ("intervals are 95 % whatever the rule says", REPORT + "verdicts.rs", "t_interval(&evidence.values, confidence(&claim.test, rule))", "t_interval(&evidence.values, 0.95 + 0.0 * confidence(&claim.test, rule))", "report: tests figures"),
    ("a difference is decided on the p without Holm", REPORT + "verdicts.rs", "decide(&evidence, p_holm.or(p), rule)", "decide(&evidence, p.or(p_holm), rule)", "report: tests figures"),
    ("TOST is against twice the margin", REPORT + "verdicts.rs", "tost(&evidence.values, margin, rule.alpha)?.p", "tost(&evidence.values, 2.0 * margin, rule.alpha)?.p", "report: tests figures"),
    ("the rule in words names the outer level twice", REPORT + "verdicts.rs", "percent(1.0 - 2.0 * alpha)", "percent(1.0 - alpha)", "report: tests figures"),
    ("the final reading is the other arm over the arm", REPORT + "evidence.rs", "(Some(value), Some(reference)) => evidence.push_log_ratio(arm, seed, value, reference),", "(Some(value), Some(reference)) if reading == Reading::Final => evidence.push_log_ratio(arm, seed, reference, value), (Some(value), Some(reference)) => evidence.push_log_ratio(arm, seed, value, reference),", "report: tests figures"),
    ("the null of a claim is that of step 0", REPORT + "evidence.rs", "mean(self.cells.draws(arm, seed, last))", "mean(self.cells.draws(arm, seed, 0 * last))", "report: tests figures"),
    ("losses are compared the other way round", REPORT + "evidence.rs", "evidence.push(loss - reference)", "evidence.push(reference - loss)", "report: tests figures"),
    ("matched loss is the lower of the two", REPORT + "evidence.rs", "last(arm)?.max(last(other)?)", "last(arm)?.min(last(other)?)", "report: tests figures"),
    ("equal losses are judged by the margin of ratios", REPORT + "evidence.rs", "margin: self.experiment.verdict.equal_loss_margin", "margin: self.experiment.verdict.equivalence_margin", "report: tests figures"),
    ("the printed ratio is inverted", REPORT + "words.rs", "value.map(f64::exp)", "value.map(|log| (-log).exp())", "report: tests figures"),
    ("ends of an interval are exchanged", REPORT + "words.rs", "low: on_scale(row.ci_low),\n            high: on_scale(row.ci_high),", "low: on_scale(row.ci_high),\n            high: on_scale(row.ci_low),", "report: tests figures"),
    ("the terminal exchanges the ends of an interval", REPORT + "words.rs", "show(low), show(high)", "show(high), show(low)", "report: tests figures"),
    ("the terminal prints p without Holm", REPORT + "words.rs", "self.p_holm.or(self.p).filter", "self.p.or(self.p_holm).filter", "report: tests figures"),
    ("the terminal prints loss for loss above the floor", REPORT + "words.rs", 'loss_of(&row.arm, "loss_above_floor")', 'loss_of(&row.arm, "loss")', "report: tests figures"),
    ("the printed level is 95 %", REPORT + "words.rs", "confidence: confidence(&claim.test, &experiment.verdict)", "confidence: 0.95 + 0.0 * confidence(&claim.test, &experiment.verdict)", "report: tests figures"),
    ("the summary's interval is 90 %", REPORT + "summary.rs", "t_interval(values, 0.95)", "t_interval(values, 0.90)", "report: tests figures"),
    ("the summary's null is that of step 0", REPORT + "summary.rs", "cells.draws(&arm.name, seed, last)", "cells.draws(&arm.name, seed, 0 * last)", "report: tests figures"),
    ("z has the other sign", REPORT + "summary.rs", "(mean - null) / sd", "(null - mean) / sd", "report: tests figures"),
    ("the closed form takes tokens for width", REPORT + "summary.rs", "null(experiment.model.d_model, tokens_used)", "null(tokens_used, experiment.model.d_model)", "report: tests figures"),
    ("the null's mean is over bases, not over runs", REPORT + "select.rs", "(mean(&means), sd)", "(mean(&runs.concat()), sd)", "report: tests figures"),
    ("the null's spread counts a degree of freedom too many", REPORT + "select.rs", "freedom += draws.len() - 1", "freedom += draws.len()", "report: tests figures"),
    ("a sentence names the arms the other way round", REPORT + "sentences.rs", '(arm.clone(), other.clone(), "", "")', '(other.clone(), arm.clone(), "", "")', "report: tests figures"),
    ("a sentence quotes another margin", REPORT + "sentences.rs", "let counts = experiment.verdict.smallest_effect.exp();", "let counts = experiment.verdict.equivalence_margin.exp();", "report: tests figures"),
    ("arms are drawn in their neighbour's colour", REPORT + "figures.rs", "(arm, frame::colour(index))", "(arm, frame::colour(index + 1))", "report: tests figures"),
    ("the optimizer's curve is that of the standard basis", REPORT + "figures/steps.rs", "cells.value(&arm.name, seed, step, basis)", 'cells.value(&arm.name, seed, step, if basis.is_empty() { basis } else { "standard" })', "report: tests figures"),
    ("the band is one standard deviation wide", REPORT + "figures/steps.rs", "mean - 2.0 * sd, mean + 2.0 * sd", "mean - sd, mean + sd", "report: tests figures"),
    ("dimensions of all steps are drawn", REPORT + "figures/dimensions.rs", "row.step == scene.experiment.train.steps", "row.step <= scene.experiment.train.steps", "report: tests figures"),
    ("a logarithmic axis is linear", REPORT + "figures/scale.rs", "value.max(0.0).ln_1p()", "value.max(0.0)", "report: tests figures"),
]


def check():
    """Names the bugs whose place in the source has changed."""
    stale = [name for name, file, old, *_ in BUGS if old not in (ROOT / file).read_text()]
    if stale:
        sys.exit("no longer in the source: " + "; ".join(stale))


def main(arguments):
    check()
    if "--check" in arguments:
        return 0
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
                path.write_text(text.replace(old, new))
                suite, _, names = tests.rpartition(": ")
                where = SUITES.get(suite, ["-p", "basislab", *features, "--test", "it"])
                command = ["cargo", "test", "--release", "--quiet", *where, "--", *names.split()]
                done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
                path.write_text(text)
                red = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED|^    ([a-z_0-9]+(?:::[a-z_0-9]+)*)$", done.stdout, re.M)))
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
