"""Connections to the database, for whoever writes and whoever asks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[Any]]
WAIT_S = 2.0


def pool_of(dsn: str, size: int) -> Pool:
    """Not opened yet. Statements commit one by one, unless a transaction is begun."""
    return AsyncConnectionPool(
        dsn, min_size=1, max_size=size, timeout=WAIT_S, open=False, configure=register_vector_async,
        check=AsyncConnectionPool.check_connection, kwargs={"autocommit": True, "connect_timeout": 5},
        reconnect_timeout=1,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[AsyncConnection[Any]]:
    """One connection like those of the pool, for a program that asks seldom."""
    async with await AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        await register_vector_async(connection)
        yield connection
