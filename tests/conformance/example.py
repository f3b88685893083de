"""A whole backend in sixty lines. It drives a program that speaks OpenAI's API: here, the engine's own server."""

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec

from advisor.errors import RuntimeFailed
from advisor.machine import Availability
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Stats, Watch


class Example(Backend):
    name = "example"

    def detect(self) -> Availability:
        if find_spec("llama_cpp") is None:  # looked for, not imported: this is asked often
            return Availability(name=self.name, available=False, why_not="llama-cpp-python is not installed")
        return Availability(name=self.name, available=True, drafter=True)

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        argv = [sys.executable, "-m", "backends.native.server", "--target", str(model.target), "--name", model.name]
        argv += ["--context", str(model.context_tokens), "--host", options.host, "--port", str(options.port)]
        if model.drafter:
            argv += ["--drafter", str(model.drafter), "--draft-tokens", str(model.draft_tokens)]
        argv += [*options.extra, *(["--threads", str(options.threads)] if options.threads else [])]
        return LaunchPlan(backend=self.name, model=model, options=options, argv=tuple(argv), command=shlex.join(argv))

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        process = subprocess.Popen(plan.argv, stdout=subprocess.PIPE, start_new_session=True)
        said = json.loads(process.stdout.readline() or "{}") if process.stdout else {}
        if "ready" not in said:  # it has ended, and most often says why
            raise RuntimeFailed(said.get("error", {}).get("message", "the server died"))
        url, name = f"http://{plan.options.host}:{said['ready']['port']}/v1", plan.model.name
        drafts = plan.model.drafter is not None
        return Endpoint(base_url=url, model=name, backend=self.name, pid=process.pid, name=name, drafter=drafts)

    def stats(self, endpoint: Endpoint) -> Stats:
        import httpx  # what takes long to import is imported where it is used

        try:
            page = httpx.get(endpoint.base_url.removesuffix("/v1") + "/metrics", trust_env=False).text
        except httpx.HTTPError:
            raise self.cause(endpoint) from None
        predicted, drafted, accepted = (
            int(re.findall(rf"^advisor_{what}_tokens_total (\d+)", page, re.MULTILINE)[0])
            for what in ("predicted", "drafted", "accepted")
        )
        return Stats(predicted_tokens=predicted, drafted=drafted, accepted=accepted, drafter_active=drafted > 0)

    def stop(self, endpoint: Endpoint) -> None:
        import psutil

        if endpoint.pid and psutil.pid_exists(endpoint.pid):
            process = psutil.Process(endpoint.pid)
            process.kill()
            process.wait()
