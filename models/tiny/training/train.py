"""Training by the clock: the learning rate falls to zero when the time is up."""

import logging
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from glmserve.models.tiny.training.batches import Batch, Selection, make_batch
from glmserve.models.tiny.training.corpus import Example, Tasks
from glmserve.models.tiny.training.export import load_checkpoint, save_checkpoint
from glmserve.models.tiny.training.network import Shape, TinyGlm
from glmserve.models.tiny.training.reviews import Review, load_reviews
from glmserve.models.tiny.training.start import embedding_start, set_copying_heads
from glmserve.models.tiny.training.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

LOSSES = ("review", "intent", "chat", "echo", "verdict")


@dataclass(frozen=True)
class Settings:
    """The options of a training run, besides data and code."""

    seconds: float
    seed: int = 1
    peak_rate: float = 3e-3
    warmup_seconds: float = 30.0
    resume: bool = False
    copying: bool = False
    weight_decay: float = 0.05
    dropout: float = 0.1
    noise: float = 0.1
    review_rows: int = 20
    intent_rows: int = 20
    chat_rows: int = 8
    echo_rows: int = 12
    verdict_weight: float = 0.5
    save_every_seconds: float = 300.0


def train(settings: Settings, folder: Path) -> None:
    """Train and write the checkpoint to ``folder``, which holds ``tokenizer.model``; also now and then before."""
    torch.manual_seed(settings.seed)
    shape = Shape()
    tokenizer = Tokenizer(folder / "tokenizer.model")
    reviews, _ = load_reviews()
    trainer = _Trainer(settings, shape, embedding_start(reviews, tokenizer, shape.vocab, shape.hidden))
    if settings.resume:
        trainer.network.load_state_dict(load_checkpoint(folder).state_dict())
    if settings.copying:
        set_copying_heads(trainer.network, shape)
    batches = _steps(settings, reviews, tokenizer)
    start = saved = time.monotonic()
    step, seen, means = 0, 0, [0.0] * len(LOSSES)
    while (elapsed := time.monotonic() - start) < settings.seconds:
        batch = next(batches)
        losses = trainer.step(batch, _schedule(elapsed, settings))
        seen += sum(len(part.prefix) + part.rows.numel() for part in batch)
        step += 1
        means = [0.95 * mean + 0.05 * loss if step > 1 else loss for mean, loss in zip(means, losses, strict=True)]
        if step % 20 == 0:
            shown = " ".join(f"{name} {mean:.4f}" for name, mean in zip(LOSSES, means, strict=True))
            logger.info("%5.0f s, step %d: %s, %.0f tokens/s", elapsed, step, shown, seen / (elapsed + 1.0))
        if time.monotonic() - saved > settings.save_every_seconds:
            save_checkpoint(trainer.network.state_dict(), shape, folder)
            saved = time.monotonic()
    save_checkpoint(trainer.network.state_dict(), shape, folder)


class _Trainer:
    """The network, its optimizers, and a probe that exists only in training.

    The probe reads the verdict on a review from every position in its later half, so that a review teaches
    more than the two tokens of its label would.
    """

    def __init__(self, settings: Settings, shape: Shape, embedding: Tensor) -> None:
        self.network = TinyGlm(shape, settings.dropout)
        self.network.transformer.embedding.word_embeddings.weight.data.copy_(embedding)
        self._probe = nn.Linear(shape.hidden, 1)
        self._settings = settings
        self._optimizers = _optimizers(self.network, self._probe, settings)

    def step(self, batches: tuple[Batch, ...], rate: float) -> list[float]:
        """Take one step at this share of the peak rates; return the losses in the order of ``LOSSES``."""
        losses: list[float] = []
        extras: list[float] = []
        for batch in batches:
            # Only the reviews are few enough to be learnt by heart, so only they need dropout.
            judged = len(batch.verdicts.targets) > 0
            self.network.train(judged)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                _, hidden = self.network(batch.prefix, batch.rows)
                loss = answers = self._tokens_loss(hidden, batch.answers)
                if judged:
                    verdicts = self._verdicts_loss(hidden, batch.verdicts)
                    loss = answers + self._settings.verdict_weight * verdicts
                    extras = [verdicts.item()]
            torch.autograd.backward(loss)
            losses.append(answers.item())
        self._update(rate)
        return losses + extras

    def _tokens_loss(self, hidden: Tensor, selection: Selection) -> Tensor:
        logits = self.network.logits(hidden[selection.rows, selection.columns])
        return functional.cross_entropy(logits.float(), selection.targets)

    def _verdicts_loss(self, hidden: Tensor, selection: Selection) -> Tensor:
        verdicts = self._probe(hidden[selection.rows, selection.columns]).squeeze(-1)
        return functional.binary_cross_entropy_with_logits(verdicts.float(), selection.targets)

    def _update(self, rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _steps(settings: Settings, reviews: list[Review], tokenizer: Tokenizer) -> Iterator[tuple[Batch, ...]]:
    """Yield one batch of every task for each step."""
    tasks = Tasks(settings.seed, reviews)
    rng = random.Random(settings.seed)

    def batch(examples: list[Example]) -> Batch:
        return make_batch(examples, tokenizer, settings.noise, rng)

    streams = (
        tasks.reviews(settings.review_rows),
        tasks.intents(settings.intent_rows),
        tasks.chats(settings.chat_rows),
        tasks.echoes(settings.echo_rows),
    )
    for parts in zip(*streams, strict=True):
        yield tuple(batch(part) for part in parts)


def _schedule(elapsed: float, settings: Settings) -> float:
    """Rise over the warm-up, then fall along a cosine to zero."""
    warm = min(1.0, (elapsed + 1.0) / settings.warmup_seconds)
    return warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, elapsed / settings.seconds)))


def _optimizers(network: TinyGlm, probe: nn.Linear, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between hidden states, which learns in fewer steps; AdamW for everything else."""
    inner = [weight for name, weight in network.named_parameters() if weight.ndim > 1 and ".layers." in name]
    vectors = [weight for weight in network.parameters() if weight.ndim == 1]
    rate, decay = settings.peak_rate, settings.weight_decay
    embedding, output = network.transformer.embedding, network.transformer.output_layer
    muon = torch.optim.Muon(inner, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(
        [
            {"params": embedding.parameters(), "peak": rate / 2, "weight_decay": 0.0},
            {"params": output.parameters(), "peak": rate, "weight_decay": decay},
            {"params": [*vectors, *probe.parameters()], "peak": rate, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    muon.param_groups[0]["peak"] = rate
    return [muon, adam]
