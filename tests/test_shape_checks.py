"""The shapes in signatures are checked in the tests, and only shapes are."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
import shape_checks
from jaxtyping import Float, TypeCheckError, jaxtyped

from htjax import tail_index
from htjax.sketching import l1_recovery
from htjax.tail_index import block_sums
from htjax.types import Array, ArrayLike


def checked(function):
  return jaxtyped(typechecker=shape_checks.check)(function)


@checked
def multiply(
  a: Float[Array, 'm n'], b: Float[Array, 'n k'], times: int = 1
) -> Float[Array, 'm k']:
  return jnp.concatenate([a @ b] * times)


def test_shapes_must_fit():
  assert multiply(jnp.ones((2, 3)), jnp.ones((3, 4))).shape == (2, 4)
  with pytest.raises(TypeCheckError, match="parameter 'b'"):
    multiply(jnp.ones((2, 3)), jnp.ones((2, 4)))
  with pytest.raises(TypeCheckError, match='return value'):
    multiply(jnp.ones((2, 3)), jnp.ones((3, 4)), times=2)


def test_types_must_fit():
  with pytest.raises(TypeCheckError, match="parameter 'a'"):
    multiply(jnp.ones((2, 3), jnp.int32), jnp.ones((3, 4)))


def test_other_annotations_are_not_looked_at():
  assert multiply(jnp.ones((2, 3)), jnp.ones((3, 4)), times=True).size == 8

  @checked
  def size(x: Float[ArrayLike, ' n'], y: Float[Array, ' n'] | None) -> int:
    return jnp.asarray(x).size

  assert size([1.0, 2.0], None) == 2
  assert size(jnp.ones((2, 2)), [3.0]) == 4


@pytest.mark.parametrize(
  'wrong',
  [
    lambda: block_sums._norms(jnp.ones(3)),
    lambda: l1_recovery._pseudo_inverse(jnp.ones((2, 2, 2))),
    lambda: jax.jit(block_sums._norms)(jnp.ones(3)),
  ],
)
def test_rooms_are_checked(wrong):
  with pytest.raises(TypeCheckError):
    wrong()


def test_functions_without_shapes_are_left_as_they_are():
  def decorate(function):
    # As those of the rooms.
    function.__module__ = 'htjax.room'
    return jaxtyping.jaxtyped(typechecker=shape_checks.check)(function)

  def plain(x, y: int = 1) -> tuple[int, Array]:
    return x, y

  def shaped(x, y: int = 1) -> Float[Array, ' n']:
    return y * x

  def quoted(x: "Float[Array, ' n']"):
    return x

  assert decorate(plain) is plain
  with pytest.raises(TypeCheckError, match='return value'):
    decorate(shaped)(jnp.ones((3, 3)))
  with pytest.raises(TypeCheckError, match="parameter 'x'"):
    decorate(quoted)(jnp.ones((3, 3)))


def test_faults_of_a_caller_stay_value_errors():
  with pytest.raises(ValueError, match='must be of shape'):
    tail_index.mmo(jnp.ones(16))
