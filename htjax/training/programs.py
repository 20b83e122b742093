"""The pure functions that train one lane."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from htjax import noise, selection
from htjax.training.batches import next_batch, weighted_mean
from htjax.training.evaluation import cross_entropy, totals_of
from htjax.training.keys import NOISE, child, init_key
from htjax.training.lanes import (
  AVERAGING,
  CONVERGED,
  DIVERGED,
  OUT_OF_STEPS,
  RUNNING,
  Examples,
  Lane,
  LaneState,
  Recipe,
  check_recipe,
  is_going,
)
from htjax.types import Array, PRNGKey, PyTree


class Program(NamedTuple):
  """Pure functions of one lane, to be jitted or vmapped.

  Attributes:
    init: (Lane of arrays, Examples) -> LaneState.
    advance: (LaneState, Lane of arrays, Examples, num_steps) -> LaneState: so
      many steps, then the stopping rule. A lane that is not running comes back
      as it was.
    recipe: the Recipe.
  """

  init: Callable[[Lane, Examples], LaneState]
  advance: Callable[[LaneState, Lane, Examples, Array], LaneState]
  recipe: Recipe


def make_program(
  init: Callable[[PRNGKey], PyTree],
  apply: Callable[[PyTree, Array], Array],
  recipe: Recipe,
  *,
  mask: selection.Selection = None,
) -> Program:
  """Build the pure functions that train one lane.

  Args:
    init: key -> params.
    apply: (params, inputs) -> logits.
    recipe: what all lanes share.
    mask: which leaves get noise, as in `htjax.noise.add_stable_noise`.

  Returns:
    A Program.

  Raises:
    ValueError: a recipe with impossible entries.

  Source: "Implicit Compressibility ...", section 5 and appendix E.
  """
  check_recipe(recipe)
  averaging = recipe.average_steps > 0

  def rate(lane: Lane) -> Any:
    own = lane.learning_rate
    return recipe.learning_rate if own is None else own

  def optimizer(lane: Lane) -> optax.GradientTransformation:
    return optax.sgd(rate(lane), momentum=recipe.momentum)

  def kicked(params: PyTree, lane: Lane, steps: Array) -> PyTree:
    """The parameters with the noise that follows so many steps."""
    key = child(lane.seed, NOISE)
    # No noise before the first step, and so none after the last one.
    sigma = jnp.where(steps > 0, lane.sigma, 0.0)
    process = noise.StableNoise(
      lane.alpha, sigma, kind=recipe.kind, unit=recipe.unit
    )
    kick = process.draw(
      jax.random.fold_in(key, steps),
      params,
      step_size=rate(lane),
      select=mask,
    )
    return optax.apply_updates(params, kick)

  def init_lane(lane: Lane, data: Examples) -> LaneState:
    params = init(init_key(lane.seed))
    num_train = data.labels.shape[0]
    shuffled = recipe.batch_size < num_train
    return LaneState(
      params=params,
      opt_state=optimizer(lane).init(params),
      order=jnp.arange(num_train if shuffled else 0, dtype=jnp.int32),
      status=jnp.asarray(RUNNING, jnp.int32),
      steps=jnp.zeros((), jnp.int32),
      loss=jnp.full((), jnp.nan, jnp.float32),
      accuracy=jnp.zeros((), jnp.float32),
      average=jax.tree.map(jnp.zeros_like, params) if averaging else (),
      averaged=jnp.asarray(-recipe.average_delay, jnp.int32),
    )

  def step(state: LaneState, lane: Lane, data: Examples) -> LaneState:
    params = kicked(state.params, lane, state.steps)
    order, batch, weight = next_batch(state, lane, data, recipe.batch_size)

    def loss(params: PyTree) -> Array:
      losses = cross_entropy(apply(params, batch.inputs), batch.labels)
      return weighted_mean(losses, weight)

    updates, opt_state = optimizer(lane).update(
      jax.grad(loss)(params), state.opt_state, params
    )
    state = state._replace(
      params=optax.apply_updates(params, updates),
      opt_state=opt_state,
      order=order,
      steps=state.steps + 1,
    )
    return averaged(state) if averaging else state

  def averaged(state: LaneState) -> LaneState:
    """With this iterate in the mean, if the lane is averaging."""
    num = state.averaged + (state.status == AVERAGING)
    counts = (state.status == AVERAGING) & (num > 0)
    share = jnp.where(counts, 1 / jnp.maximum(num, 1), 0)
    average = optax.incremental_update(state.params, state.average, share)
    return state._replace(average=average, averaged=num)

  def judge(state: LaneState, data: Examples) -> LaneState:
    num_train = data.labels.shape[0]
    loss, hits = totals_of(apply, state.params, data, recipe.eval_batch)
    # Counts are compared, because a quotient may be rounded either way.
    needed = math.ceil(recipe.target_accuracy * num_train - 1e-6)
    met = hits >= needed
    if recipe.target_loss is not None:
      met &= loss / num_train < recipe.target_loss
    status = jnp.where(state.steps >= recipe.max_steps, OUT_OF_STEPS, RUNNING)
    status = jnp.where(met, AVERAGING if averaging else CONVERGED, status)
    if averaging:
      enough = state.averaged >= recipe.average_steps
      further = jnp.where(enough, CONVERGED, AVERAGING)
      status = jnp.where(state.status == AVERAGING, further, status)
    status = jnp.where(jnp.isnan(loss), DIVERGED, status)
    return state._replace(
      status=status.astype(jnp.int32),
      loss=loss / num_train,
      accuracy=hits / num_train,
    )

  def advance(
    state: LaneState, lane: Lane, data: Examples, num_steps: Array
  ) -> LaneState:
    def run(state: LaneState) -> LaneState:
      state = lax.fori_loop(
        0, num_steps, lambda _, s: step(s, lane, data), state
      )
      return judge(state, data)

    return lax.cond(is_going(state.status), run, lambda s: s, state)

  return Program(init_lane, advance, recipe)
