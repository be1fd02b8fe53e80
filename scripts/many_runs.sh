#!/usr/bin/env bash
# What `basislab report` and `basislab status` cost on a directory of very many finished runs:
#
#   scripts/many_runs.sh [RUNS]      default: 10000
#
# Writes such directories (few arms with many seeds, many arms with few seeds; 0.6 GB each at 10,000 runs) into a temporary folder
# with the tests' own generator, and prints a line for each command: the shape, the command, seconds and the peak of memory in MB.
# `report` is timed twice: as it joins the parts and makes everything, and as it reads the sealed directory once more.
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

# measure SHAPE COMMAND
measure() {
    local code=0
    /usr/bin/time -f '%e seconds, %M KB' -o "$folder/time" "$basislab" "$2" "$folder/$1" > "$folder/said" 2> "$folder/errors" || code=$?
    if [ "$code" != 0 ]; then
        echo "$2 of many $1: exit code $code" >&2
        cat "$folder/errors" >&2
        exit 1
    fi
    awk -v shape="many $1" -v what="$2" '/seconds/ { printf "%-10s  %-6s  %6.1f seconds  %5.0f MB\n", shape, what, $1, $3 / 1000 }' "$folder/time"
}

for shape in seeds arms; do
    BASISLAB_SHAPE=$shape BASISLAB_RUNS=$runs BASISLAB_DIR=$folder/$shape \
        cargo test --quiet "${build[@]}" --test it -- --ignored --exact many_runs::write_many_runs > /dev/null
    for command in status report report; do
        measure "$shape" "$command"
    done
    rm -rf "${folder:?}/$shape"
done
