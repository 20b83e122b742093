# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Propagation of chaos under heavy-tailed noise
#
# The units of a wide network, trained by gradient descent with heavy-tailed
# noise, behave like independent copies of one process. State a unit and a loss,
# and measure how fast that becomes true as the width grows.

# %%
import importlib.util
from pathlib import Path

if importlib.util.find_spec('htjax') is None:
  here = Path.cwd()
  inside = [p for p in (here, *here.parents) if (p / 'htjax/py.typed').exists()]
  if not inside:
    raise ModuleNotFoundError(
      'htjax is missing: run this notebook in a copy of the project, which is '
      'installed from there, or %pip install the path of one'
    )
  print('installing htjax')
  # %pip install -q "{inside[0]}"

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from htjax import compressibility, mean_field

SMOKE = os.environ.get('HTJAX_SMOKE', '') not in ('', '0')  # a quick check
WIDTHS = (16, 64, 256) if SMOKE else (16, 64, 256, 1024, 4096)
REPLICAS, REFERENCE = (8, 2**9) if SMOKE else (64, 2**18)

# %% [markdown]
# ## The claim
#
# $n$ units $\theta^1, \ldots, \theta^n$ with the network
# $f(x) = \frac1n \sum_i h_x(\theta^i)$ follow
#
# $$d\theta^i_t = b(\theta^i_t, \mu^n_t)\,dt + \sigma\,dL^i_t,$$
#
# where $b$ is $-n$ times the gradient of the risk and $L^i$ are independent
# $\alpha$-stable processes. "Implicit Compressibility of Overparametrized
# Neural Networks Trained with Heavy-Tailed SGD" proves (Theorem 4.2)
# $\mathbb{E} \sup_{t, i} |\theta^i_t - \bar\theta^i_t| \le C / \sqrt n$ for
# independent copies $\bar\theta^i$ of the limit that meet the same noise.

# %% [markdown]
# ## Your problem
#
# Any smooth unit and loss will do; the drift comes from autodiff and costs
# $O(n)$. Change them and run the rest again.

# %%
data = np.random.default_rng(0)
inputs = data.normal(size=(64, 5)) / np.sqrt(5)
problem = mean_field.Problem(
  unit=lambda theta, x: jnp.tanh(theta @ x),
  loss=lambda f, y: jnp.logaddexp(f - y, y - f),
  inputs=jnp.asarray(inputs, jnp.float32),
  targets=jnp.asarray(np.sin(2 * inputs[:, 0]), jnp.float32),
)
regularity = mean_field.regularity(problem)
print('Assumption 1 holds:', regularity.holds, regularity.reason)
print(f'B = {regularity.bound:.2f}')

# %% [markdown]
# ## Measure
#
# A reference system of very many particles carries the limit law. Each replica
# is independent of the others: they give the interval of the slope.

# %%
SETTINGS = {'sigma': 0.5, 'step_size': 1 / 32, 'num_steps': 32, 'kind': 'type3'}
errors = {
  alpha: mean_field.propagation_of_chaos(
    jax.random.key(0),
    problem,
    widths=WIDTHS,
    reference=REFERENCE,
    num_replicas=REPLICAS,
    alpha=alpha,
    **SETTINGS,
  )
  for alpha in (1.2, 1.8, 2.0)
}
constant = mean_field.gronwall_constant(regularity, 1.0, variant='sharp').value
print('alpha  slope, a typical unit   slope, the worst unit')
for alpha, found in errors.items():
  for part in (found.typical, found.largest):
    rate = mean_field.fit_rate(WIDTHS, part)
    print(f'{rate.slope:.3f} [{rate.low:.3f}, {rate.high:.3f}]', end='   ')
  print(f'alpha {alpha}')

# %%
for alpha, found in errors.items():
  rate = mean_field.fit_rate(WIDTHS, found.typical)
  plt.errorbar(
    WIDTHS, rate.levels, 2 * rate.level_errors, fmt='o-', label=alpha
  )
plt.plot(WIDTHS, constant / np.sqrt(WIDTHS), 'k--', label='bound')
plt.loglog()
plt.xlabel('width n')
plt.ylabel('distance of a unit to its limit')
plt.legend(title='alpha')
# %% [markdown]
# ## Heavy tails make the limit compressible
#
# The limit's norms have the tail of the noise, so a fixed fraction of the units
# carries all of the norm as $n \to \infty$, unless the noise is Gaussian.

# %%
for alpha in errors:
  start = jax.random.normal(jax.random.key(1), (max(WIDTHS), 5))
  path = mean_field.simulate(
    jax.random.key(2), problem, start, alpha=alpha, **SETTINGS
  )
  norms = jnp.linalg.norm(path.particles[-1], axis=-1)
  error = compressibility.compression_error(norms, 0.1)
  print(f'alpha {alpha}: error of keeping 10 % of the units {error:.2f}')

# %% [markdown]
# ## What to look at
#
# - The slopes of a typical unit lie at $-1/2$ whatever $\alpha$ is: the
#   interaction goes through bounded functions, which do not see the tails.
# - The worst of $n$ units does so more slowly at small $n$: the sup over more
#   units grows until it saturates. It steepens towards $-1/2$.
# - The bound holds with its constant. In terms of $B$ alone, as the theorem
#   states it, the constant is astronomically larger:
#   `gronwall_constant(regularity, 1.0).value`.
#
# ## Limits
#
# One small problem, a horizon of 1, steps of 1/32: both the systems and the
# limit are Euler schemes of that step. `experiments/mean_field` measures the
# other theorems too, with controls that must fail.
