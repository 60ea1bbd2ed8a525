"""The core of a server under a simulated loop, clock and disk, where one seed decides everything."""
