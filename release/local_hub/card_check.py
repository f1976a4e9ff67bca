"""Check a README's metadata as the Hub does, with its messages: an error refuses the commit, a warning does not.

errors, warnings = check_card("---\\nlicense: apache2\\n---\\n", "model")
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from model_cards.hub_vocabulary import COLOURS, LANGUAGES, LICENSES, SDKS, SPECIAL_LANGUAGES, TASKS
from release.local_hub.front_matter import parse_front_matter, split_card
from release.local_hub.web import Call, json_route

_REPO_ID = re.compile(r"(?:[A-Za-z0-9_][\w.-]{0,95}/)?[A-Za-z0-9_][\w.-]{0,95}")
_SDK_VERSION = re.compile(r"\d+\.\d+(\.\d+)?((a|b|rc|\.dev|\.post)\d+)?")
_PYTHON_VERSION = re.compile(r"3(\.\d+){0,2}")
_DURATION = re.compile(r"\d+ ?(s|m|h|min|hours?|minutes?|seconds?)?")
CHECK_LIMIT = 8 << 20  # bytes

Problems = tuple[list[str], list[str]]


def check_card(text: str, kind: str) -> Problems:
    """Errors and warnings for a README of a repository of this kind (model, dataset, space)."""
    front, _ = split_card(text)
    if front is None or not front.strip():
        if kind == "space":
            return ["Missing configuration in README: a Space needs at least an sdk"], []
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = parse_front_matter(front)
    except ValueError as error:
        return [f"Invalid YAML: {error}"], []
    if not isinstance(data, dict):
        return ["the metadata must be an object of keys and values"], []
    errors, warnings = _common(data)
    more, milder = {"model": _model, "dataset": _dataset, "space": _space}[kind](data)
    return errors + more, warnings + milder


def _common(data: dict[str, Any]) -> Problems:
    errors = [
        f'"{where}" must be one of [{", ".join(LICENSES)}, array]'
        for where, value in _each(data, "license")
        if value not in LICENSES
    ]
    errors += _list_of_texts(data, "tags")
    for where, value in _each(data, "language"):
        errors += _language(where, value)
    for key, what in (("base_model", "model"), ("datasets", "dataset"), ("models", "model")):
        errors += [
            f'"{where}" with value "{value}" is not valid. Use a {what} id from https://hf.co/{what}s.'
            for where, value in _each(data, key)
            if not is_repo_id(value)
        ]
    for key in ("title", "pretty_name", "library_name", "license_name", "license_link", "thumbnail"):
        if key in data and not isinstance(data[key], str | None):
            errors.append(f'"{key}" must be a string')
    return errors, []


def is_repo_id(value: Any) -> bool:
    """`name` or `namespace/name`; a local path is not one."""
    return isinstance(value, str) and bool(_REPO_ID.fullmatch(value)) and ".." not in value and "--" not in value


def _each(data: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    """A field that may be one value or a list, with the name of each value as the Hub writes it."""
    value = data.get(key)
    if value is None:
        return []
    return (
        [(f"{key}[{index}]", item) for index, item in enumerate(value)] if isinstance(value, list) else [(key, value)]
    )


def _list_of_texts(data: dict[str, Any], key: str) -> list[str]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        return [f'"{key}" must be an array']
    return [f'"{key}[{index}]" must be a string' for index, item in enumerate(value) if not isinstance(item, str)]


def _language(where: str, value: Any) -> list[str]:
    if not isinstance(value, str):
        return [f'"{where}" must be a string']  # YAML 1.1 reads `no` as false
    if value != value.lower():
        return [f'"{where}" must only contain lowercase characters']
    if value in LANGUAGES or value in SPECIAL_LANGUAGES or re.fullmatch("[a-z]{3}", value):
        return []
    explanation = "It must be an ISO 639-1, 639-2 or 639-3 code (two/three letters), or a special value like"
    return [f'"{where}" with value "{value}" is not valid. {explanation} "code", "multilingual".']


def _model(data: dict[str, Any]) -> Problems:
    errors, warnings = _model_index(data.get("model-index")), []
    task = data.get("pipeline_tag")
    if task is not None and not isinstance(task, str):
        errors.append('"pipeline_tag" must be a string')
    elif task is not None and task not in TASKS:
        warnings.append(f'The pipeline tag "{task}" is not in the official list: {", ".join(sorted(TASKS))}')
    return errors, warnings


def _model_index(index: Any) -> list[str]:
    """The evaluation results: the Hub wants their full structure or none."""
    if index is None:
        return []
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    errors = []
    for number, model in enumerate(index):
        where = f"model-index[{number}]"
        results = _field(model, "results")
        if not isinstance(_field(model, "name"), str):
            errors.append(f'"{where}.name" is required')
        if not isinstance(results, list):
            errors.append(f'"{where}.results" must be an array')
            continue
        for place, result in enumerate(results):
            errors += _result(f"{where}.results[{place}]", result)
    return errors


def _result(where: str, result: Any) -> list[str]:
    errors = []
    for group, key in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
        if not isinstance(_field(_field(result, group), key), str):
            errors.append(f'"{where}.{group}.{key}" is required')
    metrics = _field(result, "metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*errors, f'"{where}.metrics" is required']
    for number, metric in enumerate(metrics):
        if not isinstance(_field(metric, "type"), str):
            errors.append(f'"{where}.metrics[{number}].type" is required')
        if _field(metric, "value") is None:
            errors.append(f'"{where}.metrics[{number}].value" is required')
    return errors


def _field(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _dataset(data: dict[str, Any]) -> Problems:
    errors = _list_of_texts(data, "task_categories") + _list_of_texts(data, "size_categories")
    unknown = [task for task in data.get("task_categories") or [] if isinstance(task, str) and task not in TASKS]
    warnings = [f'The task_categories "{task}" is not in the official list' for task in unknown]
    configs = data.get("configs")
    if configs is not None and not isinstance(configs, list):
        errors.append('"configs" must be an array')
    for number, config in enumerate(configs if isinstance(configs, list) else []):
        if not isinstance(_field(config, "config_name"), str):
            errors.append(f'"configs[{number}].config_name" is required')
    return errors, warnings


def _space(data: dict[str, Any]) -> Problems:
    errors = []
    if data.get("sdk") not in SDKS:
        errors.append(f'"sdk" must be one of [{", ".join(SDKS)}]')
    for key in ("colorFrom", "colorTo"):
        if key in data and data[key] not in COLOURS:
            errors.append(f'"{key}" must be one of [{", ".join(COLOURS)}]')
    for key, pattern, example in (
        ("sdk_version", _SDK_VERSION, '"6.31.0", in quotes'),
        ("python_version", _PYTHON_VERSION, '"3.11", in quotes'),
        ("startup_duration_timeout", _DURATION, "1h or 30m"),
    ):
        value = data.get(key)
        if key in data and not (isinstance(value, str) and pattern.fullmatch(value)):
            errors.append(f'"{key}" with value "{value}" is not valid. It must be like {example}.')
    for key in ("pinned", "fullWidth", "hf_oauth", "disable_embedding"):
        if key in data and not isinstance(data[key], bool):
            errors.append(f'"{key}" must be a boolean')
    port = data.get("app_port")
    if "app_port" in data and (not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536):
        errors.append('"app_port" must be a port number')
    if len(str(data.get("short_description") or "")) > 60:
        errors.append('"short_description" length must be less than or equal to 60 characters long')
    emoji = data.get("emoji")
    if emoji is not None and (not isinstance(emoji, str) or len(emoji) > 12 or emoji.isascii()):
        errors.append('"emoji" must be an emoji')
    return errors, []


def validate_yaml(call: Call) -> Response:
    """POST /api/validate-yaml: `content` of a README and `repoType`."""
    asked = call.json()
    kind = str(asked.get("repoType") or "model")
    content = asked.get("content")
    if kind not in {"model", "dataset", "space"} or not isinstance(content, str):
        return JSONResponse({"errors": [{"message": '"content" and "repoType" are required'}], "warnings": []}, 400)
    errors, warnings = check_card(content, kind)
    body = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return JSONResponse(body, 400 if errors else 200)


routes = [json_route("/api/validate-yaml", validate_yaml, ("POST",), limit=CHECK_LIMIT)]
