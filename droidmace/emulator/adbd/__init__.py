"""The device-side ADB daemon of an emulated phone.

It runs as a process *on* the phone, inside its sandbox, as Android's own adbd does: whatever it can
reach, the phone can reach, so files and commands are jailed by construction. Therefore it needs
nothing but the standard library, and gets its sockets as inherited file descriptors.

The layers, bottom up; each knows only those before it::

    errors       peer's fault or ours
    wire         bytes <-> packets                        sans-IO
    connection   packets <-> streams, one state machine    sans-IO; says `events`
    shell_packets, sync_frames                             sans-IO: what travels inside a stream
    faults, link, stats, config                            values and counters
    transport    one TCP connection under asyncio
    streams      one stream as read/write/close
    process, shell, sync_files, sync, services             what a stream is for
    control, daemon, __main__                              the process
"""
