-- A cancel of an attempt that has begun, as JSON: obeyed by whoever carries it, now or next.
ALTER TABLE tasks ADD COLUMN cancel TEXT;
