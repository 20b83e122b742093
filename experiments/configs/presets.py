from experiments.common.presets import choose  # noqa: F401
