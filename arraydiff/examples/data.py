"""Two-time correlations to fit: simulated, or read from a file and checked."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from arraydiff.examples.xpcs import Experiment, two_time_correlation

FEWEST_FRAMES = 5
ASYMMETRY = 1e-5  # relative to the largest entry: files are often float32
EXPECTED = "expected a C2 matrix of shape (frames, frames), or (angles, frames, frames)"

TRUTH = {
    "contrast": 0.3,
    "offset": 1.0,
    "D0": 1.2e4,
    "alpha": -0.8,
    "D_offset": 1e3,
    "shear_rate0": 1.2e-3,
    "beta": -0.5,
    "shear_rate_offset": 1e-4,
    "phi0": 2.0,
}
"""The simulated sample: it slows down with age, and every parameter leaves its mark within 100 frames of 0.1 s."""


def truth_of(experiment: Experiment) -> dict[str, float]:
    """`TRUTH` by the names of an experiment; contrasts and offsets of single angles scatter about it."""
    truth = {}
    for name in experiment.names:
        common, _, angle = name.partition("[")
        spread = (
            {"contrast": 0.05 * math.sin(int(angle[:-1])), "offset": 0.02 * math.cos(int(angle[:-1]))} if angle else {}
        )
        truth[name] = TRUTH[common] + spread.get(common, 0.0)
    return truth


class DataError(ValueError):
    """A file that cannot be fitted; the text is one line with what is wrong and what is expected."""


def angle_fan(count: int) -> tuple[float, ...]:
    """Angles from along the flow to nearly across it: those across see diffusion alone."""
    return (0.0,) if count == 1 else tuple(np.linspace(-80.0, 80.0, count).tolist())


def simulate(experiment: Experiment, theta: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """The model with Gaussian noise of standard deviation sigma, the same at (t1, t2) and (t2, t1).

    Parameters
    ----------
    experiment : Experiment
        Geometry and times.
    theta : ndarray, shape (n,)
        Parameters in the order of ``experiment.names``.
    sigma : float
        Standard deviation of the noise of one entry.
    seed : int
        The same seed gives the same data.

    Returns
    -------
    ndarray, shape (P, N, N)
    """
    rng = np.random.default_rng(seed)
    c2 = np.empty((len(experiment.angles), *2 * (experiment.frames,)))
    for angle in range(len(c2)):  # one at a time: all of them at full size would take gigabytes
        noise = rng.normal(scale=sigma, size=c2.shape[1:])
        c2[angle] = model_at(experiment, np.asarray(theta), angle) + _mirrored(noise)
    return c2


def model_at(experiment: Experiment, theta: np.ndarray, angle: int) -> np.ndarray:
    """The model at one angle, shape (N, N)."""
    s = experiment.scalings
    place = angle if experiment.scaling_per_angle else 0
    alone = replace(experiment, angles=(experiment.angles[angle],), scaling_per_angle=False)
    c2: np.ndarray = two_time_correlation(np.asarray([theta[place], theta[s + place], *theta[2 * s :]]), alone)[0]
    return c2


def load_c2(path: str | Path, dataset: str | None = None) -> np.ndarray:
    """Read measured two-time correlations.

    Parameters
    ----------
    path : str or Path
        A ``.npy``, ``.npz`` or HDF5 file.
    dataset : str, optional
        Name of the array in an ``.npz`` or HDF5 file; may be left out where there is only one.

    Returns
    -------
    ndarray, shape (P, N, N)
        In float64 and symmetric; a file whose lower triangle is zero is completed from its upper one.

    Raises
    ------
    DataError
        The file cannot be read, or what it holds is not square, finite, real and symmetric.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a .npy, .npz or HDF5 file")
    return check_c2(_read(path, dataset), str(path))


def check_c2(c2: np.ndarray, name: str = "c2") -> np.ndarray:
    """C2 as a float64 array (P, N, N), or a DataError that calls it `name`."""
    if c2.dtype.kind not in "fiu":
        raise DataError(f"{name}: holds {c2.dtype}; {EXPECTED} of real numbers")
    if c2.ndim not in (2, 3) or c2.shape[-1] != c2.shape[-2]:
        raise DataError(f"{name}: shape {c2.shape} is not square; {EXPECTED}")
    if c2.shape[-1] < FEWEST_FRAMES or 0 in c2.shape:
        raise DataError(f"{name}: shape {c2.shape}; {EXPECTED} with at least {FEWEST_FRAMES} frames")
    c2 = np.array(c2, dtype=np.float64, ndmin=3)
    bad = np.argwhere(~np.isfinite(c2))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        raise DataError(f"{name}: {len(bad)} entries are not finite, the first at {where}; expected finite numbers")
    if not np.any(np.tril(c2, k=-1)):
        return _mirrored(c2)
    if np.max(np.abs(c2 - np.swapaxes(c2, -1, -2))) > ASYMMETRY * np.max(np.abs(c2)):
        raise DataError(f"{name}: not symmetric; expected c2(t1, t2) = c2(t2, t1)")
    return c2


def _mirrored(upper: np.ndarray) -> np.ndarray:
    full: np.ndarray = np.triu(upper) + np.swapaxes(np.triu(upper, k=1), -1, -2)
    return full


def _read(path: Path, dataset: str | None) -> np.ndarray:
    """The array in a file, whatever its shape."""
    try:
        if path.suffix in (".h5", ".hdf5", ".hdf", ".nxs"):
            return _read_hdf5(path, dataset)
        with path.open("rb") as stream:  # np.load leaves a broken archive open that it opened itself
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return np.asarray(loaded[_only(path, loaded.files, dataset)])
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); expected a .npy, .npz or HDF5 file") from error


def _read_hdf5(path: Path, dataset: str | None) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: reading HDF5 needs h5py; run: pip install h5py") from error

    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        matrices = [name for name in found if file[name].ndim in (2, 3)]
        wanted = dataset.strip("/") if dataset is not None else None
        return np.asarray(file[_only(path, found if wanted else matrices, wanted)])


def _only(path: Path, names: list[str], wanted: str | None) -> str:
    """The array that is wanted, or the only one."""
    if wanted in names:
        return str(wanted)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
    if wanted is not None:
        raise DataError(f"{path}: no dataset {wanted!r}; it holds: {listed}")
    if len(names) == 1:
        return names[0]
    raise DataError(f"{path}: expected one array, found {len(names)}; choose one with --dataset: {listed}")
