"""The experiments, paper by paper; what they compile is kept on disk."""

from htjax import compiled

compiled.keep()
