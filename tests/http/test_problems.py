"""Problems: one value for all code that answers over HTTP, and codes that the documentation lists."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gcount.errors import CounterLimitReached, PartLimitReached, ReadUnavailable, Refusal
from gcount.http.problems import (
    CODES,
    Problem,
    problem_of_error,
    problem_of_refusal,
    problem_of_server,
    problem_of_status,
)
from tests.http.test_answers import REFUSED

API = Path(__file__).resolve().parents[2] / "docs" / "api.md"
CODE_ROW = re.compile(r"^\| ([0-9]{3}) \| `([a-z_]+)` \|", re.MULTILINE)


def kinds(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


def test_every_refusal_knows_how_each_protocol_answers_it() -> None:
    for kind in kinds():
        assert kind.status in HTTPStatus
        assert kind.status >= 400
        assert re.fullmatch("[a-z_]+", kind.code)
        assert re.match("[A-Z]+", kind.redis_code)


def test_the_documentation_lists_each_code_with_its_status_once() -> None:
    made = {(int(kind.status), kind.code) for kind in kinds()} | {(int(status), code) for status, code in CODES.items()}
    made |= {(status, code) for _, status, code in REFUSED.values()}  # those that the application alone gives, too
    listed = [(int(status), code) for status, code in CODE_ROW.findall(API.read_text())]
    assert sorted(listed) == sorted(made)


def test_a_refusal_is_a_problem_with_its_members() -> None:
    problem = problem_of_refusal(ReadUnavailable(5, ["10.0.0.2:7777"]))
    assert (problem.status, problem.code) == (503, "read_unavailable")
    assert json.loads(problem.body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the exact value could not be known in time; no answer from 10.0.0.2:7777",
        "code": "read_unavailable",
        "value": 5,
        "missing": ["10.0.0.2:7777"],
    }
    assert problem.body.endswith(b"}\n")
    assert problem.body.count(b"\n") == 1


def test_only_temporary_problems_have_a_retry_after() -> None:
    assert problem_of_refusal(CounterLimitReached("full")).fields["retry-after"] == "1"
    assert "retry-after" not in problem_of_refusal(PartLimitReached("full")).fields


def test_further_fields_are_in_the_header_and_not_in_the_document() -> None:
    problem = problem_of_status(405, "no", {"Allow": "GET"})
    assert problem.fields == {"content-type": "application/problem+json", "allow": "GET"}
    assert json.loads(problem.body).keys() == {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize(("status", "code"), [(404, "no_such_route"), (418, "bad_request"), (504, "unexpected")])
def test_a_problem_of_a_status_alone_has_a_code(status: int, code: str) -> None:
    assert problem_of_status(status, "why").code == code


@pytest.mark.parametrize("status", CODES)
def test_the_server_says_in_words_what_it_refuses(status: int) -> None:
    problem = problem_of_server(HTTPStatus(status))
    assert problem.status == status
    assert problem.detail


def test_an_unexpected_error_is_logged_and_not_shown_to_the_client() -> None:
    with capture_logs() as logs:
        problem = problem_of_error(RuntimeError("secret"), "/counter/a")
    assert (problem.status, problem.code) == (500, "unexpected")
    assert b"secret" not in problem.body
    assert [(entry["event"], entry["path"]) for entry in logs] == [("request failed", "/counter/a")]


def test_a_problem_is_a_value() -> None:
    assert Problem(400, "a", "b") == Problem(400, "a", "b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Problem(400, "a", "b").status = 500  # type: ignore[misc]


def test_the_fast_path_loads_no_application_server() -> None:
    code = (
        "import sys, gcount.http.fast_path; print(sorted({'quart', 'werkzeug', 'hypercorn', 'h11'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
