"""The baseline of `threshold`: `torch.nn.utils.prune` on the same weights.

A program of its own, which needs torch and numpy alone:

  python torch_pruning.py WEIGHTS.npz RESULTS.npz FRACTION REPEATS
"""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune


def main(weights_file, results_file, fraction, repeats):
  stored = dict(np.load(weights_file))
  costs = []
  for _ in range(repeats + 1):  # the first warms up
    layers = make_layers(stored)
    pairs = [(layer, 'weight') for layer in layers.values()]
    wall, cpu = time.perf_counter(), time.process_time()
    prune.global_unstructured(
      pairs, pruning_method=prune.L1Unstructured, amount=fraction
    )
    costs.append((time.perf_counter() - wall, time.process_time() - cpu))
  masks = {f'global.{k}': v.weight_mask.numpy() for k, v in layers.items()}
  for name, layer in make_layers(stored).items():
    prune.l1_unstructured(layer, 'weight', amount=fraction)
    masks[f'layer.{name}'] = layer.weight_mask.numpy()
  masks = {name: np.packbits(mask.T > 0) for name, mask in masks.items()}
  np.savez(
    results_file,
    costs=np.array(costs),
    version=torch.__version__,
    threads=torch.get_num_threads(),
    **masks,
  )


def make_layers(stored):
  """Linear layers with the stored kernels [fan_in, fan_out]."""
  layers = {}
  for name, kernel in stored.items():
    layers[name] = nn.Linear(*kernel.shape, bias=False)
    with torch.no_grad():
      layers[name].weight.copy_(torch.from_numpy(kernel.T.copy()))
  return layers


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
