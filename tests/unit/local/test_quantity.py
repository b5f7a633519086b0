"""Quantities are stored in one spelling, whatever a client wrote."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_local.apiserver.quantity import QuantityError, canonical, parse


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        pytest.param(1, "1", id="a JSON integer"),
        pytest.param(0.5, "500m", id="a JSON fraction"),
        pytest.param("4", "4", id="already canonical"),
        pytest.param("1000m", "1", id="milli that make a whole"),
        pytest.param("1024Mi", "1Gi", id="binary goes up its own family"),
        pytest.param("1500Mi", "1500Mi", id="binary stays where it is whole"),
        pytest.param("0.5Gi", "512Mi", id="binary fraction"),
        pytest.param("0.1Ki", "102400m", id="a binary fraction that is no whole byte"),
        pytest.param("1000k", "1M", id="decimal"),
        pytest.param("1e3", "1e3", id="an exponent stays one"),
        pytest.param("1E6", "1e6", id="an exponent in lower case"),
        pytest.param("2E", "2E", id="exa is no exponent"),
        pytest.param("0", "0", id="zero"),
        pytest.param("0Gi", "0", id="zero of anything"),
        pytest.param("-1500m", "-1500m", id="negative"),
        pytest.param("1n", "1n", id="the smallest unit"),
        pytest.param("0.0000000001", "1n", id="finer than a nano is rounded up"),
    ],
)
def test_the_stored_spelling(written: str | float, stored: str) -> None:
    assert canonical(written) == stored


@pytest.mark.parametrize("text", ["", "4GB", "one", "1 Gi", "Gi", "1e", "--1", "0x10"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="is not a quantity"):
        canonical(text)


@given(
    number=st.integers(-(10**6), 10**6),
    suffix=st.sampled_from(["m", "", "k", "M", "Ki", "Mi", "Gi", "e3"]),
)
def test_a_stored_quantity_keeps_its_value_and_its_spelling(number: int, suffix: str) -> None:
    stored = canonical(f"{number}{suffix}")
    assert parse(stored) == parse(f"{number}{suffix}")
    assert canonical(stored) == stored


def test_values_are_exact() -> None:
    assert parse("0.1") == Fraction(1, 10)
    assert parse("1Ki") == 1024
