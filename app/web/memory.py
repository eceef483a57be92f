"""The memory of a process that serves: what it is made of is not looked through again and again."""

import gc


def settle_memory() -> None:
    """Call it once, when the application has been made and before it serves.

    Python's collector stops everything while it looks through all objects, which of an application are some 160,000:
    90 ms in which nobody is answered, each other second under load. What is there now stays until the process ends, and
    is passed over from here on; what comes later is collected as ever.
    """
    gc.collect()
    gc.freeze()
