# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy"]
# ///
"""Checks the package `basislab` of the environment that runs this: its program, its types, its functions that need NumPy alone.

    pip install dist/basislab-*.whl && python scripts/check_wheel.py RUN_DIR
"""
import importlib.metadata
import pathlib
import sys
import sysconfig

try:
    import basislab
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install basislab")
import numpy as np


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python check_wheel.py RUN_DIR")
    run = sys.argv[1]
    program = pathlib.Path(basislab.program())
    assert program.parent == pathlib.Path(sysconfig.get_path("scripts")), program
    version = importlib.metadata.version("basislab")
    assert basislab.run("--version").split()[1] == version
    assert (pathlib.Path(basislab.__file__).parent / "py.typed").is_file()
    # One dimension ten times as large as the others.
    values = np.random.default_rng(0).standard_normal((512, 16))
    values[:, 3] *= 10
    answer = basislab.metrics(values, bases=8)
    found = {metric["metric"]: metric for metric in answer["metrics"]}
    kurtosis = found["token_kurtosis"]
    assert kurtosis["value"] > 2 * kurtosis["null_mean"], kurtosis
    half = basislab.metrics(values.astype(np.float32), bases=8)["metrics"]
    assert len(half) == len(found)
    for wrong, error in ((values[0], ValueError), (values.astype(int), TypeError), (values[:1, :0], RuntimeError)):
        try:
            basislab.metrics(wrong)
        except error as said:
            assert str(said) and "\n" not in str(said), said
        else:
            raise AssertionError(f"no {error.__name__}")
    arm = sorted(path.name for path in (pathlib.Path(run) / "parts").iterdir())[0]
    seed = int(min((pathlib.Path(run) / "parts" / arm).iterdir()).name)
    weights = basislab.load_weights(run, arm, seed)
    assert all(np.isfinite(values).all() for values in weights.values()) and "w_e" in weights
    print(f"basislab {version} of Python {sys.version.split()[0]}: program, metrics, {len(weights)} tensors of {arm} {seed}")


main()
