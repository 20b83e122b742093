"""The experiments of "Heavy Tails in SGD and Compressibility of
Overparametrized Neural Networks".

Networks are trained by plain SGD over a range of step size / batch size, to
accuracy 1 and a tiny loss; the tail index of every layer is estimated from an
average of iterates, and the last iterate is pruned in five ways. Beside them,
random networks and matrices with exactly stable weights, and what the theorems
say of such weights.

  python -m experiments.heavy_tails_sgd \
    --config=experiments/heavy_tails_sgd/config.py:cpu --workdir=runs/ht

Every panel and batch size is a run in a directory of its own, so a program
that was killed goes on where it was.
"""
