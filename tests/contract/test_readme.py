"""What the README tells a reader to do works as written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from service.settings import Settings
from tests.contract.conftest import Serve
from tests.fakes import MODEL, FakeLLM

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GOOD = "Please do not give aspirin to a child. A pharmacist can say what is suitable. See a doctor if the fever lasts."


def test_the_example_runs_as_written(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    llm = FakeLLM(GOOD, GOOD, GOOD)
    (name,) = re.findall(r'model="([^"]+)"', code)
    llm.info = replace(MODEL, id=name)
    assert "http://127.0.0.1:8080/v1" in code
    exec(code.replace("http://127.0.0.1:8080", serve(llm)), {})  # noqa: S102 - the README's own words
    printed = capsys.readouterr().out
    assert GOOD in printed
    assert "no-aspirin-for-child" in printed


def test_the_example_asks_where_the_gateway_listens_by_default() -> None:
    settings = Settings()
    assert f"http://{settings.host}:{settings.port}/v1" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_target_link_and_variable_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {t for t in re.findall(r"(?<![\w-])make ([a-z0-9-]+)", text) if f"`make {t}" in text} <= targets
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    variables = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    for name in re.findall(r"CLINALIGN_[A-Z_]*[A-Z]", text):
        assert f"`{name}`" in variables or f"`{name}_" in variables, name
