"""Strict settings for every test.

Warnings are errors, a key may not be used twice, legacy keys and silent rank
promotion are refused, the shapes in htjax's signatures are checked, and eight
virtual CPU devices exist for the tests of sharding. Statistical tests use
`stat_checks`, whose tolerances are derived.
"""

import os

os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
).strip()

import chex
import jax
import pytest
import shape_checks

# Before anything imports htjax.
shape_checks.install()

jax.config.update('jax_legacy_prng_key', 'error')
jax.config.update('jax_debug_key_reuse', True)
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(autouse=True)
def traces_counted_afresh():
  """`chex.assert_max_traces` tells functions apart by source and call stack.

  Two tests of one name in two files would otherwise share a count.
  """
  chex.clear_trace_counter()
