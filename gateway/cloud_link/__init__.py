"""The gateway's half of the link: connection, hello, what comes in, what goes out."""
