"""The gRPC door: `calls` wraps every method, `produce`, `fetch`, `topics` and `groups` translate, `server` listens."""
