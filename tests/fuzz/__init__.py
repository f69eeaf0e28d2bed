"""Every decoder that meets bytes from outside, and what it may do with any of them."""
