"""The pure core: decides, and does no I/O. Time, randomness and environment are arguments.

ruff's TID251 and a test keep asyncio, grpc, boto3, botocore, aiohttp, httptools, os, time, random, logging out of it.
"""
