"""One process of a group: runs the functions that the tests name, and says how each went.

Started by conftest.py with its rank, the group's size and the folder that holds the group's store;
reads one JSON object a line, and answers with one: null, or the traceback.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import sys
import traceback
from functools import cache
from types import ModuleType

import torch
import torch.distributed as dist

TIMEOUT = datetime.timedelta(seconds=30)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world,
        timeout=TIMEOUT,
    )
    for line in sys.stdin:
        request = json.loads(line)
        answer = None
        try:
            torch.manual_seed(0)
            torch._dynamo.reset()
            getattr(module(request["file"]), request["function"])(*request["arguments"])
        except Exception:
            answer = traceback.format_exc()
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # the group ends with its processes: nobody is left to say goodbye to


@cache
def module(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tests_of_groups", file)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    main()
