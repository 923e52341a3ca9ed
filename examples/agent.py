"""The demo agent: imports what most agents do, and does nothing yet."""

import asyncio
import json
import subprocess
import urllib.request

NAME = "demo"


def run(task_id: str) -> dict[str, str]:
    """What a real agent would do is its own affair; this one says that it was here."""
    return {"task_id": task_id, "agent": NAME, "libraries": ",".join(m.__name__ for m in LIBRARIES)}


LIBRARIES = (asyncio, json, subprocess, urllib.request)
