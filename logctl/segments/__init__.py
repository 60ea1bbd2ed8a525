"""`logctl segments`: looks into a stopped data directory, checks it, and repairs it."""
