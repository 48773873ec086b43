"""Records what vLLM's own scheduler decides, step by step, with no model.

Needs: the published `vllm` package of the wanted release importable (0.11.0 or 0.33.0; unpacked
wheel on PYTHONPATH is enough, no GPU, no compiled extension), with torch (CPU) and the package's
light Python dependencies. It only drives the engine's own classes (`Scheduler`, its `KVCacheManager`,
`Request`); the rules are all the engine's. The model is replaced by one fresh token for each
request whose scheduled tokens reach the end of what is known of it.

    PYTHONPATH=vllm-0.33.0 python vllm_sched.py check FILE.json...      # drive again, compare every step
    PYTHONPATH=vllm-0.33.0 python vllm_sched.py drive IN.json OUT.json  # fill in `steps` of config + requests
    PYTHONPATH=vllm-0.33.0 python vllm_sched.py generate OUT_DIR [--count N] [--seed S] [--small]
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_TARGET_DEVICE", "empty")

import torch  # noqa: E402
import vllm  # noqa: E402
from vllm.config import CacheConfig, ParallelConfig, SchedulerConfig  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.v1.core import kv_cache_utils  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1 import kv_cache_interface as kvi  # noqa: E402
from vllm.v1.outputs import ModelRunnerOutput  # noqa: E402
from vllm.v1.request import Request  # noqa: E402

SEGMENT = 10**6
SAMPLED = 10**12
STEP_LIMIT = 200_000


def engine_version():
    """The release driven: its own version file, else the folder name the package lies in."""
    for part in Path(vllm.__file__).resolve().parts:
        if part.startswith("vllm-"):
            return part[len("vllm-"):]
    return vllm.__version__


VERSION = engine_version()
OLD = VERSION.startswith("0.11.")


class Deadlock(Exception):
    """The engine can make no more progress with the work it holds."""


class NoGrammar:
    """Stands in for the structured-output manager: no request has a grammar."""

    def should_advance(self, request):
        return False

    def accept_tokens(self, request, tokens):
        return True

    def __getattr__(self, name):
        raise AttributeError(f"the scheduler asked the structured-output manager for {name}")


def spec_of(group, block_size):
    """The engine's own cache spec of one group of our `config.groups`."""
    shape = dict(block_size=block_size, num_kv_heads=1, head_size=64, dtype=torch.float16)
    kind = group["kind"]
    if kind == "full":
        return kvi.FullAttentionSpec(**shape)
    if kind == "sliding":
        return kvi.SlidingWindowSpec(sliding_window=group["window"], **shape)
    if kind == "chunked":
        return kvi.ChunkedLocalAttentionSpec(attention_chunk_size=group["window"], **shape)
    raise ValueError(f"unknown group kind {kind}")


def scheduler_config(config):
    """The engine's own scheduler settings; what `config` does not say is the release's default."""
    named = dict(
        max_num_seqs=config["max_num_seqs"],
        max_num_batched_tokens=config["max_num_batched_tokens"],
        max_model_len=config["max_model_len"],
        enable_chunked_prefill=config["chunked_prefill"],
    )
    if not OLD:
        named["is_encoder_decoder"] = False
    for key in KNOBS:
        if key in config:
            named[key] = config[key]
    return SchedulerConfig(**named)


KNOBS = (
    ["policy", "long_prefill_token_threshold", "max_num_partial_prefills", "max_long_partial_prefills"]
    if OLD
    else [
        "policy",
        "long_prefill_token_threshold",
        "long_prefill_token_threshold_adaptive",
        "max_num_active_seqs",
        "max_num_scheduled_tokens",
        "scheduler_reserve_full_isl",
        "watermark",
        "prefill_schedule_interval",
    ]
)


def build(config):
    """A scheduler of the engine over a pool of `num_blocks` blocks and our groups."""
    block_size = config["block_size"]
    groups = config.get("groups") or [{"kind": "full"}]
    cache = CacheConfig(enable_prefix_caching=config["prefix_caching"])
    cache.block_size = block_size
    cache.num_gpu_blocks = config["num_blocks"]
    settings = scheduler_config(config)
    model = SimpleNamespace(
        is_encoder_decoder=False, is_multimodal_model=False, supports_multimodal_inputs=False, runner_type="generate",
        is_diffusion=False, uses_mrope=False, return_sampling_mask=False, max_model_len=config["max_model_len"],
    )
    whole = SimpleNamespace(
        scheduler_config=settings, cache_config=cache, model_config=model, parallel_config=ParallelConfig(),
        lora_config=None, kv_events_config=None, kv_transfer_config=None, ec_transfer_config=None,
        speculative_config=None,
    )
    kv_groups = [
        kvi.KVCacheGroupSpec(layer_names=[f"layer.{i}"], kv_cache_spec=spec_of(g, block_size))
        for i, g in enumerate(groups)
    ]
    kv = dict(num_blocks=config["num_blocks"], kv_cache_tensors=[], kv_cache_groups=kv_groups)
    if OLD:
        return Scheduler(whole, kvi.KVCacheConfig(**kv), NoGrammar())
    from vllm.config import ObservabilityConfig

    whole.is_mm_encoder_only = False
    whole.observability_config = ObservabilityConfig()
    whole.ec_manager_config = SimpleNamespace(get_encoder_cache_manager_obj=lambda: None)
    whole.aux_output_config = SimpleNamespace(enabled=False)
    # Synchronous scheduling on one pipeline stage, no drafts; version 2 of the model runner is this
    # release's default (it folds resumed requests into the new ones of a step).
    whole.max_concurrent_batches = 1
    whole.max_in_flight_tokens = settings.max_num_batched_tokens
    whole.num_speculative_tokens = whole.num_lookahead_tokens = 0
    whole.num_prefill_lookahead_tokens = whole.num_hash_lookahead_tokens = 0
    whole.use_v2_model_runner = True
    # Absent: None, every block of a window kept for prefix hits (the recorded files of before say so);
    # the release's own `CacheConfig` default is 0, which keeps only what a replay can reach.
    kv["prefix_cache_retention_interval"] = config.get("prefix_cache_retention_interval")
    return Scheduler(whole, kvi.KVCacheConfig(**kv), NoGrammar(), block_size=block_size)


def tokens_of(prompt):
    return [segment * SEGMENT + i for segment, length in prompt for i in range(length)]


class Drive:
    """One workload on one scheduler."""

    def __init__(self, config, requests):
        kv_cache_utils.init_none_hash(hash_fn())
        self.scheduler = build(config)
        self.hasher = kv_cache_utils.get_request_block_hasher(config["block_size"], hash_fn())
        self.caching = config["prefix_caching"]
        self.requests = requests
        self.live = {}
        self.number = {r["id"]: i for i, r in enumerate(requests)}
        self.preempted = []
        self.calls = 0
        self.watch_preemptions()

    def watch_preemptions(self):
        """Notes each preemption in the order in which the engine frees the victims' blocks."""
        manager = self.scheduler.kv_cache_manager
        free = manager.free

        def noted(request):
            if not request.is_finished():
                self.preempted.append(request.request_id)
            return free(request)

        manager.free = noted

    def arrive(self, r):
        sampling = SamplingParams(max_tokens=r["max_tokens"], ignore_eos=True, temperature=0.0)
        named = dict(
            request_id=r["id"], prompt_token_ids=tokens_of(r["prompt"]), sampling_params=sampling, pooling_params=None,
            arrival_time=float(self.number[r["id"]]), priority=r.get("priority", 0),
            block_hasher=self.hasher if self.caching else None,
        )
        if OLD:
            named["eos_token_id"] = None
        request = Request(**named)
        self.live[r["id"]] = request
        self.scheduler.add_request(request)

    def sampled(self, output):
        """One token for each scheduled request that is computed to its end after this step."""
        ids = list(output.num_scheduled_tokens)
        tokens = []
        for i in ids:
            request = self.live[i]
            ready = request.num_computed_tokens >= request.num_tokens
            tokens.append([SAMPLED + self.number[i] * SEGMENT + request.num_output_tokens] if ready else [])
        rest = dict(logprobs=None, prompt_logprobs_dict={}, pooler_output=[] if OLD else None)
        return ModelRunnerOutput(
            req_ids=ids, req_id_to_index={x: k for k, x in enumerate(ids)}, sampled_token_ids=tokens, **rest
        )

    def step(self, number):
        self.preempted = []
        output = self.scheduler.schedule()
        self.calls += 1
        preempted = sorted(self.preempted)
        started = [[n.req_id, n.num_computed_tokens] for n in output.scheduled_new_reqs]
        cached = output.scheduled_cached_reqs
        if OLD:
            again = [i for i, back in enumerate(cached.resumed_from_preemption) if back]
        else:
            again = [i for i, x in enumerate(cached.req_ids) if x in cached.resumed_req_ids]
        resumed = [[cached.req_ids[i], cached.num_computed_tokens[i]] for i in again]
        self.scheduler.update_from_output(output, self.sampled(output))
        finished = sorted(i for i in output.num_scheduled_tokens if self.live[i].is_finished())
        for i in finished:
            del self.live[i]
        return {
            "step": number,
            "scheduled": [[i, n] for i, n in output.num_scheduled_tokens.items()],
            "new": started,
            "resumed": resumed,
            "preempted": preempted,
            "finished": finished,
            "free_blocks": self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            "waiting": len(self.scheduler.waiting),
            "running": len(self.scheduler.running),
        }

    def run(self):
        steps, at, number, idle = [], 0, 0, 0
        while True:
            while at < len(self.requests) and self.requests[at]["arrival_step"] <= number:
                self.arrive(self.requests[at])
                at += 1
            if self.scheduler.has_requests():
                steps.append(self.step(number))
                idle = idle + 1 if not steps[-1]["scheduled"] else 0
            elif at >= len(self.requests):
                return steps
            if idle > 20 and at >= len(self.requests) or len(steps) > STEP_LIMIT:
                raise Deadlock(f"no progress at step {number}, {len(self.live)} requests unfinished")
            number += 1




def hash_fn():
    """Any hash without collisions serves: which blocks are equal does not depend on it."""
    try:
        from vllm.utils.hashing import sha256
    except ImportError:
        from vllm.utils import sha256
    return sha256


def check(paths):
    bad = 0
    for path in paths:
        given = json.loads(Path(path).read_text())
        steps = Drive(given["config"], given["requests"]).run()
        same = sum(a == b for a, b in zip(steps, given["steps"]))
        equal = steps == given["steps"]
        bad += not equal
        print(f"{path}: {same} of {len(given['steps'])} steps equal{'' if equal else '  DIFFERENT'}")
        if not equal:
            for a, b in zip(steps, given["steps"]):
                if a != b:
                    print("  driven:", json.dumps(a)[:600])
                    print("  given: ", json.dumps(b)[:600])
                    break
    return 1 if bad else 0


# ---- workloads ----------------------------------------------------------------------------------


class Prompts:
    """Makes prompts that share leading segments, aligned to blocks or not."""

    def __init__(self, rng, block_size, longest, style):
        self.rng, self.block, self.longest, self.style = rng, block_size, longest, style
        self.fresh = 1000
        self.talks = []
        self.recent = []
        bases = [block_size, 2 * block_size, 3 * block_size, 4 * block_size + 1, block_size + block_size // 2 + 1, 7]
        self.heads = {s: max(1, rng.choice(bases) * rng.choice([1, 1, 2, 4])) for s in range(1, 6)}

    def length(self):
        rng = self.rng
        top = self.longest
        pick = rng.random()
        if pick < 0.25:
            n = self.block * rng.randint(1, max(1, top // self.block)) + rng.choice([-1, 0, 0, 1])
        elif pick < 0.35:
            n = rng.choice([1, 2, top, top - 1])
        elif pick < 0.7:
            n = rng.randint(1, max(1, top // 4))
        else:
            n = rng.randint(1, top)
        return min(max(n, 1), top)

    def cut(self, runs):
        """The runs cut to the longest prompt allowed."""
        left, out = self.longest, []
        for segment, n in runs:
            n = min(n, left)
            if n > 0:
                out.append([segment, n])
                left -= n
        return out

    def own(self, n):
        self.fresh += 1
        return [self.fresh, n]

    def one(self):
        rng, pick = self.rng, self.rng.random()
        if self.style == "plain":
            return self.cut([self.own(self.length())])
        if self.recent and pick < 0.15:
            return self.cut(rng.choice(self.recent))
        if self.talks and pick < 0.5:
            talk = rng.choice(self.talks)
            talk.append(self.own(max(1, min(self.length(), self.longest // 4))))
            return self.cut(talk)
        if pick < 0.85:
            runs = [[s, max(1, self.heads[s] - rng.choice([0, 0, 0, 1, self.block]))] for s in [rng.randint(1, 5)]]
            while rng.random() < 0.4:
                s = rng.randint(1, 5)
                runs.append([s, self.heads[s]])
            runs.append(self.own(self.length()))
        else:
            runs = [self.own(self.length())]
        runs = self.cut(runs)
        if rng.random() < 0.4:
            self.talks.append([list(r) for r in runs])
        self.recent = (self.recent + [runs])[-6:]
        return runs


def arrivals(rng, count, style):
    """Arrival steps of `count` requests, in order."""
    at, out = 0, []
    for i in range(count):
        if style == "burst":
            at += 0 if i else rng.randint(0, 2)
        elif style == "bursts":
            at += rng.randint(5, 120) if rng.random() < 0.15 else 0
        elif style == "idle":
            at += rng.randint(150, 900) if rng.random() < 0.12 else rng.randint(0, 6)
        elif style == "slow":
            at += rng.randint(0, 40)
        else:
            at += rng.choice([0, 0, 1, 1, 2, 3, 7])
        out.append(at)
    return out


def groups_of(rng, caching, block):
    """A layout of groups that the release can run."""
    def window():
        return max(2, rng.choice([block, 2 * block, 3 * block + 1, 8 * block, 5 * block - 1, 17, 100, 256]))

    full, sliding = {"kind": "full"}, lambda: {"kind": "sliding", "window": window()}
    chunked = lambda: {"kind": "chunked", "window": block * rng.choice([1, 2, 3, 8])}
    one = sliding()
    both = [
        [sliding()], [chunked()], [full, one], [full, one], [one, full], [full, one, dict(one)], [full, dict(full), one],
        [full, chunked()],
    ]
    more = [[full, sliding(), sliding()], [sliding(), sliding()], [sliding(), chunked()], [full, sliding(), chunked()]]
    return rng.choice(both if OLD and caching else both + more)


def config_of(rng, small):
    """A random configuration: pools from roomy to hardly holding one request."""
    block = rng.choice([1, 2, 4, 8, 16, 16, 16, 32, 64, 128, 3, 5, 48])
    caching = rng.random() < 0.7
    groups = groups_of(rng, caching, block) if rng.random() < 0.4 else None
    width = len(groups) if groups else 1
    longest = rng.choice([40, 64, 100, 130] if small else [64, 100, 200, 333, 512, 900, 1500, 4096])
    longest = max(longest, 2 * block) if block > 32 else longest
    whole = width * -(-longest // block)
    # A pool that holds the longest request and hardly more, up to one that is never full.
    slack = rng.choice([1, 1, 2, 3, whole // 4 + 1, whole // 2 + 1, whole, 2 * whole, 6 * whole, 40 * whole])
    config = dict(
        block_size=block,
        num_blocks=1 + whole + slack,
        max_num_seqs=rng.choice([1, 2, 3, 4, 8, 16, 16, 32, 64, 256]),
        max_num_batched_tokens=0,
        max_model_len=longest,
        prefix_caching=caching,
        chunked_prefill=rng.random() < 0.8,
    )
    floor = config["max_num_seqs"] if config["chunked_prefill"] else max(longest, config["max_num_seqs"])
    config["max_num_batched_tokens"] = max(floor, rng.choice([1, 7, 16, 33, 64, 100, 256, 512, 2048, 8192]))
    if groups:
        config["groups"] = groups
    if rng.random() < 0.3:
        config["policy"] = "priority"
    if config["chunked_prefill"] and rng.random() < 0.25:
        config["long_prefill_token_threshold"] = rng.randint(1, max(1, longest // 2))
    knobs(rng, config, longest)
    return config


def knobs(rng, config, longest):
    """Settings that one release has and the other has not."""
    if OLD:
        if config["chunked_prefill"] and rng.random() < 0.15:
            config["max_num_partial_prefills"] = rng.randint(2, 4)
            config["max_long_partial_prefills"] = rng.randint(1, 2)
        return
    if rng.random() < 0.25:
        config["watermark"] = rng.choice([0.01, 0.05, 0.1, 0.25])
    if rng.random() < 0.35:
        config["scheduler_reserve_full_isl"] = False
    if "long_prefill_token_threshold" in config and rng.random() < 0.4:
        config["long_prefill_token_threshold_adaptive"] = True
    if rng.random() < 0.08:
        config["max_num_active_seqs"] = rng.randint(1, config["max_num_seqs"])
    if rng.random() < 0.06 and config["chunked_prefill"]:
        config["max_num_scheduled_tokens"] = rng.randint(1, config["max_num_batched_tokens"])
    if rng.random() < 0.06:
        config["prefill_schedule_interval"] = rng.choice([2, 3, 8])
    windows = any(g["kind"] == "sliding" for g in config.get("groups", []))
    if windows and config["prefix_caching"] and rng.random() < 0.3:
        config["prefix_cache_retention_interval"] = rng.choice([0, config["block_size"] * rng.choice([1, 4])])


def workload(rng, small):
    """One random workload: configuration and requests."""
    config = config_of(rng, small)
    longest = config["max_model_len"]
    style = rng.choice(["plain", "shared", "shared", "shared"] if config["prefix_caching"] else ["plain", "shared"])
    near = rng.random() < 0.25
    # The longest prompt that leaves room for one sampled token.
    prompts = Prompts(rng, config["block_size"], longest - 1 if near else max(1, longest * 2 // 3), style)
    count = rng.randint(6, 14) if small else rng.choice([12, 25, 40, 60, 90])
    when = arrivals(rng, count, rng.choice(["burst", "bursts", "idle", "slow", "steady", "steady"]))
    outputs = rng.choice(["one", "short", "short", "mixed", "long", "cap"])
    spread = rng.choice([[0], [0, 1], [0, 1, 2], [5, 5, 5, -3], list(range(8))])
    requests = []
    for i, step in enumerate(when):
        twin = requests and step == requests[-1]["arrival_step"] and rng.random() < 0.2
        prompt = [list(r) for r in requests[-1]["prompt"]] if twin else prompts.one()
        room = longest - sum(n for _, n in prompt)
        top = max(1, min(room, 30 if small else 200))
        tokens = {
            "one": 1, "short": rng.randint(1, min(top, 12)), "mixed": rng.choice([1, 2, rng.randint(1, top)]),
            "long": rng.randint(max(1, top // 2), top), "cap": rng.randint(1, top) + (room if rng.random() < 0.3 else 0),
        }[outputs]
        requests.append(dict(id=f"r{i:04}", arrival_step=step, prompt=prompt, max_tokens=tokens,
                             priority=rng.choice(spread) if config.get("policy") == "priority" else 0))
    return config, requests


def name_of(config):
    """What is special about a configuration, for its file name."""
    parts = []
    kinds = "-".join(g["kind"] for g in config.get("groups", []))
    parts.append(kinds.replace("sliding", "swa") or ("prefix" if config["prefix_caching"] else "plain"))
    if config.get("policy") == "priority":
        parts.append("priority")
    if not config["chunked_prefill"]:
        parts.append("nochunk")
    return "-".join(parts)


def write(path, config, requests, steps):
    named = dict(engine="vllm", engine_version=VERSION, name=path.stem, config=config, requests=requests, steps=steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(named, separators=(",", ":")))


def generate(out, count, seed, small):
    """Writes `count` workloads the engine can run; tells those that it cannot."""
    made, turn = 0, 0
    while made < count:
        rng = random.Random(f"{seed}-{turn}-{'small' if small else 'any'}")
        turn += 1
        config, requests = workload(rng, small)
        try:
            steps = Drive(config, requests).run()
        except (AssertionError, ValueError, Deadlock, RuntimeError) as error:
            print(f"turn {turn}: the engine cannot: {type(error).__name__} {str(error)[:160]} {json.dumps(config)}")
            continue
        if len(steps) > (400 if small else 2500):
            continue
        prefix = "small-" if small else "more-"
        write(Path(out) / f"{prefix}{made:03}-{name_of(config)}.json", config, requests, steps)
        made += 1
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check").add_argument("files", nargs="+")
    drive = verbs.add_parser("drive")
    drive.add_argument("given")
    drive.add_argument("out")
    make = verbs.add_parser("generate")
    make.add_argument("out")
    make.add_argument("--count", type=int, default=150)
    make.add_argument("--seed", default="plimsoll")
    make.add_argument("--small", action="store_true", help="few and short requests")
    told = parser.parse_args()
    if told.verb == "check":
        return check(told.files)
    if told.verb == "generate":
        return generate(told.out, told.count, told.seed, told.small)
    given = json.loads(Path(told.given).read_text())
    write(Path(told.out), given["config"], given["requests"], Drive(given["config"], given["requests"]).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
