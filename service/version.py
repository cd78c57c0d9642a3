"""The release, as in pyproject.toml and the chart."""

VERSION = "0.1.0"
