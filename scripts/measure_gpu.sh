#!/usr/bin/env bash
# Measures this machine's GPU with programs that are built already, for a machine without a compiler:
#
#   cargo build --release --features tuned && cargo build --release --features tuned -p basislab --example step
#   scripts/measure_gpu.sh OUT [FOLDER with basislab and step]      default: target/release, target/release/examples
#
# Writes one log per step into OUT, and OUT/steps.tsv with the exit code and the seconds of each. Every step has a time limit
# of its own, so that one that hangs loses nothing but itself. The last step needs Python with torch, numpy, safetensors and
# matplotlib, and is left out where there is no torch.
set -u
out=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
basislab=${2:-$here/../target/release}/basislab
step=${2:-$here/../target/release/examples}/step
export BURN_DEVICE=explicit-only
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
cd "$runs" || exit 1

# measure NAME SECONDS COMMAND...
measure() {
    local begun=$EPOCHREALTIME
    timeout -k 5 "$2" "${@:3}" > "$out/$1.log" 2>&1
    local code=$?
    local milliseconds=$(((${EPOCHREALTIME/./} - ${begun/./}) / 1000))
    printf '%s\t%s\t%s.%03d\n' "$1" "$code" $((milliseconds / 1000)) $((milliseconds % 1000)) | tee -a "$out/steps.tsv"
}

main_job=(run adam-vs-sgd --backend wgpu --seeds 0..2 --json --no-reuse)
measure card 20 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv
measure backends 60 "$basislab" backends
measure laws 120 "$basislab" check adam-vs-sgd --backend wgpu
measure smoke 60 "$basislab" run adam-vs-sgd --backend wgpu --smoke --out smoke
measure alone 90 "$basislab" "${main_job[@]}" --out alone
measure together 90 "$basislab" "${main_job[@]}" --jobs 2 --out together
cp alone/timing.csv "$out/alone-timing.csv"
cp together/timing.csv "$out/together-timing.csv"
cp smoke/manifest.json "$out/manifest.json"
if python3 -c 'import torch' 2> /dev/null; then
    for size in d64 d256 d768; do
        measure "torch-$size" 150 python3 "$here/bench_pytorch.py" --device cuda --step "$step" --rounds 1 --sizes "$size" \
            --against torch torch-tf32 torch-bf16 torch-compile --out "$out/$size.csv"
    done
fi
