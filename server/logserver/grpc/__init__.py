"""The gRPC door: `calls` wraps every method, `checks` bounds what is asked, `produce`, `fetch`, `topics` and `groups`
translate, `server` listens."""
