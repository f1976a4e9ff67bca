"""Fresh processes that know only HF_ENDPOINT: Xet uploads, push_to_hub, from_pretrained, load_dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_HUB = Path(__file__).resolve().parents[4] / "shared" / "data" / "hub"

XET_UPLOAD = """
import os, pathlib, random, sys
from huggingface_hub import HfApi, constants
from huggingface_hub.utils._runtime import is_xet_available
assert is_xet_available() and not constants.HF_HUB_DISABLE_XET
folder = pathlib.Path(os.environ["HF_HOME"]) / "work"; folder.mkdir(parents=True)
api, rng = HfApi(), random.Random(1)
weights = rng.randbytes(11_000_000)
(folder / "w.bin").write_bytes(weights)
api.create_repo("slipway/big")
api.upload_file(repo_id="slipway/big", path_or_fileobj=folder / "w.bin", path_in_repo="w.bin")
# A second version shares most of its chunks with the first; a third file compresses well.
(folder / "w.bin").write_bytes(weights[:5_000_000] + b"changed" + weights[5_000_000:])
(folder / "zeros.bin").write_bytes(bytes(12_000_000))
api.upload_folder(repo_id="slipway/big", folder_path=folder)
copy = pathlib.Path(api.snapshot_download("slipway/big"))
for name in ("w.bin", "zeros.bin"):
    assert (copy / name).read_bytes() == (folder / name).read_bytes()
first = api.list_repo_commits("slipway/big")[1].commit_id
assert pathlib.Path(api.hf_hub_download("slipway/big", "w.bin", revision=first)).read_bytes() == weights
print([item.path for item in api.list_repo_tree("slipway/big") if getattr(item, "lfs", None)])
"""

PRETRAINED = """
import warnings, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
words = Tokenizer(models.WordLevel({"<unk>": 0, "ship": 1, "sails": 2}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
config = LlamaConfig(vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config).eval()
model.push_to_hub("slipway/tiny", private=True)
tokenizer.push_to_hub("slipway/tiny")
again = AutoModelForCausalLM.from_pretrained("slipway/tiny").eval()
ids = AutoTokenizer.from_pretrained("slipway/tiny")("ship sails", return_tensors="pt").input_ids
with torch.no_grad():
    assert torch.equal(model(ids).logits, again(ids).logits)
from huggingface_hub import model_info
info = model_info("slipway/tiny")
print(ids.tolist(), info.safetensors.total == sum(p.numel() for p in model.parameters()), info.pipeline_tag)
"""

DATASETS = """
from datasets import load_dataset
for name in (
    ("truthfulqa/truthful_qa", "multiple_choice"),
    ("Anthropic/hh-rlhf", "harmless"),
    ("allenai/real-toxicity-prompts",),
    ("google/IFEval",),
    ("jannalu/crows_pairs_multilingual", "english"),
    ("openai/gsm8k", "main"),
):
    data = load_dataset(*name)
    print(name[0], sum(len(split) for split in data.values()))
"""

PUSH_DATASET = """
from datasets import Dataset, load_dataset
Dataset.from_dict({"prompt": ["a", "b"], "label": [0, 1]}).push_to_hub("slipway/votes", private=True)
print(load_dataset("slipway/votes")["train"].to_list())
"""

FILE_SYSTEM = """
from huggingface_hub import HfFileSystem, create_repo
create_repo("slipway/files")
fs, content = HfFileSystem(), bytes(range(256)) * 1000
with fs.open("slipway/files/a/w.bin", "wb") as file:
    file.write(content)
with fs.open("slipway/files/a/w.bin", "rb", block_size=4096) as file:
    file.seek(200_000)
    middle = file.read(10)
assert (middle, fs.cat_file("slipway/files/a/w.bin", start=5, end=9)) == (content[200_000:200_010], content[5:9])
fs.cp_file("slipway/files/a/w.bin", "slipway/files/b.bin")
fs.mv("slipway/files/b.bin", "slipway/files/c.bin")
with fs.open("slipway/files/t.txt", "w") as file:
    file.write("text")
fs.rm("slipway/files/t.txt")
found = fs.ls("slipway/files", detail=False, refresh=True), fs.glob("slipway/files/**/*.bin"), fs.exists("slipway/files/t.txt")
print([path.removeprefix("slipway/files/") for path in [*found[0], *found[1]]], found[2])
"""

METRIC = """
import evaluate
from huggingface_hub import HfApi
script = b'''
import datasets
import evaluate

class Hits(evaluate.Metric):
    def _info(self):
        kinds = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="hits", citation="", inputs_description="", features=kinds)

    def _compute(self, predictions, references):
        return {"hits": sum(one == other for one, other in zip(predictions, references))}
'''
HfApi().create_repo("slipway/hits", repo_type="space", space_sdk="gradio")
HfApi().upload_file(path_or_fileobj=script, path_in_repo="hits.py", repo_id="slipway/hits", repo_type="space")
print(evaluate.load("slipway/hits").compute(predictions=[1, 2, 3], references=[1, 0, 3]))
"""

COMMANDS = """
import os, subprocess, sys
from pathlib import Path
def hf(*words):
    return subprocess.run([Path(sys.executable).parent / "hf", *words], capture_output=True, text=True, check=True).stdout
folder = Path(os.environ["HF_HOME"]) / "work"
(folder / "up").mkdir(parents=True)
(folder / "up" / "w.bin").write_bytes(bytes(100_000))
print("slipway" in hf("auth", "whoami"))
hf("repos", "create", "slipway/typed", "--private")
hf("upload", "slipway/typed", str(folder / "up"), ".")
hf("download", "slipway/typed", "--local-dir", str(folder / "down"))
hf("download", "slipway/typed", "w.bin")
print((folder / "down" / "w.bin").read_bytes() == (folder / "up" / "w.bin").read_bytes())
print("slipway/typed" in hf("cache", "ls"), "match" in hf("cache", "verify", "slipway/typed"))
"""


def test_a_stock_client_uploads_over_xet_and_gets_the_same_bytes_back(hub, token, run_stock_client):
    assert run_stock_client(XET_UPLOAD, token).strip() == "['w.bin', 'zeros.bin']"
    kept = [file for file in (hub.store.root / "xet").rglob("*") if file.is_file() and file.suffix != ".json"]
    assert sum(file.stat().st_size for file in kept) < 1_000_000, "chunks are not kept beside the files made of them"
    large = {
        entry.sha256 for entry in hub.store.find("model", "slipway/big").resolve("main").tree.values() if entry.lfs
    }
    assert all(hub.store.holds("slipway", sha256) for sha256 in large)


def test_transformers_pushes_a_model_and_loads_it_again(token, run_stock_client):
    assert run_stock_client(PRETRAINED, token).strip().splitlines()[-1] == "[[1, 2]] True text-generation"


def test_the_hub_is_a_file_system_that_reads_ranges_and_writes(token, run_stock_client):
    said = run_stock_client(FILE_SYSTEM, token).strip().splitlines()[-1]
    assert said == "['.gitattributes', 'a', 'c.bin', 'a/w.bin', 'c.bin'] False"


def test_evaluate_loads_the_script_of_a_space(token, run_stock_client):
    assert run_stock_client(METRIC, token).strip().splitlines()[-1] == "{'hits': 2}"


def test_the_hf_command_creates_uploads_downloads_and_verifies(token, run_stock_client):
    assert run_stock_client(COMMANDS, token).split() == ["True"] * 4


def test_datasets_pushes_a_data_set_and_loads_it_again(token, run_stock_client):
    rows = run_stock_client(PUSH_DATASET, token).strip().splitlines()[-1]
    assert rows == "[{'prompt': 'a', 'label': 0}, {'prompt': 'b', 'label': 1}]"


@pytest.mark.skipif(not SHARED_HUB.is_dir(), reason="the mirror of official data sets (../shared/data/hub) is not here")
def test_official_data_sets_load_under_their_own_names(hub, run_stock_client):
    hub.store.import_folder(SHARED_HUB)
    counts = dict(line.rsplit(" ", 1) for line in run_stock_client(DATASETS).strip().splitlines())
    assert counts["truthfulqa/truthful_qa"] == "817"
    assert counts["jannalu/crows_pairs_multilingual"] == "1508"
    assert all(int(count) > 0 for count in counts.values())
    assert len(counts) == 6
