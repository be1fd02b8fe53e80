#!/usr/bin/env bash
# What the commands cost that read very many finished runs:
#
#   scripts/many_runs.sh [RUNS]      default: 10000
#
# Writes such directories (few arms with many seeds, many arms with few seeds; 0.6 GB each at 10,000 runs) into a temporary folder
# with the tests' own generator, and prints a line for each command: the shape, the command, seconds and the peak of memory in MB.
# `report` is timed twice: as it joins the parts and makes everything, and as it reads the sealed directory once more. The same
# runs are then those of a plan.
# FEATURES (default: flex) are those of the build; needs GNU time.
set -eu
cd "$(dirname "$0")/.."
runs=${1:-10000}
build=(--release -p basislab --no-default-features --features "${FEATURES:-flex}")
cargo build --quiet "${build[@]}"
cargo test --quiet "${build[@]}" --test it --no-run
basislab=${CARGO_TARGET_DIR:-target}/release/basislab
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# measure SHAPE FILE COMMAND...: on a directory or a plan
measure() {
    local shape=$1 file=$2 code=0
    shift 2
    /usr/bin/time -f '%e seconds, %M KB' -o "$folder/time" "$basislab" "$@" "$file" > "$folder/said" 2> "$folder/errors" || code=$?
    if [ "$code" != 0 ]; then
        echo "$* of many $shape: exit code $code" >&2
        cat "$folder/errors" >&2
        exit 1
    fi
    awk -v shape="many $shape" -v what="$*" '/seconds/ { printf "%-10s  %-12s  %6.1f seconds  %5.0f MB\n", shape, what, $1, $3 / 1000 }' "$folder/time"
}

for shape in seeds arms; do
    BASISLAB_SHAPE=$shape BASISLAB_RUNS=$runs BASISLAB_DIR=$folder/$shape \
        cargo test --quiet "${build[@]}" --test it -- --exact many_runs::write_many_runs > /dev/null
    for command in status report report; do
        measure "$shape" "$folder/$shape" "$command"
    done
    cp "$folder/$shape/config.toml" "$folder/$shape.toml"
    measure "$shape" "$folder/$shape.toml" plan --out "$folder"
    mv "$folder/said" "$folder/plan.jsonl"
    mv "$folder/$shape" "$(sed -n '1s/.*"dir":"\([^"]*\)".*/\1/p' "$folder/plan.jsonl")"
    measure "$shape" "$folder/plan.jsonl" plan status
    measure "$shape" "$folder/plan.jsonl" collect
    rm -rf "${folder:?}/$shape"*
done
