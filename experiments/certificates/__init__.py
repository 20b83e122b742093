"""A certificate for MNIST: a bound on the risk of a network, far below chance.

A small convolutional network on a fixed bank of oriented derivatives is trained
(with heavy-tailed noise or without), pruned by magnitude, its weights are tied
to a few values, and the whole is written as a string of bits that a fixed
program decodes. The bound counts these bits and the errors of the decoded
network on all training images. Three studies: how the bound moves with the
number of kept weights, with the tail index of the noise at equal size, and
what the same pipeline certifies for random labels (nothing).

  python -m experiments.certificates \
    --config=experiments/certificates/config.py:cpu --workdir=runs/certificates

Run it again and it goes on with the rows that are missing.
"""
