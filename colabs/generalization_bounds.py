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
# # Generalization bounds of a trained network
#
# What do the bounds of the literature say of your network, with every constant
# in place? And what can be certified of it: a bound below chance, from nothing
# but its training errors and the length of a string that decodes to it.

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
import optax

from htjax import bounds, data, models, pruning, records, sketching, training
from htjax.bounds import (
  baselines,
  certificates,
  codes,
  heavy_tails,
  magnitude_sketching,
  networks,
  spectral,
)

SMOKE = os.environ.get('HTJAX_SMOKE', '') not in ('', '0')  # a quick check
WIDTH = 32 if SMOKE else 200
DELTA = 0.05  # with which each bound may fail

# %% [markdown]
# ## A network
#
# Replace it by your own: `params` is a nested dictionary of kernels
# [fan_in, fan_out] without biases, `start` the same before training.

# %%
digits = data.load('digits')
train_x, train_y = digits.train.inputs.reshape(-1, 64), digits.train.labels
test_x, test_y = digits.test.inputs.reshape(-1, 64), digits.test.labels
network = models.fcn(64, WIDTH, 10, hidden_layers=2)
recipe = training.Recipe(
  learning_rate=0.1,
  batch_size=50,
  eval_every=100,
  target_accuracy=0.9 if SMOKE else 1.0,
  max_steps=5000,
)
program = training.make_program(network.init, network.apply, recipe)
examples = training.Examples(train_x, train_y)
(done,) = training.train(program, [training.Lane(0, 2.0, 0.0)], examples)
params, start = done.params, network.init(training.init_key(0))


def num_errors(params, x, y):
  return int(np.sum(np.asarray(network.apply(params, x).argmax(-1)) != y))


test_error = num_errors(params, test_x, test_y) / len(test_y)
print(f'{done.status} after {done.steps} steps, test error {test_error:.1%}')

# %% [markdown]
# ## Ingredients
#
# Margins on the training set, norms of each layer and of what it moved. A bound
# takes one margin; here it is one that nine tenths of the examples have.

# %%
logits = network.apply(params, train_x)
margins = np.asarray(bounds.margins(logits, train_y))
gamma = float(np.quantile(margins[margins > 0], 0.1))
layers = networks.dense_layers(params)
found = spectral.layer_norms(layers, networks.dense_layers(start))
print('spectral norms ', np.round(found.spectral, 2))
print('Frobenius norms', np.round(found.frobenius, 2))
print('stable ranks   ', np.round((found.frobenius / found.spectral) ** 2, 1))

# %% [markdown]
# ## Bounds from norms, and from pruning
#
# Each is a `Bound`: a value (kept in logarithms, since products of norms
# overflow), its summands, and its premises with the reason why one fails.

# %%
input_norm = float(jnp.max(jnp.linalg.norm(train_x, axis=1)))
shapes = [w.shape for w in layers]
size = {'input_norm': input_norm, 'gamma': gamma, 'delta': DELTA}
kept = 0.3
change = magnitude_sketching.pruned_output_error(
  found.spectral,
  [
    magnitude_sketching.pruning_error(
      w.shape,
      variance=float(jnp.var(w)),
      strength=magnitude_sketching.pruning_strength(kept),
    ).value
    for w in layers
  ],
  input_norm=input_norm,
  multipliers=6.0,
)
all_bounds = {
  'Neyshabur 2015': baselines.neyshabur_2015(
    margins, frobenius=found.frobenius, **size
  ),
  'Neyshabur 2017': baselines.neyshabur_2017(
    margins,
    spectral=found.spectral,
    frobenius=found.frobenius,
    width=WIDTH,
    **size,
  ),
  'Bartlett 2017': baselines.bartlett_2017(
    margins,
    spectral=found.spectral,
    two_one=found.two_one,
    width=WIDTH,
    data_norm=float(jnp.linalg.norm(train_x)),
    gamma=gamma,
    delta=DELTA,
  ),
  'compressible (Barsbey 2021)': heavy_tails.compressed_risk(
    margins,
    radius=float(np.linalg.norm(found.frobenius)),
    num_layers=len(layers),
    num_weights=models.num_params(params),
    input_norm=input_norm,
    kappa=kept,
    epsilon=0.3,
    tau=gamma,
    delta=DELTA,
  ),
  'sketch of the pruned network': magnitude_sketching.sketched_risk(
    margins,
    gamma=gamma,
    output_error=change,
    shapes=shapes,
    kept=kept,
    num_values=256,
    factors=3.0,
  ),
}
lines = [
  [
    *(name, f'{b.log_value:.1f}', 'yes' if b.valid else 'no'),
    '; '.join(a.name for a in b.assumptions if a.holds is False),
  ]
  for name, b in all_bounds.items()
]
print(records.table(['bound', 'ln', 'premises hold', 'which fail'], lines))
print('a bound says something if its logarithm is below 0')

# %% [markdown]
# ## A certificate
#
# A small network, pruned in rounds while it is trained; the weights that are
# left tied to a few values; and the whole written as a string that decodes to
# it. The string's length and the errors on the training set bound the error on
# new data, with probability 0.95. Digits has 1,437 training images;
# `certificates` under `experiments/` takes the 60,000 of MNIST, and gets 8.6 %.


# %%
small = models.fcn(64, 16, 10)
NAMES = (*small.hidden, 'output')
optimizer = optax.adam(0.01)


@jax.jit
def tune(params, mask):
  """A few hundred full-batch steps; what is masked stays zero."""

  def loss(params):
    logits = small.apply(jax.tree.map(jnp.multiply, params, mask), train_x)
    losses = optax.softmax_cross_entropy_with_integer_labels
    return losses(logits, train_y).mean()

  def step(state, _):
    params, moments = state
    updates, moments = optimizer.update(jax.grad(loss)(params), moments)
    return (optax.apply_updates(params, updates), moments), None

  state = params, optimizer.init(params)
  (params, _), _ = jax.lax.scan(step, state, length=20 if SMOKE else 300)
  return jax.tree.map(jnp.multiply, params, mask)


def tied(leaf, num_values):
  """Each weight that is left at the nearest of a few values."""
  leaf = np.asarray(leaf)
  if not leaf.any():
    return leaf
  book = np.asarray(
    codes.to_grid(codes.fit_codebook(leaf[leaf != 0], num_values))
  )
  nearest = book[np.abs(leaf[..., None] - book).argmin(-1)]
  return np.where(leaf != 0, nearest, 0).astype(np.float32)


def errors(params, x, y):
  return int(np.sum(np.asarray(small.apply(params, x).argmax(-1) != y)))


def certify(kappa, num_values=4):
  params = small.init(jax.random.key(1))
  for k in np.geomspace(1.0, kappa, 8):
    params = tune(params, pruning.magnitude(params, k, scope='global').mask)
  layers = [tied(params[name]['kernel'], num_values) for name in NAMES]
  code = codes.encode(layers)
  # What is certified is what comes out of the string.
  decoded = codes.decode(code.bits, lambda settings: [w.shape for w in layers])
  back = {
    name: {'kernel': jnp.asarray(w)}
    for name, w in zip(NAMES, decoded.layers, strict=True)
  }
  bound = certificates.certificate(
    errors(back, train_x, train_y), len(train_y), code.num_bits, DELTA
  )
  return code.num_bits, bound.value, errors(back, test_x, test_y) / len(test_y)


KAPPAS = (0.05, 0.2) if SMOKE else (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
certified = [certify(kappa) for kappa in KAPPAS]
lines = [
  [f'{kappa:.0%}', bits, f'{bound:.1%}', f'{test:.1%}']
  for kappa, (bits, bound, test) in zip(KAPPAS, certified, strict=True)
]
print(records.table(['kept', 'bits', 'certificate', 'test error'], lines))

# %%
bits, values, tests = zip(*certified, strict=True)
figure, ax = plt.subplots(figsize=(6, 4))
ax.plot(bits, values, 'o-', label='certificate')
ax.plot(bits, tests, 's-', label='test error')
ax.axhline(0.9, color='grey', linestyle=':', label='chance')
ax.set(xscale='log', xlabel='bits', ylabel='error', ylim=(0, 1.05))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Sketches
#
# A sparse matrix comes back from a small sketch $A X B^\top$ by minimising the
# sum of magnitudes, if each index of the large side meets few of the small one.

# %%
p, m, degree = 24, 19, 4
keys = jax.random.split(jax.random.key(0), 3)
a, b = (sketching.bipartite_ensemble(k, m, p, degree) for k in keys[:2])
where = jax.random.permutation(keys[2], p)
x = jnp.zeros((p, p)).at[jnp.arange(p), where].set(1.0)
recovered = sketching.recover(sketching.sketch(x, a, b), a, b)
error = float(jnp.max(jnp.abs(recovered.x - x)))
print(f'{p} x {p} from {m} x {m}: largest error {error:.1e}')
