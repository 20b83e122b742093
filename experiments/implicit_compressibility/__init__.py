"""Tables 1-6 and Figure 2 of "Implicit Compressibility of Overparametrized
Neural Networks Trained with Heavy-Tailed SGD".

Networks trained with heavy-tailed noise lose far more columns at the same
error than those trained without. Each preset trains its lanes (alpha x sigma x
seed, and seeds without noise) to the stopping rule, prunes every network, and
writes the paper's table beside the published one, and the figures.

  python -m experiments.implicit_compressibility \
    --config=experiments/implicit_compressibility/config.py:demo \
    --workdir=runs/demo

Run it again and it goes on where it was killed, or draws its figures anew.
"""
