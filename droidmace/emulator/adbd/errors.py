"""Whose fault it was: the peer's, ours, or the configuration's."""

from __future__ import annotations

from droidmace.errors import EmulatorError


class RemoteProtocolError(EmulatorError):
    """The peer sent what the protocol forbids; its connection (or stream) is closed, no other."""


class LocalProtocolError(EmulatorError):
    """This code asked for what the protocol forbids: a bug here, never the peer's doing."""


class StreamClosedError(EmulatorError):
    """The stream was closed by the peer, or its connection is gone."""


class FaultError(EmulatorError):
    """A fault that was asked for over the control channel is not one that exists."""


class DaemonConfigError(EmulatorError):
    """The daemon's JSON configuration has a wrong key or value."""
