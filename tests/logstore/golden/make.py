"""Write the golden batches beside this file, in the environment that README.md tells. Nothing of ours is imported."""

import json
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

HERE = Path(__file__).parent
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PRODUCER = {"producer_id": 4711, "producer_epoch": 3, "base_sequence": 17}


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def main() -> None:
    records = json.loads((HERE / "records.json").read_text())
    for library, builder_class in {"kafka-python": KafkaPythonBuilder, "aiokafka": AiokafkaBuilder}.items():
        for codec, number in CODECS.items():
            builder = builder_class(
                magic=2, compression_type=number, is_transactional=False, batch_size=1 << 20, **PRODUCER
            )
            for offset, record in enumerate(records):
                appended = builder.append(
                    offset,
                    record["timestamp_ms"],
                    unhex(record["key"]),
                    unhex(record["value"]),
                    [(name, unhex(value)) for name, value in record["headers"]],
                )
                assert appended is not None, "the batch is full"
            (HERE / f"{library}-{codec}.batch").write_bytes(bytes(builder.build()))


if __name__ == "__main__":
    main()
