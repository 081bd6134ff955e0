"""From settings to a server that only has to be run: the one place where the parts meet."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from glmserve.bootstrap.engine_config import MODE_FOLDER, PREFIX_FOLDER, ModelPlan, engine_config, saved_prompts
from glmserve.bootstrap.model_source import ModelSource
from glmserve.bootstrap.plans import AssemblyError
from glmserve.chat.prompts.formats import PromptFormat, prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.prompts.template.format import TemplateFormat
from glmserve.chat.prompts.template.marks import TemplateFault
from glmserve.chat.prompts.template.probe import find_traits
from glmserve.chat.prompts.template.rendering import TemplateSource
from glmserve.chat.renderer import TemplateRenderer
from glmserve.chat.tasks.task import Task
from glmserve.chat.tokenizer.encoder_tokenizer import load_encoder_tokenizer
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.config.loader import SettingsError, upstream_key
from glmserve.config.schema import ModelSettings, Settings
from glmserve.config.values import Load
from glmserve.engine.client.client import EngineClient
from glmserve.engine.client.machine_records import build_fingerprint
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineUnavailable, ModelLoadError
from glmserve.engine.files import content_fingerprint
from glmserve.engine.gguf.chat_template import FileTemplate
from glmserve.engine.gguf.prompt_format import TEMPLATE
from glmserve.engine.group.division import count_engines, divide
from glmserve.engine.group.group import EngineGroup
from glmserve.engine.interface import Engine
from glmserve.engine.llama.cpu_topology import list_gpus, list_processors
from glmserve.engine.params import MAX_TOKENS
from glmserve.model_pool.host import LoadPolicy, ModelHost
from glmserve.model_pool.prefixes import pins
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import EmbeddingModel, ModelCard, NamedModel, RerankModel, ServedModel
from glmserve.model_pool.task_model import task_models
from glmserve.model_pool.upstream_model import UpstreamModel
from glmserve.models.catalog import CATALOG, SamplingDefaults
from glmserve.upstream.chat import UNSET

_WITH_TOOLS = "tool_use"
"""Name of the template for conversations with tools, as transformers and llama-server have it."""


def make_prompt_format(plan: ModelPlan) -> PromptFormat:
    """Return the format of ``plan``; a template is tried out before.

    Raises:
        ValueError: there is no such format, or the template cannot be used; the message names the file.
        EngineUnavailable: no process that renders can be started.
    """
    given = plan.settings.chat_template
    if plan.prompt_format != TEMPLATE:
        if given:
            raise ValueError(f"--chat-template needs the prompt format {TEMPLATE}; leave out --prompt-format")
        return prompt_format(plan.prompt_format)
    name = plan.facts.path.name
    template = _chosen_template(plan)
    if not template.text:
        raise ValueError(f"{name} has no chat template; set another format with --prompt-format")
    try:
        return template_format(template)
    except TemplateFault as fault:
        raise ValueError(f"the chat template {given or f'of {name}'} cannot be used: {fault}") from None


def _chosen_template(plan: ModelPlan) -> FileTemplate:
    """Return the template that the settings choose. Raises ValueError where it is not there."""
    given, own = plan.settings.chat_template, plan.facts.template
    if not given:
        return own
    if given in own.named:
        return replace(own, text=own.named[given], named={})
    try:
        return replace(own, text=Path(given).expanduser().read_text("utf-8"), named={})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        names = f"; {plan.facts.path.name} has {', '.join(own.named)}" if own.named else ""
        raise ValueError(f"--chat-template {given}: cannot be read ({reason}){names}") from None


def template_format(file: FileTemplate) -> TemplateFormat:
    """Return the format that a file's template is.

    Raises:
        TemplateFault: it cannot be used.
        EngineUnavailable: no process that renders can be started.
    """
    source = TemplateSource(file.text, file.specials, file.bos, file.eos, file.named.get(_WITH_TOOLS, ""))
    renderer = TemplateRenderer(source)
    try:
        return TemplateFormat(renderer, find_traits(renderer, source))
    except BaseException:
        renderer.close()
        raise


log = logging.getLogger(__name__)

_NO_TASKS: Mapping[str, Task] = MappingProxyType({})


EngineFactory = Callable[[EngineConfig, ModelPlan], Engine]
"""Makes the engine of a model, which is not started."""


def local_engine(config: EngineConfig, plan: ModelPlan) -> Engine:
    """Return one engine on this machine, or several behind one."""
    gpus = config.gpus or list_gpus()
    count = count_engines(plan.settings.engines, config.device, gpus)
    if count == 1:
        return EngineClient(config)
    return EngineGroup(divide(config, count, list_processors(), gpus))


def build_registry(
    settings: Settings,
    plans: Sequence[ModelPlan],
    tasks: Mapping[str, Task] = _NO_TASKS,
    make_engine: EngineFactory = local_engine,
    *,
    in_turn: bool = True,
) -> ModelRegistry:
    """Return the models; nothing is loaded yet.

    Args:
        settings: all of them.
        plans: one for each model that this server runs itself.
        tasks: the stored prompts.
        make_engine: makes the engines of these models.
        in_turn: whether one loads after the other, as on one machine; else one that does not load holds up none.

    Raises:
        AssemblyError: a prompt format is unknown or not said at all, or a name is there twice or not at all.
    """
    try:
        turn = asyncio.Lock()
        local = iter(plans)
        models: list[NamedModel] = []
        for model in settings.models:
            if model.upstream:
                models.append(_upstream(model))
            else:
                own = turn if in_turn else asyncio.Lock()
                models += served_models(settings, next(local), own, make_engine)
        return ModelRegistry(models, settings.default_model, task_models(models, tasks.values()))
    except (ValueError, EngineUnavailable) as error:
        raise AssemblyError(str(error)) from None


def load_policy(settings: ModelSettings) -> LoadPolicy:
    """Return when the model is loaded and unloaded."""
    return LoadPolicy(settings.load is Load.FIRST_USE, settings.idle_seconds, settings.load_timeout)


def load_fitting(path: Path, prompt_format: PromptFormat, name: str) -> LlamaTokenizer:
    """Load the vocabulary at ``path``, which needs the special tokens of ``prompt_format``, called ``name``.

    Raises:
        ModelLoadError: it has not.
    """
    tokenizer = load_tokenizer(path)
    try:
        prompt_format.encode((Message(Role.USER, ""),), tokenizer)
    except KeyError as error:
        raise ModelLoadError(
            f"{path.name} has no token {error}, which the prompt format {name} needs; set another "
            "one with --prompt-format"
        ) from None
    return tokenizer


def served_models(
    settings: Settings, plan: ModelPlan, turn: asyncio.Lock, make_engine: EngineFactory
) -> Iterator[NamedModel]:
    """Yield the model and its adapters, which share one engine.

    Raises:
        AssemblyError: a setting does not fit the model.
        ValueError: its prompt format cannot be used.
        EngineUnavailable: no process that renders templates can be started.
    """
    if plan.facts.embeds:
        yield _encoder(plan, turn, settings.cache_dir / MODE_FOLDER, make_engine)
        return
    card = _card(plan)
    prompt_format = make_prompt_format(plan)
    state_bytes = int(settings.pinned_disk_mb * 1e6)
    states = settings.cache_dir / PREFIX_FOLDER
    config = engine_config(plan, states, state_bytes, settings.cache_dir / MODE_FOLDER, saved_prompts(settings))
    engine = make_engine(replace(config, end_tokens=prompt_format.end_tokens), plan)
    host = ModelHost(
        engine,
        partial(load_fitting, plan.facts.path, prompt_format, card.prompt_format),
        load_policy(plan.settings),
        turn=turn,
        pins=partial(pins, plan.pinned, prompt_format),
    )
    yield ServedModel(card, host, prompt_format)
    for adapter in plan.settings.variants:
        files = [plan.facts.path, *(file for file in (adapter.lora, adapter.prefix) if file)]
        print_of = system_fingerprint(*files)
        tuned = replace(card, name=adapter.name, aliases=(), parent=card.name, fingerprint=print_of)
        yield ServedModel(tuned, host, prompt_format)


def _upstream(model: ModelSettings) -> UpstreamModel:
    """Return a model that another server runs. Raises AssemblyError where its key cannot be read."""
    from glmserve.upstream.connection import Place  # noqa: PLC0415 - an HTTP client, for those who have such a model
    from glmserve.upstream.engine import Upstream  # noqa: PLC0415

    try:
        key = upstream_key(model)
    except SettingsError as error:
        raise AssemblyError(str(error)) from None
    place = Place(model.upstream, model.upstream_model or model.name, key, model.upstream_timeout)
    card = ModelCard(
        model.public_name,
        int(time.time()),
        model.alias,
        prompt_format=model.prompt_format,
        defaults=UNSET,
        default_max_tokens=MAX_TOKENS,
        max_output_tokens=model.max_output_tokens,
    )
    return UpstreamModel(card, Upstream(place))


def _encoder(
    plan: ModelPlan, turn: asyncio.Lock, mode_dir: Path, make_engine: EngineFactory
) -> EmbeddingModel | RerankModel:
    """Return an embedding model or a reranker. Raises AssemblyError where adapters of it are asked for."""
    if plan.settings.variants:
        raise AssemblyError(f"{plan.facts.path.name} is an embedding model or reranker, which cannot have adapters")
    name = plan.settings.name or plan.source.name
    card = ModelCard(name, int(time.time()), plan.settings.alias, prompt_format="")
    load = partial(load_encoder_tokenizer, plan.facts.path)
    engine = make_engine(engine_config(plan, mode_dir=mode_dir), plan)
    host = ModelHost(engine, load, load_policy(plan.settings), turn=turn)
    return RerankModel(card, host) if plan.facts.ranks else EmbeddingModel(card, host)


def _card(plan: ModelPlan) -> ModelCard:
    chosen, inference = plan.prompt_format, plan.facts.format_inference
    if plan.format_problem:
        raise AssemblyError(plan.format_problem)
    if plan.settings.chat_template:
        log.info("%s: prompts are written as the chat template %s", plan.facts.path.name, plan.settings.chat_template)
    elif inference.name and inference.reason and not plan.settings.prompt_format:
        log.info("%s: prompts are written as %s, inferred from %s", plan.facts.path.name, chosen, inference.reason)
    return ModelCard(
        name=plan.settings.name or plan.source.name,
        created=int(time.time()),
        aliases=plan.settings.alias,
        prompt_format=chosen,
        defaults=sampling_defaults(plan.source, chosen),
        default_max_tokens=plan.settings.default_max_tokens,
        max_output_tokens=plan.settings.max_output_tokens,
        fingerprint=system_fingerprint(plan.facts.path),
    )


def system_fingerprint(*files: Path) -> str:
    """Return OpenAI's ``system_fingerprint`` of a model: changes with the content of its files and with the build.

    Empty where a file cannot be read: the engine tells why when it loads.
    """
    try:
        parts = [version("glmserve"), build_fingerprint(), *(content_fingerprint(file) for file in files)]
    except OSError:
        return ""
    return f"fp_{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"


def sampling_defaults(source: ModelSource, format_name: str) -> SamplingDefaults:
    """Return the sampling of the model, or of the first known one that is prompted the same way."""
    if source.entry is not None:
        return source.entry.defaults
    # Models that bring a template of their own have nothing else in common.
    same = (e.defaults for e in CATALOG if e.prompt_format == format_name and format_name != TEMPLATE)
    return next(same, SamplingDefaults())
