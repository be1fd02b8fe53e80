# /// script
# requires-python = ">=3.10"
# dependencies = []
# ///
"""Packs a built program and the package in `python/` into a wheel, by the standard library alone.

    python scripts/make_wheel.py target/release/basislab OUT_DIR [--platform linux_x86_64]

Prints the wheel's path. Equal files give equal bytes. The platform's tag is that of this machine unless given: a wheel that
runs on older systems needs a program that was built for them.
"""
import argparse
import base64
import hashlib
import pathlib
import re
import sysconfig
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUMMARY = "A laboratory for privileged bases in transformer residual streams"
METADATA = """\
Metadata-Version: 2.4
Name: basislab
Version: {version}
Summary: {summary}
License-Expression: MIT OR Apache-2.0
License-File: LICENSE-MIT
License-File: LICENSE-APACHE
Requires-Python: >=3.10
Requires-Dist: numpy>=1.24
Provides-Extra: pandas
Requires-Dist: pandas>=2.2; extra == "pandas"
Provides-Extra: torch
Requires-Dist: torch>=2.2; extra == "torch"
Description-Content-Type: text/markdown

{description}"""
WHEEL = """\
Wheel-Version: 1.0
Generator: scripts/make_wheel.py
Root-Is-Purelib: false
Tag: {tag}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--platform", default=re.sub(r"[-.]", "_", sysconfig.get_platform()))
    args = parser.parse_args()
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    name, tag = f"basislab-{version}", f"py3-none-{args.platform}"
    info, scripts = f"{name}.dist-info", f"{name}.data/scripts"
    description = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    package = sorted(path for path in (ROOT / "python" / "basislab").iterdir() if path.suffix == ".py" or path.name == "py.typed")
    files = {f"basislab/{path.name}": path.read_bytes() for path in package}
    files[f"{scripts}/{args.program.name}"] = args.program.read_bytes()
    for licence in ("LICENSE-APACHE", "LICENSE-MIT"):
        files[f"{info}/licenses/{licence}"] = (ROOT / licence).read_bytes()
    metadata = METADATA.format(version=version, summary=SUMMARY, description=description)
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = WHEEL.format(tag=tag).encode()
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD").encode()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{name}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, content in files.items():
            entry = zipfile.ZipInfo(file)  # of 1980: equal files, equal bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if file.startswith(scripts) else 0o100644) << 16
            wheel.writestr(entry, content)
    print(path)


def record(files, own):
    """Each file with its checksum and size; of the list itself neither."""
    lines = []
    for file, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(content)}\n")
    return "".join(lines) + f"{own},,\n"


main()
