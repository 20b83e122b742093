"""A certificate for MNIST: a bound on the risk of a network, below chance."""
