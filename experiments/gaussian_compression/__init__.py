"""Table 1 and Figures 1-3 of "Compressing Heavy-Tailed Weight Matrices for
Non-Vacuous Generalization Bounds".

In the last layer of trained networks the small weights are replaced by Gaussian
noise, in three readings of the paper, or by zeros; the table has the accuracies
before and after beside the published ones. Weights of any network get tail
indices and stable ranks, Figure 3; residual networks for CIFAR-10 in PyTorch's
layout get accuracies as well.

  python -m experiments.gaussian_compression \
    --config=experiments/gaussian_compression/config.py:cpu \
    --config.weights=resnet20.npz,resnet56.safetensors \
    --workdir=runs/gaussian_compression

Run it again and it goes on where it was killed, or draws its figures anew.
"""
