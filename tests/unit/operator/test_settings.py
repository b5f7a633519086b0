"""What an administrator sets by environment variables."""

import sys
from dataclasses import fields

import pytest

from primo_operator.__main__ import main
from primo_operator.settings import BadSettingError, Settings


def test_what_is_not_set_has_its_default() -> None:
    found = Settings.from_environment({"PRIMO_WORKERS": "3", "PRIMO_RESYNC_S": "1.5"})
    assert found == Settings(workers=3, resync_s=1.5)


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PRIMO_WORKERS", "many", "'many' is not a whole number"),
        ("PRIMO_WORKERS", "0", "0 is not at least 1"),
        ("PRIMO_RESYNC_S", "soon", "'soon' is not a number"),
        ("PRIMO_RESYNC_S", "-1", "-1 is not at least 0"),
        ("PRIMO_RESYNC_S", "nan", "nan is not at least 0"),
        ("PRIMO_RESYNC_S", "0", "0 is not above 0"),
        ("PRIMO_REQUEST_TIMEOUT_S", "0.0", "0.0 is not above 0"),
        ("PRIMO_REQUEST_TIMEOUT_S", "inf", "inf is not finite"),
        ("PRIMO_SUGGESTION_TIMEOUT_S", "0", "0 is not above 0"),
    ],
)
def test_a_bad_value_is_named(variable: str, text: str, expected: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        Settings.from_environment({variable: text})
    assert str(caught.value) == f"{variable}: {expected}"


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("PRIMO_LEASE_RETRY_S", "60", "expected each above the next"),
        ("PRIMO_PROMETHEUS_URL", "foo", "'foo' is no http:// or https:// URL"),
        ("PRIMO_PROMETHEUS_URL", "http://[", "'http://[' is no http:// or https:// URL"),
        ("PRIMO_PROMETHEUS_URL", "http://a:b", "'http://a:b' is no http:// or https:// URL"),
        ("PRIMO_PROMETHEUS_TIMEOUT_S", "0", "0 is not above 0"),
        ("PRIMO_PROMETHEUS_CA_FILE", "/none", "'/none' holds no certificates"),
    ],
)
def test_a_bad_value_ends_the_operator_with_a_line(
    variable: str,
    text: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["primo_operator", "--namespace", "team"])
    monkeypatch.setenv(variable, text)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("primo_operator: PRIMO_")
    assert f"{variable}: {words}" in said
    assert said.count("\n") == 1


def test_the_operators_help_has_every_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["primo_operator", "--help"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().out
    assert [f.name for f in fields(Settings) if f"    {f.name}: " not in told] == []
