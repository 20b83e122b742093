"""Several hosts, joined by JAX, through flags that every study has."""

import jax
from absl import flags

_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of the first process, to join several hosts.'
)
_NUM_HOSTS = flags.DEFINE_integer('num_hosts', None, 'How many processes join.')
_HOST = flags.DEFINE_integer(
  'host', None, 'The number of this process, from 0.'
)


def join() -> None:
  """Join the other hosts, if the flags name any."""
  if _COORDINATOR.value is None:
    return
  jax.distributed.initialize(_COORDINATOR.value, _NUM_HOSTS.value, _HOST.value)


def mesh() -> jax.sharding.Mesh | None:
  """All devices of all hosts in one axis, or None if there is only one."""
  if jax.device_count() == 1:
    return None
  auto = (jax.sharding.AxisType.Auto,)
  return jax.make_mesh((jax.device_count(),), ('devices',), axis_types=auto)
