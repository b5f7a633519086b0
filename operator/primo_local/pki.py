"""The local cluster's keys: a CA, the certificates it signs, a token and the kubeconfig.

Everything lies in one state directory, readable by its owner alone. What is there is used again,
so that a restart keeps kubeconfigs valid.
"""

import base64
import datetime
import ipaddress
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONTEXT = "primo-local"

_LIFE = datetime.timedelta(days=3650)
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class StateDir:
    """The files of a local cluster below one directory."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    def certificate(self, name: str) -> Path:
        return self.pki / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.pki / f"{name}.key"


def prepare(root: Path) -> StateDir:
    """Make directories, keys, certificates and token where they are missing."""
    state = StateDir(root)
    for directory in (state.root, state.pki):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    if not state.certificate("ca").exists() or not state.key("ca").exists():
        _make_ca(state)
    for name in ("apiserver", "node"):
        if not state.certificate(name).exists() or not state.key(name).exists():
            _make_leaf(state, name)
    if not state.token.exists():
        write_private(state.token, secrets.token_urlsafe(_TOKEN_BYTES).encode())
    return state


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, complete or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def server_context(state: StateDir, name: str) -> ssl.SSLContext:
    """TLS for a server with the certificate of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state.certificate(name), state.key(name))
    return context


def client_context(state: StateDir) -> ssl.SSLContext:
    """TLS for a client that trusts this cluster's CA and no other."""
    return ssl.create_default_context(cafile=str(state.certificate("ca")))


def write_kubeconfig(state: StateDir, port: int) -> None:
    authority = base64.b64encode(state.certificate("ca").read_bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority-data": authority,
                },
            }
        ],
        "users": [{"name": CONTEXT, "user": {"token": state.token.read_text()}}],
        "contexts": [
            {
                "name": CONTEXT,
                "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"},
            }
        ],
        "current-context": CONTEXT,
        "preferences": {},
    }
    write_private(state.kubeconfig, yaml.safe_dump(document, sort_keys=False).encode())


def last_port(state: StateDir) -> int:
    """The port the kubeconfig names, 0 if there is none to be read."""
    try:
        document = yaml.safe_load(state.kubeconfig.read_text())
        server = document["clusters"][0]["cluster"]["server"]
        return int(server.rpartition(":")[2])
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError):
        return 0


def _make_ca(state: StateDir) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{CONTEXT} CA")
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )
    _save(state, "ca", key, certificate)
    # Leaves of an earlier CA are worth nothing now.
    for stale in ("apiserver", "node"):
        state.certificate(stale).unlink(missing_ok=True)


def _make_leaf(state: StateDir, name: str) -> None:
    authority = x509.load_pem_x509_certificate(state.certificate("ca").read_bytes())
    signer = serialization.load_pem_private_key(state.key("ca").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    certificate = (
        _builder(_name(f"{CONTEXT} {name}"), authority.subject, key)
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    _save(state, name, key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    # An hour back, for clocks that disagree; the edge where real time is meant.
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)  # noqa: TID251
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _save(
    state: StateDir, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(state.key(name), secret)
    write_private(state.certificate(name), certificate.public_bytes(serialization.Encoding.PEM))
