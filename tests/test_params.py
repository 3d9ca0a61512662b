"""`Params` is a flat mapping seen as a tree."""

import pytest

from refvit.params import Params

FLAT = {"a.b.w": 1, "a.b.x": 2, "a.c": 3, "d.0.w": 4, "d.1.w": 5}


def test_every_tensor_is_reached_by_its_dotted_name():
    for name, value in FLAT.items():
        view = Params(FLAT)
        for part in name.split("."):
            view = view[part]
        assert view == value


def test_a_view_knows_its_path_and_sees_only_below_it():
    view = Params(FLAT).a.b
    assert (view.path, view.at("act")) == ("a.b", "a.b.act")
    assert dict(view.items()) == {"a.b.w": 1, "a.b.x": 2}
    assert view.get("missing") is None
    assert dict(view.map(lambda t: -t).items()) == {"a.b.w": -1, "a.b.x": -2}


def test_an_unknown_name_is_answered_with_the_names_there_are():
    with pytest.raises(
        AttributeError, match=r"no parameter 'a\.q'; under 'a' there are \['b', 'c'\]"
    ):
        _ = Params(FLAT).a.q
