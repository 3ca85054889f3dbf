"""Sparse derivatives: patterns, the colours that make few directions of many columns, and what is recovered from them."""

from arraydiff.errors import SparsityError
from arraydiff.sparse.results import SparseHessianResult, SparseJacobianResult, Triplets
from arraydiff.sparse.sparsity import Sparsity

__all__ = ["SparseHessianResult", "SparseJacobianResult", "Sparsity", "SparsityError", "Triplets"]
