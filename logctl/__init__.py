"""The command line: `logctl VERB`, for people at a terminal and for scripts on a pipe.

Three nouns of a running server: *topics* (create, list, describe, alter, delete), *records* (produce, consume) and
*groups* (list, describe, delete, seek). They stand on the public client library alone, so whatever they do, a program
of yours can do. *Segments* are looked into while the server is stopped, with the storage engine itself; and `demo`
shows the whole at work on real flights.

People get tables, colours and progress bars; a pipe gets plain aligned text; `--json` gives one JSON object a line,
errors too. Every failure is a sentence on what happened, a remedy, and an exit code (`errors.ExitCode`).

Reading order: streams, errors, output, options, completions; times, record_json, lines, outages, sender, record_output;
topics, records, groups, demo/; segments/ (opened, dump, helpers, verify, repair, command); main.
"""
