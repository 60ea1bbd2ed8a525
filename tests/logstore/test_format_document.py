"""docs/format.md shows the bytes that the code writes today."""

from tests.logstore.format_example import BLOCK, DOCUMENT, examples, with_examples


def test_the_hex_in_the_document_is_what_is_written_today() -> None:
    document = DOCUMENT.read_text()
    assert document == with_examples(document), (
        "docs/format.md is not up to date: run `python -m tests.logstore.format_example`, "
        "and see whether its tables still say what the fields are"
    )


def test_every_file_is_shown_once() -> None:
    shown = [name for _, name, _, _ in BLOCK.findall(DOCUMENT.read_text())]
    assert sorted(shown) == sorted(examples())
