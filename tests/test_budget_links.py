"""Links to the Budget page that earlier versions wrote, word for word: they open the same controls as ever."""

from __future__ import annotations

from typing import Any

import pytest
from opened import Open, errors
from streamlit.testing.v1 import AppTest

from app.budget import draft, permalink
from compression.budget import Budget

Query = dict[str, str | list[str]]
PLACE: Query = {"model": "resnet8", "data": "mnist5k"}
LINKS: dict[str, tuple[Query, dict[str, Any], dict[str, Any]]] = {
    "defaults": (
        {"budget": "", "method": "GETA", "sparsity": "0.5", "bits": ["4", "8"], "activations": "false"}
        | {"epochs": "4.0", "seed": "0"},
        {"ask sparsity": 0.5, "ask weight_bits": (4, 8), "ask activation_bits on": False, "epochs": 4.0, "seed": 0},
        {},
    ),
    "bounds of a group": (
        {"budget": "eNqrVkovyi8tKFayqlZKzs8rMwQxigsSi4ozSyqVrKIN9Ax0DPSMTGNra3WUclNLMvJTlKyU0lNLEpVqAWcpE7A"}
        | {"method": "GETA", "sparsity": "0.3", "bits": ["3", "5"], "activations": "true"}
        | {"activation_bits": ["6", "8"], "epochs": "0.5", "seed": "-7"},
        {"ask sparsity": 0.3, "ask weight_bits": (3, 5), "ask activation_bits": (6, 8), "epochs": 0.5, "seed": -7},
        {"groups": {"conv1": {"sparsity": [0.0, 0.25]}}},
    ),
    "options and extras": (
        {"budget": "eNqrVkqtKClKLFayqlbKKVKyMtAzMKrVUcpJrEwtAgsm5-eVGYIY5amZ6Rkl8UmZJUDxaGMdk9haoMLc1JKM_BQlK6X8gkIlHSB"
         "ZkpmfB9aYXpQJEi8uLSrLLMsvUqqtBQCYQyR4"}
        | {"method": "OPQ", "sparsity": "0.7", "average_bits": "3.5", "epochs": "4.0", "seed": "0"},
        {"ask sparsity": 0.7, "ask bits": 3.5, "epochs": 4.0, "option opq grid": "survivor"},
        {"layers": {"conv1": {"weight_bits": [3, 4]}}, "lr": 0.02, "options": {"grid": "survivor"}},
    ),
    "equal bits": (
        {"budget": "eNqrVspNLcnIT1GyUiooKVTSUcovKMnMzytWsqpWSs7JLACK5yZWKNXWAgAkcw3v", "method": "Round to nearest"}
        | {"equal_bits": "5", "activations": "true", "equal_activation_bits": "6"},
        {"ask bits": 5, "ask activation_bits": 6, "option ptq clip": "max"},
        {"options": {"clip": "max"}},
    ),
    "equal bits out of a range": (
        {"budget": "", "method": "Prune, then quantize", "sparsity": "0.4", "equal_bits": "7", "activations": "true"}
        | {"equal_activation_bits": "6", "epochs": "4.0", "seed": "0"},
        {"ask sparsity": 0.4, "ask weight_bits": 7, "ask activation_bits": 6},
        {},
    ),
    "single weights": (
        {"budget": "", "method": "Magnitude", "sparsity": "0.85", "equal_bits": "5", "epochs": "4.0", "seed": "0"},
        {"ask sparsity": 0.85, "ask bits": 5},
        {},
    ),
}  # fmt: skip


def controls(app: AppTest) -> dict[str, Any]:
    drawn = (*app.slider, *app.toggle, *app.number_input, *app.selectbox, *app.button_group)
    return {element.key: element.value for element in drawn}


@pytest.mark.parametrize("name", LINKS)
def test_a_link_of_an_earlier_version_opens_its_controls(open_page: Open, name: str) -> None:
    query, expected, fields = LINKS[name]
    app = open_page("budget", **PLACE, **query)
    assert (errors(app), [warning.value for warning in app.warning]) == ([], [])
    present = controls(app)
    assert {key: present.get(key) for key in expected} == expected
    now = app.session_state["draft"].to_dict()
    default = Budget().to_dict()
    assert {key: now[key] for key in ("groups", "layers", "options", "lr")} == {
        key: fields.get(key, default[key]) for key in ("groups", "layers", "options", "lr")
    }
    assert set(app.query_params) <= {"model", "data", "budget"}, "it is written as one parameter"
    again = open_page("budget", **app.query_params)
    assert controls(again) == present


def test_a_link_replaces_what_the_form_said_before(open_page: Open) -> None:
    """One that names every control, as all links beside runs did, in a session whose form said otherwise."""
    app = open_page("budget", budget=permalink.pack(Budget(sparsity=0.7, lr=0.02, options={"preset": "paper"})))
    app.query_params.clear()
    app.query_params.update(PLACE | LINKS["defaults"][0])
    app.run()
    assert controls(app)["ask sparsity"] == 0.5
    assert (app.session_state["draft"].options, draft.extras(app.session_state["draft"])) == ({}, {})


def test_a_link_that_names_the_method_alone_keeps_the_rest(open_page: Open) -> None:
    """As lessons link to the page."""
    app = open_page("budget", budget=permalink.pack(Budget(sparsity=0.7, seed=3)))
    app.query_params["method"] = "opq"
    app.run()
    assert app.button(key="start").label == "Start OPQ run"
    assert (controls(app)["ask sparsity"], controls(app)["seed"]) == (0.7, 3)


def test_bounds_of_activations_wait_while_these_are_not_quantized(open_page: Open) -> None:
    """They stay in the address, which still opens; the budget has them as soon as activations are quantized."""
    layers = {"linear": {"activation_bits": [4, 6]}}
    app = open_page("budget", budget=permalink.pack(Budget(layers=layers, activation_bits=(4, 8))))
    app.toggle(key="ask activation_bits on").set_value(False).run()
    assert errors(app) == []
    again = open_page("budget", **app.query_params)
    assert errors(again) == []
    assert draft.requested(again.session_state["draft"]).layers == {}
    again.toggle(key="ask activation_bits on").set_value(True).run()
    assert draft.requested(again.session_state["draft"]).layers == layers


def test_back_and_forth_between_pages_keeps_the_draft(open_page: Open) -> None:
    app = open_page("budget")
    app.slider(key="ask sparsity").set_value(0.31).run()
    word = app.query_params["budget"]
    app.switch_page("../pages/groups.py").run()
    del app.query_params["budget"]
    app.switch_page("../pages/budget.py").run()
    assert app.slider(key="ask sparsity").value == 0.31
    assert app.query_params["budget"] == word
