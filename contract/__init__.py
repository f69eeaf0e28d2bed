"""What two programs must agree on: messages, topics, life-cycles, failure codes, the job document.

Pure: no I/O, no clock, and nothing of the programs that use it.
"""
