"""Records what SGLang's own radix cache answers to random operations.

Needs: the published `sglang` package of the wanted release importable (0.5.23; an unpacked wheel on
PYTHONPATH is enough, no GPU, no compiled kernels), with torch (CPU) and its light Python
dependencies. It only drives the engine's own `RadixCache`; time enters through the engine's clock.

    PYTHONPATH=sglang-0.5.23 python sglang_radix.py check FILE.json...
    PYTHONPATH=sglang-0.5.23 python sglang_radix.py generate OUT_DIR [--count N] [--ops N] [--seed S]
"""

import argparse
import json
import random
import sys
from array import array
from pathlib import Path

import absent

absent.stand_in(absent.SGLANG)

import torch  # noqa: E402
from sglang.srt.mem_cache import radix_cache as rc  # noqa: E402
from sglang.srt.mem_cache.cache_init_params import CacheInitParams  # noqa: E402

SEGMENT = 10**6
POLICIES = ["lru", "lfu", "fifo", "mru", "filo", "slru", "priority"]
PAGES = [1, 4, 16, 64, 128]


class Freed:
    """The pool side of the cache: takes back what eviction frees."""

    device = "cpu"

    def free_segment(self, indices, start_pos=0):
        pass

    def free(self, indices):
        pass


def tokens_of(prompt):
    return array("q", [segment * SEGMENT + i for segment, length in prompt for i in range(length)])


class Drive:
    """One cache and the locks taken on it."""

    def __init__(self, page_size, policy):
        self.cache = rc.RadixCache(
            CacheInitParams(disable=False, req_to_token_pool=None, token_to_kv_pool_allocator=Freed(),
                            page_size=page_size, eviction_policy=policy)
        )
        self.locks = {}

    def apply(self, op):
        """Does one operation and returns it with the cache's answer."""
        kind, out = op["op"], {}
        if kind == "match":
            found = self.cache.match_prefix(rc.MatchPrefixParams(key=rc.RadixKey(tokens_of(op["prompt"]))))
            out = {"prompt": op["prompt"], "matched": found.device_prefix_len}
            if "lock" in op:
                self.locks[op["lock"]] = found.last_device_node
                self.cache.inc_lock_ref(found.last_device_node)
                out["lock"] = op["lock"]
        elif kind == "insert":
            tokens = tokens_of(op["prompt"])
            named = {}
            if "priority" in op:
                named["priority"] = op["priority"]
            if "inserted_len" in op:
                named["inserted_len"] = op["inserted_len"]
            value = torch.arange(len(tokens), dtype=torch.int64)
            done = self.cache.insert(rc.InsertParams(key=rc.RadixKey(tokens), value=value, **named))
            out = {"prompt": op["prompt"], **named, "already_cached": done.prefix_len}
        elif kind == "evict":
            done = self.cache.evict(rc.EvictParams(num_tokens=op["tokens"]))
            out = {"tokens": op["tokens"], "evicted": done.num_tokens_evicted}
        elif kind == "unlock":
            self.cache.dec_lock_ref(self.locks.pop(op["lock"]))
            out = {"lock": op["lock"]}
        else:
            raise ValueError(f"unknown operation {kind}")
        return {"op": kind, **out, "evictable": self.cache.evictable_size(), "protected": self.cache.protected_size()}


def check(paths):
    bad = 0
    for path in paths:
        given = json.loads(Path(path).read_text())
        drive = Drive(given["page_size"], given["eviction_policy"])
        answers = [drive.apply(op) for op in given["ops"]]
        same = sum(a == b for a, b in zip(answers, given["ops"]))
        bad += same != len(answers)
        print(f"{path}: {same} of {len(answers)} operations equal")
        for a, b in zip(answers, given["ops"]):
            if a != b:
                print("  driven:", json.dumps(a)[:400])
                print("  given: ", json.dumps(b)[:400])
                break
    return 1 if bad else 0


class Prompts:
    """Prompts over few shared segments, cut at page and off-page lengths; some extend earlier ones."""

    def __init__(self, rng, page):
        self.rng, self.page, self.fresh, self.made = rng, page, 1000, []
        self.lengths = sorted({1, 3, 8, page, 2 * page, page + 1, 4 * page, 64, 100, 2 * page - 1})

    def own(self, most):
        self.fresh += 1
        return [self.fresh, self.rng.randint(1, most)]

    def one(self):
        rng, pick = self.rng, self.rng.random()
        if self.made and pick < 0.4:
            base = [list(r) for r in rng.choice(self.made[-40:])]
            how = rng.random()
            if how < 0.4:
                base.append(self.own(3 * self.page + 40))
            elif how < 0.7 and base[-1][1] > 1:
                base[-1][1] = rng.randint(1, base[-1][1])
            elif how < 0.8 and len(base) > 1:
                base.pop()
            prompt = base
        elif pick < 0.8:
            prompt = [[rng.randint(1, 5), rng.choice(self.lengths)] for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.7:
                prompt.append(self.own(2 * self.page + 200))
        else:
            prompt = [self.own(4 * self.page + 200)]
        self.made.append(prompt)
        return prompt


def sequence(rng, page, policy, count):
    """A random sequence of operations with the cache's answers."""
    drive, prompts, ops, held = Drive(page, policy), Prompts(rng, page), [], []
    for number in range(count):
        pick = rng.random()
        if pick < 0.36:
            op = {"op": "insert", "prompt": prompts.one()}
            if policy == "priority" or rng.random() < 0.05:
                op["priority"] = rng.choice([0, 0, 1, 2, 5, -1])
            if rng.random() < 0.15:
                op["inserted_len"] = rng.choice([0, page, 4 * page, sum(n for _, n in op["prompt"])])
        elif pick < 0.74:
            op = {"op": "match", "prompt": prompts.one()}
            if rng.random() < 0.4:
                op["lock"] = number
                held.append(number)
        elif pick < 0.87 and held:
            op = {"op": "unlock", "lock": held.pop(rng.randrange(len(held)))}
        else:
            op = {"op": "evict", "tokens": rng.choice([0, 1, page, 3 * page, 50, 200, 1000, 10**6])}
        ops.append(drive.apply(op))
    return ops


def generate(out, count, length, seed):
    Path(out).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = random.Random(f"{seed}-{i}")
        policy, page = POLICIES[i % len(POLICIES)], PAGES[(i // len(POLICIES)) % len(PAGES)]
        ops = sequence(rng, page, policy, length)
        named = dict(engine="sglang", engine_version="0.5.23", page_size=page, eviction_policy=policy, seed=i, ops=ops)
        path = Path(out) / f"more-{i:03}-{policy}-{page}.json"
        path.write_text(json.dumps(named, separators=(",", ":")))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check").add_argument("files", nargs="+")
    make = verbs.add_parser("generate")
    make.add_argument("out")
    make.add_argument("--count", type=int, default=70)
    make.add_argument("--ops", type=int, default=400)
    make.add_argument("--seed", default="plimsoll")
    told = parser.parse_args()
    if told.verb == "check":
        return check(told.files)
    return generate(told.out, told.count, told.ops, told.seed)


if __name__ == "__main__":
    sys.exit(main())
