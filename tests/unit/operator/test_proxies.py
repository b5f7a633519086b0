"""Which server is asked by way of a proxy."""

import pytest

from primo_operator.proxies import is_loopback, proxy


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://cluster.example:6443", "http://p:1"),
        ("https://10.0.0.1", "http://p:1"),
        ("https://127.0.0.1:6443", None),
        ("https://[::1]:6443", None),
        ("https://localhost:6443", None),
        ("http://cluster.example", None),
    ],
)
def test_this_machine_is_never_asked_by_a_proxy(
    url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://p:1")
    assert proxy(url) == expected
    assert not is_loopback(url) or expected is None
