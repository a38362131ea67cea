"""The settings as people read of them."""

from __future__ import annotations

from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.settings import GROUPS, described, settings_list, values_of


def test_every_setting_is_in_one_group() -> None:
    names = " ".join(GROUPS.values()).split()
    assert sorted(names) == sorted(RunConfig.model_fields)


def test_what_a_setting_takes_is_said_with_its_bounds() -> None:
    fields = {name: field for _, group in described() for name, field in group}
    assert values_of(fields["num_layers"]) == "whole numbers from 1 to 128"
    assert values_of(fields["dropout"]) == "numbers from 0 below 1"
    assert values_of(fields["learning_rate"]) == "numbers above 0"
    assert values_of(fields["clip"], code="`") == "numbers above 0 or `none`"
    assert values_of(fields["level"], code="`") == "`word`, `character`"


def test_the_list_keeps_to_its_width() -> None:
    lines = settings_list().splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
