"""Downloads from both hubs: continued within a file, checked by its hash, and said in one line why not."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download

from glmserve.bootstrap.hubs import transfer
from glmserve.bootstrap.hubs.huggingface import HuggingFace
from glmserve.bootstrap.hubs.modelscope import ModelScope
from glmserve.bootstrap.hubs.remote import HubError, ModelHub
from tests.support import hub
from tests.support.hub import StandIn

REPOSITORY = "some-team/our-glm"
WEIGHTS = "model.safetensors"
DATA = bytes(range(251)) * (3 * 2**20 // 251)
HALF = len(DATA) // 2
FILES = {"config.json": b"{}", WEIGHTS: DATA, "README.md": b"not needed"}


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with hub.running(StandIn(REPOSITORY, dict(FILES))) as running:
        yield running


@pytest.fixture(params=["huggingface", "modelscope"])
def model_hub(
    request: pytest.FixtureRequest, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelHub:
    monkeypatch.setattr(transfer, "_FIRST_WAIT", 0.0)
    if request.param == "huggingface":
        return hugging_face(stand_in.url, tmp_path, monkeypatch)
    return modelscope(stand_in.url, tmp_path)


def hugging_face(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> HuggingFace:
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hf"))
    return HuggingFace()


def modelscope(url: str, home: Path, **more: str) -> ModelScope:
    return ModelScope({"MODELSCOPE_ENDPOINT": url, "MODELSCOPE_CACHE": str(home / "ms"), **more})


def nothing(_name: str, _done: int, _total: int) -> None:
    pass


def pull(model_hub: ModelHub, repository: str = REPOSITORY, revision: str | None = None) -> Path:
    return model_hub.download(model_hub.look_up(repository, revision), nothing)


def leave_beginning(model_hub: ModelHub, beginning: bytes) -> None:
    """Leave what a killed run does."""
    whole = (pull(model_hub) / WEIGHTS).resolve()
    whole.with_name(whole.name + transfer.PART_SUFFIX).write_bytes(beginning)
    for path in model_hub.folder.rglob(WEIGHTS):
        path.unlink()
    whole.unlink(missing_ok=True)


def test_what_is_needed_is_downloaded_and_known_afterwards(model_hub: ModelHub, stand_in: StandIn) -> None:
    remote = model_hub.look_up(REPOSITORY, None)
    assert remote.missing_bytes == len(DATA) + 2
    told: dict[str, list[tuple[int, int]]] = defaultdict(list)
    folder = model_hub.download(remote, lambda name, done, total: told[name].append((done, total)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, data in FILES.items() if name != "README.md"
    }
    assert (told[WEIGHTS][0], told[WEIGHTS][-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    assert model_hub.look_up(REPOSITORY, None).missing_bytes == 0
    stand_in.asked.clear()
    assert pull(model_hub) == model_hub.find_local(REPOSITORY, None) == folder
    assert stand_in.downloaded() == []


def test_a_stopped_run_is_continued_within_the_file(model_hub: ModelHub, stand_in: StandIn) -> None:
    leave_beginning(model_hub, DATA[:HALF])
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA
    assert stand_in.ranges(WEIGHTS) == ["", f"bytes={HALF}-"]
    assert list(model_hub.folder.rglob(f"*{transfer.PART_SUFFIX}")) == []


def test_a_beginning_that_is_wrong_is_found_by_the_hash(model_hub: ModelHub, stand_in: StandIn) -> None:
    leave_beginning(model_hub, b"\0" * HALF)
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA
    assert stand_in.ranges(WEIGHTS) == ["", f"bytes={HALF}-", ""]


def test_a_beginning_longer_than_the_file_is_dropped(model_hub: ModelHub, stand_in: StandIn) -> None:
    leave_beginning(model_hub, DATA + b"more")
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA
    assert stand_in.ranges(WEIGHTS) == ["", ""]


def test_a_complete_one_that_a_kill_left_unnamed_is_taken(model_hub: ModelHub, stand_in: StandIn) -> None:
    leave_beginning(model_hub, DATA)
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA
    assert stand_in.ranges(WEIGHTS) == [""]


def test_a_broken_connection_is_taken_up(model_hub: ModelHub, stand_in: StandIn) -> None:
    stand_in.cut[WEIGHTS] = HALF
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA
    first, second = stand_in.ranges(WEIGHTS)
    assert (first, second) == ("", f"bytes={HALF // 2**20 * 2**20}-")


def test_a_server_without_ranges_sends_it_all_again(model_hub: ModelHub, stand_in: StandIn) -> None:
    stand_in.ignores_ranges = True
    stand_in.cut[WEIGHTS] = HALF
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA


def test_what_arrives_damaged_twice_is_refused_and_not_kept(model_hub: ModelHub, stand_in: StandIn) -> None:
    stand_in.damaged[WEIGHTS] = 2
    with pytest.raises(HubError, match=f"^{WEIGHTS} arrived damaged: its SHA-256 is .*; pull it again$"):
        pull(model_hub)
    assert list(model_hub.folder.rglob(WEIGHTS)) == []
    assert (pull(model_hub) / WEIGHTS).read_bytes() == DATA


def test_a_list_that_claims_more_than_there_is_ends(model_hub: ModelHub, stand_in: StandIn) -> None:
    stand_in.claimed_sizes[WEIGHTS] = len(DATA) + 1
    with pytest.raises(HubError, match=f"arrived damaged: it ends after .* of {len(DATA) + 1} bytes"):
        pull(model_hub)


def test_a_file_that_cannot_be_written_is_not_blamed_on_the_hub(model_hub: ModelHub, tmp_path: Path) -> None:
    for name, inner in (("hf", "models--some-team--our-glm"), ("ms/models", "some-team--our-glm")):
        (tmp_path / name).mkdir(parents=True)
        os.symlink("/proc/self/net", tmp_path / name / inner)  # noqa: PTH211 - no folder can be made in there
    with pytest.raises((HubError, OSError)) as caught:
        pull(model_hub)
    assert "HF_ENDPOINT" not in str(caught.value)
    assert "MODELSCOPE" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("huggingface", "name a mirror with HF_ENDPOINT, or take it from ModelScope with --from modelscope"),
        ("modelscope", "with MODELSCOPE_ENDPOINT, or take it from Hugging Face with --from huggingface"),
    ],
)
def test_a_hub_that_cannot_be_reached_is_named_with_the_other_one(
    name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:9"
    chosen = hugging_face(nobody, tmp_path, monkeypatch) if name == "huggingface" else modelscope(nobody, tmp_path)
    with pytest.raises(HubError, match=f"could not be downloaded from {nobody}: .*{advice}$"):
        pull(chosen)


def test_a_file_of_modelscope_that_was_damaged_on_the_disk_comes_again(stand_in: StandIn, tmp_path: Path) -> None:
    folder = pull(modelscope(stand_in.url, tmp_path))
    (folder / WEIGHTS).write_bytes(DATA[:-1] + b"?")
    assert (pull(modelscope(stand_in.url, tmp_path)) / WEIGHTS).read_bytes() == DATA
    assert stand_in.ranges(WEIGHTS) == ["", ""]


@pytest.mark.parametrize("older", ["models", "hub/models"])
def test_what_modelscopes_library_downloaded_before_is_used(older: str, tmp_path: Path) -> None:
    folder = tmp_path / "ms" / older / "team" / "glm___v1___1"
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    with hub.running(StandIn("team/glm.v1.1", dict(FILES))) as stand_in:
        assert pull(modelscope(stand_in.url, tmp_path), "team/glm.v1.1") == folder
        assert stand_in.downloaded() == []
        assert pull(modelscope(stand_in.url, tmp_path), "team/glm.v1.1", hub.COMMIT) != folder


def test_what_was_downloaded_under_a_former_name_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    former, today = "THUDM/chatglm2-6b", "zai-org/chatglm2-6b"
    with hub.running(StandIn(former, dict(FILES))) as stand_in:
        chosen = hugging_face(stand_in.url, tmp_path, monkeypatch)
        snapshot_download(former)
        stand_in.asked.clear()
        assert chosen.look_up(today, None).missing == ()
        assert (pull(chosen, today) / WEIGHTS).read_bytes() == DATA
        assert chosen.find_local(today, None) == chosen.find_local(former, None)
        assert stand_in.downloaded() == []


def test_a_known_model_of_modelscope_is_listed_once_it_is_complete(tmp_path: Path) -> None:
    repository = "ZhipuAI/chatglm2-6b"
    with hub.running(StandIn(repository, dict(FILES))) as stand_in:
        chosen = modelscope(stand_in.url, tmp_path)
        folder = pull(chosen, repository)
    (found,) = chosen.local_checkpoints()
    assert (found.entry.name, found.path, found.size_bytes) == ("chatglm2-6b", folder, len(DATA) + 2)
    (folder / WEIGHTS).rename(folder / f"{WEIGHTS}{transfer.PART_SUFFIX}")
    assert chosen.local_checkpoints() == ()


@pytest.mark.parametrize(
    ("repository", "revision", "told"),
    [("no/such", None, "there is no model no/such on "), (REPOSITORY, "v9", f"{REPOSITORY} has no revision v9")],
)
def test_what_is_not_on_modelscope_is_said(
    repository: str, revision: str | None, told: str, stand_in: StandIn, tmp_path: Path
) -> None:
    with pytest.raises(HubError, match=f"^{told}"):
        pull(modelscope(stand_in.url, tmp_path), repository, revision)
    with pytest.raises(HubError, match=r"is not in .*; pull it without --local-files-only"):
        modelscope(stand_in.url, tmp_path).find_local(repository, revision)


def test_a_private_model_of_modelscope_wants_its_token(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.token = "ms-secret"
    with pytest.raises(HubError, match="set MODELSCOPE_API_TOKEN"):
        pull(modelscope(stand_in.url, tmp_path))
    assert (pull(modelscope(stand_in.url, tmp_path, MODELSCOPE_API_TOKEN="ms-secret")) / WEIGHTS).read_bytes() == DATA


def test_a_token_is_not_sent_on_to_another_server(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.token = "ms-secret"
    with hub.running(StandIn(REPOSITORY, dict(FILES))) as elsewhere:
        stand_in.sent_on_to = elsewhere.url.replace("127.0.0.1", "localhost")
        folder = pull(modelscope(stand_in.url, tmp_path, MODELSCOPE_API_TOKEN="ms-secret"))
    assert (folder / WEIGHTS).read_bytes() == DATA
    assert "Bearer ms-secret" in stand_in.tokens
    assert [token for token in elsewhere.tokens if "ms-secret" in token] == []


@pytest.mark.parametrize("data", [None, [], {"Files": [{"Path": 1}]}, {"Files": [{"Path": "a", "Type": "blob"}]}])
def test_a_list_that_cannot_be_read_is_said(data: object, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.listed = {"Code": 200, "Data": data}
    with pytest.raises(HubError, match="its list of files cannot be read"):
        pull(modelscope(stand_in.url, tmp_path))


def test_addresses_of_modelscope_may_be_bare() -> None:
    assert ModelScope({"MODELSCOPE_ENDPOINT": "modelscope.ai/"}).endpoint == "https://modelscope.ai"
    assert ModelScope({}).endpoint == "https://modelscope.cn"
