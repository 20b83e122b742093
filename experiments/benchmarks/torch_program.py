"""The baseline of `table1`: the same experiment as a PyTorch user writes it.

A program of its own, which needs torch, scipy and numpy alone:

  python torch_program.py PROBLEM.npz RESULTS.json

Full or shuffled batches from a DataLoader, plain SGD, evaluation on the whole
training and test sets every so many steps, Type I noise from SciPy for every
neuron after each step, a stop at the target accuracy, pruning by row norms.
"""

import json
import sys
import time

import numpy as np
import torch
from scipy.stats import levy_stable
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main(problem_file, results_file):
  problem = dict(np.load(problem_file))
  rows = []
  for seed, alpha, sigma in problem['lanes'].tolist():
    wall, cpu = time.perf_counter(), time.process_time()
    row = run(problem, int(seed), alpha, sigma)
    cost = time.perf_counter() - wall, time.process_time() - cpu
    rows.append({**row, 'cost': cost})
  results = {
    'rows': rows,
    'version': torch.__version__,
    'threads': torch.get_num_threads(),
  }
  with open(results_file, 'w') as file:
    json.dump(results, file)


def run(problem, seed, alpha, sigma):
  """Train one network to its stopping rule and prune it."""
  torch.manual_seed(seed)
  rng = np.random.default_rng(seed)
  train, test = (loader(problem, split) for split in ('train', 'test'))
  network = make_network(problem, seed)
  hidden, eta = network[0].weight, float(problem['learning_rate'])
  optimizer = torch.optim.SGD(network.parameters(), lr=eta)
  batches = forever(train)
  for i in range(int(problem['max_steps'])):
    inputs, labels = next(batches)
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(inputs), labels).backward()
    optimizer.step()
    if i % int(problem['eval_every']) == 0:
      loss, accuracy = evaluate(network, train)
      test_loss, _ = evaluate(network, test)
      diverged = np.isnan(loss) or np.isnan(test_loss)
      if diverged or accuracy >= float(problem['target_accuracy']):
        break
    if sigma > 0:
      z = levy_stable.rvs(alpha, 0.0, size=len(hidden), random_state=rng)
      with torch.no_grad():
        kick = torch.from_numpy(sigma * eta ** (1 / alpha) * z)
        hidden += kick.to(hidden.dtype)[:, None]
  row = {'seed': seed, 'alpha': alpha, 'sigma': sigma, 'steps': i + 1}
  row['train_accuracy'] = accuracy
  row['test_accuracy'] = evaluate(network, test)[1]
  row['pruning_ratio'] = prune(hidden, float(problem['tolerance']))
  row['train_accuracy_pruned'] = evaluate(network, train)[1]
  row['test_accuracy_pruned'] = evaluate(network, test)[1]
  return row


def loader(problem, split):
  data = TensorDataset(
    torch.from_numpy(problem[f'{split}_inputs']),
    torch.from_numpy(problem[f'{split}_labels'].astype(np.int64)),
  )
  return DataLoader(data, batch_size=int(problem['batch_size']), shuffle=True)


def forever(batches):
  while True:
    yield from batches


def make_network(problem, seed):
  """One hidden layer without biases, with the first weights of this seed."""
  layers = []
  for name in ('hidden_0', 'output'):
    kernel = problem[f'{name}_{seed}']
    layer = nn.Linear(*kernel.shape, bias=False)
    with torch.no_grad():
      layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
    layers.append(layer)
  return nn.Sequential(layers[0], nn.ReLU(), layers[1])


@torch.no_grad()
def evaluate(network, batches):
  """Mean loss and accuracy over a data set."""
  loss, hits, count = 0.0, 0, 0
  for inputs, labels in batches:
    logits = network(inputs)
    loss += nn.functional.cross_entropy(logits, labels, reduction='sum').item()
    hits += (logits.argmax(1) == labels).sum().item()
    count += len(labels)
  return loss / count, hits / count


@torch.no_grad()
def prune(weight, tolerance):
  """Zero the smallest rows that hold at most `tolerance` of the square norm."""
  squares = weight.double().square().sum(1)
  order = squares.argsort()
  removed = squares[order].cumsum(0) <= tolerance * squares.sum()
  weight[order[removed]] = 0.0
  return removed.double().mean().item()


if __name__ == '__main__':
  main(*sys.argv[1:])
