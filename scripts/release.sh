#!/usr/bin/env bash
# Makes what a release consists of in dist/: the program for CPUs as a tarball and as a wheel, and their checksums. Checks the
# wheel, and models in PyTorch and transformers, which the gate does without. Run once per release, on the oldest system that
# it should run on: the wheel's tag is the newest glibc that the program asks for.
#
#     scripts/release.sh [PROGRAM]       # without PROGRAM it is built first
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
program=${1:-}
if [ -z "$program" ]; then
    cargo build --release --locked -p basislab --no-default-features --features flex,ndarray
    program=${CARGO_TARGET_DIR:-target}/release/basislab
fi
program=$(realpath "$program")
glibc=$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1 | cut -d_ -f2)
tag=manylinux_${glibc//./_}_$(uname -m)
rm -rf dist
wheel=$(python3 scripts/make_wheel.py "$program" dist --platform "$tag")
name=$(basename "$wheel" | cut -d- -f1,2)
mkdir "$work/$name"
cp "$program" README.md LICENSE-APACHE LICENSE-MIT "$work/$name"
"$program" man "$work/$name/man" > /dev/null
for shell in bash zsh fish; do
    "$program" completions "$shell" > "$work/$name/completions.$shell"
done
# Equal files give equal bytes.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work" -cf - "$name" | gzip -n > "dist/$name-$tag.tar.gz"
(cd dist && sha256sum -- * > SHA256SUMS)

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "$wheel[pandas,torch]" polars tensorboard transformers
"$program" run adam-vs-sgd --smoke --quiet --out "$work/run" \
    --arm llama=adam,model.positions.kind=rope,model.mlp=swiglu \
    --arm neox=adam,model.norm=layernorm,model.positions.kind=rope,model.branches=parallel \
    --arm gpt2=adam,model.norm=layernorm,model.biases=true \
    --arm solu=adam,model.activation=solu,model.attention=softmax-1 > /dev/null
(cd "$work" && "$work/venv/bin/python" "$OLDPWD/scripts/check_wheel.py" run)
"$work/venv/bin/python" scripts/check_exports.py --torch "$work/run"
ls -l dist
