"""Which runtime a Space gets: by what was published and measured, and by what fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evals.scorecard import Scorecard
from release import space_flavour
from release.exports.parity import Loss
from release.exports.record import EXPORT, RECEIPT, ExportedFile, ExportReceipt, ExportRecord
from release.records import ReleasePlan
from release.space_flavour import ANSWERS_AT_ONCE, CONTEXT_TOKENS, Asked, choose_flavour
from release.space_memory import HARDWARE, KEPT_FREE, PROGRAM, memory_needed
from training.checkpoint import Checkpoint
from training.errors import UsageError

CHAT = Path(__file__).resolve().parents[2] / "spaces" / "chat"
LLAMA_8B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
}


def publish_gguf(run: Path, sizes: dict[str, int], endpoint: str) -> None:
    """The records of an export with files of these sizes; the files themselves are on the Hub."""
    loss = Loss(prompts=1, positions=1, kl_mean=1e-5, kl_max=1e-4, greedy_agreement=1, same_tokens=1, same_texts=1)
    files = [
        ExportedFile(path=f"{name}.gguf", size=size, sha256="0" * 64, precision=name, tensors={}, loss=loss)
        for name, size in sizes.items()
    ]
    record = ExportRecord(
        name="name",
        checkpoint_digest=Checkpoint.open(run / "checkpoint").digest,
        base_model="org/name",
        base_revision=None,
        license=None,
        reference="",
        prompts_digest="",
        files=files,
        packages={},
        created="",
    )
    record.write(run / "gguf" / EXPORT)
    receipt = ExportReceipt(
        endpoint=endpoint,
        repo_id="org/name-GGUF",
        commit="1" * 40,
        export_digest=record.content_digest(),
        files=[],
        created="",
    )
    receipt.write(run / "gguf" / RECEIPT)


@pytest.fixture(autouse=True)
def endpoint(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    return "http://hub.example"


def test_cpu_is_llama_cpp_on_the_largest_published_gguf_that_fits(run: Path, endpoint: str) -> None:
    publish_gguf(run, {"Q8_0": 8_000_000_000, "F16": 16_000_000_000, "Q4_0": 4_000_000_000}, endpoint)
    flavour = choose_flavour("cpu", run, Asked())
    assert (flavour.backend, flavour.precision) == ("llama.cpp", "Q8_0")
    assert flavour.memory is not None
    assert "of 16 GB on cpu-basic" in flavour.memory
    assert choose_flavour("cpu", run, Asked(hardware="cpu-upgrade")).precision == "F16"


def test_cpu_is_transformers_where_no_gguf_of_these_bytes_is_on_this_hub(run: Path) -> None:
    assert choose_flavour("cpu", run, Asked()).backend == "transformers"
    publish_gguf(run, {"F16": 1}, "http://another.example")
    assert choose_flavour("cpu", run, Asked()).backend == "transformers"


def test_a_precision_that_is_asked_for_is_one_that_was_measured(run: Path, endpoint: str) -> None:
    with pytest.raises(UsageError, match="no GGUF file in Q8_0 was measured") as refusal:
        choose_flavour("cpu", run, Asked(precision="Q8_0"))
    assert refusal.value.next_step == f"python -m release export --run {run} --gguf Q8_0 --repo ORG/NAME-GGUF"
    publish_gguf(run, {"Q8_0": 8, "F16": 16}, endpoint)
    assert choose_flavour("cpu", run, Asked()).precision == "F16"
    chosen = choose_flavour("cpu", run, Asked(precision="Q8_0"))
    assert (chosen.backend, chosen.precision, chosen.gguf and chosen.gguf.path) == ("llama.cpp", "Q8_0", "Q8_0.gguf")
    assert choose_flavour("cpu", run, Asked(precision="F16")) == choose_flavour("cpu", run, Asked())
    with pytest.raises(UsageError, match="in Q4_0 was measured") as refusal:
        choose_flavour("cpu", run, Asked(precision="Q4_0"))
    assert refusal.value.found == "files that passed their bounds: Q8_0, F16"
    assert str(refusal.value.next_step).endswith("--gguf Q4_0 --repo org/name-GGUF")
    plain = choose_flavour("cpu", run, Asked(precision="float32"))
    assert (plain.backend, plain.precision, plain.gguf) == ("transformers", "float32", None)
    with pytest.raises(UsageError, match="what bfloat16 loses was not measured"):
        choose_flavour("cpu", run, Asked(precision="bfloat16"))
    scored = Scorecard.read(run / "scorecard.json")
    settings = scored.settings.model_copy(update={"dtype": "bfloat16"})
    scored.model_copy(update={"settings": settings}).write(run / "scorecard.json")
    assert choose_flavour("cpu", run, Asked(precision="bfloat16")).precision == "bfloat16"
    assert choose_flavour("zerogpu", run, Asked(precision="float32")).precision == "float32"


@pytest.mark.parametrize(("name", "precision"), [("zerogpu", "Q8_0"), ("cpu", "q8"), ("endpoint", "F16")])
def test_a_precision_that_a_flavour_does_not_have_is_refused(run: Path, name: str, precision: str) -> None:
    with pytest.raises(UsageError, match=r"runs in no such precision|is its server's"):
        choose_flavour(
            name, run, Asked(url="https://host.example" if name == "endpoint" else None, precision=precision)
        )


def test_bfloat16_is_let_in_only_where_the_scores_were_measured_in_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = Scorecard.read(run / "scorecard.json")
    checkpoint = Checkpoint.open(run / "checkpoint")
    assert choose_flavour("zerogpu", run, Asked()).precision == "float32"
    settings = scored.settings.model_copy(update={"dtype": "bfloat16"})
    scored.model_copy(update={"settings": settings}).write(run / "scorecard.json")
    assert choose_flavour("zerogpu", run, Asked()).precision == "auto"
    other = scored.model.model_copy(update={"digest": "sha256:" + "0" * 64})  # the scores of other bytes say nothing
    scored.model_copy(update={"settings": settings, "model": other}).write(run / "scorecard.json")
    assert choose_flavour("zerogpu", run, Asked()).precision == "float32"
    # A machine that holds the model in bfloat16 and not in float32.
    room = space_flavour._memory(checkpoint, "zerogpu", 2 * space_flavour._parameters(checkpoint)).total
    monkeypatch.setitem(HARDWARE, "zero-a10g", int(room / (1 - KEPT_FREE)) + 10)
    with pytest.raises(UsageError, match="what that loses was not measured"):
        choose_flavour("zerogpu", run, Asked())
    scored.model_copy(update={"settings": settings}).write(run / "scorecard.json")
    assert choose_flavour("zerogpu", run, Asked()).precision == "bfloat16"


def test_an_export_that_changed_since_it_was_published_is_refused(run: Path, endpoint: str) -> None:
    publish_gguf(run, {"F16": 1}, endpoint)
    record = ExportRecord.read(run / "gguf" / EXPORT)
    record.model_copy(update={"name": "other"}).write(run / "gguf" / EXPORT)
    with pytest.raises(UsageError, match="changed after it was published"):
        choose_flavour("cpu", run, Asked())


def test_a_model_that_does_not_fit_is_refused_with_the_numbers(run: Path, endpoint: str) -> None:
    publish_gguf(run, {"Q4_0": 40_000_000_000}, endpoint)
    with pytest.raises(UsageError, match="40 GB of weights") as refusal:
        choose_flavour("cpu", run, Asked(hardware="cpu-upgrade"))
    assert refusal.value.next_step == "use --space endpoint with a server that holds the model"
    publish_gguf(run, {"Q4_0": 20_000_000_000}, endpoint)
    with pytest.raises(UsageError, match="20 GB of weights") as refusal:
        choose_flavour("cpu", run, Asked())
    assert "give --space-hardware cpu-upgrade" in str(refusal.value.next_step)


@pytest.mark.parametrize(
    ("name", "hardware", "expected"),
    [("cpu", "a10g-small", "cpu-basic or cpu-upgrade"), ("zerogpu", "cpu-basic", "zero-a10g")],
)
def test_hardware_on_which_a_flavour_does_not_run_is_refused(
    run: Path, name: str, hardware: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=f"the flavour {name} does not run on this hardware") as refusal:
        choose_flavour(name, run, Asked(hardware=hardware))
    assert (refusal.value.expected, refusal.value.found) == (expected, hardware)


def test_memory_is_weights_and_a_key_and_a_value_of_every_layer_and_token() -> None:
    need = memory_needed(weights=16_000_000_000, config=LLAMA_8B, context=4096, answers_at_once=1, runtime="zerogpu")
    assert (
        need.cache == 2 * 32 * 8 * 128 * 4096 * 2
    )  # 537 MB, as Llama 3 8B is known to take for 4,096 tokens in half precision
    assert need.fits("zero-a10g")
    assert not need.fits("cpu-basic")
    assert HARDWARE["cpu-basic"] == 16_000_000_000


def test_memory_is_computed_for_families_that_name_their_numbers_otherwise_and_refused_in_words_for_others() -> None:
    def cache(config: dict[str, object]) -> int:
        return memory_needed(weights=1, config=config, context=4096, answers_at_once=1, runtime="transformers").cache

    gpt2 = {"n_head": 12, "n_embd": 768, "n_layer": 12, "n_positions": 1024}
    assert cache(gpt2) == cache(gpt2 | {"n_positions": 4096}) // 4
    assert cache({"text_config": LLAMA_8B, "vision_config": {}}) == cache(LLAMA_8B)
    with pytest.raises(UsageError, match="cannot be computed") as refusal:
        cache({"n_layer": 12})
    assert "num_attention_heads" in str(refusal.value.expected)


def test_what_is_computed_with_is_what_the_page_does() -> None:
    def constant(file: str, name: str) -> int:
        found = re.search(rf"^{name} = ([\d_]+)", (CHAT / file).read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    assert constant("limits.py", "CONTEXT_TOKENS") == CONTEXT_TOKENS
    assert constant("llama_model.py", "ANSWERS_AT_ONCE") == ANSWERS_AT_ONCE["llama.cpp"]
    assert PROGRAM["llama.cpp"] > constant("llama_model.py", "CONVERSATIONS_KEPT_MIB") * 2**20 + 400_000_000
    assert constant("visitors.py", "ANSWERS_AT_ONCE") == ANSWERS_AT_ONCE["transformers"]


@pytest.mark.parametrize("name", ["endpoint", "tgi"])
def test_a_flavour_with_a_server_needs_its_address(run: Path, name: str) -> None:
    with pytest.raises(UsageError, match="needs the address"):
        choose_flavour(name, run, Asked())
    assert choose_flavour(name, run, Asked(url="https://host.example/")).url == "https://host.example"


def test_an_unknown_flavour_or_hardware_is_named(run: Path) -> None:
    with pytest.raises(UsageError, match="no such flavour"):
        choose_flavour("gpu", run, Asked())
    with pytest.raises(UsageError, match="not known"):
        choose_flavour("cpu", run, Asked(hardware="cray-1"))


def test_plans_without_a_flavour_keep_the_bytes_that_they_had_before_there_were_any(run: Path) -> None:
    plan = ReleasePlan(
        endpoint="http://hub.example",
        repo_id="org/name",
        tag="v1",
        private=False,
        checkpoint_digest="sha256:0",
        parent_digest=None,
        scorecard_digest=None,
        run_record_digest=None,
        policy="default",
        policy_digest="sha256:0",
        files=[],
        verdicts=[],
        probe=None,
        created="",
    )
    assert b"space_flavour" not in plan.to_json()
    flavour = choose_flavour("tgi", run, Asked(url="https://host.example"))
    changed = plan.model_copy(update={"space_flavour": flavour})
    changed.write(run / "plan.json")
    assert ReleasePlan.read(run / "plan.json") == changed


@pytest.mark.parametrize(
    ("url", "found", "secret"),
    [
        ("https://user:s3cretpw@example.org/v1", "a user or password", "s3cretpw"),
        ("https://example.org/v1?api_key=KEY123", "a query", "KEY123"),
        ("https://example.org/v1#KEY123", "a fragment", "KEY123"),
        ("http://", "without a usable host", "nothing to hide"),
        ("https://:80/v1", "without a usable host", "nothing to hide"),
        ("https://example.org:port/v1", "without a usable host", "nothing to hide"),
        ("https://exa mple.org/v1", "without a usable host", "nothing to hide"),
    ],
)
def test_an_address_with_a_secret_or_without_a_host_is_refused_and_not_repeated(
    run: Path, url: str, found: str, secret: str
) -> None:
    with pytest.raises(UsageError) as refused:
        choose_flavour("endpoint", run, Asked(url=url))
    assert found in str(refused.value)
    assert secret not in str(refused.value)
    if "secret" in str(refused.value):
        assert "ENDPOINT_TOKEN" in str(refused.value)
