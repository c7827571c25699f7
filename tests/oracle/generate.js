'use strict'
// Writes locomotion fixtures: what the public engine does with random keys, yaws and impulses.
//
//   node generate.js --seed 7 [--scripts 8] [--ticks 200]   new scripts, as JSON on stdout
//   node generate.js --replay FILE                          the inputs of FILE, played again
//
// The engine knows nothing of ours: its x is mirrored (x_here = -x_engine, yaw_here =
// pi - yaw_engine), and sprinting is given to it as a state, which here needs w and not s.

const fs = require('fs')
const { Vec3 } = require('vec3')
const { Physics } = require('prismarine-physics')
const minecraftData = require('minecraft-data')('1.8.8')
const engineVersion = require('prismarine-physics/package.json').version

const STONE = minecraftData.blocksByName.stone.id
const AIR = minecraftData.blocksByName.air.id
const KEYS = ['w', 'a', 's', 'd', 'space', 'sprint']

// Flat stone below y = 0. The engine asks a block only for what is set here.
const world = {
  getBlock (at) {
    const position = at.floored()
    const solid = position.y < 0
    return {
      position,
      type: solid ? STONE : AIR,
      metadata: 0,
      boundingBox: solid ? 'block' : 'empty',
      shapes: solid ? [[0, 0, 0, 1, 1, 1]] : []
    }
  }
}

function startAtRest () {
  return {
    pos: new Vec3(0, 0, 0),
    vel: new Vec3(0, 0, 0),
    onGround: true,
    isInWater: false,
    isInLava: false,
    isInWeb: false,
    isCollidedHorizontally: false,
    isCollidedVertically: false,
    elytraFlying: false,
    elytraEquipped: false,
    fireworkRocketDuration: 0,
    jumpTicks: 0,
    jumpQueued: false,
    attributes: null,
    yaw: 0,
    pitch: 0,
    control: {},
    jumpBoost: 0,
    speed: 0,
    slowness: 0,
    dolphinsGrace: 0,
    slowFalling: 0,
    levitation: 0,
    depthStrider: 0
  }
}

// inputs: per tick [w, a, s, d, space, sprint, yaw]; impulse: per tick [x, y, z].
function play (inputs, impulse) {
  const engine = Physics(minecraftData, world)
  const fighter = startAtRest()
  const pos = []
  const vel = []
  const grounded = []
  inputs.forEach(([w, a, s, d, space, sprint, yaw], tick) => {
    const [x, y, z] = impulse[tick]
    fighter.vel.x -= x
    fighter.vel.y += y
    fighter.vel.z += z
    fighter.yaw = Math.PI - yaw
    fighter.control = {
      forward: !!w,
      left: !!a,
      back: !!s,
      right: !!d,
      jump: !!space,
      sprint: !!(sprint && w && !s),
      sneak: false
    }
    engine.simulatePlayer(fighter, world)
    pos.push([-fighter.pos.x, fighter.pos.y, fighter.pos.z])
    vel.push([-fighter.vel.x, fighter.vel.y, fighter.vel.z])
    grounded.push(fighter.onGround ? 1 : 0)
  })
  return { inputs, impulse, pos, vel, on_ground: grounded }
}

// mulberry32: 32 random bits at a time from a 32-bit seed, the same everywhere.
function randomFrom (seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6D2B79F5) >>> 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296
  }
}

// Keys held for some ticks each, a yaw that turns up to 36 degrees a tick, and now and then a
// knock of a hit's size: up and sideways, standing or in the air.
function invent (random, ticks) {
  const chance = { w: 0.7, a: 0.3, s: 0.2, d: 0.3, space: 0.4, sprint: 0.6 }
  const held = {}
  const until = {}
  let yaw = (2 * random() - 1) * Math.PI
  let turning = 0
  const inputs = []
  const impulse = []
  for (let tick = 0; tick < ticks; tick++) {
    for (const key of KEYS) {
      if (tick === 0 || tick >= until[key]) {
        held[key] = random() < chance[key] ? 1 : 0
        until[key] = tick + 1 + Math.floor(25 * random() * random())
      }
    }
    if (random() < 0.2) turning = random() < 0.4 ? 0 : (2 * random() - 1) * Math.PI / 5
    yaw += turning
    if (yaw > Math.PI) yaw -= 2 * Math.PI
    if (yaw < -Math.PI) yaw += 2 * Math.PI
    inputs.push([...KEYS.map(key => held[key]), yaw])
    impulse.push(random() < 0.05
      ? [1.8 * random() - 0.9, 0.5 * random(), 1.8 * random() - 0.9]
      : [0, 0, 0])
  }
  return [inputs, impulse]
}

function option (name, fallback) {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : process.argv[at + 1]
}

const file = option('replay', null)
let scripts
if (file !== null) {
  const saved = JSON.parse(fs.readFileSync(file, 'utf8'))
  scripts = saved.scripts.map(script => play(script.inputs, script.impulse))
} else {
  const random = randomFrom(Number(option('seed', 0)))
  const ticks = Number(option('ticks', 200))
  scripts = Array.from({ length: Number(option('scripts', 8)) }, () => {
    const [inputs, impulse] = invent(random, ticks)
    return play(inputs, impulse)
  })
}

process.stdout.write(JSON.stringify({
  engine: `prismarine-physics ${engineVersion}, minecraft-data 1.8.8, flat stone at y<0`,
  frame: 'x mirrored: x_here=-x_mc; yaw_here=pi-yaw_mc; y up; +z forward at yaw 0',
  columns: {
    inputs: [...KEYS, 'yaw'],
    impulse: 'added to the velocity (x, y, z) before the tick',
    pos: 'feet, after the tick',
    vel: 'after the tick',
    on_ground: 'after the tick'
  },
  start: 'position 0, velocity 0, on the ground, jump cooldown 0',
  ticks: scripts[0].inputs.length,
  scripts
}) + '\n')
