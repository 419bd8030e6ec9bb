from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from asyncua import Client, ua

from equipment.errors import (
    AccessDenied,
    ChangedCertificate,
    EncryptionRequired,
    ExpiredCertificate,
    SecurityRefused,
    UntrustedCertificate,
)
from equipment.opcua.security import CertificatePair, ToolSecurity, fingerprint, is_loopback, make_certificate
from equipment.profiles.job_control import JobControlDriver
from equipment.simulators.tool_server import ToolServer
from equipment.simulators.tool_server_access import LOCAL_ANONYMOUS, ServerAccess
from tests.equipment.opcua.tiny import TINY, TinyPlant, order
from tests.equipment.opcua.tools import Make, connected, tiny_server
from traceability.clock import wall_now

pytestmark = pytest.mark.anyio

PASSWORD = "copper kettle seven"


@pytest.fixture(scope="module")
def mes(certificate: Make) -> CertificatePair:
    return certificate("mes")


@pytest.fixture(scope="module")
async def guarded(certificate: Make, mes: CertificatePair) -> AsyncIterator[tuple[ToolServer, CertificatePair]]:
    tool = certificate("tool")
    access = ServerAccess(tool, frozenset({fingerprint(mes.load())}), {"operator": PASSWORD})
    async with tiny_server(access=access) as running:
        yield running, tool


def pinned(mes: CertificatePair, tool: CertificatePair) -> ToolSecurity:
    return ToolSecurity(own=mes, server_certificate=tool.certificate, user="operator", password=PASSWORD)


async def test_a_pinned_tool_is_driven_signed_and_encrypted(
    guarded: tuple[ToolServer, CertificatePair], mes: CertificatePair
) -> None:
    server, tool = guarded
    async with connected(server, pinned(mes, tool)) as driver:
        assert (await driver.store(order("J-1"))).accepted
        assert (await driver.cancel("J-1", 1)).accepted
    by_fingerprint = ToolSecurity(
        own=mes, server_fingerprint=fingerprint(tool.load()).upper(), user="operator", password=PASSWORD
    )
    async with connected(server, by_fingerprint) as driver:
        assert (await driver.read_all())["model"].value == "Tiny"


async def test_a_tool_that_nobody_pinned_is_refused_and_its_fingerprint_told(
    guarded: tuple[ToolServer, CertificatePair], mes: CertificatePair
) -> None:
    server, tool = guarded
    stranger = ToolSecurity(own=mes, user="operator", password=PASSWORD)
    with pytest.raises(UntrustedCertificate, match=fingerprint(tool.load())):
        async with connected(server, stranger):
            pass


async def test_a_tool_that_changed_its_certificate_is_refused(
    guarded: tuple[ToolServer, CertificatePair], mes: CertificatePair, certificate: Make
) -> None:
    server, _ = guarded
    with pytest.raises(ChangedCertificate, match="instead of the pinned"):
        async with connected(server, pinned(mes, certificate("tool"))):
            pass


async def test_a_tool_with_an_expired_certificate_is_refused(mes: CertificatePair, certificate: Make) -> None:
    tool = certificate("tool", days=-1)
    access = ServerAccess(tool, frozenset({fingerprint(mes.load())}), {"operator": PASSWORD})
    async with tiny_server(access=access) as server:
        with pytest.raises(ExpiredCertificate, match="expired on"):
            async with connected(server, pinned(mes, tool)):
                pass


async def test_our_own_expired_certificate_is_noticed_before_we_call(certificate: Make) -> None:
    expired = ToolSecurity(own=certificate("mes", days=-1), user="operator", password=PASSWORD)
    driver = JobControlDriver("opc.tcp://192.0.2.1:4840/", "lab", "tiny", TINY, expired)
    with pytest.raises(ExpiredCertificate, match="the MES itself"):
        await driver.connect()


async def test_a_client_that_the_tool_does_not_know_is_refused(
    guarded: tuple[ToolServer, CertificatePair], certificate: Make
) -> None:
    server, tool = guarded
    with pytest.raises(AccessDenied):
        async with connected(server, pinned(certificate("mes-other"), tool)):
            pass


@pytest.mark.parametrize(
    ("user", "password"), [("operator", "wrong"), ("admin", "admin"), ("nobody", ""), (None, None)]
)
async def test_only_the_operator_with_his_password_is_let_in(
    guarded: tuple[ToolServer, CertificatePair], mes: CertificatePair, user: str | None, password: str | None
) -> None:
    server, tool = guarded
    with pytest.raises(SecurityRefused):
        async with connected(server, replace(pinned(mes, tool), user=user, password=password)):
            pass


async def test_a_guarded_tool_lets_no_unencrypted_session_in(guarded: tuple[ToolServer, CertificatePair]) -> None:
    server, _ = guarded
    with pytest.raises(EncryptionRequired, match="no unencrypted"):
        async with connected(server, ToolSecurity(user="operator", password=PASSWORD)):
            pass


async def test_a_forced_unencrypted_session_is_not_activated(guarded: tuple[ToolServer, CertificatePair]) -> None:
    server, _ = guarded
    client = Client(server.endpoint)
    client.set_user("operator")
    client.set_password(PASSWORD)
    await client.connect_sessionless()
    try:
        created = ua.CreateSessionParameters(
            ClientDescription=ua.ApplicationDescription(ApplicationUri="urn:x"),
            EndpointUrl=server.endpoint, SessionName="x", ClientNonce=b"0" * 32, RequestedSessionTimeout=30_000.0,
        )  # fmt: skip
        await client.uaclient.create_session(created)
        token = ua.UserNameIdentityToken(PolicyId="username", UserName="operator", Password=PASSWORD.encode())
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await client.uaclient.activate_session(ua.ActivateSessionParameters(UserIdentityToken=token))
    finally:
        client.disconnect_socket()


async def test_nobody_is_an_administrator_and_read_only_means_read_only(server: ToolServer) -> None:
    client = Client(server.endpoint)
    client.set_user("admin")
    with pytest.raises(ua.uaerrors.BadUserAccessDenied):
        await client.connect()
    async with Client(server.endpoint) as anonymous:
        index = await anonymous.get_namespace_index("urn:lab:tiny")
        heartbeat = anonymous.get_node(ua.NodeId("Link.Heartbeat", index))
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await heartbeat.write_value(ua.Variant(1, ua.VariantType.UInt32))
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await anonymous.nodes.objects.add_object(index, "Intruder")


def test_a_tool_beyond_loopback_must_be_guarded() -> None:
    for access in (LOCAL_ANONYMOUS, ServerAccess(users={"operator": PASSWORD})):
        with pytest.raises(ValueError, match="beyond loopback"):
            ToolServer(
                TinyPlant(), name="t", site="s", endpoint="opc.tcp://0.0.0.0:4840/", now=wall_now, access=access
            )
    with pytest.raises(ValueError, match="nobody could enter"):
        tiny_server(access=ServerAccess())


async def test_an_unencrypted_connection_beyond_loopback_is_refused_before_it_is_tried() -> None:
    driver = JobControlDriver("opc.tcp://192.0.2.1:4840/", "lab", "tiny", TINY, ToolSecurity())
    with pytest.raises(EncryptionRequired, match="argonaut certs"):
        await driver.connect()


async def test_a_tool_that_offers_no_encryption_is_refused_when_we_want_it(
    server: ToolServer, mes: CertificatePair, certificate: Make
) -> None:
    with pytest.raises(EncryptionRequired, match="does not offer"):
        async with connected(server, pinned(mes, certificate("tool"))):
            pass


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("opc.tcp://127.0.0.1:4840/", True),
        ("opc.tcp://[::1]:4840/", True),
        ("opc.tcp://localhost:4840", True),
        ("opc.tcp://localhost.example.org:4840", False),
        ("opc.tcp://10.0.0.1:4840", False),
    ],
)
def test_loopback_is_told_from_the_network(endpoint: str, local: bool) -> None:
    assert is_loopback(endpoint) is local


def test_a_private_key_is_for_its_owner_only_and_never_overwritten(certificate: Make) -> None:
    pair = certificate("mes")
    assert stat.S_IMODE(pair.private_key.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        make_certificate(pair.private_key.parent, "mes", "urn:argonaut:mes", now=wall_now())


def test_a_password_is_never_printed() -> None:
    assert PASSWORD not in repr(ToolSecurity(user="operator", password=PASSWORD))
    assert PASSWORD not in repr(ServerAccess(users={"operator": PASSWORD}))
