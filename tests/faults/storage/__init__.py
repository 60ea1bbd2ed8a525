"""What faults of the storage need: random work and a model of what must be left of it, damage, and filesystems."""
