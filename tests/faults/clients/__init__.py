"""What faults of a running server need: producers, readers and members that keep a history, and a bad network."""
