"""The rules of the duel: value, unit, and source of every constant.

Sources: [MCP] the movement code of Minecraft 1.8 as reproduced by the public engine
prismarine-physics 1.11.1 with minecraft-data 1.8.8, to which the tests compare; [Wiki] the
Minecraft Wiki's pages on damage and knockback for 1.8; [D] a decision of this project.
"""

from __future__ import annotations

import math
from typing import Final

TICKS_PER_SECOND: Final = 20
"""Ticks per second. [MCP]"""

# Locomotion -------------------------------------------------------------------------------
NEGLIGIBLE_SPEED: Final = 0.003
"""Blocks per tick; velocity components below it become 0. [MCP]"""
GRAVITY: Final = 0.08
"""Blocks per tick². [MCP]"""
VERTICAL_DRAG: Final = 0.9800000190734863
"""float32(0.98), factor per tick. [MCP]"""
JUMP_SPEED: Final = 0.41999998688697815
"""float32(0.42), blocks per tick. [MCP]"""
SPRINT_JUMP_BOOST: Final = 0.2
"""Blocks per tick along the heading. [MCP]"""
JUMP_COOLDOWN: Final = 10
"""Ticks until a held key jumps again. [MCP]"""
KEY_SCALE: Final = 0.98
"""Share of a movement key that counts. [MCP]"""
GROUND_INERTIA: Final = 0.6 * 0.91
"""Factor per tick on the ground: slipperiness of stone × drag. [MCP]"""
AIR_INERTIA: Final = 0.91
"""Factor per tick in the air. [MCP]"""
GROUND_ACCELERATION: Final = 0.1 * (0.1627714 / (GROUND_INERTIA * GROUND_INERTIA * GROUND_INERTIA))
"""Blocks per tick² walking. [MCP]"""
SPRINT_FACTOR: Final = 1.3
"""Ground acceleration of a sprinting fighter, relative. [MCP]"""
AIR_ACCELERATION: Final = 0.02
"""Blocks per tick². [MCP]"""
SPRINT_AIR_ACCELERATION: Final = 0.006
"""Blocks per tick² on top, sprinting in the air. [MCP]"""
SMALLEST_INPUT: Final = 0.01
"""Key vectors shorter than this do nothing. [MCP]"""

# Turning ----------------------------------------------------------------------------------
MAX_TURN: Final = 0.6283185
"""Radians per tick and axis: 36°. [D]"""
MAX_PITCH: Final = math.pi / 2
"""Radians. [MCP]"""

# Melee ------------------------------------------------------------------------------------
HALF_WIDTH: Final = 0.3
"""Blocks, half a fighter's width. [MCP]"""
HEIGHT: Final = 1.8
"""Blocks. [MCP]"""
EYE_HEIGHT: Final = 1.62
"""Blocks above the feet. [MCP]"""
HIT_BOX_GROWTH: Final = 0.1
"""Blocks by which the box grows on every side for attacks. [MCP]"""
REACH: Final = 3.0
"""Blocks from the eyes to the grown box. [MCP]"""
HEALTH: Final = 20.0
"""Points at the start; a hit takes one. [D]"""
INVULNERABLE_TICKS: Final = 10
"""Ticks after a hit in which no other lands. [Wiki]"""
KNOCKBACK: Final = 0.4
"""Blocks per tick away from the attacker, and up. [MCP]"""
KNOCKBACK_KEPT: Final = 0.5
"""Share of its velocity a fighter keeps when hit. [MCP]"""
SPRINT_KNOCKBACK: Final = 0.5
"""Blocks per tick along a sprinting attacker's heading, on top. [MCP]"""
SPRINT_KNOCKBACK_UP: Final = 0.1
"""Blocks per tick up, on top. [MCP]"""
ATTACK_SLOWDOWN: Final = 0.6
"""Factor on a sprinting attacker's horizontal velocity when its hit lands. [MCP]"""

# What the metrics look at -----------------------------------------------------------------
BAND: Final = (2.0, 3.2)
"""Blocks: the fighting distance that the movement task asks for. [D]"""
