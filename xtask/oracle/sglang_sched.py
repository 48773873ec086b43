"""Records what SGLang's own scheduler decides, iteration by iteration, with no model.

Needs: the published `sglang` package of the wanted release importable (0.5.23; an unpacked wheel on
PYTHONPATH is enough, no GPU, no compiled kernels), with torch (CPU) and its light Python
dependencies. It only drives the engine's own code: `Scheduler.get_next_batch_to_run` (and all it
calls: `SchedulePolicy`, `PrefillAdder`, `ScheduleBatch`, retraction, the new-token ratio),
`RadixCache`, the CPU-capable KV allocators and the batch result processor. What a scheduler holds
besides (process groups, metrics, the model) is absent; each forward gives one fresh token per row.

    PYTHONPATH=sglang-0.5.23 python sglang_sched.py check FILE.json...
    PYTHONPATH=sglang-0.5.23 python sglang_sched.py generate OUT_DIR [--count N] [--seed S] [--small]
"""

import argparse
import json
import logging
import random
import sys
from array import array
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import absent

absent.stand_in(absent.SGLANG)

import torch  # noqa: E402
from sglang.srt.disaggregation.utils import DisaggregationMode  # noqa: E402
from sglang.srt.managers import scheduler as engine  # noqa: E402
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch  # noqa: E402
from sglang.srt.managers.utils import GenerationBatchResult  # noqa: E402
from sglang.srt.managers.scheduler_components import batch_result_processor as results  # noqa: E402
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator  # noqa: E402
from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator  # noqa: E402
from sglang.srt.mem_cache.cache_init_params import CacheInitParams  # noqa: E402
from sglang.srt.mem_cache.memory_pool import ReqToTokenPool  # noqa: E402
from sglang.srt.mem_cache.radix_cache import RadixCache  # noqa: E402
from sglang.srt.runtime_context import get_context, get_parallel  # noqa: E402
from sglang.srt.sampling.sampling_params import SamplingParams  # noqa: E402
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm  # noqa: E402

logging.disable(logging.WARNING)
SEGMENT = 10**6
SAMPLED = 10**12
STEP_LIMIT = 20_000


class Stuck(Exception):
    """The engine can make no more progress with the work it holds."""


class Same:
    """A stage that hands on what it is given."""

    def maybe_prepare_mlp_sync_batch(self, batch, need_sync=None):
        return batch

    def maybe_convert_decode_to_extend(self, batch):
        return batch

    def prepare_for_forward(self, batch, chunked_req=None):
        return batch


class Shell(engine.Scheduler):
    """The engine's scheduler without its processes: the state that its scheduling methods read."""

    def __init__(self, config):
        self.retracted = []
        self.server(config)
        self.pools(config)
        self.settings(config)
        self.absences()
        self.init_schedule_policy()
        self.batch_result_processor = self.processor()

    def server(self, config):
        fields = dict(
            device="cpu", attention_backend="torch_native", page_size=config["page_size"],
            schedule_policy=config["schedule_policy"], schedule_conservativeness=config["schedule_conservativeness"],
            chunked_prefill_size=config["chunked_prefill_size"] or -1, max_prefill_tokens=config["max_prefill_tokens"],
            max_running_requests=config["max_running_requests"], disable_radix_cache=config["disable_radix_cache"],
            enable_mixed_chunk=config["enable_mixed_chunk"], disable_overlap_schedule=not config["overlap"],
        )
        if "prefill_max_requests" in config:
            fields["prefill_max_requests"] = config["prefill_max_requests"]
        self.published = get_context().override_server_args(**fields)
        self.published.install()
        get_parallel().override_permanently(pp_max_micro_batch_size=config["max_running_requests"])

    def pools(self, config):
        page, tokens = config["page_size"], config["num_tokens"]
        named = dict(dtype=torch.float16, device="cpu", kvcache=None, need_sort=False)
        if page == 1:
            allocator = TokenToKVPoolAllocator(tokens, **named)
        else:
            allocator = PagedTokenToKVPoolAllocator(tokens, page_size=page, **named)
            allocator.use_triton_kernels = False
        rows = ReqToTokenPool(
            size=config["max_running_requests"], max_context_len=tokens + page, device="cpu", enable_memory_saver=False
        )
        self.tree_cache = RadixCache(
            CacheInitParams(disable=config["disable_radix_cache"], req_to_token_pool=rows,
                            token_to_kv_pool_allocator=allocator, page_size=page)
        )
        self.token_to_kv_pool_allocator, self.req_to_token_pool = allocator, rows

    def settings(self, config):
        self.page_size = config["page_size"]
        self.schedule_policy = config["schedule_policy"]
        self.chunked_prefill_size = config["chunked_prefill_size"]
        self.max_prefill_tokens = config["max_prefill_tokens"]
        self.max_running_requests = config["max_running_requests"]
        self.is_mixed_chunk = config["enable_mixed_chunk"] and config["chunked_prefill_size"] is not None
        self.enable_overlap = config["overlap"]
        self.enable_skip_finishing_decode = config["overlap"]
        self.result_queue = deque()

    def absences(self):
        """What a plain text server on one device does not have or has switched off."""
        for name in (
            "_pending_chunked_abort_req dllm_config chunked_req min_free_slots_delayer dynamic_chunk_sizer lora_drainer"
            " hisparse_coordinator decode_offload_manager truncation_align_size"
        ).split():
            setattr(self, name, None)
        for name in (
            "enable_hierarchical_cache enable_unified_cache_external_linker enable_lmcache enable_hisparse enable_lora"
            " require_mlp_sync is_hybrid_swa enable_hicache_storage enable_priority_scheduling enable_unified_memory"
            " schedule_low_priority_values_first abort_on_priority_when_disabled enable_metrics"
        ).split():
            setattr(self, name, False)
        self.prefill_decode_interval = self._prefill_decode_interval_remaining = 0
        self.priority_scheduling_preemption_threshold = 0
        self.processed_tokens_counter = self.forward_ct = 0
        self.disaggregation_mode = DisaggregationMode.NULL
        self.spec_algorithm = SpeculativeAlgorithm.NONE
        self.dp_attn_adapter = self.ngram_embedding_manager = Same()
        self.grammar_manager = SimpleNamespace(has_waiting_grammars=lambda: False)
        self.beam_coordinator = MagicMock()
        self.beam_coordinator.pending_member_rows = lambda batch: 0
        self.beam_coordinator.commit_decode = lambda batch: set()
        self.metrics_reporter = MagicMock(enable_metrics=False)
        self.metrics_reporter.num_generated_tokens = self.metrics_reporter.forward_ct_decode = 0
        self.load_inquirer = SimpleNamespace(_get_num_pending_tokens=lambda chunk_deduct=0: 0)
        self.tp_worker = SimpleNamespace(
            model_runner=SimpleNamespace(attn_backend=object(), prefill_aware_swa=False, device="cpu")
        )
        self.model_config = SimpleNamespace(vocab_size=1 << 40, is_encoder_decoder=False, num_key_value_heads=1,
                                            self_opened_think_start_ids=None, think_end_ids=None, think_end_id=None)
        self.device = "cpu"
        self.scheduler_stage_metrics = None
        self.waiting_queue = []
        self.running_batch = ScheduleBatch(reqs=[], batch_is_full=False)
        self.last_batch = None

    def processor(self):
        """The engine's own result processor, over this scheduler's pools."""
        return results.SchedulerBatchResultProcessor(
            is_generation=True, disaggregation_mode=self.disaggregation_mode, enable_overlap=self.enable_overlap,
            enable_overlap_mlx=False, model_config=self.model_config, tree_cache=self.tree_cache,
            token_to_kv_pool_allocator=self.token_to_kv_pool_allocator, req_to_token_pool=self.req_to_token_pool,
            hisparse_coordinator=None, decode_offload_manager=None, metrics_collector=None,
            metrics_reporter=self.metrics_reporter, draft_worker=None, model_worker=SimpleNamespace(),
            logprob_result_processor=MagicMock(), output_streamer=MagicMock(), beam_coordinator=self.beam_coordinator,
            abort_request=MagicMock(),
        )

    def _add_request_to_queue(self, req, is_retracted=False):
        if is_retracted:
            self.retracted.append(req.rid)
        super()._add_request_to_queue(req, is_retracted)

    def _abort_on_queued_limit(self, req):
        return False

    def _prefetch_kvcache(self, req):
        pass

    def send_abort_output(self, *args):
        raise Stuck("the engine aborts a request: out of memory with one request left")


class Drive:
    """One workload on one scheduler."""

    def __init__(self, config, requests):
        self.config, self.requests = config, requests
        self.shell = Shell(config)
        self.live, self.started, self.sampled = {}, set(), 0

    def arrive(self, r):
        sampling = SamplingParams(max_new_tokens=r["max_tokens"], temperature=0.0, ignore_eos=self.config["ignore_eos"])
        sampling.normalize(None)
        tokens = array("q", [s * SEGMENT + i for s, n in r["prompt"] for i in range(n)])
        room = self.shell.token_to_kv_pool_allocator.max_new_tokens_for_memory(
            len(tokens), r["max_tokens"], token_capacity=self.config["num_tokens"], sliding_window_size=None, chunk_size=None
        )
        if room < r["max_tokens"]:
            raise Stuck(f"{r['id']} asks for more than an empty pool holds; the engine would shorten it to {room}")
        req = Req(r["id"], "", tokens, sampling)
        req.tokenizer = None
        self.live[r["id"]] = req
        self.shell._add_request_to_queue(req)

    def result(self, batch):
        """What the model gives: one fresh token for each row."""
        tokens = [SAMPLED + self.sampled + i for i in range(len(batch.reqs))]
        self.sampled += len(tokens)
        self.shell.processed_tokens_counter += batch.extend_num_tokens if batch.forward_mode.is_extend() else 0
        return GenerationBatchResult(next_token_ids=torch.tensor(tokens, dtype=torch.int64))

    def settle(self, batch, result):
        """The engine's handling of a batch's result."""
        with torch.inference_mode():
            if batch.forward_mode.is_decode():
                self.shell.batch_result_processor.process_batch_result_decode(batch, result)
            else:
                self.shell.batch_result_processor.process_batch_result_prefill(batch, result)

    def form(self):
        """The engine forms the next batch; returns it with who was new and who came back."""
        shell = self.shell
        shell.retracted = []
        waiting = {q.rid for q in shell.waiting_queue}
        plan = shell.get_next_batch_to_run(running_batch=shell.running_batch, last_batch=shell.last_batch)
        shell.running_batch = plan.running_batch
        batch, scheduled, new, back = plan.batch_to_run, [], [], []
        if batch is not None:
            extend = batch.forward_mode.is_extend()
            lengths = batch.extend_lens if extend else [1] * len(batch.reqs)
            scheduled = [[q.rid, n] for q, n in zip(batch.reqs, lengths)]
            for q, prefix in zip(batch.reqs, batch.prefix_lens if extend else []):
                if q.rid in waiting:
                    (back if q.rid in self.started else new).append([q.rid, prefix])
                    self.started.add(q.rid)
        return batch, scheduled, new, back

    def step(self, number):
        shell = self.shell
        batch, scheduled, new, back = self.form()
        if self.config["overlap"]:
            together = shell.is_disable_overlap_for_batch(batch, last_batch=shell.last_batch)
            if together:
                self.settle(*shell.result_queue.popleft())
            if batch is not None:
                shell.result_queue.append((batch.copy(), self.result(batch)))
            if shell.last_batch is not None:
                if not together:
                    self.settle(*shell.result_queue.popleft())
            elif batch is None and not self.live:
                shell.new_token_ratio_tracker.reset()
        elif batch is not None:
            self.settle(batch, self.result(batch))
        elif not self.live:
            shell.new_token_ratio_tracker.reset()
        shell.last_batch = batch
        finished = sorted(i for i, q in self.live.items() if q.finished())
        for i in finished:
            del self.live[i]
        kind = "idle"
        if batch is not None:
            kind = "decode" if batch.forward_mode.is_decode() else ("mixed" if batch.decoding_reqs else "prefill")
        return {
            "step": number, "kind": kind, "scheduled": scheduled, "new": new, "resumed": back,
            "retracted": list(shell.retracted), "finished": finished,
            "available": shell.token_to_kv_pool_allocator.available_size(),
            "evictable": shell.tree_cache.evictable_size(), "waiting": len(shell.waiting_queue),
            "running": len(self.live) - len(shell.waiting_queue),
            "new_token_ratio": shell.new_token_ratio_tracker.current,
        }

    def run(self):
        steps, at, number, still = [], 0, 0, 0
        try:
            while at < len(self.requests) or self.live or self.shell.last_batch is not None:
                while at < len(self.requests) and self.requests[at]["arrival_step"] <= number:
                    self.arrive(self.requests[at])
                    at += 1
                busy = bool(self.live) or self.shell.last_batch is not None
                step = self.step(number)
                if busy:
                    steps.append(step)
                still = still + 1 if busy and step["kind"] == "idle" else 0
                if still > 50 or len(steps) > STEP_LIMIT:
                    raise Stuck(f"no progress at step {number}, {len(self.live)} requests unfinished")
                number += 1
        finally:
            self.shell.published.restore()
        return steps


def check(paths):
    bad = 0
    for path in paths:
        given = json.loads(Path(path).read_text())
        steps = Drive(given["config"], given["requests"]).run()
        same = sum(a == b for a, b in zip(steps, given["steps"]))
        bad += steps != given["steps"]
        print(f"{path}: {same} of {len(given['steps'])} steps equal")
    return 1 if bad else 0


class Prompts:
    """Prompts that share leading segments, page-aligned or not, with turns of conversations."""

    def __init__(self, rng, page, longest):
        self.rng, self.page, self.longest, self.fresh = rng, page, longest, 1000
        self.talks = []
        self.heads = {s: max(1, rng.choice([7, 33, 40, 64, page, 2 * page, 3 * page + 1, 100])) for s in range(1, 5)}

    def own(self, most):
        self.fresh += 1
        return [self.fresh, self.rng.randint(1, max(1, most))]

    def one(self):
        rng, pick = self.rng, self.rng.random()
        if self.talks and pick < 0.35:
            runs = rng.choice(self.talks)
            if rng.random() < 0.8:
                runs.append(self.own(self.longest // 5))
        elif pick < 0.8:
            runs = [[s, self.heads[s]] for s in rng.sample(range(1, 5), rng.randint(1, 2))] + [self.own(self.longest // 2)]
            self.talks.append(runs)
        else:
            runs = [self.own(self.longest)]
        left, out = self.longest, []
        for segment, n in runs:
            n = min(n, left)
            if n > 0:
                out.append([segment, n])
                left -= n
        return out


def config_of(rng, small):
    page = rng.choice([1, 1, 1, 4, 16, 16, 64])
    pages = rng.choice([24, 40, 80, 160] if small else [24, 60, 150, 400, 1000])
    tokens = page * max(pages if page > 1 else pages * 8, 8)
    chunk = rng.choice([None, 16, 64, 128, 256, 512])
    return dict(
        page_size=page,
        num_tokens=tokens,
        max_running_requests=rng.choice([1, 2, 4, 8, 16, 48]),
        chunked_prefill_size=None if chunk is None else max(page, chunk // page * page),
        max_prefill_tokens=rng.choice([64, 200, 512, 4096, 16384]),
        schedule_policy=rng.choice(["lpm", "lpm", "fcfs", "fcfs", "dfs-weight", "lof"]),
        schedule_conservativeness=rng.choice([0.1, 0.3, 0.5, 1.0, 1.0, 1.3]),
        disable_radix_cache=rng.random() < 0.2,
        enable_mixed_chunk=rng.random() < 0.25,
        overlap=rng.random() < 0.4,
        ignore_eos=rng.random() < 0.3,
    )


def pressed(rng, config):
    """The same configuration where the pool is too small for what the low ratio admits."""
    config.update(schedule_conservativeness=rng.choice([0.02, 0.05, 0.1, 0.2]), ignore_eos=False, max_running_requests=32)
    config["num_tokens"] = config["page_size"] * (rng.randint(200, 600) // config["page_size"] + 12)
    return config


def even(rng):
    """A burst of prompts of one length, so that many rows need their next page in the same step."""
    config = pressed(rng, config_of(rng, True))
    page = config["page_size"]
    length, count = rng.randint(1, 3 * page + 9), rng.randint(8, 24)
    most = config["num_tokens"] - -(-length // page) * page - page - 1
    prompts = [[[1000 + i, length]] if rng.random() < 0.7 else [[1, length]] for i in range(count)]
    return config, [
        dict(id=f"r{i:04}", arrival_step=0, prompt=prompt, max_tokens=min(most, rng.randint(40, 110)))
        for i, prompt in enumerate(prompts)
    ]


def workload(rng, small, pressure):
    config = config_of(rng, small)
    if pressure:
        pressed(rng, config)
    room = config["num_tokens"] - 2 * config["page_size"] - 1
    prompts = Prompts(rng, config["page_size"], max(2, min(room * 2 // 3, 150 if small else 800)))
    at, requests = 0, []
    style = rng.choice(["burst", "steady", "slow", "idle"])
    count = rng.randint(8, 16) if small else rng.choice([20, 40, 70])
    for i in range(count):
        gap = {"burst": 0, "steady": rng.choice([0, 0, 1, 2]), "slow": rng.randint(0, 15),
               "idle": rng.randint(60, 200) if rng.random() < 0.12 else rng.randint(0, 3)}[style]
        at += gap if i else 0
        prompt = prompts.one()
        page = config["page_size"]
        most = config["num_tokens"] - -(-sum(n for _, n in prompt) // page) * page - page - 1
        out = rng.choice([1, 2, 8, 20] if small and not pressure else [1, 8, 30, 100, 250])
        requests.append(dict(id=f"r{i:04}", arrival_step=at, prompt=prompt, max_tokens=max(1, min(most, rng.randint(1, out)))))
    return config, requests


def write(path, config, requests, steps):
    named = dict(engine="sglang", engine_version="0.5.23", name=path.stem, config=config, requests=requests, steps=steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(named, separators=(",", ":")))


def generate(out, count, seed, small, pressure, level):
    """Writes `count` workloads the engine can run; tells those that it cannot."""
    made, turn = 0, 0
    while made < count:
        rng = random.Random(f"{seed}-{turn}-{'small' if small else 'any'}")
        turn += 1
        config, requests = even(rng) if level else workload(rng, small, pressure)
        try:
            steps = Drive(config, requests).run()
        except (AssertionError, ValueError, RuntimeError, Stuck) as error:
            print(f"turn {turn}: the engine cannot: {type(error).__name__} {str(error)[:200]} {json.dumps(config)}")
            continue
        if len(steps) > (300 if small else 2000):
            continue
        name = ("small" if small else "more") + ("-pressure" if pressure else "") + ("-even" if level else "")
        kind = f"{config['schedule_policy']}-{config['page_size']}" + ("-overlap" if config["overlap"] else "")
        write(Path(out) / f"{name}-{made:03}-{kind}.json", config, requests, steps)
        made += 1
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check").add_argument("files", nargs="+")
    make = verbs.add_parser("generate")
    make.add_argument("out")
    make.add_argument("--count", type=int, default=40)
    make.add_argument("--seed", default="plimsoll")
    make.add_argument("--small", action="store_true", help="few and short requests")
    make.add_argument("--pressure", action="store_true", help="pools too small for what is admitted")
    make.add_argument("--even", action="store_true", help="bursts of prompts of one length in a small pool")
    told = parser.parse_args()
    if told.verb == "check":
        return check(told.files)
    return generate(told.out, told.count, told.seed, told.small, told.pressure, told.even)


if __name__ == "__main__":
    sys.exit(main())
