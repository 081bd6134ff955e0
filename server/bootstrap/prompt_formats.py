"""The prompt format of a model to serve: one of the families', or the chat template of its file."""

from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.chat.prompts.formats import PromptFormat, prompt_format
from glmserve.chat.prompts.template.format import TemplateFormat
from glmserve.chat.prompts.template.marks import TemplateFault
from glmserve.chat.prompts.template.probe import find_traits
from glmserve.chat.prompts.template.rendering import TemplateSource
from glmserve.chat.renderer.process import TemplateRenderer
from glmserve.engine.gguf.chat_template import FileTemplate
from glmserve.engine.gguf.prompt_format import TEMPLATE


def make_prompt_format(plan: ModelPlan) -> PromptFormat:
    """Return the format of ``plan``; a template is tried out before.

    Raises:
        ValueError: there is no such format, or the template cannot be used; the message names the file.
        EngineUnavailable: no process that renders can be started.
    """
    if plan.prompt_format != TEMPLATE:
        return prompt_format(plan.prompt_format)
    name = plan.facts.path.name
    if not plan.facts.template.text:
        raise ValueError(f"{name} has no chat template; set another format with --prompt-format")
    try:
        return template_format(plan.facts.template)
    except TemplateFault as fault:
        raise ValueError(f"the chat template of {name} cannot be used: {fault}") from None


def template_format(file: FileTemplate) -> TemplateFormat:
    """Return the format that a file's template is.

    Raises:
        TemplateFault: it cannot be used.
        EngineUnavailable: no process that renders can be started.
    """
    source = TemplateSource(file.text, file.specials, file.bos, file.eos)
    renderer = TemplateRenderer(source)
    try:
        return TemplateFormat(renderer, find_traits(renderer, source))
    except BaseException:
        renderer.close()
        raise
