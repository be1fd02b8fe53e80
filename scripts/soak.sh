#!/usr/bin/env bash
# The fault tests with larger counts: 2,000 kills, 1,000 rounds of rivals, 200 rounds of 16 processes that take 400 runs, 100,000 fuzzed
# inputs per target. Takes hours: on two cores,
# 40 kills took 69 s and 10 rounds of rivals 93 s (2026-11-27).
# Needs strace and the right to mount (root).
set -euo pipefail
cd "$(dirname "$0")/.."
export BASISLAB_KILLS=${BASISLAB_KILLS:-2000} BASISLAB_RIVALS=${BASISLAB_RIVALS:-1000} BASISLAB_FUZZ=${BASISLAB_FUZZ:-100000}
export BASISLAB_TAKING=${BASISLAB_TAKING:-200}
export PROPTEST_CASES=${PROPTEST_CASES:-10000}
time cargo test --release --locked -p basislab --test it -- --include-ignored --nocapture faults fuzz properties taking
