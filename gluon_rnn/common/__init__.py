"""Used by every subpackage: `errors.UserError`, `files` that are written atomically, the standard `streams`,
`plain_text` for reading users' files, and `printable` for showing their content.
"""
