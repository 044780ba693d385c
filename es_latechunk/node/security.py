"""TLS and a user with a generated password for a node that asks who is there."""

from __future__ import annotations

import secrets
from pathlib import Path

from es_latechunk.errors import NodeError
from es_latechunk.node.account import Account
from es_latechunk.node.places import NodeFolder, write_atomically

USERNAME = "latechunk"
_NAMES = ("127.0.0.1", "::1", "localhost")


def security_settings(*, secure: bool) -> dict[str, str | bool]:
    """The part of elasticsearch.yml that turns security on or off."""
    if not secure:
        return {"xpack.security.enabled": False}
    settings: dict[str, str | bool] = {
        "xpack.security.enabled": True,
        "xpack.security.autoconfiguration.enabled": False,
        "xpack.security.transport.ssl.verification_mode": "certificate",
    }
    for channel in ("http", "transport"):
        settings |= {
            f"xpack.security.{channel}.ssl.enabled": True,
            f"xpack.security.{channel}.ssl.key": "server.key",
            f"xpack.security.{channel}.ssl.certificate": "server.crt",
            f"xpack.security.{channel}.ssl.certificate_authorities": "ca.crt",
        }
    return settings


def make_certificates(folder: NodeFolder, account: Account) -> None:
    """A certificate authority of this node alone, made once; its own key is not kept."""
    if folder.ca_certs.exists():
        return
    try:
        import trustme
    except ImportError as error:
        raise NodeError("a secure node needs trustme: pip install 'es-latechunk[local]'") from error
    authority = trustme.CA(organization_name="es-latechunk", organization_unit_name=folder.name)
    server = authority.issue_cert(*_NAMES, organization_name="es-latechunk")
    chain = "".join(part.bytes().decode("ascii") for part in server.cert_chain_pems)
    public = authority.cert_pem.bytes().decode("ascii")
    key = server.private_key_pem.bytes().decode("ascii")
    write_atomically(folder.config / "server.key", key, owner=account.uid)
    write_atomically(folder.config / "server.crt", chain, owner=account.uid)
    write_atomically(folder.config / "ca.crt", public, owner=account.uid)
    # Last, because its presence says that all of them are there.
    write_atomically(folder.ca_certs, public, mode=0o644)


def make_user(
    folder: NodeFolder, account: Account, *, elasticsearch_home: Path, environment: dict[str, str]
) -> None:
    """The one user, whose password is kept in a file that the caller alone can read."""

    def users(*arguments: str, standard_input: str = "") -> None:
        tool = elasticsearch_home / "bin" / "elasticsearch-users"
        done = account.run([tool, *arguments], environment=environment, standard_input=standard_input)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise NodeError(f"node {folder.name!r}: elasticsearch-users {arguments[0]} failed: {said[-1]}")

    there = f"{USERNAME}:" in (folder.config / "users").read_text(encoding="utf-8")
    if there and folder.password.exists():
        return
    if there:
        users("userdel", USERNAME)
    password = secrets.token_urlsafe(24)
    # By standard input: arguments can be seen in the list of processes.
    users("useradd", USERNAME, "-r", "superuser", standard_input=f"{password}\n{password}\n")
    write_atomically(folder.password, password + "\n")
