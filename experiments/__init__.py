"""The experiments, paper by paper; what they compile is kept on disk."""

from experiments.common import compiled

compiled.keep()
