"""Files of two-time correlations: what is read, and what is refused in one line that says why."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from arraydiff.examples.data import TRUTH, DataError, angle_fan, check_c2, load_c2, simulate
from arraydiff.examples.xpcs import Experiment, two_time_correlation

EXPERIMENT = Experiment("static", frames=12, angles=(0.0, 30.0), dt=1.0)
THETA = np.asarray([TRUTH[name] for name in EXPERIMENT.names])
C2 = simulate(EXPERIMENT, THETA, 0.02, seed=3)


def test_simulated_noise_is_symmetric_has_the_given_size_and_repeats_with_its_seed():
    large = Experiment("static", frames=300)
    noise = simulate(large, THETA, 0.02, seed=5)[0] - two_time_correlation(THETA, large)[0]
    np.testing.assert_allclose(noise, noise.T, atol=1e-15)
    assert np.std(noise[np.triu_indices(300, k=1)]) == pytest.approx(0.02, rel=0.02)
    np.testing.assert_array_equal(C2, simulate(EXPERIMENT, THETA, 0.02, seed=3))
    assert np.any(simulate(EXPERIMENT, THETA, 0.02, seed=4) != C2)


def test_the_fan_of_angles_is_symmetric_and_a_single_one_looks_along_the_flow():
    assert angle_fan(1) == (0.0,)
    assert angle_fan(5) == (-80.0, -40.0, 0.0, 40.0, 80.0)


def test_a_matrix_in_an_npy_file_is_one_angle(tmp_path):
    np.save(tmp_path / "c2.npy", C2[0].astype(np.float32))
    read = load_c2(tmp_path / "c2.npy")
    assert read.dtype == np.float64
    np.testing.assert_allclose(read, C2[:1], rtol=1e-6)


@pytest.mark.parametrize("dataset", [None, "c2"])
def test_the_only_array_of_an_npz_file_needs_no_name(tmp_path, dataset):
    np.savez(tmp_path / "c2.npz", c2=C2)
    np.testing.assert_array_equal(load_c2(tmp_path / "c2.npz", dataset), C2)


@pytest.mark.parametrize("dataset", [None, "exchange/c2", "/exchange/c2"])
def test_the_only_matrix_of_an_hdf5_file_needs_no_name(tmp_path, dataset):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "c2.h5", "w") as file:
        file["exchange/c2"] = C2
        file["exchange/q"] = 0.0054
    np.testing.assert_array_equal(load_c2(tmp_path / "c2.h5", dataset), C2)


def test_without_h5py_an_hdf5_file_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "c2.h5").touch()
    assert_refused(lambda: load_c2(tmp_path / "c2.h5"), "pip install h5py")


def test_an_upper_triangle_alone_is_completed():
    np.testing.assert_array_equal(check_c2(np.triu(C2)), C2)


def test_of_several_arrays_one_must_be_chosen(tmp_path):
    np.savez(tmp_path / "c2.npz", c2=C2, q=0.0054)
    assert_refused(lambda: load_c2(tmp_path / "c2.npz"), "choose one with --dataset: c2, q")
    assert_refused(lambda: load_c2(tmp_path / "c2.npz", "C2"), "no dataset 'C2'; it holds: c2, q")


def test_a_missing_file_is_refused(tmp_path):
    assert_refused(lambda: load_c2(tmp_path / "c2.npy"), "no such file")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize(
    "content", [b"", b"no array in here", b"PK\x03\x04 broken"], ids=["empty", "text", "broken zip"]
)
def test_a_file_that_holds_no_array_is_refused(tmp_path, suffix, content):
    if suffix == ".h5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / f"c2{suffix}").write_bytes(content)
    assert_refused(lambda: load_c2(tmp_path / f"c2{suffix}"), "cannot be read")


def nan_at(index):
    broken = C2.copy()
    broken[index] = np.nan
    return broken


@pytest.mark.parametrize(
    ("c2", "said"),
    [
        (C2[0, :, :-1], "shape (12, 11) is not square"),
        (C2[0, 0], "shape (12,) is not square"),
        (C2[None], "shape (1, 2, 12, 12) is not square"),
        (C2[:, :4, :4], "at least 5 frames"),
        (C2[:0], "shape (0, 12, 12)"),
        (nan_at((1, 2, 3)), "1 entries are not finite, the first at (1, 2, 3)"),
        (C2 * 1j, "complex128"),
        (np.full((6, 6), "1"), "<U1"),
        (C2 + np.triu(np.ones((12, 12))), "not symmetric"),
    ],
)
def test_what_is_no_c2_is_refused(c2, said):
    assert_refused(lambda: check_c2(c2, "my.npy"), "my.npy: ", said, "expected")


def assert_refused(call, *said):
    with pytest.raises(DataError) as refused:
        call()
    text = str(refused.value)
    assert "\n" not in text
    for part in said:
        assert part in text
