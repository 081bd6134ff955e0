from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from glmserve.bootstrap.app_settings import api_options, batch_options
from glmserve.bootstrap.build import (
    build_registry,
    load_fitting,
    load_policy,
    sampling_defaults,
)
from glmserve.bootstrap.engine_config import ModelPlan, engine_config, saved_prompts
from glmserve.bootstrap.model_source import ModelSource
from glmserve.bootstrap.plans import AssemblyError
from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.config.loader import load_settings
from glmserve.config.schema import FLAGS, OF_CLUSTER, Settings
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts, RopeFacts
from glmserve.http.request_record import Limits
from glmserve.model_pool.host import LoadPolicy
from glmserve.model_pool.prefixes import PinnedPrompt
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard
from glmserve.models.catalog import CATALOG, EMBEDDED, SamplingDefaults
from tests.unit.cli.samples import SAMPLES

FACTS = ModelFacts(
    path=Path("/models/some.gguf"),
    name="some",
    architecture="chatglm",
    prompt_format="chatglm2",
    context_train=32768,
    vocab_size=64,
    size_bytes=1000,
    layer_bytes=(10, 10),
    other_bytes=10,
    kv_heads=2,
    head_size=4,
    rope=RopeFacts(dimensions=2, base=10000.0, scale=1.0),
    kv_bytes_per_token=4,
)
SOURCE = ModelSource(name="some", gguf=FACTS.path)
ENGINE_FIELDS = {
    "context": "context_length", "parallel": "parallel", "cache_tokens": "cache_cells", "max_waiting": "max_waiting",
    "repack": "repack", "flash_attn": "flash_attn",
    "kv_type": "kv_type", "threads": "threads", "threads_batch": "threads_batch", "batch_size": "batch_size",
    "step_seconds": "step_seconds", "device": "device", "gpu_layers": "gpu_layers", "load_timeout": "load_timeout",
    "step_timeout": "step_timeout", "restart_wait": "restart_wait",
    "max_restarts": "max_restarts", "resume": "resume", "speculation": "speculation",
    "deterministic": "deterministic",
}  # fmt: skip
POLICY_FIELDS = {"load": "on_first_use", "idle_seconds": "idle_seconds", "load_timeout": "load_timeout"}
CARD_FIELDS = {"model_name": "name", "alias": "aliases", "default_max_tokens": "default_max_tokens",
               "max_output_tokens": "max_output_tokens"}  # fmt: skip
API_FIELDS = {
    "cors_origin": "cors_origins",
    "allowed_host": "allowed_hosts",
    "share_prefixes": "share_prefixes",
    "public_metrics": "public_metrics",
    "page": "page",
    "strict_fields": "strict_fields",
    "request_timeout": "request_timeout",
    "access_log": "access_log",
    "legacy_room": "legacy_room",
    "log_prompts": "log_prompts",
    "response_store_max": "max_responses",
}
# Seen where they act: by test_serve (listening, logging), test_sources, and the tests below.
ELSEWHERE = {"model", "host", "port", "log_level", "log_format", "tracing", "quant", "cache_dir", "max_body_mb", "lora",
             "prompt_format", "chat_template", "prefix", "default_model", "pin", "pinned_disk_mb", "hub", "engines",
             "prompt_disk", "prompt_disk_mb", "prompts", "builtin_tasks", "pin_task", "response_store_mb",
             "batch_dir", "batch_store_mb", "batch_file_mb", "batch_file_days",
             "shutdown_seconds", "drain_seconds", "stall_seconds", "max_connections",
             "api_key", "api_key_file", "key_requests", "key_tokens", "key_concurrent"}  # fmt: skip


def settings(**flags: object) -> Settings:
    return load_settings(flags, {})


def sampled() -> Settings:
    # What names further models would have to fit the one there is; a chat template is a prompt format of its own.
    left_out = ("api_key_file", "lora", "prefix", "default_model", "chat_template")
    return settings(**{name: sample.value for name, sample in SAMPLES.items() if name not in left_out})


def plan(of: Settings, source: ModelSource = SOURCE, facts: ModelFacts = FACTS) -> ModelPlan:
    return ModelPlan(of.models[0], source, facts)


def assembled(of: Settings, source: ModelSource = SOURCE, facts: ModelFacts = FACTS) -> ModelRegistry:
    return build_registry(of, [plan(of, source, facts)])


def card(of: Settings, source: ModelSource = SOURCE, facts: ModelFacts = FACTS) -> ModelCard:
    return assembled(of, source, facts).get(None).card


def test_every_setting_has_a_place() -> None:
    assert set(FLAGS) == {*ENGINE_FIELDS, *POLICY_FIELDS, *CARD_FIELDS, *API_FIELDS, *ELSEWHERE, *OF_CLUSTER}


def test_every_figure_of_the_engine_can_be_set() -> None:
    of_pins = {"pinned_cells", "state_dir", "state_bytes", "prompt_dir", "prompt_bytes"}
    of_the_machine = {"compute_mode", "mode_dir", "self_test", "cpus", "gpus"}
    assert set(EngineConfig.__slots__) - {"model_path", "adapters", "end_tokens"} - of_pins - of_the_machine == set(
        ENGINE_FIELDS.values()
    )


@pytest.mark.parametrize("name", ENGINE_FIELDS)
def test_a_setting_reaches_the_engine(name: str) -> None:
    assert getattr(engine_config(plan(sampled())), ENGINE_FIELDS[name]) == SAMPLES[name].value


def test_only_an_engine_with_pinned_prompts_has_room_and_a_folder_for_them() -> None:
    prompts = (PinnedPrompt((Message(Role.USER, "问" * 500),)), PinnedPrompt((), "tuned"))
    config = engine_config(replace(plan(settings()), pinned=prompts), Path("/states"), 1000)
    assert 500 < config.pinned_cells < 600
    assert (config.state_dir, config.state_bytes) == (Path("/states"), 1000)
    without = engine_config(plan(settings()), Path("/states"), 1000)
    assert (without.pinned_cells, without.state_dir) == (0, None)


def test_prompts_are_saved_in_the_cache_folder_unless_that_is_turned_off() -> None:
    where = saved_prompts(settings(cache_dir="/there", prompt_disk_mb=1.5))
    config = engine_config(plan(settings()), prompts=where)
    assert (config.prompt_dir, config.prompt_bytes) == (Path("/there/prompts"), 1_500_000)
    off = engine_config(plan(settings()), prompts=saved_prompts(settings(prompt_disk=False)))
    assert off.prompt_dir is None


def test_when_a_model_is_loaded_and_unloaded_can_be_set() -> None:
    assert load_policy(sampled().models[0]) == LoadPolicy(on_first_use=True, idle_seconds=90.5, load_timeout=30.0)
    assert load_policy(settings().models[0]) == LoadPolicy()


@pytest.mark.parametrize("name", CARD_FIELDS)
def test_a_setting_reaches_the_model_card(name: str) -> None:
    assert getattr(card(sampled()), CARD_FIELDS[name]) == SAMPLES[name].value


def test_keys_come_from_the_setting_and_from_a_file_with_the_limits_for_all_or_their_own(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# who may ask\nbob:secret-b tokens=5  # the new one\n\nsecret-c\n")
    options = api_options(settings(api_key=("ann:secret-a",), api_key_file=str(file), key_requests=60))
    found = [options.keys.find(secret) for secret in (b"secret-a", b"secret-b", b"secret-c", b"secret-d")]
    assert [key and key.id for key in found] == ["ann", "bob", f"key-{sha256(b'secret-c').hexdigest()[:8]}", None]
    assert [key and key.limits for key in found[:2]] == [Limits(60), Limits(60, 5)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no key in it"),
        ("short", "line 1: a key has 8 to 256"),
        ("fine-key\nann:", "line 2: a key has 8 to 256"),
        ("a b:secret-key", "line 1: a key has 8 to 256"),
        ("secret-key pages=3", "line 1: after a key only"),
        ("secret-key tokens=-3", "line 1: after a key only"),
        ("a:secret-1\na:secret-2", "the same name"),
        ("a:secret-1\nb:secret-1", "the same secret"),
    ],
)
def test_a_faulty_file_of_keys_is_refused_and_not_quoted(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(AssemblyError, match=told) as caught:
        api_options(settings(api_key_file=str(file)))
    assert "secret" not in str(caught.value).replace("same secret", "")


@pytest.mark.parametrize("text", ["", "\n\n", "  # nobody yet\n"])
def test_an_empty_file_of_keys_is_refused_beside_other_keys_too(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(AssemblyError, match="there is no key in it"):
        api_options(settings(api_key=("ann:secret-a",), api_key_file=str(file)))


def test_a_key_that_is_a_comment_is_refused() -> None:
    with pytest.raises(AssemblyError, match="--api-key: there is no key in it"):
        api_options(settings(api_key=("# none",)))


@pytest.mark.parametrize(
    ("host", "alone"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)]
)
def test_the_api_knows_whether_it_is_called_from_this_machine_alone(host: str, alone: bool) -> None:
    assert api_options(settings(host=host)).on_loopback == alone


def test_a_file_of_keys_that_is_not_there_is_reported() -> None:
    with pytest.raises(AssemblyError, match="/none: cannot be read"):
        api_options(settings(api_key_file="/none"))


def test_settings_do_not_show_their_keys() -> None:
    assert "secret-a" not in repr(settings(api_key=("ann:secret-a",)))


@pytest.mark.parametrize("name", API_FIELDS)
def test_a_setting_reaches_the_api(name: str) -> None:
    assert getattr(api_options(sampled()), API_FIELDS[name]) == SAMPLES[name].value


def test_batches_are_kept_where_and_as_long_as_the_settings_say(tmp_path: Path) -> None:
    options = batch_options(
        settings(cache_dir=tmp_path, batch_store_mb=1, batch_file_mb=2, batch_file_days=3, parallel=5)
    )
    assert options is not None
    assert options.folder == tmp_path / "batches"
    assert (options.most_bytes, options.most_file_bytes, options.file_seconds) == (10**6, 2 * 10**6, 3 * 24 * 3600)
    assert options.runner.lines_at_once == 10
    assert not options.folder.exists()
    elsewhere = batch_options(settings(batch_dir=tmp_path))
    assert elsewhere is not None
    assert elsewhere.folder == tmp_path
    assert batch_options(settings(batch_store_mb=0)) is None


def test_limits_are_in_megabytes() -> None:
    options = api_options(settings(max_body_mb=0.5, response_store_mb=0.25))
    assert (options.max_body_bytes, options.max_response_bytes) == (500_000, 250_000)


def test_a_model_is_called_by_its_source_unless_named() -> None:
    assert card(settings(), SOURCE, FACTS).name == "some"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (SOURCE, 0),
        (replace(SOURCE, entry=EMBEDDED), EMBEDDED.context_length),
        (replace(SOURCE, entry=replace(EMBEDDED, context_length=99999)), FACTS.context_train),
    ],
    ids=["unknown: the file's own", "known: the catalog's", "never more than trained"],
)
def test_the_context_goes_by_the_catalog(source: ModelSource, expected: int) -> None:
    assert engine_config(plan(settings(), source)).context_length == expected


def test_sampling_defaults_are_those_of_the_family() -> None:
    family = next(entry for entry in CATALOG if entry.prompt_format == "chatglm2")
    assert card(settings(), SOURCE, FACTS).defaults == family.defaults
    own = replace(EMBEDDED, defaults=SamplingDefaults(temperature=0.1))
    assert card(settings(), replace(SOURCE, entry=own), FACTS).defaults.temperature == 0.1


def test_the_sampling_of_one_known_model_with_a_template_is_not_that_of_others() -> None:
    assert any(entry.prompt_format == "template" for entry in CATALOG)
    assert sampling_defaults(SOURCE, "template") == SamplingDefaults()


def refusal(build: Callable[[], ModelRegistry]) -> str:
    with pytest.raises(AssemblyError) as caught:
        build()
    return str(caught.value)


def test_a_file_that_does_not_say_its_prompts_needs_the_setting() -> None:
    silent = replace(FACTS, prompt_format="")
    assert "--prompt-format" in refusal(lambda: assembled(settings(), SOURCE, silent))
    assert card(settings(prompt_format="chatglm2"), SOURCE, silent).name == "some"


def test_an_unknown_prompt_format_is_refused_with_the_known_ones() -> None:
    message = refusal(lambda: assembled(settings(prompt_format="chatml"), SOURCE, FACTS))
    assert "'chatml'" in message
    assert "chatglm2" in message


def test_an_alias_that_is_the_models_name_is_refused() -> None:
    assert "'some'" in refusal(lambda: assembled(settings(alias=("some",)), SOURCE, FACTS))


def test_a_prompt_format_whose_tokens_the_model_lacks_is_reported_when_it_loads(tiny_gguf: Path) -> None:
    """Each request was a 500 before."""
    assert load_fitting(tiny_gguf, prompt_format("chatglm2"), "chatglm2").special_id("sop")
    with pytest.raises(ModelLoadError, match=r"has no token '<user>'.*set another one with --prompt-format"):
        load_fitting(tiny_gguf, prompt_format("baichuan"), "baichuan")
