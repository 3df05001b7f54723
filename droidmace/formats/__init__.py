"""What lies on disk, as values: bytes in, frozen dataclasses out, and back bit for bit.

Nothing in here opens a file or knows a device. Whatever is wrong with the bytes is a
``FormatError`` that says at which byte offset.
"""
