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
# # Tails and pruning
#
# Are the weights of your network heavy-tailed, which estimator says so, and how
# much of the network can go? Replace `trained` by your own weights: any pytree
# of arrays will do.

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

from htjax import data, models, pruning, records, stable, tail_index, training
from htjax.selection import exclude

SMOKE = os.environ.get('HTJAX_SMOKE', '') not in ('', '0')  # a quick check
WIDTH = 64 if SMOKE else 400

# %% [markdown]
# ## Two networks
#
# The same network trained by plain SGD, and with Type I noise of tail index
# 1.75 after every step: two lanes of one program.

# %%
digits = data.load('digits')
network = models.fcn(64, WIDTH, 10, hidden_layers=2)
hidden = exclude('output')
recipe = training.Recipe(
  learning_rate=0.1, batch_size=500, eval_every=20, max_steps=1000
)
program = training.make_program(
  network.init, network.apply, recipe, select=hidden
)
lanes = [training.Lane(0, 2.0, 0.0), training.Lane(0, 1.75, 0.006)]
trained = {}
for lane in training.train(program, lanes, training.Examples(*digits.train)):
  trained['noisy' if lane.lane.sigma else 'plain'] = lane.params
  print(lane.lane, lane.status, f'{lane.steps} steps')

# %% [markdown]
# ## Every estimator, layer by layer
#
# `layer_table` takes any pytree of arrays. `protocol` is the estimator of
# "Heavy Tails in SGD and Compressibility of Overparametrized Neural Networks",
# not capped at 2; a column that ends in `_se` is the standard error of the one
# before. `rel_err_0.1` is the fraction of entries that can go at 10 % of the
# norm, `sq_mass_0.1` that of columns at 10 % of the squared norm.

# %%
COLUMNS = ('layer', 'shape', 'protocol', 'mmo', 'mmo_se', 'hill', 'hill_se')
COLUMNS += ('power_law', 'stable_mle', 'stable_mle_se', 'stable_ks')
COLUMNS += ('stable_rank', 'rel_err_0.1', 'sq_mass_0.1')


def show(value):
  return f'{value:.3g}' if isinstance(value, float) else value


for name, params in trained.items():
  table = tail_index.layer_table(params, key=jax.random.key(0))
  print(name)
  print(records.table(COLUMNS, [[show(r[c]) for c in COLUMNS] for r in table]))

# %% [markdown]
# ## Which one to believe
#
# Each estimator has a model. The block sums of `mmo` assume stable vectors, and
# call Student's $t$ with 3 degrees of freedom stable with $\alpha < 2$; Hill's
# looks at the largest values alone, and sees a tail of about 3; the fitted
# stable law says by its Kolmogorov-Smirnov distance that it does not fit.
# `experiments/tail_estimators` has the whole table.

# %%
key = jax.random.key(1)
samples = {
  'stable, 1.5': stable.sample(key, 1.5, (2000, 10)),
  'Student, 3': jax.random.t(key, 3.0, (2000, 10)),
  'Gaussian': jax.random.normal(key, (2000, 10)),
}
lines = []
for name, x in samples.items():
  estimates = (
    tail_index.mmo(x, 40),
    tail_index.hill(x, 1000),
    tail_index.stable_mle(x),
  )
  cells = [f'{e.alpha:.2f} +- {e.standard_error:.2f}' for e in estimates]
  lines.append([name, *cells, f'{estimates[-1].p_value:.2g}'])
print(records.table(['law', 'mmo', 'hill', 'stable_mle', 'its p'], lines))

# %% [markdown]
# ## Fifty ratios in one program
#
# The kept fraction is traced, so that a pruning curve is one vmapped program.

# %%
KAPPAS = jnp.linspace(1.0, 0.02, 50)
x, y = map(jnp.asarray, digits.test)


@jax.jit
def curve(params):
  def accuracy(kappa):
    pruned = pruning.magnitude(params, kappa, select=hidden)
    return jnp.mean(network.apply(pruned.params, x).argmax(-1) == y)

  return jax.vmap(accuracy)(KAPPAS)


figure, ax = plt.subplots(figsize=(6, 4))
for name, params in trained.items():
  ax.plot(100 * (1 - KAPPAS), 100 * curve(params), label=name)
ax.set(xlabel='pruned entries (%)', ylabel='test accuracy (%)')
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Really smaller
#
# A masked network is as large as before. `compact` drops the units whose
# columns are zero, with their rows in the next layer, and computes the same.
# Below it, every method at the same error: `to_error` finds, layer by layer,
# the least that has to be kept.

# %%
pruned = pruning.columns_to_error(trained['noisy'], 0.1, select=hidden)
small = pruning.compact(pruned.params)
masked, compacted = (network.apply(p, x) for p in (pruned.params, small.params))
print(f'columns removed: {float(pruned.ratio):.1%}')
print(f'bytes: {small.bytes_before} -> {small.bytes_after}')
print(f'largest difference: {float(jnp.max(jnp.abs(masked - compacted))):.1e}')
print(f'test accuracy: {float(jnp.mean(compacted.argmax(-1) == y)):.1%}')

lines = []
for method in ('magnitude', 'columns', 'rows', 'singular_values'):
  row = [method]
  for params in trained.values():
    found = pruning.to_error(params, 0.3, method=method, select=hidden)
    accuracy = jnp.mean(network.apply(found.params, x).argmax(-1) == y)
    row += [f'{float(found.ratio):.1%}', f'{float(accuracy):.1%}']
  lines.append(row)
headers = [h for n in trained for h in (f'{n}: pruned', 'accuracy')]
print(records.table(['relative error 0.3', *headers], lines))
