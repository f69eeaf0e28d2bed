"""Read-only joins for lists and pages, by noun; they answer with the bodies of the HTTP API."""
