"""A directory: OpenLDAP's slapd on private ports of the loopback, with certificates and people of a test's own."""

from __future__ import annotations

import ipaddress
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.broker import free_port
from tests.support.node_api import eventually

SUFFIX = "dc=example,dc=org"
MANAGER = f"cn=manager,{SUFFIX}"
MANAGER_PASSWORD = "manages all of it"
# Passwords are taken over TLS only: who forgets to turn it on is refused. An empty one is taken for nobody's, and
# answered by yes, as many servers do. Accounts may be locked (pwdAccountLockedTime).
_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
security simple_bind=128
allow bind_anon_dn
database mdb
maxsize 16777216
suffix "{suffix}"
rootdn "{manager}"
rootpw "{password}"
directory {folder}/data
dbnosync
overlay ppolicy
ppolicy_default "cn=policy,{suffix}"
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=secret,{suffix}" by * none
access to * by * read
"""


def write_ca(folder: Path, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """An authority of our own, whose certificate is ``NAME.pem`` in the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    certificate = builder.sign(key, SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return certificate, key


def _write_certificate(folder: Path, host: str) -> None:
    ca, ca_key = write_ca(folder, "ca")
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    builder = _builder(subject, ca.subject, key).add_extension(x509.SubjectAlternativeName([name]), False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    (folder / "server.pem").write_bytes(builder.sign(ca_key, SHA256()).public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(pem)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


def entry(dn: str, classes: Sequence[str], **attributes: str | Sequence[str]) -> str:
    """An entry in LDIF, below the suffix."""
    lines = [f"dn: {dn},{SUFFIX}", *(f"objectClass: {name}" for name in classes)]
    for name, value in attributes.items():
        lines += [f"{name}: {one}" for one in ([value] if isinstance(value, str) else value)]
    return "\n".join(lines) + "\n"


def person(uid: str, password: str, **attributes: str) -> str:
    """Somebody in ou=people."""
    known = {"cn": uid, "sn": uid, "mail": f"{uid}@example.org", "userPassword": password, **attributes}
    return entry(f"uid={uid.replace('+', chr(92) + '+')},ou=people", ["inetOrgPerson"], uid=uid, **known)


class Slapd:
    """A slapd with these entries, for the length of a context; it may be killed, stopped, and started again.

    ``host`` is whom its certificate names.
    """

    def __init__(self, folder: Path, entries: Sequence[str], host: str = "127.0.0.1") -> None:
        self._folder, self._entries, self._host = folder, entries, host
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.tls_port = free_port(), free_port()
        self.url, self.tls_url = f"ldap://127.0.0.1:{self.port}", f"ldaps://127.0.0.1:{self.tls_port}"
        self.ca_file = folder / "ca.pem"

    def __enter__(self) -> Slapd:
        (self._folder / "data").mkdir(parents=True)
        _write_certificate(self._folder, self._host)
        told = {"suffix": SUFFIX, "manager": MANAGER, "password": MANAGER_PASSWORD}
        self._config.write_text(_CONFIG.format(folder=self._folder, **told))
        top = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n"
        places = [entry(f"ou={name}", ["organizationalUnit"], ou=name) for name in ("people", "groups", "secret")]
        policy = entry(
            "cn=policy", ["device", "pwdPolicy"], cn="policy", pwdAttribute="userPassword", pwdLockout="TRUE"
        )
        load = ["/usr/sbin/slapadd", "-q", "-f", str(self._config)]
        subprocess.run(load, input="\n".join([top, policy, *places, *self._entries]).encode(), check=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def _config(self) -> Path:
        return self._folder / "slapd.conf"

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = ["/usr/sbin/slapd", "-d", "none", "-f", str(self._config), "-h", f"{self.url}/ {self.tls_url}/"]
        with (self._folder / "slapd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        eventually(self._listens)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(10)

    def freeze(self, *, on: bool) -> None:
        """Let it take connections and say nothing, or go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def change(self, changes: Mapping[str, str]) -> None:
        """Change entries, each from its DN below the suffix to lines of LDIF."""
        texts = [f"dn: {dn},{SUFFIX}\nchangetype: modify\n{text}\n" for dn, text in changes.items()]
        command = ["ldapmodify", "-x", "-Z", "-H", self.url, "-D", MANAGER, "-w", MANAGER_PASSWORD]
        environment = {"LDAPTLS_CACERT": str(self.ca_file), "PATH": "/usr/bin:/bin"}
        subprocess.run(command, input="\n".join(texts).encode(), env=environment, check=True, stdout=subprocess.DEVNULL)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "slapd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
