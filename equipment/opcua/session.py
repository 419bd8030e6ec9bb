"""A session with one tool, for one epoch.

One fresh asyncua client that never reconnects by itself: when the link is lost, the session is over. Every await is
bounded. Namespace indexes are looked up by URI in each session, as a tool may number them anew at each start. Knows
tags, nodes and their values; knows no jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncua import Client, ua
from asyncua.client.ua_client import UaClientState
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from equipment.errors import (
    AccessDenied,
    EncryptionRequired,
    EquipmentError,
    LinkLost,
    ProtocolViolation,
    TagMismatch,
    ToolUnreachable,
    UntrustedCertificate,
    WriteRefused,
)
from equipment.opcua.alarm_events import alarm_filter, to_alarm
from equipment.opcua.isa95 import variant
from equipment.opcua.security import ToolSecurity
from equipment.opcua.streams import BoundedStream, Subscription, to_sample
from equipment.opcua.tag_check import tag_problems
from equipment.profiles.driver import AlarmEvent, StreamItem, TagSample
from equipment.tags import TagTable, TagValue
from traceability.clock import wall_now

REQUEST_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 6.0
SESSION_TIMEOUT_MS = 30_000
PROBE_INTERVAL_S = 1.0
HISTORY_PAGES = 100

_DENIED = (
    ua.uaerrors.BadUserAccessDenied,
    ua.uaerrors.BadIdentityTokenRejected,
    ua.uaerrors.BadIdentityTokenInvalid,
    ua.uaerrors.BadSecurityChecksFailed,
    ua.uaerrors.BadCertificateUntrusted,
    ua.uaerrors.BadCertificateInvalid,
    ua.uaerrors.BadCertificateTimeInvalid,
    ua.uaerrors.BadCertificateUriInvalid,
)
_OVER = (
    ua.uaerrors.BadSessionIdInvalid,
    ua.uaerrors.BadSessionClosed,
    ua.uaerrors.BadSessionNotActivated,
    ua.uaerrors.BadSecureChannelIdInvalid,
    ua.uaerrors.BadSecureChannelClosed,
    ua.uaerrors.BadConnectionClosed,
    ua.uaerrors.BadSubscriptionIdInvalid,
    ua.uaerrors.BadServerHalted,
    ua.uaerrors.BadShutdown,
    ua.uaerrors.BadTimeout,
)

_NO_ENDPOINT = "No matching endpoints"
"""How asyncua begins to say that the server does not offer the kind of connection that was made."""


class OpcuaSession:
    """One session with one tool.

    Args:
        endpoint: `opc.tcp://host:port/`.
        namespace: Of the tool's own nodes.
        tags: What it should show.
        security: How to speak to it.
        stream_limit: How many changes a stream holds for a slow reader.
    """

    def __init__(
        self,
        endpoint: str,
        namespace: str,
        tags: TagTable,
        security: ToolSecurity,
        *,
        stream_limit: int = 50_000,
    ) -> None:
        self.endpoint = endpoint
        self.tags = tags
        self._namespace = namespace
        self._security = security
        self._stream_limit = stream_limit
        self._client: Client | None = None
        self._connected = False
        self._namespaces: Sequence[str] = ()
        self._tool_index = -1
        self._reads: Any = None

    # -- connection ---------------------------------------------------------------------------------------------

    async def connect(self, required_namespaces: Sequence[str] = ()) -> None:
        """Connect, and see whether the tool is what its tag table says.

        Raises:
            ToolUnreachable: Nobody answers, or nobody who speaks OPC UA.
            SecurityRefused: The tool can't be trusted, or doesn't trust us.
            TagMismatch: A namespace or tag is missing, or of another type or unit.
        """
        if self._client is not None:
            raise RuntimeError("a session connects once: make another one")
        self._security.check_endpoint(self.endpoint)
        self._security.check_own(wall_now())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._client = await self._make_client()
                await self._client.connect(auto_reconnect=False)
                self._connected = True
                await self._resolve((self._namespace, *required_namespaces))
        except EquipmentError:
            await self.disconnect()
            raise
        except InvalidSignature as error:
            await self.disconnect()
            raise UntrustedCertificate(f"{self.endpoint} can't prove that its certificate is its own") from error
        except _DENIED as error:
            await self.disconnect()
            raise AccessDenied(f"{self.endpoint} does not let us in: {type(error).__name__}") from error
        except (OSError, TimeoutError, ua.UaError) as error:
            await self.disconnect()
            if str(error).startswith(_NO_ENDPOINT):
                raise EncryptionRequired(f"{self.endpoint} accepts no unencrypted connection") from error
            raise ToolUnreachable(f"{self.endpoint} can't be reached: {error or type(error).__name__}") from error

    async def disconnect(self) -> None:
        """Give the session up; never raises for a link that is gone."""
        client, self._connected = self._client, False
        if client is None:
            return
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await client.disconnect()
        except (OSError, TimeoutError, ua.UaError):
            client.disconnect_socket()

    @property
    def connected(self) -> bool:
        """The link stands, as far as is known."""
        return self._connected and self._client is not None and self._client.state is UaClientState.CONNECTED

    def namespace_index(self, uri: str) -> int:
        """Index of a namespace in this session.

        Raises:
            TagMismatch: The tool doesn't have it.
        """
        try:
            return self._namespaces.index(uri)
        except ValueError:
            raise TagMismatch(self.endpoint, [f"namespace {uri} is missing"]) from None

    def node_id(self, string_id: str) -> Any:
        """Node id of a node of the tool's own namespace."""
        return ua.NodeId(string_id, self._tool_index)

    async def _make_client(self) -> Client:
        client = Client(self.endpoint, timeout=REQUEST_TIMEOUT_S, watchdog_intervall=PROBE_INTERVAL_S)
        client.application_uri = self._security.application_uri
        client.name = client.description = "Argonaut MES"
        client.session_timeout = SESSION_TIMEOUT_MS
        if self._security.user is not None:
            client.set_user(self._security.user)
            client.set_password(self._security.password or "")
        own = self._security.own
        if own is not None:
            shown = await self._shown_certificate(client)
            server = self._security.check_server(shown, self.endpoint, wall_now())
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                str(own.certificate),
                str(own.private_key),
                server_certificate=CertProperties(server.public_bytes(Encoding.DER), extension="der"),
                mode=ua.MessageSecurityMode.SignAndEncrypt,
            )
        return client

    async def _shown_certificate(self, client: Client) -> bytes | None:
        for endpoint in await client.connect_and_get_server_endpoints():
            secure = endpoint.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt
            if secure and endpoint.SecurityPolicyUri == SecurityPolicyBasic256Sha256.URI:
                shown: bytes | None = endpoint.ServerCertificate
                return shown
        raise EncryptionRequired(f"{self.endpoint} does not offer Basic256Sha256, signed and encrypted")

    async def _resolve(self, namespaces: Sequence[str]) -> None:
        client = self._require_client()
        self._namespaces = await client.get_namespace_array()
        for uri in namespaces:
            self.namespace_index(uri)
        self._tool_index = self.namespace_index(self._namespace)
        self._reads = ua.ReadParameters(
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            NodesToRead=[_value_of(self.node_id(tag.string_id)) for tag in self.tags],
        )
        problems = await tag_problems(self._services(), self.tags, self.node_id)
        if problems:
            raise TagMismatch(self.endpoint, problems)

    # -- values -------------------------------------------------------------------------------------------------

    async def read_all(self) -> Mapping[str, TagSample]:
        """The present value of every tag, in one request.

        Raises:
            LinkLost: The link is gone.
        """
        async with self._bounded():
            found = await self._services().read(self._reads)
        return {tag.name: to_sample(tag.name, data) for tag, data in zip(self.tags, found, strict=True)}

    async def read_node(self, string_id: str) -> Any:
        """The value of a node that is no tag.

        Raises:
            LinkLost: The link is gone.
            ProtocolViolation: There is no such node.
        """
        async with self._bounded():
            found = await self._services().read_attributes([self.node_id(string_id)], ua.AttributeIds.Value)
        if not found[0].StatusCode.is_good():
            raise ProtocolViolation(f"{string_id} can't be read: {found[0].StatusCode.name}")
        return found[0].Value.Value

    async def write(self, name: str, value: TagValue) -> None:
        """Write a tag.

        Raises:
            LinkLost: The link is gone; whether it was written is unknown.
            WriteRefused: The tool says no.
            ValueError: The value is not of the tag's type.
        """
        tag = self.tags[name]
        data = ua.DataValue(variant(tag.type, value))
        async with self._bounded():
            try:
                results = await self._services().write_attributes([self.node_id(tag.string_id)], [data])
            except _OVER:
                raise
            except ua.UaStatusCodeError as error:
                raise WriteRefused(name, type(error).__name__) from error
        if not results[0].is_good():
            raise WriteRefused(name, results[0].name)

    async def call(self, object_id: Any, method_id: Any, *arguments: Any) -> Any:
        """Call a method; answers with the CallMethodResult, whatever its status.

        Raises:
            LinkLost: The link is gone; whether the method was carried out is unknown.
        """
        request = ua.CallMethodRequest(ObjectId=object_id, MethodId=method_id, InputArguments=list(arguments))
        async with self._bounded():
            results = await self._services().call([request])
        return results[0]

    async def history(self, name: str, since: datetime, until: datetime | None) -> Sequence[TagSample]:
        """Raw history of a tag, oldest first; empty where the tool keeps none.

        Raises:
            LinkLost: The link is gone.
        """
        details = ua.ReadRawModifiedDetails(
            IsReadModified=False, StartTime=since, EndTime=until or ua.get_win_epoch(), ReturnBounds=False
        )
        item = ua.HistoryReadValueId(NodeId=self.node_id(self.tags[name].string_id))
        samples: list[TagSample] = []
        for _ in range(HISTORY_PAGES):
            parameters = ua.HistoryReadParameters(
                HistoryReadDetails=details, TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[item]
            )
            async with self._bounded():
                page = (await self._services().history_read(parameters))[0]
            if not page.StatusCode.is_good() or page.HistoryData is None:
                break
            samples += [to_sample(name, data) for data in page.HistoryData.DataValues or ()]
            if not page.ContinuationPoint:
                break
            item.ContinuationPoint = page.ContinuationPoint
        return samples

    # -- streams ------------------------------------------------------------------------------------------------

    async def changes(self) -> AsyncGenerator[StreamItem, None]:
        """Every change of every tag, first the present values.

        Raises:
            LinkLost: The link is gone, or has fallen silent.
            TagMismatch: A tag can't be subscribed.
        """
        names = [tag.name for tag in self.tags]
        nodes = [(_value_of(self.node_id(tag.string_id)), None) for tag in self.tags]
        subscription = Subscription[TagSample](self._services(), BoundedStream(self._stream_limit))
        async with self._subscribed(subscription):
            async with self._bounded():
                statuses = await subscription.monitor(nodes, lambda handle, data: to_sample(names[handle], data))
            bad = [name for name, status in zip(names, statuses, strict=True) if not status.is_good()]
            if bad:
                raise TagMismatch(self.endpoint, [f"tag {name} can't be subscribed" for name in bad])
            async with contextlib.aclosing(subscription.stream.items()) as items:
                async for item in items:
                    yield item

    async def alarms(self) -> AsyncGenerator[AlarmEvent, None]:
        """Every change of every alarm, first those that are retained now.

        Raises:
            LinkLost: The link is gone, or has fallen silent.
            ProtocolViolation: The tool has no events.
        """
        server = ua.ReadValueId(NodeId=ua.NodeId(ua.ObjectIds.Server), AttributeId=ua.AttributeIds.EventNotifier)
        subscription = Subscription[AlarmEvent](self._services(), BoundedStream(self._stream_limit))
        async with self._subscribed(subscription):
            async with self._bounded():
                statuses = await subscription.monitor([(server, alarm_filter())], lambda _, fields: to_alarm(fields))
            if not statuses[0].is_good():
                raise ProtocolViolation(f"{self.endpoint} has no events: {statuses[0].name}")
            await self.call(
                ua.NodeId(ua.ObjectIds.ConditionType),
                ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh),
                ua.Variant(subscription.id, ua.VariantType.UInt32),
            )
            async with contextlib.aclosing(subscription.stream.items()) as items:
                async for item in items:
                    if isinstance(item, AlarmEvent):
                        yield item

    @contextlib.asynccontextmanager
    async def _subscribed(self, subscription: Subscription[Any]) -> AsyncIterator[None]:
        async with self._bounded():
            await subscription.create()
        try:
            yield
        finally:
            if self.connected:
                with contextlib.suppress(LinkLost, ProtocolViolation):
                    async with self._bounded():
                        await subscription.delete()

    # -- bounds -------------------------------------------------------------------------------------------------

    def _require_client(self) -> Client:
        if self._client is None or not self._connected:
            raise LinkLost(f"{self.endpoint} is not connected")
        return self._client

    def _services(self) -> Any:
        return self._require_client().uaclient.session

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        """Bound what is awaited, and tell a lost link from an answer."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                yield
        except (OSError, TimeoutError, *_OVER) as error:
            raise LinkLost(f"{self.endpoint} is lost: {error or type(error).__name__}") from error
        except ua.UaError as error:
            raise ProtocolViolation(f"{self.endpoint} answered {type(error).__name__}: {error}") from error


def _value_of(node_id: Any) -> Any:
    return ua.ReadValueId(NodeId=node_id, AttributeId=ua.AttributeIds.Value)
