"""Compute the table of `stable_mle` and say how good it is.

    python -m experiments.stable_slopes

Writes `htjax/tail_index/stable_slopes.npz`, and prints the largest errors of
the slopes and of P(X > x) against the law itself, float64, for alpha between
the nodes.
"""

import math
from pathlib import Path

import jax
import numpy as np

from htjax.stable.table import known_law, series
from htjax.tail_index import stable_slopes

_FILE = Path(stable_slopes.__file__).with_suffix('.npz')
_DEGREE, _ALPHA_DEGREE = 7, 9


def _nodes(degree: int) -> np.ndarray:
  return np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))


def _to_powers(nodes: np.ndarray) -> np.ndarray:
  """Coefficients [power] = matrix @ values [node]."""
  return np.linalg.inv(np.vander(nodes, increasing=True))


def compute() -> stable_slopes.Coefficients:
  """The table in float64."""
  place, place_alpha = _nodes(_DEGREE), _nodes(_ALPHA_DEGREE)
  x = stable_slopes.points(place)
  bands: list[list[np.ndarray]] = [[], [], []]
  for band in range(stable_slopes.NUM_BANDS):
    values: list[list[np.ndarray]] = [[], [], []]
    for alpha in stable_slopes.alphas(band, place_alpha):
      _, tail, density = known_law(x.ravel(), alpha)
      values[0].append(np.log(density).reshape(x.shape))
      values[1].append(np.log(tail).reshape(x.shape))
      terms = alpha * (np.arange(len(series(alpha))) + 1)
      values[2].append(series(alpha) * terms / (2.0 - alpha))
    in_alpha = _to_powers(place_alpha)
    for i in range(2):
      in_x = np.stack(values[i]) @ _to_powers(place).T
      bands[i].append(np.einsum('ka,apc->kcp', in_alpha, in_x))
    bands[2].append(in_alpha @ np.stack(values[2]))
  return stable_slopes.Coefficients(*(np.stack(b) for b in bands))


def errors(alpha: float, x: np.ndarray) -> dict[str, float]:
  """Largest errors of the table at points, absolute but for the tail's."""
  step = 1e-3 * (2.0 - alpha)
  weights = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
  with jax.enable_x64(True):
    found = jax.jit(stable_slopes.slopes)(np.log(x), alpha)
    found = stable_slopes.Slopes(*map(np.asarray, found))

    def log_density(x: np.ndarray, alpha: float) -> np.ndarray:
      return np.log(known_law(x, alpha)[2])

    by_alpha = sum(
      w * log_density(x, alpha + k * step) for k, w in weights.items()
    )
    by_log_x = sum(
      w * log_density(x * math.exp(1e-3 * k), alpha) for k, w in weights.items()
    )
  _, tail, _ = known_law(x, alpha)
  # A slope in alpha has the size of 1 / (2 - alpha) in the tail.
  return {
    'by_alpha': float(np.max(np.abs(found.by_alpha - by_alpha / step))),
    'by_log_x': float(np.max(np.abs(found.by_log_x - by_log_x / 1e-3))),
    'tail': float(np.max(np.abs(found.tail / tail - 1))),
  }


def main() -> None:
  table = compute()
  np.savez_compressed(
    _FILE, **{k: v.astype(np.float32) for k, v in table._asdict().items()}
  )
  print(_FILE.name, _FILE.stat().st_size, 'bytes')
  x = np.exp(np.random.default_rng(0).uniform(-8.0, 6.0, 400))
  for alpha in (
    0.51,
    0.6,
    0.8,
    1.0,
    1.2,
    1.5,
    1.7,
    1.9,
    1.97,
    1.99,
    1.999,
    1.9998,
  ):
    print(alpha, {k: f'{v:.1e}' for k, v in errors(alpha, x).items()})


if __name__ == '__main__':
  main()
