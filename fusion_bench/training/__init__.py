"""The compiled engine: optimiser, pure step, compiled program, and the loop that drives it."""

ENGINE_VERSION = 1
"""Version of all code that results depend on, except strategies, which have their own. Bump it when results change."""
