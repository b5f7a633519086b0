"""Keys and kubeconfig are for their owner alone and outlive a restart."""

import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from primo_local import pki


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def state(tmp_path: Path) -> pki.StateDir:
    return pki.prepare(tmp_path / "deep" / "state")


def test_nobody_else_reads_the_state(state: pki.StateDir) -> None:
    pki.write_kubeconfig(state, 1234)
    assert {mode(state.root), mode(state.pki)} == {0o700}
    files = [path for path in state.root.rglob("*") if path.is_file()]
    assert {mode(path) for path in files} == {0o600}
    names = {path.name for path in files}
    assert {"kubeconfig", "token", "ca.crt", "ca.key", "node.crt", "node.key"} <= names


def test_a_directory_left_open_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    pki.prepare(tmp_path)
    assert mode(tmp_path) == 0o700


def test_what_is_there_is_used_again(state: pki.StateDir) -> None:
    before = {path: path.read_bytes() for path in state.root.rglob("*") if path.is_file()}
    pki.prepare(state.root)
    assert {path: path.read_bytes() for path in before} == before


def test_a_new_authority_signs_new_certificates(state: pki.StateDir) -> None:
    before = state.certificate("node").read_bytes()
    state.certificate("ca").unlink()
    pki.prepare(state.root)
    leaf = x509.load_pem_x509_certificate(state.certificate("node").read_bytes())
    authority = x509.load_pem_x509_certificate(state.certificate("ca").read_bytes())
    assert state.certificate("node").read_bytes() != before
    leaf.verify_directly_issued_by(authority)


def test_certificates_are_for_loopback(state: pki.StateDir) -> None:
    leaf = x509.load_pem_x509_certificate(state.certificate("apiserver").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_a_kubeconfig_carries_everything(state: pki.StateDir) -> None:
    pki.write_kubeconfig(state, 1234)
    document = yaml.safe_load(state.kubeconfig.read_text())
    assert document["current-context"] == "primo-local"
    assert document["contexts"][0]["context"]["namespace"] == "default"
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1234"
    assert document["users"][0]["user"] == {"token": state.token.read_text()}
    assert pki.last_port(state) == 1234


@pytest.mark.parametrize("text", ["", "{", "clusters: []", "clusters: [{cluster: {server: x}}]"])
def test_a_kubeconfig_that_cannot_be_read_names_no_port(state: pki.StateDir, text: str) -> None:
    state.kubeconfig.write_text(text)
    assert pki.last_port(state) == 0


def test_tokens_differ(tmp_path: Path) -> None:
    tokens = {pki.prepare(tmp_path / name).token.read_text() for name in "ab"}
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 40
