"""The peer of `channels`: Torch-Pruning on the same ResNet-20.

A program of its own, which needs torch, torch_pruning and numpy alone:

  python -P torch_channels.py WEIGHTS.npz INPUTS.npy RESULTS.npz RATIO

Of the inner channels of every block the RATIO of smallest norm are removed.
"""

import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn


class Block(nn.Module):
  """Two convolutions and a shortcut that is padded with zeros."""

  def __init__(self, fed, n, stride):
    super().__init__()
    self.stride, self.padding = stride, (n - fed) // 2
    self.conv1 = nn.Conv2d(fed, n, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(n)
    self.conv2 = nn.Conv2d(n, n, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(n)

  def forward(self, x):
    h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
    x = x[:, :, :: self.stride, :: self.stride]
    return F.relu(
      h + F.pad(x, (0, 0, 0, 0, self.padding, self.padding), 'constant', 0)
    )


class ResNet(nn.Module):
  """ResNet-20 with the names of the trained weights."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(16)
    fed = 16
    for stage, n in enumerate((16, 32, 64), 1):
      blocks = []
      for _ in range(3):
        blocks.append(Block(fed, n, 1 if fed == n else 2))
        fed = n
      setattr(self, f'layer{stage}', nn.Sequential(*blocks))
    self.linear = nn.Linear(64, 10)

  def forward(self, x):
    x = F.relu(self.bn1(self.conv1(x)))
    x = self.layer3(self.layer2(self.layer1(x)))
    return self.linear(x.mean((2, 3)))


def main(weights_file, inputs_file, results_file, ratio):
  stored = np.load(weights_file)
  state = {
    k.removeprefix('module.'): torch.from_numpy(stored[k]) for k in stored
  }
  model = ResNet()
  model.load_state_dict(state, strict=False)
  model.eval()
  x = torch.from_numpy(np.load(inputs_file)).permute(0, 3, 1, 2).contiguous()
  inner = [m.conv1 for m in model.modules() if isinstance(m, Block)]
  before = {id(c): c.weight.detach().clone() for c in inner}
  others = [
    m
    for m in model.modules()
    if isinstance(m, nn.Conv2d | nn.Linear) and id(m) not in before
  ]
  pruner = tp.pruner.MetaPruner(
    model,
    x[:1],
    importance=tp.importance.MagnitudeImportance(p=2, group_reduction='first'),
    pruning_ratio=ratio,
    ignored_layers=others,
  )
  results = {}
  for group in pruner.step(interactive=True):
    dep, index = group[0]
    names = {id(m): n for n, m in model.named_modules()}
    results[f'removed.{names[id(dep.target.module)]}'] = np.sort(index)
    group.prune()
  macs, params = tp.utils.count_ops_and_params(model, x[:1])
  with torch.no_grad():
    results['outputs'] = model(x).numpy()
  found: dict[str, Any] = {
    'params': sum(p.numel() for p in model.parameters()),
    'counted': np.array([macs, params]),
    'version': tp.__version__,
    **results,
  }
  np.savez(results_file, **found)


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
