"""Nonlinear regression problems of the NIST Statistical Reference Datasets, with certified sums of squares and standard errors.

National Institute of Standards and Technology, Statistical Reference Datasets (StRD), doi 10.18434/T43G6C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Model = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """Model, data, the two starts, and what was certified."""

    name: str
    model: Model  # of parameters and x
    x: tuple[float, ...]
    y: tuple[float, ...]
    starts: tuple[tuple[float, ...], tuple[float, ...]]
    certified: tuple[float, ...]
    squares: float  # residual sum of squares there
    errors: tuple[float, ...]  # standard errors, of residuals of unknown variance

    def residual(self, b: np.ndarray) -> np.ndarray:
        return self.model(b, np.asarray(self.x)) - np.asarray(self.y)


def _growth(b: np.ndarray, x: np.ndarray) -> np.ndarray:
    return b[0] * (1 - np.exp(-b[1] * x))


MISRA_X = (77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0)
MISRA_Y = (10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78)
MEYER_Y = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)
KOWALIK_X = (4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
KOWALIK_Y = (0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
PASTURE_X = (9, 14, 21, 28, 42, 57, 63, 70, 79)
PASTURE_Y = (8.93, 10.8, 18.59, 22.33, 39.35, 56.11, 61.73, 64.62, 67.08)
ONION_Y = (
    *(16.08, 33.83, 65.8, 97.2, 191.55, 326.2, 386.87, 520.53),
    *(590.03, 651.92, 724.93, 699.56, 689.96, 637.56, 717.41),
)

DATASETS = (
    Dataset(
        "Misra1a",
        _growth,
        MISRA_X,
        MISRA_Y,
        ((500, 1e-4), (250, 5e-4)),
        (238.94212918, 5.5015643181e-4),
        0.12455138894,
        (2.7070075241, 7.2668688436e-6),
    ),
    Dataset(
        "DanWood",
        lambda b, x: b[0] * x ** b[1],
        (1.309, 1.471, 1.490, 1.565, 1.611, 1.680),
        (2.138, 3.421, 3.597, 4.340, 4.882, 5.660),
        ((1, 5), (0.7, 4)),
        (0.76886226176, 3.8604055871),
        4.3173084083e-3,
        (1.8281973860e-2, 5.1726610913e-2),
    ),
    Dataset(
        "BoxBOD",
        _growth,
        (1, 2, 3, 5, 7, 10),
        (109, 149, 149, 191, 213, 224),
        ((1, 1), (100, 0.75)),
        (213.80940889, 0.54723748542),
        1168.0088766,
        (12.354515176, 0.10455993237),
    ),
    Dataset(
        "Rat42",
        lambda b, x: b[0] / (1 + np.exp(b[1] - b[2] * x)),
        PASTURE_X,
        PASTURE_Y,
        ((100, 1, 0.1), (75, 2.5, 0.07)),
        (72.462237576, 2.6180768402, 0.067359200066),
        8.0565229338,
        (1.7340283401, 8.8295217536e-2, 3.4465663377e-3),
    ),
    Dataset(
        "Rat43",
        lambda b, x: b[0] / (1 + np.exp(b[1] - b[2] * x)) ** (1 / b[3]),
        tuple(range(1, 16)),
        ONION_Y,
        ((100, 10, 1, 1), (700, 5, 0.75, 1.3)),
        (699.64151270, 5.2771253025, 0.75962938329, 1.2792483859),
        8786.4049080,
        (16.302297817, 2.0828735829, 0.19566123451, 0.68761936385),
    ),
    Dataset(
        "MGH09",
        lambda b, x: b[0] * (x * x + x * b[1]) / (x * x + x * b[2] + b[3]),
        KOWALIK_X,
        KOWALIK_Y,
        ((25, 39, 41.5, 39), (0.25, 0.39, 0.415, 0.39)),
        (0.19280693458, 0.19128232873, 0.12305650693, 0.13606233068),
        3.0750560385e-4,
        (1.1435312227e-2, 0.19633220911, 8.0842031232e-2, 9.0025542308e-2),
    ),
    Dataset(
        "MGH10",
        lambda b, x: b[0] * np.exp(b[1] / (x + b[2])),
        tuple(range(50, 126, 5)),
        MEYER_Y,
        ((2, 4e5, 2.5e4), (0.02, 4000, 250)),
        (5.6096364710e-3, 6181.3463463, 345.22363462),
        87.945855171,
        (1.5687892471e-4, 23.309021107, 0.78486103508),
    ),
)
