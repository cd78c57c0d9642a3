from __future__ import annotations

from collections.abc import Iterator

from service import errors
from service.errors import TABLE, ClinAlignError, StartupError, error_body, error_headers, spec_of


def tree(cls: type[ClinAlignError]) -> Iterator[type[ClinAlignError]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from tree(sub)


def test_every_error_a_client_can_meet_is_in_the_table() -> None:
    bases = {errors.RequestError}  # never raised itself
    for cls in tree(ClinAlignError):
        if cls not in bases and not issubclass(cls, StartupError):
            assert cls in TABLE, cls.__name__


def test_every_error_is_named_in_the_tree_of_the_docstring() -> None:
    for cls in tree(ClinAlignError):
        assert cls.__name__ in (errors.__doc__ or "")


def test_the_body_and_headers() -> None:
    error = errors.Overloaded("full", retry_after=3.4)
    assert error_body(error) == {
        "error": {"message": "full", "type": "server_error", "param": None, "code": "overloaded"}
    }
    assert error_headers(error) == {"Retry-After": "3"}
    assert spec_of(error).status == 503
