# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "scipy==1.17.1"]
# ///
"""Writes tests/parity/metrics.json: metrics, moments and paired statistics as NumPy and SciPy compute them.

Every value comes from a library call or from brute force over the definition, never from basislab's code. Run again with

    python scripts/metric_fixture.py

Activations are multiples of 1/256, so that their decimals in the file are exact.
"""
import itertools
import json
import pathlib
import sys

try:
    import numpy as np
    import scipy
    from scipy import stats
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install numpy scipy")

N_TOKENS, D_MODEL = 12, 16


def matrices():
    rng = np.random.default_rng(20261123)
    draw = lambda: np.round(rng.normal(size=(N_TOKENS, D_MODEL)) * 256) / 256
    outlier_dim = draw()
    outlier_dim[:, 5] = outlier_dim[:, 5] * 2 + 30
    outlier_token = draw() + 0.5
    outlier_token[3, 7] = 4000
    return {"gaussian": draw() * 3, "outlier_dim": outlier_dim, "outlier_token": outlier_token}


def excess_ddof_1(x, center):
    fourth = stats.moment(x, order=4, axis=1, center=center) if center is not None else stats.moment(x, order=4, axis=1)
    return np.maximum(fourth / np.std(x, axis=1, ddof=1) ** 4 - 3, 0).mean()


def metrics(x):
    size, dim_rms = np.abs(x), np.sqrt(np.mean(x**2, axis=0))
    token = stats.kurtosis(x, axis=1, fisher=False, bias=True)
    raw_2, raw_4 = (stats.moment(x, order=k, axis=1, center=0) for k in (2, 4))
    energy = np.square(x).sum(axis=0)
    rms = np.sqrt(np.mean(x**2, axis=1))
    normalised = size / np.median(rms)
    correlations = np.corrcoef(x, rowvar=False)[np.triu_indices(D_MODEL, k=1)]
    eigenvalues = np.linalg.eigvalsh(x.T @ x)
    kurtosis_of = lambda rows: stats.kurtosis(rows, axis=-1, fisher=False, bias=True)
    return {
        "token_kurtosis": token.mean(),
        "token_kurtosis_median": np.median(token),
        "token_kurtosis_uncentred": (raw_4 / raw_2**2).mean(),
        "dim_rms_kurtosis": np.mean(dim_rms**4) / np.mean(dim_rms**2) ** 2,
        "max_median_ratio": (size.max(axis=1) / np.median(size, axis=1)).mean(),
        "outlier_dims_abs6": np.count_nonzero((size > 6).any(axis=0)),
        "outlier_dims_6x_rms": np.count_nonzero(dim_rms > 6 * np.median(dim_rms)),
        "massive_activations": np.count_nonzero((size > 100) & (size >= 1000 * np.median(size))),
        "pooled_kurtosis": stats.kurtosis(x, axis=None, fisher=False, bias=True),
        "osp_excess_kurtosis": excess_ddof_1(x, 0),
        "lesswrong_excess_kurtosis": excess_ddof_1(x, None),
        "max_dim_energy_share": energy.max() / energy.sum(),
        "mean_vector_kurtosis": kurtosis_of(x.mean(axis=0)),
        "varying_kurtosis": kurtosis_of(x - x.mean(axis=0)).mean(),
        "incoherence": np.mean(np.linalg.norm(x, ord=np.inf, axis=1) / rms),
        "hoyer_sparsity": np.mean((np.sqrt(D_MODEL) - np.linalg.norm(x, 1, axis=1) / np.linalg.norm(x, axis=1)) / (np.sqrt(D_MODEL) - 1)),
        "top4_energy_share": np.mean(np.sort(x**2, axis=1)[:, -4:].sum(axis=1) / (x**2).sum(axis=1)),
        "dim_correlation": np.mean(correlations**2),
        "participation_ratio": eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(),
        "outlier_dims_abs6_normalised": np.count_nonzero((normalised > 6).any(axis=0)),
        "massive_activations_normalised": np.count_nonzero((normalised > 100) & (size >= 1000 * np.median(size))),
        "token_rms": np.linalg.norm(x, axis=1).mean() / np.sqrt(D_MODEL),
    }


def dettmers(stack):
    layers = np.abs(np.stack(stack)) >= 6
    return np.count_nonzero((layers.any(axis=1).mean(axis=0) >= 0.25) & (layers.mean(axis=(0, 1)) >= 0.06))


def dimensions(x):
    return {
        "mean": x.mean(axis=0),
        "rms": np.sqrt(np.mean(x**2, axis=0)),
        "variance": x.var(axis=0),
        "skewness": stats.skew(x, axis=0),
        "kurtosis": stats.kurtosis(x, axis=0, fisher=False),
        "min": x.min(axis=0),
        "max": x.max(axis=0),
        "max_abs": np.abs(x).max(axis=0),
        "share_of_energy": np.square(x).sum(axis=0) / np.square(x).sum(),
    }


def samples():
    rng = np.random.default_rng(7)
    draw = lambda n, mean, sd: np.round(rng.normal(mean, sd, size=n) * 1024) / 1024
    return {
        "clear": draw(8, 0.6, 0.1),
        "noise": draw(8, 0.0, 0.2),
        "near_zero": draw(12, 0.01, 0.04),
        "three_seeds": draw(3, 0.3, 0.1),
        "ties": np.array([0.5, 0.5, -0.25, 0.25, 0.125]),
        "negative": draw(10, -0.2, 0.05),
    }


def sign_flip_by_force(x):
    sums = [abs(np.dot(signs, x)) for signs in itertools.product((-1, 1), repeat=len(x))]
    return np.mean([s >= abs(x.sum()) * (1 - 1e-12) for s in sums])


def paired(x):
    exact = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert np.isclose(exact, sign_flip_by_force(x), rtol=1e-12), "SciPy's sign flips against brute force"
    test = stats.ttest_1samp(x, 0)
    intervals = {str(c): list(test.confidence_interval(c)) for c in (0.8, 0.9, 0.95, 0.99, 0.999)}
    tost = []
    for margin in (0.05, 0.1, 0.8):
        above = stats.ttest_1samp(x, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(x, margin, alternative="less").pvalue
        tost.append({"margin": margin, "alpha": 0.05, "p": max(above, below), "equivalent": max(above, below) < 0.05})
    return {"values": x, "mean": x.mean(), "sd": x.std(ddof=1), "t_intervals": intervals, "sign_flip_p": exact, "tost": tost}


def holm_by_closed_testing(p):
    """A hypothesis' adjusted p-value is the largest Bonferroni p of all families that contain it."""
    families = [f for size in range(1, len(p) + 1) for f in itertools.combinations(range(len(p)), size)]
    bonferroni = {f: min(1.0, len(f) * min(p[i] for i in f)) for f in families}
    return [max(value for f, value in bonferroni.items() if i in f) for i in range(len(p))]


def exchange_by_force(lists):
    """Every choice of one value per list, each less the mean of its list; the first ones are the observed choice."""
    centred = [np.asarray(values) - np.mean(values) for values in lists]
    sums = [abs(sum(choice)) for choice in itertools.product(*centred)]
    return np.mean([s >= abs(sum(values[0] for values in centred)) - 1e-12 for s in sums])


def exchanges():
    rng = np.random.default_rng(11)
    draw = lambda n, own: np.round(np.concatenate([[own], rng.gumbel(size=n)]) * 1024) / 1024
    return [[draw(16, 2.5)], [draw(12, 1.0), draw(9, 1.5)], [draw(8, 0.2), draw(8, -0.5), draw(6, 0.1)], [draw(7, 3.0) for _ in range(4)]]


def max_t(statistics):
    """The largest absolute z over statistics, for every basis; z over all bases, the tested one among them."""
    values = np.asarray(statistics)
    z = stats.zscore(values, axis=1)
    largest = np.abs(z).max(axis=0)
    return {"values": values, "z": z[:, 0], "p": np.mean(largest >= largest[0] - 1e-12), "largest": np.argmax(np.abs(z[:, 0]))}


def joint():
    rng = np.random.default_rng(12)
    draw = lambda own: np.round(np.concatenate([[own], rng.gumbel(size=24)]) * 1024) / 1024
    return [max_t([draw(a), draw(b), draw(c)]) for a, b, c in ((0.5, 6.0, -1.0), (0.3, 0.2, 0.9), (-3.0, 1.0, 2.0))]


def plain(value):
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    named = matrices()
    stack = [named["gaussian"], named["outlier_dim"], named["outlier_token"], named["outlier_dim"]]
    holm = [[0.01, 0.04, 0.03], [0.0078125, 0.0078125, 0.5], [0.9, 0.2, 0.6, 0.001], [0.02]]
    fixture = {
        "written_by": "scripts/metric_fixture.py",
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "matrices": {k: {"d_model": D_MODEL, "values": x.ravel(), "metrics": metrics(x), "dimensions": dimensions(x)} for k, x in named.items()},
        "stack": {"layers": ["gaussian", "outlier_dim", "outlier_token", "outlier_dim"], "dettmers_outlier_features": dettmers(stack)},
        "samples": {name: paired(x) for name, x in samples().items()},
        "holm": [{"p": p, "adjusted": holm_by_closed_testing(p)} for p in holm],
        "exchange": [{"lists": lists, "p": exchange_by_force(lists)} for lists in exchanges()],
        "max_t": joint(),
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity" / "metrics.json"
    path.write_text(json.dumps(plain(fixture), indent=1) + "\n")


if __name__ == "__main__":
    main()
