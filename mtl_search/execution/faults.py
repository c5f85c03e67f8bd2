"""What takes a job from its workers without being the recipe's fault, in words, and what to do where memory is short.

The mailbox counts these against ``resources.max_retries``; a worker and the controller of its group find them out.
"""

DIED = "its worker died"
NODE_LOST = "its node was lost"
OUT_OF_MEMORY = "its worker was killed because the node ran out of memory"
LESS_MEMORY = "a smaller batch_size, more workers per trial or a smaller backbone needs less memory"
_NODE_SIGNS = ("node was terminated", "node has died", "node died", "node failure", "its node is dead")
_MEMORY_SIGNS = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc")


def silent(seconds: float) -> str:
    """Nothing was heard of a job for so long that its workers must hang."""
    return f"it reported nothing for {seconds:g} s (resources.report_timeout)"


def fault_of(words: str) -> str:
    """Which fault ended a worker, from what Ray says of it."""
    words = words.lower()
    if "outofmemoryerror" in words or "memory monitor" in words or "running low on memory" in words:
        return OUT_OF_MEMORY
    return NODE_LOST if any(sign in words for sign in _NODE_SIGNS) else DIED


def verdict(fault: str, times: int) -> str:
    """Why a job is given up.

    Args:
        fault: The last one.
        times: How many came in a row, with no epoch finished between them.
    """
    reason = f"{fault}, {times} times in a row" if times > 1 else fault
    if fault == DIED:
        return f"{reason}; if it was killed for want of memory, {LESS_MEMORY}"
    return f"{reason}; {LESS_MEMORY}" if fault == OUT_OF_MEMORY else reason


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out in a worker that can go on: torch has a type of its own for GPUs alone."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY_SIGNS)
