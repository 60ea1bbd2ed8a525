"""The generated part of the wire contract is what the .proto files say."""

from pathlib import Path

from tests.generate_proto import PROTO, generate


def test_the_committed_modules_are_what_the_compiler_writes_from_the_proto_files(tmp_path: Path) -> None:
    written = {path.name: path.read_text() for path in generate(tmp_path)}
    committed = {path.name: path.read_text() for path in PROTO.glob("logwire/v1/*_pb2*") if path.is_file()}
    assert written.keys() == committed.keys()
    assert [name for name in written if written[name] != committed[name]] == [], "run `python -m tests.generate_proto`"
