#!/usr/bin/env bash
# Measures this machine's GPU with programs that are built already, for a machine without a compiler:
#
#   cargo build --release --features tuned && cargo build --release --features tuned -p basislab --example step
#   scripts/measure_gpu.sh OUT [FOLDER with basislab and step]      default: target/release, target/release/examples
#
# Writes one log per step into OUT, and OUT/steps.tsv with the exit code, the seconds and the largest memory of the GPU in use
# (MiB) of each. Every step has a time limit of its own, so that one that hangs loses nothing but itself, and all together end
# within SECONDS_IN_ALL (default: 470). The steps with PyTorch need a Python (PYTHON, default: python3) whose torch finds the GPU, and
# are left out where there is none.
set -u
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 1
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "${2:-$here/../target/release}" && pwd) || exit 1
basislab=$folder/basislab
step=$folder/step
[ -e "$step" ] || step=$folder/examples/step
python=${PYTHON:-python3}
all=${SECONDS_IN_ALL:-470}
export BURN_DEVICE=explicit-only
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
cd "$runs" || exit 1
printf 'step\texit code\tseconds\tGPU memory, MiB\n' > "$out/steps.tsv"

# measure NAME SECONDS COMMAND...
measure() {
    local left=$((all - SECONDS)) begun=$EPOCHREALTIME code=0 sampler='' most=''
    if [ "$left" -lt 5 ]; then
        printf '%s\t\t\t\n' "$1: no time was left" | tee -a "$out/steps.tsv"
        return
    fi
    if command -v nvidia-smi > /dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 > memory 2> /dev/null &
        sampler=$!
    fi
    timeout -k 5 "$(($2 < left ? $2 : left))" "${@:3}" > "$out/$1.log" 2>&1 || code=$?
    if [ -n "$sampler" ]; then
        kill "$sampler"
        wait "$sampler" 2> /dev/null
        most=$(sort -n memory | tail -1)
    fi
    local milliseconds=$(((${EPOCHREALTIME/./} - ${begun/./}) / 1000))
    printf '%s\t%s\t%s.%03d\t%s\n' "$1" "$code" $((milliseconds / 1000)) $((milliseconds % 1000)) "$most" | tee -a "$out/steps.tsv"
}

# keep FILE NAME: a result of the last step, if it got so far
keep() {
    [ ! -e "$1" ] || cp "$1" "$out/$2"
}

# 100 of the main job's 2000 steps, of all its arms and two seeds.
main_job=(run adam-vs-sgd --backend wgpu --seeds 0..2 --set train.steps=100 --set arm.sgd.train.warmup_steps=50
    --set arm.adam-short.train.steps=100 --set arm.adam-identity.train.steps=100 --json --no-reuse)
measure card 20 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,clocks.max.sm,power.limit --format=csv
measure backends 30 "$basislab" backends
measure peak 30 "$step" peak 1 --on wgpu
measure smoke 40 "$basislab" run adam-vs-sgd --backend wgpu --smoke --no-reuse --out smoke
keep smoke/manifest.json manifest.json
measure verify 30 "$basislab" verify smoke --steps 3
measure laws 60 "$basislab" check adam-vs-sgd --backend wgpu
measure alone 70 "$basislab" "${main_job[@]}" --jobs 1 --out alone
keep alone/timing.csv alone-timing.csv
measure together 60 "$basislab" "${main_job[@]}" --jobs 2 --out together
keep together/timing.csv together-timing.csv
if "$python" -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
    # What PyTorch does with f32 by default, and how far each setting is from f64; log "peak" says the same of basislab.
    measure tf32 30 "$python" -c '
import torch
print(torch.__version__, torch.version.cuda, "by default", torch.get_float32_matmul_precision())
a, b = torch.randn(2, 2048, 2048, device="cuda")
exact = a.double() @ b.double()
for setting in ("highest", "high", "medium"):
    torch.set_float32_matmul_precision(setting)
    print(setting, "relative error", ((a @ b - exact).norm() / exact.norm()).item())
'
    for size in d64 d256 d768; do
        measure "torch-$size" 130 "$python" "$here/bench_pytorch.py" --device cuda --step "$step" --rounds 1 --steps 60 --limit 60 \
            --sizes "$size" --against torch torch-compile --out "$out/$size.csv"
    done
fi
