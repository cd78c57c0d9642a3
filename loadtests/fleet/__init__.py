"""A gateway and its replicas in virtual time: sizes, growth curves, autoscaling and what affinity is worth."""
