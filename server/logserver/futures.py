"""Futures of the loop that several may settle, of whom the first does."""

import asyncio


def finish(future: asyncio.Future[None], _: object = None) -> None:
    """Wake who waits for the future; it finds out for itself what became of its log."""
    if not future.done():
        future.set_result(None)
