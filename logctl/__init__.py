"""The command line: `logctl VERB`, for people at a terminal and for scripts on a pipe.

Three nouns: *topics* (create, list, describe, alter, delete), *records* (produce, consume) and *groups* (list,
describe, delete, seek); beside them `demo`, which shows the whole at work on real flights. It stands on the public
client library alone, so whatever it does, a program of yours can do.

People get tables, colours and progress bars; a pipe gets plain aligned text; `--json` gives one JSON object a line,
errors too. Every failure is a sentence on what happened, a remedy, and an exit code (`errors.ExitCode`).

Reading order: streams, errors, output, options, completions; times, record_json, lines, sender, record_output; topics,
records, groups, demo; main.
"""
