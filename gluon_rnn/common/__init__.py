"""What every room stands on: `errors.UserError`, `files` that are written whole, and the streams of a process.

Also `plain_text` as everything that people hand in is read, and what is `printable` of it.
"""
