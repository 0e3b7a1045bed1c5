"""Threads that decode a type of message for the first time at once do not end the process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import threading
import types

import msgspec

from monitoring.struct_types import prepare_struct_types

FIELDS = "".join(f" f{i}: Optional[dict[str, list[Inner]]] = None\\n" for i in range(30))
SOURCE = (
    "from __future__ import annotations\\n"
    "from typing import *\\n"
    "import msgspec\\n"
    "class Inner(msgspec.Struct):\\n"
    " a: dict[str, list[int]]\\n"
    " b: Optional[Literal['x', 'y']] = None\\n"
    "class Outer(msgspec.Struct):\\n" + FIELDS
)
BODY = msgspec.json.encode({f"f{i}": None for i in range(30)})


def decode(kind, barrier):
    barrier.wait()
    for _ in range(50):
        msgspec.json.decode(BODY, type=kind)


sys.setswitchinterval(1e-6)
for i in range(100):
    module = sys.modules[f"m{i}"] = types.ModuleType(f"m{i}")
    exec(SOURCE, module.__dict__)
    prepare_struct_types()  # without this, signal 11 ends the process
    barrier = threading.Barrier(3)
    arguments = (module.Outer, barrier)
    threads = [threading.Thread(target=decode, args=arguments) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_first_decodings_at_once_after_preparation() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
