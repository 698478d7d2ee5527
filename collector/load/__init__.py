"""The load generator: bounded, realistic traffic whose loss can be proven (``collector load``)."""
