"""Tests of the HTTP/1.1 client, on both event loops: asyncio's own and uvloop, which the service runs on."""
