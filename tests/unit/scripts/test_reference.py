from __future__ import annotations

from scripts.reference import FILE, settings_page


def test_the_settings_page_is_as_the_settings_are() -> None:
    assert FILE.read_text("utf-8") == settings_page(), "run `make reference`"
