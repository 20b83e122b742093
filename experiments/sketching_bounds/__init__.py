"""Bounds for networks pruned by magnitude, beside those they compare with.

Tables 1-3 and Figures 1-6 of "Generalization Bounds for Magnitude-Based Pruning
via Sparse Matrix Sketching", and sparse matrices recovered from sketches.
"""
