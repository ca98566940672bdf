"""What the tests of methods share: every method by name, the one of ``docs/adding-a-method.md`` too; a runs folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compression import methods
from tests.contract import hello


@pytest.fixture(scope="module")
def with_hello(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with hello.registered(tmp_path_factory.mktemp("methods")):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", params=(*methods.names(), "hello"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
