from tests.equipment.opcua.tools import anyio_backend, certificate, driver, server

__all__ = ["anyio_backend", "certificate", "driver", "server"]
