"""Writes the generated part of proto/logwire/v1 from its .proto files: `python -m tests.generate_proto`.

The compiler is pinned in pyproject.toml to one of protobuf 6, since what it writes runs on protobuf 6 and 7 alike.
"""

import os
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "proto"


def generate(target: Path) -> list[Path]:
    """Write the modules and their stubs below target and return them, sorted."""
    # protoc looks for its plugins on PATH; they are installed beside this interpreter.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("logwire/v1/*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"-I{PROTO}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out={target}",
            f"--mypy_grpc_out={target}",
            *sources,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}; its message is above")
    return sorted(path for path in target.glob("logwire/v1/*_pb2*") if path.is_file())


if __name__ == "__main__":
    generate(PROTO)
