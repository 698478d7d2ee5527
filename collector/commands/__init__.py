"""The command groups of ``collector``; each module has a ``register(subparsers)``."""
