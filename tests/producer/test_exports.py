"""What `import imagequeue` offers."""

from __future__ import annotations

import inspect

import pytest

import imagequeue
from imagequeue import errors


@pytest.mark.parametrize("name", imagequeue.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(imagequeue, name).__name__ == name


@pytest.mark.parametrize("name", imagequeue.__all__)
def test_every_exported_name_is_described(name: str) -> None:
    assert inspect.getdoc(getattr(imagequeue, name))


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    ours = {
        name for name, found in vars(errors).items() if inspect.isclass(found) and found.__module__ == errors.__name__
    }
    assert ours <= set(imagequeue.__all__)
    assert all(name in (errors.__doc__ or "") for name in ours)


def test_every_public_method_of_the_producer_is_described() -> None:
    methods = {name: method for name, method in vars(imagequeue.Producer).items() if not name.startswith("_")}
    assert all(inspect.getdoc(method) for method in methods.values())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        imagequeue.nothing_of_the_kind  # noqa: B018
