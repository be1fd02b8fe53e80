#!/usr/bin/env bash
# The forward pass of one block of SmolLM2-135M and the measuring of its two sites, in alternation: medians of each round,
# and their ratio, which should be at most 1. `scripts/bench_measure.sh [ROUNDS]`
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
# The middle one of criterion's three estimates, in ms.
bench() {
    cargo bench --quiet -p basislab --bench measure -- "$1" 2> /dev/null |
        sed -n 's/.*time: *\[[^ ]* [^ ]* \([^ ]*\) ms .*/\1/p' | head -1
}
for round in $(seq "$rounds"); do
    forward=$(bench forward/)
    site=$(bench measure/2048x576/all)
    awk -v round="$round" -v forward="$forward" -v site="$site" \
        'BEGIN { printf "round %d: block %.1f ms, its two sites %.1f ms, ratio %.2f\n", round, forward, 2 * site, 2 * site / forward }'
done
