"""Device protocols as pure codecs: bytes in, values out; no line, no clock."""
