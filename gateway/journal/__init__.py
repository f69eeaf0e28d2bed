"""The gateway's truth on disk: each task whole, and beside it the bounded outbox."""
