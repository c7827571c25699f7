"""Frames of a fight, episodes as files, and the window: what they show, not how it looks."""

from __future__ import annotations

import builtins
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skilldistill.domain import find
from skilldistill.duel import render
from skilldistill.duel.arenas import DuelArenas, ScriptPolicy
from skilldistill.duel.drawing import hud
from skilldistill.errors import ConfigurationError
from tests.duel.making import TASKS, action

VIEWS = ("above", "first_person")
DOCS = Path(__file__).parents[2] / "docs"


def duel(foe: tuple[float, float, float] = (0, 0, 2.5), *, yaw: float = 0.0) -> DuelArenas:
    """The agent at the origin looking along z, the opponent in front of it looking back."""
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    arenas.state.position[0] = [[0, 0, 0], foe]
    arenas.state.yaw[0], arenas.state.pitch[0] = [yaw, math.pi], 0.0
    return arenas


def close_to(picture: np.ndarray, colour: tuple[int, int, int], within: int = 40) -> np.ndarray:
    """(h, w) which pixels have about this colour."""
    off = np.abs(picture.astype(int) - colour).max(axis=-1)
    near: np.ndarray = off <= within
    return near


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Mean column and row of the marked pixels, the texts at the edges left out."""
    rows, columns = np.nonzero(mask[70:400])
    return float(columns.mean()), float(rows.mean() + 70)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("task", TASKS)
def test_a_frame_of_every_task_and_view(task: str, view: str) -> None:
    arenas = DuelArenas(task, 3, seed=0)
    frame = render.draw(arenas, 2, view)
    assert (frame.shape, frame.dtype) == ((480, 640, 3), np.uint8)
    assert frame.std() > 5
    assert (frame == render.draw(arenas, 2, view)).all()
    assert (frame != render.draw(arenas, 0, view)).any()


@pytest.mark.parametrize("view", VIEWS)
def test_drawing_changes_nothing(view: str) -> None:
    arenas = DuelArenas("combined", 2, seed=0)
    before = arenas.save()
    render.draw(arenas, 1, view)
    assert all((before[name] == value).all() for name, value in arenas.save().items())


def test_from_above_x_is_right_and_z_is_up() -> None:
    for foe, right, up in (((3, 0, 0), 1, 0), ((0, 0, 3), 0, 1), ((-2, 0, -2), -1, -1)):
        arenas = duel(foe)
        frame = render.draw(arenas, 0)
        x, y = middle(close_to(frame, hud.AGENT))
        foe_x, foe_y = middle(close_to(frame, hud.OPPONENT))
        assert np.sign(round((foe_x - x) / 40)) == right
        assert np.sign(round((y - foe_y) / 40)) == up


def test_the_camera_follows_the_middle() -> None:
    at_origin = render.draw(duel((0, 0, 4)), 0)
    far = duel((0, 0, 4))
    far.state.position[0] += [1000, 0, -2000]  # whole tiles, so even the floor is the same
    assert np.abs(render.draw(far, 0).astype(int) - at_origin).max() <= 2


@pytest.mark.parametrize("distance", [3, 30, 60, 115])
@pytest.mark.parametrize("bearing", [0.0, math.pi / 2, 2.3, -0.8])
def test_both_fighters_stay_in_the_picture_however_far_apart(
    distance: float, bearing: float
) -> None:
    arenas = duel((distance * math.sin(bearing), 0, distance * math.cos(bearing)))
    frame = render.draw(arenas, 0)[60:405]  # between the texts at the edges
    places = []
    for colour in (hud.AGENT, hud.OPPONENT):
        rows, columns = np.nonzero(close_to(frame, colour))
        assert len(rows) > 40
        assert columns.min() > 0
        assert columns.max() < 639
        places.append((columns.mean(), -rows.mean()))
    right, up = np.subtract(places[1], places[0])
    assert math.atan2(right, up) == pytest.approx(bearing, abs=0.25)


@pytest.mark.parametrize(("distance", "spacing"), [(14, 1), (60, 5), (115, 5)])
def test_lines_on_the_floor_are_never_crowded(distance: float, spacing: float) -> None:
    frame = render.draw(duel((0, 0, distance)), 0).astype(int)
    row = frame[180:300, 8:250].sum(axis=-1).min(axis=0)  # where no line runs across
    edges = np.flatnonzero((row[1:-1] > row[:-2] + 6) & (row[1:-1] >= row[2:]))
    gaps = np.diff(edges)
    assert len(gaps) >= 5
    assert gaps.min() >= 8
    pixels = min(76.0, 330 / (distance + 3))
    assert np.median(gaps) == pytest.approx(pixels * spacing, abs=1.5)


def test_the_look_ray_points_where_the_agent_looks() -> None:
    """The agent stands in the middle column, far from its opponent."""
    for yaw, right in ((0.0, False), (1.2, True)):
        frame = render.draw(duel((0, 0, 7), yaw=yaw), 0)
        _, columns = np.nonzero(close_to(frame, hud.AGENT, 60)[70:400])
        assert (columns.max() > 400) == right
        assert columns.min() > 280


@pytest.mark.parametrize("view", VIEWS)
def test_a_hit_shows_at_once_and_fades(view: str) -> None:
    arenas = duel()
    quiet = render.draw(arenas, 0, view)
    arenas.step(action(click=1)[None])
    assert arenas.state.fighters["landed"][0, 0]
    struck = render.draw(arenas, 0, view)
    reddish = [int(close_to(frame, (255, 90, 70), 45)[70:400].sum()) for frame in (quiet, struck)]
    assert reddish[1] > reddish[0] + 200
    for _ in range(12):
        arenas.step(action()[None])
    later = int(close_to(render.draw(arenas, 0, view), (255, 90, 70), 45)[70:400].sum())
    assert later < reddish[1] / 2


def test_health_bars_shrink_towards_their_ends() -> None:
    arenas = duel()
    arenas.state.health[0] = [20, 5]
    bars = render.draw(arenas, 0)[18:29]
    full = close_to(bars, hud.AGENT).mean(axis=0) > 0.5
    low = close_to(bars, hud.OPPONENT).mean(axis=0) > 0.5
    assert 160 < full[:320].sum() <= 220  # dark lines mark the points
    assert low.sum() == pytest.approx(full.sum() / 4, abs=8)
    assert np.flatnonzero(low).min() > 560  # what is left is at the outer end


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("key", ["w", "a", "s", "d", "space", "sprint", "click"])
def test_keys_that_are_held_light_up(view: str, key: str) -> None:
    idle, held = duel((0, 0, 9)), duel((0, 0, 9))
    idle.step(action()[None])
    held.step(action(**{key: 1.0})[None])
    corners = [render.draw(arenas, 0, view)[410:470, 10:190] for arenas in (idle, held)]
    lit = [int(close_to(corner, hud.AGENT, 30).sum()) for corner in corners]
    assert lit[1] > lit[0] + 150


def test_height_and_sprint_have_marks_from_above() -> None:
    plain = render.draw(duel(), 0)
    for change in ("high", "sprinting"):
        arenas = duel()
        if change == "high":
            arenas.state.position[0, 1, 1] = 1.2
        else:
            arenas.state.sprinting[0, 0] = True
        assert (render.draw(arenas, 0) != plain).any(axis=-1).sum() > 60


def test_first_person_shows_the_opponent_where_it_is() -> None:
    for yaw, expected in ((0.0, 320), (0.3, 200), (-0.3, 440)):
        frame = render.draw(duel(yaw=yaw), 0, "first_person")
        x, _ = middle(close_to(frame, hud.OPPONENT, 30))
        assert x == pytest.approx(expected, abs=60)
    behind = render.draw(duel((0, 0, -2.5)), 0, "first_person")
    assert not close_to(behind, hud.OPPONENT, 20)[70:400].any()


def test_first_person_is_bigger_when_nearer() -> None:
    sizes = [
        close_to(render.draw(duel((0, 0, z)), 0, "first_person"), hud.OPPONENT, 40)[70:400].sum()
        for z in (6.0, 3.0, 1.5)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_the_opponents_face_is_seen_from_the_front_only() -> None:
    def white_of_the_eyes(yaw: float) -> int:
        arenas = duel((0, 0, 1.5))
        arenas.state.yaw[0, 1] = yaw
        frame = render.draw(arenas, 0, "first_person")
        return int(close_to(frame[150:330, 250:390], (240, 240, 240), 14).sum())

    assert white_of_the_eyes(math.pi) > white_of_the_eyes(0.0) + 50


@pytest.mark.parametrize("pitch", [-math.pi / 2, -1.2, 0.0, 1.2, math.pi / 2])
@pytest.mark.parametrize("foe", [(0, 0, 0), (0.05, 0, 0.05), (0, 1.0, 0.4), (0.3, 0, -0.1)])
def test_first_person_survives_any_look_and_closeness(
    pitch: float, foe: tuple[float, float, float]
) -> None:
    arenas = duel(foe)
    arenas.state.pitch[0, 0] = pitch
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        assert render.draw(arenas, 0, "first_person").shape == (480, 640, 3)
        assert render.draw(arenas, 0).shape == (480, 640, 3)


def test_looking_up_shows_sky_and_looking_down_floor() -> None:
    arenas = duel((0, 0, -8))
    frames = []
    for pitch in (1.2, -1.2):
        arenas.state.pitch[0, 0] = pitch
        frames.append(render.draw(arenas, 0, "first_person")[100:380, :450].mean(axis=(0, 1)))
    sky, floor = frames
    assert sky[2] > sky[1] > sky[0]  # blue
    assert floor[1] > floor[2]  # green


def test_wrong_views_and_arenas_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no view 'side'"):
        render.draw(duel(), 0, "side")
    for index in (1, -1):
        with pytest.raises(ConfigurationError, match=f"no arena {index}"):
            render.draw(duel(), index)


# Files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.slow
def test_an_episode_as_a_film(tmp_path: Path, view: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the file back")
    path = render.render_episode(
        "aiming",
        ScriptPolicy("chaser"),
        episode=3,
        seed=1,
        opponent=None,
        path=tmp_path / "new" / "fight.gif",
        view=view,
    )
    with image.open(path) as film:
        assert film.size == (320, 240)
        assert film.n_frames >= 101
        shown = np.asarray(film.convert("RGB"))
        durations = []
        for at in range(film.n_frames):
            film.seek(at)
            durations.append(film.info["duration"])
    assert sum(durations[:-1]) == 200 * 50  # 200 ticks in real time
    arenas = DuelArenas("aiming", 1, seed=1)
    arenas.start(np.array([3]))
    first = render._half(render.draw(arenas, 0, view)).astype(int)
    assert np.abs(shown - first).mean() < 4


def test_an_episode_as_a_sheet_of_eight(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the file back")
    domain = find("duel")
    assert domain.render_episode is not None
    path = domain.render_episode(
        "combined",
        ScriptPolicy("strafer"),
        episode=0,
        seed=0,
        opponent="still",
        path=tmp_path / "sheet.png",
    )
    with image.open(path) as sheet:
        assert sheet.size == (4 * 320, 2 * 240)
        pixels = np.asarray(sheet)
    frames = [pixels[r : r + 240, c : c + 320] for r in (0, 240) for c in (0, 320, 640, 960)]
    assert len({frame.tobytes() for frame in frames}) == 8


def test_the_same_episode_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [
        render.render_episode(
            "aiming",
            ScriptPolicy("chaser"),
            episode=0,
            seed=0,
            opponent=None,
            path=tmp_path / f"{k}.png",
        ).read_bytes()
        for k in range(2)
    ]
    assert files[0] == files[1]


def test_other_kinds_of_file_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot draw to 'fight\.mp4'"):
        render.render_episode(
            "combined",
            ScriptPolicy("still"),
            episode=0,
            seed=0,
            opponent=None,
            path=tmp_path / "fight.mp4",
        )


@pytest.mark.parametrize("name", ["fight-above.png", "fight-first-person.png"])
def test_the_pictures_in_the_docs_are_frames_and_small(name: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the file")
    with image.open(DOCS / name) as picture:
        assert picture.size == (640, 480)
    assert (DOCS / name).stat().st_size < 150_000


# Window -------------------------------------------------------------------------------------

SHOWING = """
import gymnasium, numpy as np, skilldistill
env = gymnasium.make("skilldistill/Combined-v0", render_mode="human")
env.reset(seed=0)
for _ in range(3):
    env.step(np.zeros(9, dtype=np.float32))
    assert env.render() is None
window = env.unwrapped._batch._window
import pygame
shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
from skilldistill.duel import render
assert (shown == render.draw(env.unwrapped.arenas, 0)).all()
pygame.event.post(pygame.event.Event(pygame.QUIT))
env.render()
assert not window.open
env.render()
env.close(); env.close()
print("shown")
"""


def test_the_human_mode_shows_frames_in_a_window_until_it_is_closed() -> None:
    pytest.importorskip("pygame", reason="the window extra is not installed")
    done = subprocess.run(
        [sys.executable, "-c", SHOWING],
        env={"SDL_VIDEODRIVER": "dummy", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "shown"


BY_ITSELF = """
import sys
import gymnasium, numpy as np, skilldistill
from skilldistill.duel import render

def on_screen():
    import pygame
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)

many = sys.argv[1] == "many"
made = {"id": "skilldistill/Aiming-v0", "render_mode": "human", "view": "first_person"}
short = {"num_envs": 2, "max_episode_steps": 3}
env = gymnasium.make_vec(**short, **made) if many else gymnasium.make(**made)
arenas = env.unwrapped.arenas
env.reset(seed=0)
frames = [on_screen()]
assert (frames[0] == render.draw(arenas, 0, "first_person")).all()
for _ in range(4):  # of many, over the end of an episode
    env.step(np.full((2, 2) if many else 2, 0.1, dtype=np.float32))
    frames.append(on_screen())
    assert (frames[-1] == render.draw(arenas, 0, "first_person")).all()
assert len({frame.tobytes() for frame in frames}) == 5
env.close()
print("shown")
"""


@pytest.mark.parametrize("how", ["alone", "many"])
def test_the_human_mode_shows_every_reset_and_step_by_itself(how: str) -> None:
    pytest.importorskip("pygame", reason="the window extra is not installed")
    done = subprocess.run(
        [sys.executable, "-c", BY_ITSELF, how],
        env={"SDL_VIDEODRIVER": "dummy", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "shown"


def test_without_pygame_the_window_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without_pygame(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pygame":
            raise ImportError(name)
        return genuine(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_pygame)
    with pytest.raises(ConfigurationError, match="pygame is not installed") as caught:
        render.Window((480, 640, 3))
    assert "skilldistill[window]" in caught.value.hint


def test_without_a_display_the_window_says_so() -> None:
    pytest.importorskip("pygame", reason="the window extra is not installed")
    code = """
from skilldistill.duel import render
from skilldistill.errors import ConfigurationError
try:
    render.Window((480, 640, 3))
except ConfigurationError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"SDL_VIDEODRIVER": "nonexistent", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot open a window")
