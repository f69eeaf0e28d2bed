"""The cloud's end of the gateway link: one broker session, what comes in, what goes out."""
