"""The theorems on heavy-tailed mean-field networks, measured.

Propagation of chaos, the error of the Euler scheme, tails and compressibility
of "Implicit Compressibility of Overparametrized Neural Networks Trained with
Heavy-Tailed SGD" (sections 3, 4 and appendices A to D): the measured rate, its
interval and the theorem's rate and constant side by side. Each study is made
of cells, one per tail index and kind of noise; a cell that is done is kept.

  python -m experiments.mean_field \
    --config=experiments/mean_field/config.py:cpu --workdir=runs/mean_field
"""
