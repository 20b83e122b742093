"""One MLIR context where JAX is known, and none but JAX's own elsewhere."""

import sys
import types

import one_context


def test_contexts_are_shared_only_where_jax_is_known(monkeypatch):
  module = types.ModuleType('contexts')
  monkeypatch.setitem(sys.modules, 'contexts', module)
  assert not one_context.install('0.10.1', 'contexts')
  assert not hasattr(module, one_context.NAME)
  module.make_ir_context = make = lambda: object()
  for version, place in (
    *(('0.9.2', 'contexts'), ('0.11.0', 'contexts')),
    ('0.10.1', 'no_such_place'),
  ):
    assert not one_context.install(version, place)
  assert module.make_ir_context is make
  assert one_context.install('0.10.1', 'contexts')
  assert module.make_ir_context() is module.make_ir_context()
