"""What the tests of a deployment share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from scripts.child import Child
from scripts.common import Failure
from tests.e2e.deploy.servers import READY_S

Up = Callable[..., None]


@pytest.fixture
def up() -> Iterator[Up]:
    """`up(child, url)` starts a server and returns when the URL answers 200; all are stopped at the end."""
    with ExitStack() as running:

        def start(child: Child, url: str | None = None) -> None:
            running.enter_context(child)
            if url is None:
                return
            try:
                child.wait_ready(url, READY_S)
            except Failure as error:
                pytest.fail(f"{error}\n{child.tail()}", pytrace=False)

        yield start
