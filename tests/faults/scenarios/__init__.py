"""The faults, a module each: what is injected, into what, and how often it must be borne."""
