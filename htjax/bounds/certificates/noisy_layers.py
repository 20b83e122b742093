"""Noise on a linear layer, new for every example, as its outputs have it."""

import jax
import jax.numpy as jnp
import numpy as np

from htjax import stable
from htjax.bounds.arguments import as_array
from htjax.bounds.certificates.divergences import check_law
from htjax.checks import check_count, checked
from htjax.products import full_precision
from htjax.types import Array, ArrayLike, PRNGKey

_CHUNK = 512


@checked
@full_precision
def linear_noise(
  key: PRNGKey,
  inputs: ArrayLike,
  num_outputs: int,
  law: str = 'gaussian',
  tail: float | None = None,
) -> Array:
  """Draws of x^T E with independent noise E of unit scale for every example.

  Gaussian and stable noise are drawn as what they sum up to, noise of the
  scale |x|_2 or |x|_alpha; Student's is drawn weight by weight.

  Args:
    key: typed.
    inputs: x of each example, float [n, d]; a column of ones where there are
      biases.
    num_outputs: c >= 1.
    law: 'gaussian', of unit variance; 'student', of unit scale; or 'stable',
      E exp(isX) = exp(-|s|^alpha).
    tail: degrees of freedom of 'student', in [1, 1000], or alpha of 'stable',
      in [1, 2]; None for 'gaussian'.

  Returns:
    float32 [n, c]; the outputs with noise of scale s are `inputs @ w + s *
    linear_noise(..)`.

  Raises:
    ValueError: inputs of another rank, a law or tail that is none.

  Examples:
    >>> import jax, numpy as np
    >>> from htjax.bounds import certificates
    >>> x = np.ones((2000, 3), np.float32)
    >>> noise = certificates.linear_noise(jax.random.key(0), x, 5)
    >>> noise.shape, bool(abs(noise.var() - 3) < 0.2)
    ((2000, 5), True)
  """
  tail = check_law(law, tail)
  check_count('num_outputs', num_outputs)
  x = as_array('inputs', inputs).astype(jnp.float32)
  if x.ndim != 2:
    raise ValueError(f'inputs must be [n, d], got shape {x.shape}')
  shape = len(x), num_outputs
  if law == 'student':
    return jnp.concatenate(
      [
        _student(
          jax.random.fold_in(key, i), x[i : i + _CHUNK], num_outputs, tail
        )
        for i in range(0, len(x), _CHUNK)
      ]
    )
  alpha = 2.0 if law == 'gaussian' else tail
  norm = jnp.sum(jnp.abs(x) ** alpha, axis=1, keepdims=True) ** (1 / alpha)
  if law == 'gaussian':
    return norm * jax.random.normal(key, shape)
  return norm * stable.sample(key, alpha, shape)


def _student(key: PRNGKey, x: Array, num_outputs: int, tail: float) -> Array:
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  noise = rng.standard_t(tail, (*x.shape, num_outputs))
  return jnp.einsum('nd,ndc->nc', x, np.float32(noise))
