"""The pages on operations have every metric and every setting that the code has."""

from __future__ import annotations

import re
from contextlib import redirect_stdout, suppress
from io import StringIO

import pytest

from gcount import settings
from tests.harness.processes import REPOSITORY

OPERATIONS = REPOSITORY / "docs" / "operations"
SOURCE = "".join(file.read_text("utf-8") for file in sorted((REPOSITORY / "gcount").rglob("*.py")))
METRICS = sorted(set(re.findall(r'"(gcount_[a-z_]+)"', SOURCE)) - {"gcount_version"})  # that one is in Redis' INFO


def help_text() -> str:
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        settings.parse(["--help"], {})
    return printed.getvalue()


SETTINGS = sorted(set(re.findall(r"--[a-z-]+|(?:GCOUNT|CHALLENGE)_[A-Z_]+", help_text())) - {"--help", "--version"})


@pytest.mark.parametrize("metric", METRICS)
def test_the_page_on_monitoring_has_each_metric(metric: str) -> None:
    page = (OPERATIONS / "monitoring.md").read_text("utf-8").partition("## Metrics")[2]
    assert re.search(rf"`{metric}(_total)?`", page)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_page_on_installing_has_each_setting(setting: str) -> None:
    page = (OPERATIONS / "install.md").read_text("utf-8").partition("## Settings")[2].partition("\n## ")[0]
    assert f"`{setting}`" in page


def test_metrics_and_settings_are_found() -> None:
    assert {"gcount_increments", "gcount_link_up", "gcount_redis_commands_total"} <= set(METRICS)
    assert {"--listen", "GCOUNT_LISTEN", "CHALLENGE_TIMEOUT", "GCOUNT_VENV"} <= set(SETTINGS)
