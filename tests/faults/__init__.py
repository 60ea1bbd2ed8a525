"""The fault machinery: what is done to a log, what its clients saw, and a verdict.

    history     what clients did and what came of it
    checker     the verdict: what a history shows that must never happen
    keyed       the same of a compacted topic, of which readers need not see all
    runs        faults in sessions from one seed, with a ledger that a stopped run goes on from
    catalog     all faults by name, with how often they run in CI and in full
    scenarios   the faults, a module each
    clients     of a running server: producers, readers and members that keep a history, and a bad network
    storage     random work, a model of what must be left of it, damage, and filesystems to be filled and cut off
    simulation  the core of a server, where one seed decides everything
    bugs        what the faults must catch, so that a green run means something (`hunts` looks for it)
    launch      a server with a bug in it, or with a disk and a clock that a test moves (`levers`)

`python -m tests.faults NAME --cycles N --seed S` runs one of them; `--plant BUG` shows it catching that.
"""
