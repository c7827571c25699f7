"""The observations once more, from DESIGN sections 3 and 4, written for clarity in plain NumPy.

Nothing here uses the code under test, except the state that holds the numbers.
"""

from __future__ import annotations

import numpy as np

from skilldistill.duel.state import DuelState


def look(state: DuelState, fighter: int) -> np.ndarray:
    yaw, pitch = state.yaw[:, fighter], state.pitch[:, fighter]
    return np.stack(
        [np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], axis=-1
    )


def basis(state: DuelState, fighter: int) -> np.ndarray:
    """(n, 3, 3): rows right, up, forward."""
    yaw, pitch = state.yaw[:, fighter], state.pitch[:, fighter]
    zero = np.zeros_like(yaw)
    right = np.stack([np.cos(yaw), zero, -np.sin(yaw)], axis=-1)
    up = np.stack(
        [-np.sin(pitch) * np.sin(yaw), np.cos(pitch), -np.sin(pitch) * np.cos(yaw)], axis=-1
    )
    return np.stack([right, up, look(state, fighter)], axis=1)


def local(state: DuelState, fighter: int, vectors: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", basis(state, fighter), vectors)


def direction(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, zero below 1e-6, and lengths."""
    length = np.linalg.norm(vectors, axis=-1)
    unit = vectors / np.where(length < 1e-6, 1, length)[:, None]
    return np.where((length < 1e-6)[:, None], 0, unit), length


def sign(flags: np.ndarray) -> np.ndarray:
    return np.where(flags, 1.0, -1.0)


def stacked(*parts: np.ndarray) -> np.ndarray:
    columns = [part[:, None] if part.ndim == 1 else part for part in parts]
    return np.clip(np.concatenate(columns, axis=1), -1, 1)


def geometry(state: DuelState, me: int) -> tuple[np.ndarray, ...]:
    foe = 1 - me
    to_foe, distance = direction(state.position[:, foe] - state.position[:, me])
    mine, my_speed = direction(state.velocity[:, me])
    theirs, their_speed = direction(state.velocity[:, foe])
    return (
        local(state, me, to_foe),
        distance / 10,
        local(state, me, mine),
        my_speed / 2,
        local(state, me, theirs),
        their_speed / 2,
    )


def unified(state: DuelState, me: int = 0) -> np.ndarray:
    foe = 1 - me
    return stacked(
        *geometry(state, me),
        state.health[:, me] / 20,
        state.health[:, foe] / 20,
        sign(state.on_ground[:, me]),
        sign(state.on_ground[:, foe]),
        local(state, me, look(state, foe)),
        state.invulnerable_ticks[:, foe] / 10,
    )


def movement(state: DuelState, previous_look: np.ndarray, me: int = 0) -> np.ndarray:
    foe = 1 - me
    return stacked(
        *geometry(state, me),
        sign(state.on_ground[:, me]),
        sign(state.on_ground[:, foe]),
        local(state, me, look(state, foe)),
        local(state, me, previous_look),
    )


def angles(state: DuelState, me: int) -> tuple[np.ndarray, np.ndarray]:
    """Yaw and pitch error, radians."""
    d = state.position[:, 1 - me] - state.position[:, me]
    yaw = np.arctan2(d[:, 0], d[:, 2]) - state.yaw[:, me]
    yaw = np.arctan2(np.sin(yaw), np.cos(yaw))
    pitch = np.arctan2(d[:, 1], np.hypot(d[:, 0], d[:, 2])) - state.pitch[:, me]
    return yaw, pitch


def aiming(state: DuelState, previous_look: np.ndarray, me: int = 0) -> np.ndarray:
    yaw, pitch = angles(state, me)
    distance = np.linalg.norm(state.position[:, 1 - me] - state.position[:, me], axis=-1)
    return stacked(np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch), distance / 15)


def clicking(state: DuelState, previous_look: np.ndarray, me: int = 0) -> np.ndarray:
    yaw, pitch = angles(state, me)
    d = state.position[:, 1 - me] - state.position[:, me]
    distance = np.linalg.norm(d, axis=-1)
    return stacked(
        yaw / np.pi,
        pitch / (np.pi / 2),
        distance / 10,
        sign(distance <= 3),
        state.invulnerable_ticks[:, 1 - me] / 10,
        d[:, 0] / 10,
        d[:, 2] / 10,
        state.yaw[:, me] / np.pi,
        state.pitch[:, me] / (np.pi / 2),
    )
