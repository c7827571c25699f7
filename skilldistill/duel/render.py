"""Pictures of duels: a frame of an arena, an episode as a file, a window.

Frames are drawn without a display. The views themselves are in ``drawing``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skilldistill.domain import Policy
from skilldistill.duel.arenas import DuelArenas
from skilldistill.duel.drawing import above, files, first_person
from skilldistill.duel.drawing.canvas import Picture
from skilldistill.duel.drawing.moment import Moment, moment_of
from skilldistill.duel.rules import TICKS_PER_SECOND
from skilldistill.errors import ConfigurationError, NotInstalled

VIEWS = {"above": above.draw, "first_person": first_person.draw}
"""Ways to look at a fight; first person is through the agent's eyes."""
_SHEET = 8
"""Frames of a contact sheet."""
_LAST = 1.5
"""Seconds for which a film stands still at its end."""


def draw(arenas: DuelArenas, index: int, view: str = "above") -> Picture:
    """(480, 640, 3) uint8 picture of arena ``index`` as it is now.

    Args:
        arenas: any task.
        index: which arena.
        view: ``above`` or ``first_person``.

    Raises:
        ConfigurationError: no such view or arena.
    """
    look = check_view(view)
    if not 0 <= index < arenas.num_arenas:
        raise ConfigurationError(f"no arena {index}", hint=f"there are {arenas.num_arenas}")
    return look(moment_of(arenas, index))


def check_view(name: str) -> Callable[[Moment], Picture]:
    """What draws the view of this name.

    Raises:
        ConfigurationError: no such view.
    """
    if name not in VIEWS:
        raise ConfigurationError(f"no view {name!r}", hint=f"choose from {', '.join(VIEWS)}")
    return VIEWS[name]


def render_episode(
    task: str,
    policy: Policy,
    *,
    episode: int,
    seed: int,
    opponent: str | Policy | None,
    path: Path,
    view: str = "above",
) -> Path:
    """Play an episode and draw it to a file.

    Args:
        task: movement, aiming, clicking, or combined.
        policy: who plays the agent.
        episode: index of the episode within the seed.
        seed: of the episode.
        opponent: a script's name, or (combined only) a policy; None takes the task's.
        path: a name ending in ``.gif`` gets an animation at half the size, in real time; one
            ending in ``.png`` a sheet of eight moments from beginning to end.
        view: ``above`` or ``first_person``.

    Returns:
        ``path``.

    Raises:
        ConfigurationError: another kind of file, or no such task, opponent, or view.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".gif", ".png"):
        raise ConfigurationError(f"cannot draw to {path.name!r}", hint="name a .gif or .png file")
    look = check_view(view)
    arenas = DuelArenas(task, 1, seed=seed, opponent=opponent)
    arenas.start(np.array([episode], dtype=np.int64))
    moments = [moment_of(arenas, 0)]
    while arenas.active[0]:
        arenas.step(policy.act(arenas.view))
        now = moment_of(arenas, 0)
        # Half the ticks make a film; a hit lasts one tick and must not fall between them.
        if now.tick % 2 == 0 or now.agent.landed or now.opponent.landed or not arenas.active[0]:
            moments.append(now)
    if kind == ".gif":
        seconds = np.diff([moment.tick for moment in moments]) / TICKS_PER_SECOND
        frames = [_half(look(moment)) for moment in moments]
        return files.write(path, files.gif(frames, [*seconds, _LAST]))
    chosen = np.linspace(0, len(moments) - 1, _SHEET).round().astype(int)
    return files.write(path, files.png(_sheet([_half(look(moments[at])) for at in chosen])))


def _half(picture: Picture) -> Picture:
    """Half as wide and high, each pixel the mean of four."""
    height, width = picture.shape[:2]
    fours = picture.reshape(height // 2, 2, width // 2, 2, 3).astype(np.uint16)
    half: Picture = ((fours.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
    return half


def _sheet(frames: list[Picture]) -> Picture:
    """Eight frames in two rows."""
    rows = [np.concatenate(frames[at : at + 4], axis=1) for at in (0, 4)]
    return np.concatenate(rows, axis=0)


class Window:
    """A window on the screen that shows frames, in real time.

    Once the user closes it, further frames are dropped.

    Args:
        shape: of the frames, (height, width, 3).

    Raises:
        NotInstalled: pygame is not there.
        ConfigurationError: there is no display.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError as error:
            raise NotInstalled("pygame", "window") from error
        self._pygame: Any = pygame
        try:
            pygame.display.init()
            self._surface: Any = pygame.display.set_mode((shape[1], shape[0]))
        except pygame.error as error:
            raise ConfigurationError(
                f"cannot open a window: {error}",
                hint='use render_mode="rgb_array" without a display',
            ) from error
        pygame.display.set_caption("skilldistill duel")
        self._clock: Any = pygame.time.Clock()
        self.open = True
        """Whether the window is on the screen."""

    def show(self, frame: Picture, *, wait: bool = True) -> None:
        """Put a frame on the screen and, unless told otherwise, wait until its tick is over."""
        pygame = self._pygame
        if not self.open:
            return
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()
            return
        pygame.surfarray.blit_array(self._surface, frame.swapaxes(0, 1))
        pygame.display.flip()
        if wait:
            self._clock.tick(TICKS_PER_SECOND)

    def close(self) -> None:
        """Take the window off the screen; closing twice does nothing."""
        if self.open:
            self.open = False
            self._pygame.display.quit()
