"""A gateway and its replicas in virtual time: sizes, growth curves and what affinity is worth, on one core of a laptop."""
