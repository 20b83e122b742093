from experiments.common.program import main, mesh  # noqa: F401
