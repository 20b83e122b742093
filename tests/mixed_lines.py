"""Points on several straight lines, and a search for the lines.

With one size of search everything is compiled once.
"""

import jax
import numpy as np

from htjax import line_mixture

SEARCH = {'num_restarts': 16, 'num_steps': 200}


def choose(key, x, y, max_lines=3):
  """The mixture of smallest BIC; the key is typed, or a number."""
  key = jax.random.key(key) if isinstance(key, int) else key
  return line_mixture.choose(key, x, y, max_lines, **SEARCH)


def points(slopes, intercepts, deviation, n, seed):
  """x, y, and which line each point is on."""
  draws = np.random.default_rng(seed)
  x = draws.uniform(-2, 2, n)
  own = draws.integers(len(slopes), size=n)
  y = np.asarray(slopes)[own] * x + np.asarray(intercepts)[own]
  return x, y + deviation * draws.normal(size=n), own
