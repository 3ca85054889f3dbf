"""Functions of one variable with true derivatives, sorted by what makes them hard.

`cases` gives them: NumPy functions in nine classes, each with points drawn by a seed and a derivative that is right to the
last bit.  They are for whoever writes, compares or trusts a differentiator.  NumPy is enough for most of the functions; the
true derivatives need mpmath, and a few functions need SciPy.

Examples
--------
>>> from arraydiff.testing import CLASSES, cases
>>> CLASSES
('smooth', 'zero', 'scale', 'offset', 'singular', 'oscillatory', 'noisy', 'edge', 'kink')
>>> def forward(f, x, h=1e-8):
...     return (f(x + h) - f(x)) / h
>>> case = cases("tuning", classes="offset")[0]
>>> print(case.name, forward(case.function, case.points[0]))  # the true derivative is a cosine
1e8 + sin 0.0
"""

from arraydiff.testing.suite import CLASSES, HALVES, Case, cases

__all__ = ["CLASSES", "HALVES", "Case", "cases"]
