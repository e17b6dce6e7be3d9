import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Failover,
  HOLD_MS,
  HOLD_MS_MAX,
  NEARER_GAP_MS,
  type Ranking,
  SETTLE_MS,
  type Switch,
} from "../../src/agent/exits/failover.js";
import { MINUTE, type Millis, SECOND } from "../../src/kit/time.js";

const HOUR = 60 * MINUTE;

/** Exits as a test says they are, asked as the agent asks them: once a second those that are due. */
class Sim {
  now: Millis = 0;
  readonly failover: Failover;
  readonly switches: Switch[] = [];
  readonly asked = new Map<string, number>();
  /** Undefined: it does not answer; else the round trip. */
  answers: (name: string, now: Millis) => Millis | undefined = () => 20;
  /** Whether the exit's resolver answers while it is used; undefined: it has none. */
  beyond: (name: string, now: Millis) => boolean | undefined = () => undefined;

  constructor(ranking: Ranking, names: readonly string[]) {
    this.failover = new Failover(ranking, 0);
    this.failover.follow(names, 0);
  }

  run(duration: Millis): this {
    for (const end = this.now + duration; this.now < end; this.now += SECOND) {
      for (const name of this.failover.due(this.now)) this.#ask(name);
      const moved = this.failover.decide(this.now);
      if (moved !== undefined) this.switches.push(moved);
    }
    return this;
  }

  #ask(name: string): void {
    this.asked.set(name, (this.asked.get(name) ?? 0) + 1);
    this.failover.asked(name, this.now);
    const roundTrip = this.answers(name, this.now);
    if (roundTrip !== undefined) this.failover.heard(name, this.now, roundTrip);
    const beyond = name === this.failover.current ? this.beyond(name, this.now) : undefined;
    if (beyond === undefined) return;
    this.failover.askedBeyond(name, this.now);
    if (beyond && roundTrip !== undefined) this.failover.heardBeyond(name, true);
  }

  get moves(): string[] {
    return this.switches.map(({ to, why }) => `${to}: ${why}`);
  }
}

test("an exit that loses power at any second is left for the next one within 10 s, and used again 60 s after it answers", () => {
  for (let second = 0; second < 30; second++) {
    const sim = new Sim("listed", ["home", "cabin"]).run(MINUTE + second * SECOND);
    const lost = sim.now;
    sim.answers = (name) => (name === "home" ? undefined : 20);
    sim.run(5 * MINUTE);
    assert.deepEqual(sim.moves, ["cabin: silent"]);
    assert.ok((sim.switches[0]?.at ?? Infinity) - lost <= 8 * SECOND, `${(sim.switches[0]?.at ?? 0) - lost} ms`);
    const back = sim.now;
    sim.answers = () => 20;
    sim.run(2 * MINUTE);
    assert.deepEqual(sim.moves, ["cabin: silent", "home: back"]);
    const after = (sim.switches[1]?.at ?? 0) - back;
    assert.ok(after >= HOLD_MS && after <= HOLD_MS + 6 * SECOND, `${after} ms`);
  }
});

test("where nobody answers nothing is changed, and the first who answers again is used", () => {
  const sim = new Sim("listed", ["home", "cabin"]).run(MINUTE);
  sim.answers = () => undefined;
  sim.run(HOUR);
  assert.deepEqual(sim.moves, []);
  sim.answers = (name) => (name === "cabin" ? 20 : undefined);
  sim.run(10 * SECOND);
  assert.deepEqual(sim.moves, ["cabin: silent"]);
});

test("an exit that was never there is left as well, and its list is gone down to the one that answers", () => {
  const sim = new Sim("listed", ["home", "cabin", "office"]);
  sim.answers = (name) => (name === "office" ? 30 : undefined);
  sim.run(10 * SECOND);
  assert.deepEqual(sim.moves, ["office: silent"]);
});

test("an exit whose resolver stops answering is cut off, and each time it is again it has to be well for twice as long", () => {
  const sim = new Sim("listed", ["home", "cabin"]);
  sim.beyond = (_name, now) => now < MINUTE;
  sim.run(MINUTE);
  const cutOff = sim.now;
  sim.beyond = (name) => name === "cabin";
  sim.run(12 * SECOND);
  assert.deepEqual(sim.moves, ["cabin: cut-off"]);
  assert.ok((sim.switches[0]?.at ?? Infinity) - cutOff <= 10 * SECOND);
  sim.run(12 * HOUR);
  const gaps = sim.switches.filter(({ to }) => to === "home").map(({ at }, i, all) => at - (all[i - 1]?.at ?? cutOff));
  assert.ok(gaps.length < 12 * 2 + 8, `${gaps.length} returns in twelve hours`);
  assert.ok(gaps.slice(7).every((gap) => gap >= HOLD_MS_MAX));
});

test("a resolver that never answered proves nothing", () => {
  const sim = new Sim("listed", ["home", "cabin"]);
  sim.beyond = () => false;
  sim.run(HOUR);
  assert.deepEqual(sim.moves, []);
});

test("one datagram in ten lost for a day changes nothing", () => {
  const sim = new Sim("listed", ["home", "cabin"]);
  let state = 1;
  const chance = (): number => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
  sim.answers = () => (chance() < 0.1 ? undefined : 40);
  sim.run(24 * HOUR);
  assert.deepEqual(sim.moves, []);
});

test("an exit that comes and goes every 30 s is not come back to", () => {
  const sim = new Sim("listed", ["home", "cabin"]).run(MINUTE);
  sim.answers = (name, now) => (name === "home" && Math.floor(now / (30 * SECOND)) % 2 === 0 ? undefined : 20);
  sim.run(6 * HOUR);
  assert.deepEqual(sim.moves, ["cabin: silent"]);
});

test("an exit that leaves the map is replaced at once, and the last one stays named", () => {
  const sim = new Sim("listed", ["home", "cabin"]).run(MINUTE);
  sim.failover.follow(["cabin"], sim.now);
  assert.equal(sim.failover.current, "cabin");
  assert.equal(sim.failover.last?.why, "gone");
  sim.failover.follow([], sim.now);
  assert.equal(sim.failover.current, "cabin");
});

test("until it is known which exit is the nearest, the one before is used", () => {
  const failover = new Failover("nearest", 0, "cabin");
  failover.follow(["home", "cabin"], 0);
  assert.equal(failover.current, "cabin");
});

test("a device that is in another network counts anew, and does not leave an exit for that", () => {
  const sim = new Sim("listed", ["home", "cabin"]).run(MINUTE);
  sim.answers = () => undefined;
  sim.run(HOUR);
  sim.failover.moved();
  sim.answers = (name, now) => (name === "home" && now < HOUR + MINUTE + 3 * SECOND ? undefined : 20);
  sim.run(10 * MINUTE);
  assert.deepEqual(sim.moves, []);
});

test("received traffic keeps an exit whose agent does not answer", () => {
  const sim = new Sim("listed", ["home", "cabin"]).run(MINUTE);
  sim.answers = (name) => (name === "home" ? undefined : 20);
  for (let second = 0; second < 600; second++) {
    sim.failover.heard("home", sim.now);
    sim.run(SECOND);
  }
  assert.deepEqual(sim.moves, []);
});

test("the nearest exit is chosen after the first answers, and another only when it is nearer by far for a minute", () => {
  const trips: Record<string, Millis> = { tokyo: 220, paris: 30, berlin: 24 };
  const sim = new Sim("nearest", ["tokyo", "paris", "berlin"]);
  sim.answers = (name) => trips[name];
  sim.run(SETTLE_MS + SECOND);
  assert.equal(sim.failover.current, "berlin");
  trips.paris = 20;
  sim.run(HOUR);
  assert.deepEqual(sim.moves, [], "a few milliseconds are no reason");
  trips.tokyo = 3;
  const moved = sim.now;
  sim.run(HOUR);
  assert.deepEqual(sim.moves, ["tokyo: nearer"]);
  assert.ok((sim.switches[0]?.at ?? 0) - moved >= HOLD_MS);
});

test("round trips that swing every minute make at most one change in five minutes", () => {
  const sim = new Sim("nearest", ["east", "west"]);
  sim.answers = (name, now) => ((Math.floor(now / (2 * MINUTE)) % 2 === 0) === (name === "east") ? 20 : 200);
  sim.run(6 * HOUR);
  for (const [i, { at }] of sim.switches.entries())
    assert.ok(i === 0 || at - (sim.switches[i - 1]?.at ?? 0) >= NEARER_GAP_MS);
});

test("exits that are not used are asked seldom", () => {
  const sim = new Sim("listed", ["home", "cabin"]).run(HOUR);
  assert.ok((sim.asked.get("cabin") ?? 0) <= 181, `${sim.asked.get("cabin")}`);
  assert.ok((sim.asked.get("home") ?? 0) <= 1201, `${sim.asked.get("home")}`);
});
