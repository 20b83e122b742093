"""A certificate for MNIST: a bound on the risk of a network, far below chance.

A small network on a fixed bank of filters is trained, pruned, tied to a few
values and written as a string of bits, which are what the bound counts. How it
moves with the number of kept weights, with the tail index of the noise at equal
size, and what the same pipeline certifies for random labels (nothing).
"""
