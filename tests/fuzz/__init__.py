"""Damaged and hostile input by the thousand, and whether the command line ever does worse than one clean line.

From the root of the repository:

    make fuzz                                                                         # 2000 cases, some ten minutes
    .venv/bin/python -m tests.fuzz --cases 2000 --seed 1
    .venv/bin/python -m tests.fuzz --cases 500 --kind artifacts,pictures
    .venv/bin/python -m tests.fuzz --case artifacts:17 --keep folder      # one case again, its files kept

Linux only. Nothing is taken from the network. Case and seed decide all that is random, so that a case can be had again
alone. The table counts, for each kind of input:

clean error     status 2, and on standard error one `error:` line for each thing that is wrong
correct         status 0, and the answer that something independent gives as well
traceback       any other message or status, or control characters: what a user should not see
crash           ended by a signal, or took more memory than the limit
hang            took more time than the limit
silently wrong  an answer that is not the right one, or a file left behind that was not announced

The last four are to be zero. The status of the program is 1 if they are not.

A kind is a module with three names: `imports()`, what a server loads before it forks, no more than once;
`prepare(base)`, which writes the undamaged files; and `make(rng, base, folder)`, which puts the input of one case
into `folder` and returns a `Case`. Every case runs in a process of its own, forked by a server that has imported what
is slow to import and has started no thread.
"""
