"""The emulated phone: a folder, a sandbox in which Android's paths stand, and an ADB daemon."""
