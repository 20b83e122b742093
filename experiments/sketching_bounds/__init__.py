"""Bounds for networks pruned by magnitude, beside those they compare with.

Tables 1-3 and Figures 1-6 of "Generalization Bounds for Magnitude-Based Pruning
via Sparse Matrix Sketching": networks of five layers are trained with Adam;
on each, every bound is evaluated with the constants that it states, the
published number beside it. The default width is also pruned by Algorithm 1 and
followed from epoch to epoch. Apart from that, sparse matrices are recovered
from sketches of many sizes. A network (or p) that is done is kept.

  python -m experiments.sketching_bounds \
    --config=experiments/sketching_bounds/config.py:cpu \
    --workdir=runs/sketching_bounds
"""
