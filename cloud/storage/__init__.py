"""The only SQL of the cloud: tables, queries by noun, and the views that pages and lists read."""
