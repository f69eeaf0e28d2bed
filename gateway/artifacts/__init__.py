"""Firmware images and other files: fetched once, verified, kept, and served to devices."""
