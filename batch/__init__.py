"""Many images to a folder of Parquet files: in this process, in several, or on Ray.

The images are split into shards. A worker explains a shard, notes each group of rows in a journal as it comes, and
writes the shard's Parquet file when it is complete. So a process may end at any moment: the next run goes on where it
was.
"""

from .local import explain_here, explain_in_processes
from .output import Output, Shard, Summary
from .settings import Opening, Settings, settings_of

__all__ = [
    "Opening",
    "Output",
    "Settings",
    "Shard",
    "Summary",
    "explain_here",
    "explain_in_processes",
    "settings_of",
]
