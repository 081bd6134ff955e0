"""Command line: ``python -m glmserve.models.tiny.training tokenizer|train|heldout|evaluate|chat``."""

import logging
from pathlib import Path

import click
import torch

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.models.tiny.training import prompts
from glmserve.models.tiny.training.corpus import tokenizer_corpus
from glmserve.models.tiny.training.evaluate import (
    Generator,
    held_out_intents,
    held_out_reviews,
    intent_figures,
    review_accuracy,
    write_samples,
)
from glmserve.models.tiny.training.export import load_checkpoint
from glmserve.models.tiny.training.reviews import load_reviews
from glmserve.models.tiny.training.tokenizer import Tokenizer, train_tokenizer
from glmserve.models.tiny.training.train import Settings
from glmserve.models.tiny.training.train import train as run_training

FOLDER = Path(__file__).resolve().parent.parent
folder_option = click.option(
    "--folder", default=FOLDER, type=click.Path(path_type=Path), help="Folder of tokenizer and checkpoint."
)


@click.group()
def main() -> None:
    """Make and measure the tiny model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@main.command()
@folder_option
def tokenizer(folder: Path) -> None:
    """Train tokenizer.model."""
    training, _ = load_reviews()
    train_tokenizer(tokenizer_corpus(training), folder / "tokenizer.model")


@main.command()
@folder_option
@click.option("--minutes", default=45.0, show_default=True, help="How long to train.")
@click.option("--threads", default=2, show_default=True, help="Threads to train with.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder.")
@click.option("--copying", is_flag=True, help="Set the copying heads by hand first.")
def train(folder: Path, minutes: float, threads: int, resume: bool, copying: bool) -> None:
    """Train the network and write the checkpoint."""
    torch.set_num_threads(threads)
    run_training(Settings(seconds=minutes * 60, resume=resume, copying=copying), folder)


@main.command()
@folder_option
def heldout(folder: Path) -> None:
    """Write the held-out samples that tests use."""
    write_samples(folder / "heldout")


@main.command()
@folder_option
@click.option("--limit", default=0, help="Rows of each kind; 0 means all.")
def evaluate(folder: Path, limit: int) -> None:
    """Print the held-out figures of the checkpoint."""
    generator = _generator(folder)
    reviews, intents = held_out_reviews()[: limit or None], held_out_intents()[: limit or None]
    for name, form in (("full prompt", prompts.review_form()), ("short prompt", prompts.SHORT_REVIEW_FORMS[0])):
        click.echo(f"reviews, {name}: {review_accuracy(generator, reviews, form):.1%} of {len(reviews)}")
    for name, form in (("full prompt", prompts.intent_form()), ("short prompt", prompts.SHORT_INTENT_FORMS[0])):
        figures = intent_figures(generator, intents, form)
        each = ", ".join(f"{field} {share:.1%}" for field, share in figures.each.items())
        click.echo(f"intents, {name}: {figures.fields:.1%} of fields, {figures.records:.1%} of {len(intents)} records")
        click.echo(f"  {each}")


@main.command()
@folder_option
@click.argument("questions", nargs=-1, required=True)
def chat(folder: Path, questions: tuple[str, ...]) -> None:
    """Hold a conversation of the given QUESTIONS."""
    generator = _generator(folder)
    turns: list[tuple[str, str]] = []
    for question in questions:
        [answer] = generator.answer_all([chatglm2_text(turns, question)], max_tokens=256)
        click.echo(f"问：{question}\n答：{answer}")
        turns.append((question, answer))


def _generator(folder: Path) -> Generator:
    return Generator(load_checkpoint(folder), Tokenizer(folder / "tokenizer.model"))


if __name__ == "__main__":
    main()
